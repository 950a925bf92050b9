/**
 * A feature owns its rules: one file has its sets, its chains, the rules by which packets come to them, and the elements
 * that follow from each part of the state. router.ts and host.ts list the chains that features share, in the order in
 * which a packet comes through them, and in each the features in the order in which it meets them.
 *
 *   own       sets, maps, counters and chains that are the feature's
 *   rules     what stands in the shared chains, by the name of the chain
 *   elements  by kind of part
 *
 * A rule may lead to a chain of another feature, and look something up in its sets, by their names. Text follows from the
 * variant too: with another one the whole table is made anew, while elements change one by one.
 */
import { isV6 } from '../../../model/address.ts';
import type {
  AddressRange,
  Announced,
  ClusterService,
  DnatEntry,
  Exit,
  External,
  HostState,
  Port,
  PortRange,
  RemoteHost,
  RuleSet,
  Service,
  Subnet,
  Vlan,
} from '../../state.ts';
import { once } from '../parts.ts';
import type { Elements } from './table.ts';

/** Adds an element to a set: where `address` is one of IPv6, to the set of that name with a 6. */
export type Add = (set: string, address: string, element: string) => void;

type Text<Variant> = string | ((variant: Variant) => string);

export interface Feature<Variant, Parts> {
  readonly own?: Text<Variant>;
  readonly rules: Readonly<Record<string, Text<Variant>>>;
  readonly elements?: { readonly [Kind in keyof Parts]?: (part: Parts[Kind], add: Add) => void };
}

/** A chain that features share. */
export interface Chain<F> {
  readonly name: string;
  /** Where the kernel calls it, `type nat hook output priority -101; policy accept;`; none where rules lead to it. */
  readonly hook?: string;
  /** Features, whose rules for this chain stand here, and rules that only lead on. */
  readonly steps: readonly (F | string)[];
}

/** What a tenant with an orchestrator's services has beside them (services.ts). */
export interface Served {
  /** Seconds for which clients stay. */
  readonly timeouts: readonly number[];
  /** Some are for certain clients only. */
  readonly chosen: boolean;
}

export interface RouterVariant {
  readonly exit: Exit | undefined;
  /** undefined: none. */
  readonly served: Served | undefined;
  /** Of some services every port leads to providers, by IPv4, by IPv6. */
  readonly everyPort: boolean;
  readonly everyPort6: boolean;
  /** Some services have addresses of IPv6: Swarm's, and declared ones of networks of IPv6 alone. */
  readonly services6: boolean;
  /** How many connections a conntrack table takes. */
  readonly connections: number;
  /** Rules here are about ranges of ports. */
  readonly portRanges: boolean;
  /** Some here let through what is to be logged. */
  readonly logs: boolean;
  /** Networks of the tenant do not reach each other. */
  readonly bridged: boolean;
  /** Some networks are VLANs. */
  readonly vlans: boolean;
  /** The host's own addresses in those that it has entered itself. */
  readonly entered: readonly string[];
  /** Of some of them groups have VLAN tags of their own. */
  readonly tagged: boolean;
  /** Of some of these the gateway is a router of the fabric's own. */
  readonly externalGateways: boolean;
  /** Some go by the hosts' link as they are. */
  readonly direct: boolean;
}

/** What the elements of a table with VLANs follow from besides. */
export interface OnVlans {
  /** Nobody on the wire has them. */
  readonly claimed: readonly string[];
  /** The router answers for them there. */
  readonly answered: readonly string[];
  readonly vlan?: Vlan;
}

/** A router of the fabric's own that is a VLAN network's gateway, and answers. */
export interface Way {
  readonly device: string;
  readonly mac: string;
  /** Number of the network. */
  readonly network: number;
}

/** Kinds of parts that a router's elements follow from. */
export interface RouterParts {
  readonly port: Port;
  readonly host: RemoteHost;
  readonly service: Service;
  readonly clusterService: ClusterService;
  /** A port, where services have addresses of IPv6. */
  readonly portByIpv6: { readonly port: Port };
  /** Of a table with VLANs, from ports, hosts, gateways and VLANs. */
  readonly onVlans: OnVlans;
  readonly ruleSet: RuleSet;
  readonly subnets: readonly Subnet[];
  readonly gateways: readonly string[];
  readonly ranges: readonly AddressRange[];
  readonly portRanges: readonly PortRange[];
  readonly publications: readonly DnatEntry[];
  readonly externals: readonly External[];
  readonly announced: Announced;
  /** The subnets, in a table with something announced. */
  readonly inner: { readonly subnets: readonly Subnet[] };
  /** Of a table with external gateways: those that answer, and prefixes of the tenant's networks that have none. */
  readonly ways: readonly Way[];
  readonly homes: { readonly homes: readonly string[] };
  /** The table itself: what it always holds. */
  readonly table: object;
}

export type RouterFeature = Feature<RouterVariant, RouterParts>;

export interface HostVariant {
  readonly connections: number;
  /** The host itself reaches what is in some tenant's networks. */
  readonly access: boolean;
  /** Some lead to an orchestrator's services. */
  readonly entrances: boolean;
  /** What tunnels send to other hosts is encrypted. */
  readonly encrypted: boolean;
  /** The host's own addresses to the routers of the fabric that it tells of containers; none: it tells nobody. */
  readonly fabric: readonly string[];
}

/** Kinds of parts that the elements of the host's table follow from: its state, and what is found on it (HostFacts). */
export interface HostParts {
  readonly state: HostState;
  /** VNIs of the tunnels here. */
  readonly vnis: readonly number[];
  readonly bridges: readonly string[];
  readonly operated: readonly string[];
  readonly closed: readonly string[];
}

export type HostFeature = Feature<HostVariant, HostParts>;

export interface Composition<Variant, Parts> {
  /** Text of the table, with empty sets. A variant is data as JSON has it. */
  body(variant: Variant): string;
  /** Of all features; the same object for the same part. */
  elements<Kind extends keyof Parts>(kind: Kind, part: Parts[Kind] & object): Elements;
}

/** Bodies that are kept: a pass asks for each router's, most of which are of few variants. */
const WRITTEN = 16;

const indented = (text: string): string[] =>
  text.split('\n').flatMap((line) => (line.trim() === '' ? [] : `  ${line.trim()}`));

/** Throws where a feature has rules for a chain that does not list it, or none for one that does. */
export function compose<Variant, Parts>(
  chains: readonly Chain<Feature<Variant, Parts>>[],
): Composition<Variant, Parts> {
  const features = new Set(
    chains.flatMap(({ steps }) => steps.flatMap((step) => (typeof step === 'string' ? [] : step))),
  );
  for (const feature of features) {
    const listed = chains.filter((c) => c.steps.includes(feature)).map((c) => c.name);
    const meant = Object.keys(feature.rules);
    if (listed.toSorted().join() !== meant.toSorted().join())
      throw new Error(`a feature with rules for ${meant.join(', ')} is listed in ${listed.join(', ')}`);
  }
  const collected = new Map<keyof Parts, (part: object) => Elements>();
  const collectFor = (kind: keyof Parts): ((part: object) => Elements) =>
    once((part) => {
      const elements = new Map<string, string[]>();
      const add: Add = (set, address, element) => {
        const name = isV6(address) ? `${set}6` : set;
        const list = elements.get(name);
        if (list === undefined) elements.set(name, [element]);
        else list.push(element);
      };
      for (const feature of features) feature.elements?.[kind]?.(part as Parts[typeof kind], add);
      return elements;
    });
  function write(variant: Variant): string {
    const text = (of: Text<Variant> = ''): string => (typeof of === 'string' ? of : of(variant));
    const shared = chains.map(({ name, hook = '', steps }) => {
      const rules = steps.map((step) => text(typeof step === 'string' ? step : step.rules[name]));
      return [`chain ${name} {`, ...[hook, ...rules].flatMap(indented), '}'].join('\n');
    });
    return `\n${[...[...features].map(({ own }) => text(own).trim()), ...shared].filter((t) => t !== '').join('\n')}\n`;
  }
  /** By variant as JSON, the one that was asked for last at the end. */
  const written = new Map<string, string>();
  return {
    body(variant) {
      const key = JSON.stringify(variant);
      const text = written.get(key) ?? write(variant);
      written.delete(key);
      written.set(key, text);
      for (const oldest of written.keys()) {
        if (written.size <= WRITTEN) break;
        written.delete(oldest);
      }
      return text;
    },
    elements(kind, part) {
      const collect = collected.get(kind) ?? collectFor(kind);
      collected.set(kind, collect);
      return collect(part);
    },
  };
}
