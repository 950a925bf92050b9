/**
 * Which resolvers a container may have asked for it: those that it could ask itself. Our nameserver asks in its place, past the
 * router's policy, so what policy and gateways say is looked up here, in what the router was made of.
 *
 *   no gateway                                  nobody outside is asked
 *   `out` rules deny port 53 of the resolver    that one is not
 *
 * This judges as judge_out does (dataplane/rules/policy.ts): a resolver is outside, so it has no identity.
 */
import { addressNumber, isV6 } from '../../model/address.ts';
import type { AddressRange, Decision, Router, RuleSet } from '../state.ts';
import type { Upstream } from './upstreams.ts';

const DNS = 53;
const NUMBERS = { tcp: 6, udp: 17 } as const;

/** `named`: the container has asked this very address; false: the host's own resolver is asked, for any who have an exit. */
export type MayAsk = (client: string, protocol: 'tcp' | 'udp', resolver: Upstream, named: boolean) => boolean;

/** What one address may do. */
interface Client {
  readonly ways: Set<4 | 6>;
  judgedOut: number;
}

const familyOf = (address: string): 4 | 6 => (isV6(address) ? 6 : 4);

type Judging = Pick<Router, 'ruleSets' | 'ranges' | 'portRanges'>;

export function reachOf(router: Pick<Router, 'ports'> & Judging): MayAsk {
  let clients: ReadonlyMap<string, Client> | undefined;
  return (address, protocol, resolver, named) => {
    clients ??= clientsOf(router.ports);
    const client = clients.get(address);
    if (client === undefined) return false;
    if (named ? !client.ways.has(familyOf(resolver.address)) : client.ways.size === 0) return false;
    return allows(router, client.judgedOut, NUMBERS[protocol], resolver.address.replace(/%.*/, ''));
  };
}

/** A container may send from each of its addresses by each of its ports, and policy goes by the address. */
function clientsOf(ports: Router['ports']): Map<string, Client> {
  const clients = new Map<string, Client>();
  for (const { addresses, alsoFrom, gateways, judgedOut } of ports)
    for (const address of [...addresses, ...alsoFrom]) {
      const client = clients.get(address) ?? { ways: new Set(), judgedOut: 0 };
      clients.set(address, client);
      for (const gateway of gateways) client.ways.add(familyOf(gateway));
      if (addresses.includes(address)) client.judgedOut = judgedOut;
    }
  return clients;
}

function allows(
  { ruleSets, ranges, portRanges }: Judging,
  id: number,
  protocol: number,
  resolver: string,
): boolean {
  const general = ruleSets.find((set) => set.id === id);
  if (general === undefined) return true; // 0: nothing judges it
  const narrowed = general.narrowed.find((n) =>
    ranges.some(({ range, ...ends }) => range === n.range && isBetween(resolver, ends)),
  );
  const inRange = ruleSets.find((s) => s.id === narrowed?.to) ?? general;
  const atPort = (inRange.narrowedPorts ?? []).find((n) =>
    portRanges.some(({ range, first, last }) => range === n.range && first <= DNS && DNS <= last),
  );
  const set = ruleSets.find((s) => s.id === atPort?.to) ?? inRange;
  const decisions = decisionsFor(set);
  const decides = decisions.get(`${protocol} ${DNS}`) ?? decisions.get(`${protocol}`) ?? decisions.get('');
  return decides?.action !== 'deny';
}

function isBetween(address: string, { first, last }: Omit<AddressRange, 'range'>): boolean {
  if (isV6(address) !== isV6(first)) return false;
  const number = addressNumber(address);
  return addressNumber(first) <= number && number <= addressNumber(last);
}

/** What a rule set says about DNS to whom no identity is: three of its decisions at most for each protocol, whatever its size. */
const forDns = new WeakMap<RuleSet, ReadonlyMap<string, Decision>>();
function decisionsFor(set: RuleSet): ReadonlyMap<string, Decision> {
  const known = forDns.get(set);
  if (known !== undefined) return known;
  const about = set.decisions.filter(
    ({ group, port }) => group === 0 && (port === undefined || port === DNS),
  );
  const found = new Map(
    about.map((d) => [d.port === undefined ? `${d.protocol ?? ''}` : `${d.protocol} ${d.port}`, d]),
  );
  forDns.set(set, found);
  return found;
}
