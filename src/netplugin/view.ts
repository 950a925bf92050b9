/**
 * What a host knows: its copy of netmaster's objects, fed by the watch, and what its own runtimes have
 * attached. `compile` reads both; the DNS views read the first.
 */
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import type { Host } from '../model/host.ts';
import type { Network } from '../model/network.ts';
import type { Tenant } from '../model/tenant.ts';
import type { Guarded, Publication } from './state.ts';

/** A network as the watch carries it: with the tag on the wire. */
export type WatchedNetwork = Network & { vni: number };

/** Keys are those of the REST API: `default`, `default:contiv-net`, `default:web`, endpoint id, host name. */
export interface View {
  readonly tenants: ReadonlyMap<string, Tenant>;
  readonly networks: ReadonlyMap<string, WatchedNetwork>;
  readonly groups: ReadonlyMap<string, EndpointGroup>;
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  readonly hosts: ReadonlyMap<string, Host>;
}

/** A container of this host, from the runtime's request to join until it leaves. */
export interface Attachment {
  readonly endpoint: Endpoint;
  /**
   * `joining`: the runtime is about to take the container's end of the veth from the host's namespace.
   * `joined`: it has; from now on the absence of the veth means that the container is gone.
   */
  readonly phase: 'joining' | 'joined';
  /** Path of the container's network namespace. */
  readonly sandbox?: string;
  readonly publications: readonly Publication[];
  /** Which runtime attached it: `docker`, `cni`. */
  readonly runtime: string;
}

/** This host, as far as compile needs to know it. */
export interface LocalHost {
  readonly name: string;
  /** The VTEP's address. */
  readonly underlay: string;
  readonly underlayMtu: number;
  /** Underlay addresses of hosts by name, also of those whose lease has ended: their containers may run on. */
  readonly lastUnderlays: ReadonlyMap<string, string>;
  /** IPv4 prefix, at most /28, that the tenants' transit pairs come from. */
  readonly transit: string;
  /** IPv6 prefix for the same. */
  readonly transit6: string;
  readonly guarded: readonly Guarded[];
  /** By endpoint id. */
  readonly attachments: ReadonlyMap<string, Attachment>;
  /** Slot in the transit range of each tenant that has one: kept over restarts, so that running exits do not move. */
  readonly transitSlots: ReadonlyMap<string, number>;
}
