/**
 * What the agent offers to a container runtime's side (docker/, cni/): addresses from netmaster, and
 * endpoints in the kernel.
 */

import type { Endpoint } from '../../model/endpoint.ts';
import type { AddressAnswer, AddressRequest, SwarmReport } from '../../protocol/messages.ts';
import type { Attachment, View } from '../intent/view.ts';
import type { Port } from '../state.ts';

/** What a runtime learns about an endpoint's container after it has joined. */
export type Description = Partial<
  Pick<Endpoint, 'containerID' | 'containerName' | 'aliases' | 'labels' | 'status'>
>;

/** What a runtime asks for. */
export type Joining = Omit<Attachment, 'phase'> & { readonly sandbox: string };

/** What the kernel has then: what the container is to hold, and where its end waits for a runtime that takes it itself. */
export type Attached = Port & Required<Pick<Port, 'inside'>>;

export interface Endpoints {
  readonly host: string;
  readonly view: View;
  /** netmaster is followed now; else `view` may be older than what is declared, and than what Docker has. */
  live(): boolean;
  /** It is known what was declared, from netmaster or the copy on disk. */
  ready(): boolean;
  readonly attachments: ReadonlyMap<string, Attachment>;
  /**
   * Retries while netmaster cannot be reached, up to 25 s, as attach does: runtimes do not retry. Then throws GAVE_UP. A named address
   * is taken back from what is starting here, unless it is asked for only `if free`. What ended here while netmaster was away
   * may have its own again at once: by the address, or, where its runtime does not tell what starts, any `of a stopped one`.
   */
  reserve(
    request: Omit<AddressRequest, 'host'>,
    insistence?: 'if free' | 'of a stopped one',
  ): Promise<AddressAnswer>;
  /** Of an endpoint that has ended here while netmaster was away; undefined: of another one. */
  addressBefore(endpoint: string, family: 4 | 6): string | undefined;
  /** Does nothing where netmaster cannot be reached: it collects the address itself after the grace period. */
  release(network: string, address: string): Promise<void>;
  /** The same of those that Docker's Swarm keeps, of which nobody knows but Swarm: throws where netmaster is not told. */
  releaseOfSwarm(network: string, address: string): Promise<void>;
  /** All that the Swarm has, where a manager leads it here. Answers how many addresses are kept for it that are not among these. */
  swarmHas(id: string, has: Omit<SwarmReport, 'host'>): Promise<number>;
  /**
   * Makes the veth and lets the peers know (bounded by netmaster's deadline). Answers when the container's end waits in the host's
   * namespace, or, of an attachment with `end`, is in its sandbox with all that it is to hold. On failure nothing of it is left.
   */
  attach(joining: Joining): Promise<Attached>;
  /** What the kernel was brought to; undefined: it is not attached. */
  portOf(endpoint: string): Attached | undefined;
  /** What the container lacks of what it was given, in words. */
  missing(endpoint: string): Promise<readonly string[]>;
  publish(endpoint: string, publications: Attachment['publications']): Promise<void>;
  /** Tells netmaster what changed; nothing where nothing did or the endpoint is not attached here. */
  describe(endpoint: string, description: Description): Promise<void>;
  /** Removes it from the kernel and from netmaster; fine when it is gone already. */
  detach(endpoint: string): Promise<void>;
  /** Called when an endpoint is detached, whoever asked for it: nothing is held for it any more. */
  onDetach(listener: (endpoint: string, had: Attachment | undefined) => void): void;
}
