/**
 * What a host knows: its copy of netmaster's objects, fed by the watch, and what its own runtimes have
 * attached. `compile` reads both; the DNS views read the first.
 *
 * Objects are kept by key and, for each tenant, by where they belong (endpoints by host, rules by policy): a list
 * stays the same array until one of its objects changes, so that whatever follows from it need not be made again.
 */

import type { Bgp } from '../../model/bgp.ts';
import type { ClusterService } from '../../model/clusterService.ts';
import { epochsIn, type HostKey, KEY_EPOCHS, type KeyEpochs } from '../../model/encryption.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import type { StoredExternalEndpoint } from '../../model/externalEndpoint.ts';
import type { Draining, Host, Reserve } from '../../model/host.ts';
import type { Netprofile } from '../../model/netprofile.ts';
import type { Network } from '../../model/network.ts';
import type { NetworkPolicy } from '../../model/networkPolicy.ts';
import type { Rule } from '../../model/rule.ts';
import type { StoredServiceLB } from '../../model/serviceLB.ts';
import type { Global } from '../../model/settings.ts';
import type { SwarmService } from '../../model/swarmService.ts';
import type { Tenant } from '../../model/tenant.ts';
import type { Workload } from '../../model/workload.ts';
import type { WatchedObject } from '../../protocol/messages.ts';
import type { Bandwidth, Guarded, Publication } from '../state.ts';

/** A network as the watch carries it: with the tag on the wire. */
export type WatchedNetwork = Network & { vni: number };
/** The same, or the outline of one whose tenant has no address here (netmaster/hostScope.ts): without the tag. */
export type KnownNetwork = Network & { vni?: number };
/** Its tenant is known here, with all that is of it. */
export const isWhole = (network: KnownNetwork | undefined): network is WatchedNetwork =>
  network?.vni !== undefined;

/** Of networks those that are known as a whole. */
export interface TenantView {
  readonly networks: readonly WatchedNetwork[];
  readonly groups: readonly StoredEndpointGroup[];
  readonly services: readonly StoredServiceLB[];
  readonly clusterServices: readonly ClusterService[];
  readonly swarmServices: readonly SwarmService[];
  /** Machines that have nothing of ours. */
  readonly externals: readonly StoredExternalEndpoint[];
  readonly profiles: readonly Netprofile[];
  /** By policy's name. */
  readonly rules: ReadonlyMap<string, readonly Rule[]>;
  /** By the name of the host that they run on; another array too where a workload of theirs has changed. */
  readonly endpoints: ReadonlyMap<string, readonly Endpoint[]>;
  /** What the endpoint is one of; undefined where it is of none, or of one that is not known (yet, or any more). */
  workloadOf(endpoint: Endpoint): Workload | undefined;
}

/** Keys are those of the REST API: `default`, `default:contiv-net`, `default:web`, endpoint id, host name, `NAMESPACE:NAME` of a workload. */
export interface View {
  /** undefined: not known. */
  readonly settings: Global | undefined;
  readonly tenants: ReadonlyMap<string, Tenant>;
  readonly networks: ReadonlyMap<string, KnownNetwork>;
  readonly groups: ReadonlyMap<string, StoredEndpointGroup>;
  readonly endpoints: ReadonlyMap<string, Endpoint>;
  readonly hosts: ReadonlyMap<string, Host>;
  /** By the name of the host that speaks it. */
  readonly bgps: ReadonlyMap<string, Bgp>;
  /** Which keys of hosts count where what goes between them is encrypted. */
  readonly keyEpochs: KeyEpochs;
  /** Names of hosts that are being drained: the same set until one comes or goes. */
  readonly draining: ReadonlySet<string>;
  /** By `HOST/TENANT:NETWORK`; where netmaster knows hosts by their certificates, this host's only. */
  readonly reserves: ReadonlyMap<string, Reserve>;
  /** `NAMESPACE:NAME`. */
  readonly workloads: ReadonlyMap<string, Workload>;
  /** Of all tenants: they select by labels. */
  readonly networkPolicies: readonly NetworkPolicy[];
  readonly networkPolicyByKey: ReadonlyMap<string, NetworkPolicy>;
  /** What belongs to a tenant; nothing where it has nothing. */
  of(tenant: string): TenantView;
}

/** A container of this host, from the runtime's request to join until it leaves. */
export interface Attachment {
  readonly endpoint: Endpoint;
  /**
   * `joining`: the runtime waits for the veth, which is made.
   * `joined`: it has its answer; from now on the absence of the veth means that the container is gone.
   */
  readonly phase: 'joining' | 'joined';
  /** Path of the container's network namespace. */
  readonly sandbox?: string;
  readonly publications: readonly Publication[];
  /** Which runtime attached it: `docker`, `cni`; `host`: the host itself (endpoints/hostAccess.ts), without port or veth. */
  readonly runtime: string;
  /** What the runtime calls the network there, where its own list of attachments goes by that (CNI). */
  readonly configuration?: string;
  /**
   * What the container's end is called, where we make it in the sandbox ourselves, with all that it holds, and give its addresses
   * back; absent: the runtime does all of that, as Docker.
   */
  readonly end?: string;
  /** What the runtime was asked to limit it to. */
  readonly bandwidth?: Bandwidth;
  /** The runtime's containers ask Docker's resolver for names, which is led to ours. */
  readonly stub?: true;
}

/** This host, as far as compile needs to know it. */
export interface LocalHost {
  readonly name: string;
  /** The VTEP's address. */
  readonly underlay: string;
  readonly underlayMtu: number;
  /** The interface that the underlay is on, and the prefix of those whom it reaches without a router; absent: nobody. */
  readonly link?: { readonly device: string; readonly prefix: string } | undefined;
  /** By which networks of encapsulation vlan go; absent: they do not. */
  readonly uplink?: { readonly device: string; readonly mtu: number } | undefined;
  /** Its own keys, of the epochs that count; none: it encrypts nothing, as it is not to, or has none yet. */
  readonly keys?: readonly HostKey[];
  /** The last keys of hosts by name, also of those whose lease has ended; absent: none are known. */
  readonly lastKeys?: ReadonlyMap<string, readonly HostKey[]>;
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

/** Objects by key, and as a list that stays the same array until one of them changes. */
class Shelf<T> {
  readonly #objects = new Map<string, T>();
  #list: readonly T[] | undefined = [];
  put(key: string, object: T | null): void {
    if (object === null) this.#objects.delete(key);
    else this.#objects.set(key, object);
    this.#list = undefined;
  }
  touch(): void {
    this.#list = undefined;
  }
  get size(): number {
    return this.#objects.size;
  }
  get list(): readonly T[] {
    this.#list ??= [...this.#objects.values()];
    return this.#list;
  }
}

/** Shelves by name, of which none is empty; read as lists. */
class Shelves<T> {
  readonly #shelves = new Map<string, Shelf<T>>();
  readonly #lists = new Map<string, readonly T[]>();
  readonly #changed = new Set<string>();
  /** The list is another one, although it has the same objects. */
  touch(name: string): void {
    this.#shelves.get(name)?.touch();
    this.#changed.add(name);
  }
  put(name: string, key: string, object: T | null): void {
    const shelf = this.#shelves.get(name) ?? new Shelf<T>();
    shelf.put(key, object);
    if (shelf.size === 0) this.#shelves.delete(name);
    else this.#shelves.set(name, shelf);
    this.#changed.add(name);
  }
  get lists(): ReadonlyMap<string, readonly T[]> {
    for (const name of this.#changed) {
      const shelf = this.#shelves.get(name);
      if (shelf === undefined) this.#lists.delete(name);
      else this.#lists.set(name, shelf.list);
    }
    this.#changed.clear();
    return this.#lists;
  }
}

class TenantShelves implements TenantView {
  readonly networkShelf = new Shelf<WatchedNetwork>();
  readonly groupShelf = new Shelf<StoredEndpointGroup>();
  readonly serviceShelf = new Shelf<StoredServiceLB>();
  readonly clusterServiceShelf = new Shelf<ClusterService>();
  readonly swarmServiceShelf = new Shelf<SwarmService>();
  readonly externalShelf = new Shelf<StoredExternalEndpoint>();
  readonly profileShelf = new Shelf<Netprofile>();
  readonly ruleShelves = new Shelves<Rule>();
  readonly endpointShelves = new Shelves<Endpoint>();
  readonly #workloads = new Map<string, Workload>();
  /** Of each workload: the endpoints that say they are its. */
  readonly #endpointsOf = new Map<string, Map<string, Endpoint>>();
  putEndpoint(key: string, endpoint: Endpoint, put: boolean): void {
    this.endpointShelves.put(endpoint.homingHost, key, put ? endpoint : null);
    if (endpoint.workload === undefined) return;
    const mine = this.#endpointsOf.get(endpoint.workload) ?? new Map<string, Endpoint>();
    if (put) mine.set(key, endpoint);
    else mine.delete(key);
    if (mine.size === 0) this.#endpointsOf.delete(endpoint.workload);
    else this.#endpointsOf.set(endpoint.workload, mine);
  }
  putWorkload(key: string, workload: Workload | null): void {
    if (workload === null) this.#workloads.delete(key);
    else this.#workloads.set(key, workload);
    for (const { homingHost } of this.#endpointsOf.get(key)?.values() ?? [])
      this.endpointShelves.touch(homingHost);
  }
  workloadOf({ workload, workloadUid }: Endpoint): Workload | undefined {
    const found = workload === undefined ? undefined : this.#workloads.get(workload);
    return found?.uid === workloadUid ? found : undefined;
  }
  get networks() {
    return this.networkShelf.list;
  }
  get groups() {
    return this.groupShelf.list;
  }
  get services() {
    return this.serviceShelf.list;
  }
  get clusterServices() {
    return this.clusterServiceShelf.list;
  }
  get swarmServices() {
    return this.swarmServiceShelf.list;
  }
  get externals() {
    return this.externalShelf.list;
  }
  get profiles() {
    return this.profileShelf.list;
  }
  get rules() {
    return this.ruleShelves.lists;
  }
  get endpoints() {
    return this.endpointShelves.lists;
  }
}

const NOTHING: TenantView = new TenantShelves();

export interface MutableView extends View {
  /** A kind that this agent does not act on changes nothing. */
  put(changed: WatchedObject): void;
  /** All that it holds, as it was put. */
  contents(): WatchedObject[];
}

/** Where an object of each kind that the agent acts on goes; by `kind` of the watch. */
const PLACES: Readonly<
  Record<string, (shelves: TenantShelves, key: string, object: never, put: boolean) => void>
> = {
  global: () => {},
  tenant: () => {},
  host: () => {},
  Bgp: () => {},
  draining: () => {},
  keyEpochs: () => {},
  reserve: () => {},
  network(s, key, object: KnownNetwork, put) {
    if (isWhole(object)) s.networkShelf.put(key, put ? object : null);
  },
  endpointGroup: (s, key, object: StoredEndpointGroup, put) => s.groupShelf.put(key, put ? object : null),
  serviceLB: (s, key, object: StoredServiceLB, put) => s.serviceShelf.put(key, put ? object : null),
  clusterService: (s, key, object: ClusterService, put) =>
    s.clusterServiceShelf.put(key, put ? object : null),
  swarmService: (s, key, object: SwarmService, put) => s.swarmServiceShelf.put(key, put ? object : null),
  externalEndpoint: (s, key, object: StoredExternalEndpoint, put) =>
    s.externalShelf.put(key, put ? object : null),
  netprofile: (s, key, object: Netprofile, put) => s.profileShelf.put(key, put ? object : null),
  rule: (s, key, object: Rule, put) => s.ruleShelves.put(object.policyName, key, put ? object : null),
  endpoint: (s, key, object: Endpoint, put) => s.putEndpoint(key, object, put),
  workload: (s, key, object: Workload, put) => s.putWorkload(key, put ? object : null),
  networkPolicy: () => {},
};

export function openView(objects: readonly WatchedObject[] = []): MutableView {
  const kinds = new Map(Object.keys(PLACES).map((kind) => [kind, new Map<string, object>()]));
  const tenants = new Map<string, TenantShelves>();
  const policyShelf = new Shelf<NetworkPolicy>();
  let draining: ReadonlySet<string> = new Set();
  const table = <T>(kind: string): ReadonlyMap<string, T> =>
    kinds.get(kind) as unknown as ReadonlyMap<string, T>;

  function place(kind: string, key: string, object: object, put: boolean): void {
    const tenant = (object as { tenantName?: string }).tenantName;
    if (tenant === undefined) return;
    const shelves = tenants.get(tenant) ?? new TenantShelves();
    tenants.set(tenant, shelves);
    PLACES[kind]?.(shelves, key, object as never, put);
  }

  const view: MutableView = {
    get settings() {
      return table<Global>('global').get('global');
    },
    tenants: table('tenant'),
    networks: table('network'),
    groups: table('endpointGroup'),
    endpoints: table('endpoint'),
    hosts: table('host'),
    bgps: table('Bgp'),
    get keyEpochs() {
      return epochsIn(table<KeyEpochs>('keyEpochs').get(KEY_EPOCHS));
    },
    get draining() {
      return draining;
    },
    reserves: table('reserve'),
    workloads: table('workload'),
    networkPolicyByKey: table('networkPolicy'),
    get networkPolicies() {
      return policyShelf.list;
    },
    of: (tenant) => tenants.get(tenant) ?? NOTHING,
    put({ kind, key, object }) {
      const objects = kinds.get(kind);
      if (objects === undefined) return;
      const before = objects.get(key);
      if (before !== undefined) place(kind, key, before, false);
      if (kind === 'networkPolicy') policyShelf.put(key, object as NetworkPolicy | null);
      if (object === null) {
        objects.delete(key);
        if (kind === 'tenant') tenants.delete(key);
      } else {
        objects.set(key, object as object);
        place(kind, key, object as object, true);
      }
      if (kind === 'draining' && draining.has(key) !== (object !== null))
        draining = new Set(table<Draining>('draining').keys());
    },
    contents: () =>
      [...kinds].flatMap(([kind, objects]) => [...objects].map(([key, object]) => ({ kind, key, object }))),
  };
  for (const object of objects) view.put(object);
  return view;
}
