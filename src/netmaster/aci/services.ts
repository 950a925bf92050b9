/** What a rule is about, protocols and destination ports, as a fabric's filters have it. */
import { PORT_PROTOCOLS, type PortSpan, portSpans, protocolNumber, type Rule } from '../../model/rule.ts';

/** Without protocol: all of IP; without ports: all of the protocol's. */
export interface Service {
  readonly protocol?: number;
  readonly ports?: PortSpan;
}

/** Those in which a fabric's filter knows ports. */
const WITH_PORTS: readonly number[] = [6, 17];

/**
 * undefined: no filter of a fabric can say it, as with ports of SCTP. A rule with ports and no protocol is of TCP, UDP and SCTP, and in the
 * fabric of the first two.
 */
export function servicesOf(rule: Rule): readonly Service[] | undefined {
  const spans = portSpans(rule.ports || String(rule.port || '')) ?? [];
  const named = (rule.protocols || rule.protocol || '').split(',').filter((text) => text !== '');
  // `icmp` is ICMPv6 too, as on the hosts.
  const protocols = named.flatMap((text) => (text === 'icmp' ? [1, 58] : (protocolNumber(text) ?? [])));
  if (spans.length === 0) return protocols.length === 0 ? [{}] : protocols.map((protocol) => ({ protocol }));
  const ported = protocols.length === 0 ? WITH_PORTS : protocols;
  if (ported.some((p) => PORT_PROTOCOLS.includes(p) && !WITH_PORTS.includes(p))) return undefined;
  return ported.flatMap((protocol) => spans.map((ports) => ({ protocol, ports })));
}

export function overlap(a: Service, b: Service): boolean {
  if (a.protocol === undefined || b.protocol === undefined) return true;
  if (a.protocol !== b.protocol) return false;
  return (
    a.ports === undefined ||
    b.ports === undefined ||
    (a.ports.first <= b.ports.last && b.ports.first <= a.ports.last)
  );
}

const ALL_PORTS: PortSpan = { first: 1, last: 65535 };

/** What is left of one; undefined: no list of services says it, as all of IP without TCP. */
export function without(from: Service, taken: readonly Service[]): readonly Service[] | undefined {
  let left: readonly Service[] = [from];
  for (const one of taken) {
    const rest = left.map((service) => less(service, one));
    if (rest.includes(undefined)) return undefined;
    left = rest.flatMap((services) => services ?? []);
  }
  return left;
}

function less(from: Service, taken: Service): readonly Service[] | undefined {
  if (!overlap(from, taken)) return [from];
  if (taken.protocol === undefined) return [];
  if (from.protocol === undefined) return undefined;
  if (taken.ports === undefined) return [];
  const { protocol, ports: { first, last } = ALL_PORTS } = from;
  return [
    { protocol, ports: { first, last: taken.ports.first - 1 } },
    { protocol, ports: { first: taken.ports.last + 1, last } },
  ].filter(({ ports }) => ports.first <= ports.last);
}

/** As APIC says them, whatever form they are written in: vzEntry, `prot`. */
const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  1: 'icmp',
  2: 'igmp',
  6: 'tcp',
  8: 'egp',
  9: 'igp',
  17: 'udp',
  58: 'icmpv6',
  88: 'eigrp',
  89: 'ospfigp',
  103: 'pim',
  115: 'l2tp',
};
const protocolName = (protocol: number): string => PROTOCOL_NAMES[protocol] ?? String(protocol);

/** Name and attributes of a filter's entry (vzEntry). */
export function entryOf({ protocol, ports }: Service): { name: string; attributes: Record<string, string> } {
  if (protocol === undefined) return { name: 'ip', attributes: { etherT: 'ip' } };
  const prot = protocolName(protocol);
  if (ports === undefined) return { name: prot, attributes: { etherT: 'ip', prot } };
  const { first, last } = ports;
  return {
    name: first === last ? `${prot}-${first}` : `${prot}-${first}-${last}`,
    attributes: { etherT: 'ip', prot, dFromPort: String(first), dToPort: String(last) },
  };
}
