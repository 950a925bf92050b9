/**
 * From lines in tiers to decisions with every precedence decided: for peers in a part of all addresses and ports, what decides for
 * any peer, and for each identity that lines tell apart what differs from that.
 *
 *   admin       the first that fits decides; `pass` leaves it to those below
 *   own         our own rules: deny decides, allow leaves it to those below
 *   namespace   NetworkPolicies: one that fits accepts; else they deny, where one of them isolates
 *   baseline    the first that fits decides
 *
 * Where nothing below decides, a pass or an allow lets through.
 */
import type { Decision } from '../state.ts';
import { type Identities, type Identity, portsCalled, type Taker, withPort } from './identity.ts';
import type { Line, Span } from './lines.ts';

export interface Tiers {
  readonly admin: readonly Numbered[];
  readonly own: readonly Numbered[];
  readonly namespace: readonly Numbered[];
  readonly baseline: readonly Numbered[];
  /** What denies if no line of `namespace` fits. */
  readonly isolation?: Numbered;
}

/** A line with the number of its rule. */
export type Numbered = Line & { readonly number: number };

/** Peers in these prefixes, and ports in these spans, and in no others that lines name. */
export interface Part {
  readonly within: readonly string[];
  readonly spans: readonly string[];
}

export const spanText = ({ first, last }: Span): string => `${first}-${last}`;

const NAMES = ['admin', 'own', 'namespace', 'baseline'] as const;
const each = (tiers: Tiers, change: (lines: readonly Numbered[]) => readonly Numbered[]): Tiers => ({
  ...tiers,
  admin: change(tiers.admin),
  own: change(tiers.own),
  namespace: change(tiers.namespace),
  baseline: change(tiers.baseline),
});

export const allLines = (tiers: Tiers): Numbered[] => NAMES.flatMap((name) => tiers[name]);

/** Whose identities tell peers apart. */
export const takersOf = (tiers: Tiers): Taker[] => [
  ...new Map(
    allLines(tiers)
      .flatMap(takerOf)
      .map((t) => [t.text, t]),
  ).values(),
];

const takerOf = ({ peer, portName }: Line): Taker[] =>
  peer !== undefined ? [peer] : portName !== undefined ? [withPort(portName)] : [];

const isGeneral = (line: Line): boolean => line.peer === undefined && line.portName === undefined;

export function decide(all: Tiers, part: Part, identities: Identities): readonly Decision[] {
  const tiers = each(all, (lines) => lines.flatMap((line) => inPart(line, part)));
  const generalTiers = each(tiers, (lines) => lines.filter(isGeneral));
  const forAny = new Set(allLines(generalTiers));
  const general = decideTiers(generalTiers);
  const decisions = decisionsOf(general, 0);

  // Which lines fit an identity, by their place; those that fit the same are decided together.
  const fitting = new Map<Identity, string[]>();
  for (const [i, line] of allLines(tiers).entries())
    for (const taker of takerOf(line))
      for (const identity of identities.taken(taker)) {
        const ports = spelled(line, identity);
        if (ports.length === 0) continue;
        const text = line.portName === undefined ? `${i}` : `${i} ${JSON.stringify(ports)}`;
        const those = fitting.get(identity);
        if (those === undefined) fitting.set(identity, [text]);
        else those.push(text);
      }
  for (const alike of Map.groupBy(
    fitting.keys(),
    (identity) => fitting.get(identity)?.join() ?? '',
  ).values()) {
    const [first] = alike as [Identity];
    const fits = new Set(fitting.get(first)?.map((text) => Number.parseInt(text, 10)));
    let i = -1;
    const mine = each(tiers, (lines) =>
      lines.flatMap((line) => {
        i++;
        return isGeneral(line) ? [line] : fits.has(i) ? spelled(line, first) : [];
      }),
    );
    // Where all lines that fit it for what it is are about ports, they change nothing at other ports: only these ports have to
    // be looked at, and what decides there for any peer.
    const own = allLines(mine).filter((line) => !forAny.has(line));
    const ports = own.every((line) => line.port !== undefined) ? new Set(own.map((l) => l.port)) : undefined;
    const near = (lines: readonly Numbered[]): readonly Numbered[] =>
      ports === undefined ? lines : lines.filter((l) => l.port === undefined || ports.has(l.port));
    const differing = without(
      decideTiers(each(mine, near)),
      ports === undefined ? general : decideTiers(each(generalTiers, near)),
    );
    for (const identity of alike) {
      const number = identities.numberOf(identity);
      if (number !== 0) decisions.push(...decisionsOf(differing, number));
    }
  }
  return decisions;
}

/** A line as it is for what is in a part; none where it fits nothing there. */
function inPart(line: Numbered, { within, spans }: Part): Numbered[] {
  const { blocks, span, ...rest } = line;
  if (blocks?.every((b) => !within.includes(b.prefix) || b.except.some((e) => within.includes(e)))) return [];
  if (span !== undefined) return spans.includes(spanText(span)) ? [rest] : [];
  const isMet = (port: number): boolean =>
    spans.every((text) => {
      const [first = 0, last = 0] = text.split('-').map(Number);
      return first <= port && port <= last;
    });
  return line.port === undefined || isMet(line.port) ? [rest] : [];
}

/** A line as it is for a peer, whose ports have numbers. */
function spelled(line: Numbered, identity: Identity): Numbered[] {
  const { portName, ...rest } = line;
  if (portName === undefined) return [line];
  return (line.protocols ?? [undefined]).flatMap((asked) =>
    portsCalled(identity, portName, asked).map(({ protocol, port }) => ({
      ...rest,
      protocols: [protocol],
      port,
    })),
  );
}

/** What decides. */
type Choice = Pick<Decision, 'rule' | 'action' | 'key' | 'log'>;

/** By how specific it is. Keys: protocol and port (`portKey`), protocol. */
interface Decided<C = Choice> {
  readonly ports: Map<number, C>;
  readonly protocols: Map<number, C>;
  any: C | undefined;
}

const nothing = <C>(): Decided<C> => ({ ports: new Map(), protocols: new Map(), any: undefined });

/** A number and not a text, since a key is made for each rule of each identity, and texts take several times as long. */
const portKey = (protocol: number, port: number): number => protocol * 65536 + port;
const protocolOf = (key: number): number => Math.floor(key / 65536);

const decisionsOf = ({ ports, protocols, any }: Decided, group: number): Decision[] => [
  ...[...ports].map(([key, choice]) => ({
    group,
    ...choice,
    protocol: protocolOf(key),
    port: key % 65536,
  })),
  ...[...protocols].map(([protocol, choice]) => ({ group, ...choice, protocol })),
  ...(any === undefined ? [] : [{ group, ...any }]),
];

/** Who a line lets decide; `pass` and `allow` may leave it to those below. */
type Candidate = Pick<Numbered, 'number' | 'action' | 'key' | 'log'>;

/** One pass over the lines in their order: the first that fits. */
function firstOf(lines: readonly Numbered[]): Decided<Candidate> {
  const decided = nothing<Candidate>();
  for (const line of lines) {
    const { protocols, port } = line;
    if (protocols === undefined) {
      decided.any = line;
      break; // whatever follows has nothing left to decide
    }
    for (const protocol of protocols) {
      if (decided.protocols.has(protocol)) continue;
      if (port === undefined) decided.protocols.set(protocol, line);
      else if (!decided.ports.has(portKey(protocol, port))) decided.ports.set(portKey(protocol, port), line);
    }
  }
  return decided;
}

/** What is found in one tier is found in it at each port and protocol that any tier tells apart. */
function decideTiers(tiers: Tiers): Decided {
  const found = NAMES.map((name) => firstOf(tiers[name]));
  const outcome = (choose: (of: Decided<Candidate>) => Candidate | undefined): Choice | undefined => {
    const [admin, own, namespace, baseline] = found.map(choose);
    const by = deciding(admin, own, namespace, baseline, tiers.isolation);
    if (by === undefined) return undefined;
    const { number: rule, action, key, log } = by;
    return { rule, action: action === 'deny' ? 'deny' : 'allow', key, ...(log && { log }) };
  };
  const decided = nothing<Choice>();
  for (const { ports } of found)
    for (const key of ports.keys()) {
      if (decided.ports.has(key)) continue;
      const choice = outcome((of) => of.ports.get(key) ?? of.protocols.get(protocolOf(key)) ?? of.any);
      if (choice !== undefined) decided.ports.set(key, choice);
    }
  for (const { protocols } of found)
    for (const protocol of protocols.keys()) {
      if (decided.protocols.has(protocol)) continue;
      const choice = outcome((of) => of.protocols.get(protocol) ?? of.any);
      if (choice !== undefined) decided.protocols.set(protocol, choice);
    }
  decided.any = outcome((of) => of.any);
  // What a lookup ends at anyway need not be found sooner.
  const above = (protocol: number): Choice | undefined => decided.protocols.get(protocol) ?? decided.any;
  for (const [key, choice] of decided.ports)
    if (choice.key === above(protocolOf(key))?.key) decided.ports.delete(key);
  for (const [protocol, choice] of decided.protocols)
    if (choice.key === decided.any?.key) decided.protocols.delete(protocol);
  return decided;
}

/** Where something is found for more packets, something is found for each of them: so a lookup never ends at what is too general. */
function deciding(
  admin: Candidate | undefined,
  own: Candidate | undefined,
  namespace: Candidate | undefined,
  baseline: Candidate | undefined,
  isolation: Candidate | undefined,
): Candidate | undefined {
  if (admin !== undefined && admin.action !== 'pass') return admin;
  if (own?.action === 'deny') return own;
  if (isolation !== undefined) return namespace ?? isolation;
  return baseline ?? own ?? admin;
}

/**
 * What has to be stored for an identity, given what is stored for all peers anyway (`general`). The kernel takes the first decision that
 * it finds, in this order (dataplane/rules/policy.ts, decide):
 *
 *   group and port -> port -> group and protocol -> protocol -> group -> any
 *
 * So a decision of the identity's is left out where the lookup ends at the same rule without it, and one that a policy names costs only
 * what it differs in. The other way round, a decision for all peers stands before a broader one of the identity's: where the broader
 * one has the higher priority, it is stored once more for the identity with that port or protocol, so that it is found first.
 */
function without(own: Decided, general: Decided): Decided {
  const same = (a: Choice | undefined, b: Choice | undefined): boolean => a?.key === b?.key;
  const rest = nothing<Choice>();
  if (!same(own.any, general.any)) rest.any = own.any;
  // Where neither port nor protocol is found, the lookup ends here: it is stored for the identity, or is the same as for all.
  const any = own.any;

  /** What a packet of this protocol finds so far whose port decides nothing. */
  const found = (protocol: number): Choice | undefined =>
    rest.protocols.get(protocol) ?? general.protocols.get(protocol) ?? any;
  /** What it has to find. */
  const meant = (protocol: number): Choice | undefined => own.protocols.get(protocol) ?? any;
  for (const protocol of new Set([...own.protocols.keys(), ...general.protocols.keys()])) {
    const choice = meant(protocol);
    if (choice !== undefined && !same(choice, found(protocol))) rest.protocols.set(protocol, choice);
  }
  const keep = (key: number, mine: Choice | undefined, others: Choice | undefined): void => {
    const protocol = protocolOf(key);
    const choice = mine ?? meant(protocol);
    if (choice !== undefined && !same(choice, others ?? found(protocol))) rest.ports.set(key, choice);
  };
  for (const [key, mine] of own.ports) keep(key, mine, general.ports.get(key));
  for (const [key, others] of general.ports) if (!own.ports.has(key)) keep(key, undefined, others);
  return rest;
}
