/**
 * What the agent offers to a container runtime's side (docker/, cni/): addresses from netmaster, and
 * endpoints in the kernel.
 */

import type { Endpoint } from '../../model/endpoint.ts';
import type { AddressAnswer, AddressRequest } from '../../protocol/messages.ts';
import type { Attachment, View } from '../intent/view.ts';
import type { Inside } from '../state.ts';

/** What a runtime learns about an endpoint's container after it has joined. */
export type Description = Partial<
  Pick<Endpoint, 'containerID' | 'containerName' | 'aliases' | 'labels' | 'status'>
>;

/** `device`: name of the container's end of its veth. */
export interface Attached {
  readonly device: string;
  readonly inside: Inside;
}

export interface Endpoints {
  readonly host: string;
  readonly view: View;
  /** netmaster is followed now; else `view` may be older than what is declared, and than what Docker has. */
  live(): boolean;
  readonly attachments: ReadonlyMap<string, Attachment>;
  /** Retries while netmaster cannot be reached, up to 25 s, as attach does: runtimes do not retry. Then throws GAVE_UP. */
  reserve(request: Omit<AddressRequest, 'host'>): Promise<AddressAnswer>;
  /** Does nothing where netmaster cannot be reached: it collects the address itself after the grace period. */
  release(network: string, address: string): Promise<void>;
  /**
   * Makes the veth and lets the peers know (bounded by netmaster's deadline). Answers the name of the
   * container's end, which then waits in the host's namespace, and what the runtime is to give it in the `sandbox`, the path of
   * the container's network namespace. On failure nothing of it is left.
   */
  attach(endpoint: Endpoint, sandbox: string, runtime: string): Promise<Attached>;
  publish(endpoint: string, publications: Attachment['publications']): Promise<void>;
  /** Tells netmaster what changed; nothing where nothing did or the endpoint is not attached here. */
  describe(endpoint: string, description: Description): Promise<void>;
  /** Removes it from the kernel and from netmaster; fine when it is gone already. */
  detach(endpoint: string): Promise<void>;
  /** Called when an endpoint is detached, whoever asked for it: nothing is held for it any more. */
  onDetach(listener: (endpoint: string) => void): void;
}
