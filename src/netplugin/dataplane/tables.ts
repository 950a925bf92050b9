/**
 * Makes an nftables table of the kernel equal to a Table. The difference to what was established before is written, in
 * one transaction; the kernel is read only when verifying, and only where its generation says that somebody else has
 * changed something (every transaction makes a new one: net/netfilter/nf_tables_api.c, nf_tables_commit).
 *
 * A table that an earlier agent left is taken over where it is as it was made, since making it anew costs packets: one that is within the
 * old table just then finds the elements of its maps gone, and is dropped. Its mark tells: an empty chain in it, named by a digest of what it
 * was made from and of the rules that the kernel listed then. Where either differs now (another version of ours, somebody's hands, an agent
 * that was killed before it had marked), it is made anew.
 *
 * What the kernel lists of a table that was just made is what its rules have to be from then on. It is asked once for each body, whichever
 * namespace that is made in: nft takes as long to list a table as to make it.
 */
import { createHash } from 'node:crypto';
import type { Netlink } from '../../linux/netlink.ts';
import type { Nft } from '../../linux/nftables.ts';
import { readGeneration } from '../../linux/nftset.ts';
import { type ByPart, type Change, establish, type Kind, type Tracker, track } from './difference.ts';
import type { Outcome } from './outcome.ts';
import { once } from './parts.ts';
import { createCommands, type Elements, elementCommands, type Table } from './rules/table.ts';

/** An element of one of a table's sets. */
interface Element {
  readonly set: string;
  /** As a command has it. */
  readonly command: string;
  readonly text: string;
  readonly place: string;
}

/** A map's element is found by its key alone, and one with another value is refused where it is. */
const ELEMENTS: Kind<Element> = {
  text: (element) => element.text,
  place: (element) => element.place,
  removedFirst: true,
};

const keyOf = (element: string): string => element.split(' : ', 1)[0] as string;

/** `normal`: without what nft writes in more than one way. */
const elementOf = (set: string, command: string, normal: string): Element => ({
  set,
  command,
  text: `element ${normal} of set ${set}`,
  place: `${set} ${keyOf(normal)}`,
});

const listElements = once((elements: Elements): readonly Element[] =>
  [...elements].flatMap(([set, commands]) =>
    commands.map((command) => elementOf(set, command, normalElement(command))),
  ),
);

const byPart = ({ parts }: Table): ByPart<Element> =>
  new Map([...parts].map(([part, elements]) => [part, listElements(elements)]));

/** What is known of one table of one namespace. */
export interface KnownTable {
  readonly elements: Tracker<Element>;
  /** How often the table was made, which sets its counters to 0. */
  made?: number;
  /** What was established; undefined: nothing yet. */
  established?: { readonly table: Table; readonly rules: string; generation: number };
}

export interface OpenTable extends KnownTable {
  readonly nft: Nft;
  /** A netfilter socket of the same namespace. */
  readonly netlink: Netlink;
}

export const openTable = (nft: Nft, netlink: Netlink): OpenTable => ({
  nft,
  netlink,
  elements: track(ELEMENTS),
});

export function establishTable(open: OpenTable, table: Table, verify: boolean): Outcome {
  const before = open.established;
  const found = verify && before !== undefined ? readChanged(open, before) : undefined;
  if (found === 'rules') {
    make(open, table);
    return { writes: 1, repaired: [`rules of table ${table.name} differed`] };
  }
  const left = before === undefined && table.renewable === undefined ? adopt(open, table) : undefined;
  if (left === undefined && before?.table.body !== table.body) {
    const { repaired = [] } = found && before ? compareFound(open, before.table, found) : {};
    make(open, table);
    return { writes: 1, repaired };
  }
  const present = left ?? found;
  const { outcome } = establish(open.elements, {
    wanted: byPart(table),
    list: present && (() => present),
    write(change) {
      runCommands(open, changeCommands(table, change).join('\n'));
      return { outcome: { writes: change.additions.length + change.removals.length } };
    },
  });
  if (open.established !== undefined) open.established = { ...open.established, table };
  return outcome;
}

/** Name of the empty chain that says what a table was made from, and which rules that gave. */
const MARK = 'made_';
const markOf = (table: Table, rules: string): string =>
  MARK +
  createHash('sha256')
    .update(JSON.stringify([table.body, table.beside?.body, rules]))
    .digest('hex')
    .slice(0, 32);

/** Sets and counters of what was seen, which count for one run of the agent. */
const COUNTING: ReadonlySet<string> = new Set(['hits', 'refused']);

/** Takes over the table that an earlier agent left; its elements, or undefined where it is to be made anew, or is not there. */
function adopt(open: OpenTable, table: Table): readonly Element[] | undefined {
  const generation = readGeneration(open.netlink);
  const actual = readTable(open.nft, table);
  if (actual === undefined || actual.mark !== markOf(table, actual.rules)) return undefined;
  open.established = { table, rules: actual.rules, generation };
  const counting = [...actual.elements.keys()].filter((set) => COUNTING.has(set));
  runCommands(
    open,
    [...counting.map((set) => `flush set ${table.name} ${set}`), `reset counters table ${table.name}`].join(
      '\n',
    ),
  );
  open.made = 1;
  return foreseen(table, actual.elements);
}

/** What somebody else has changed in a table that is about to be made anew. */
const compareFound = (open: OpenTable, table: Table, found: readonly Element[]): Outcome => ({
  repaired: open.elements.compare({ wanted: byPart(table), present: found }).repaired,
});

function make(open: OpenTable, table: Table): void {
  const before = readGeneration(open.netlink);
  open.nft.run(createCommands(table));
  open.made = (open.made ?? 0) + 1;
  open.elements.assume(byPart(table));
  const made = readGeneration(open.netlink);
  const alone = made === before + 1;
  const rules = (alone ? listed.get(bodyOf(table)) : undefined) ?? readTable(open.nft, table)?.rules ?? '';
  // Where somebody else was at the rules meanwhile, what was listed is good for this table, and is read again.
  const undisturbed = alone && readGeneration(open.netlink) === made;
  if (undisturbed) remember(table, rules);
  open.established = { table, rules, generation: undisturbed ? made : 0 };
  if (table.renewable === undefined) runCommands(open, `add chain ${table.name} ${markOf(table, rules)}`);
}

/** By what tables were made from, the rules that the kernel lists of them, in any namespace; the newest ones. */
const listed = new Map<string, string>();
/** Bodies differ by what tenants use of features, and by how many networks containers are in. */
const LISTED = 64;

const bodyOf = ({ name, body, beside }: Table): string =>
  JSON.stringify([name, body, beside?.name, beside?.body]);

function remember(table: Table, rules: string): void {
  const body = bodyOf(table);
  listed.delete(body);
  listed.set(body, rules);
  for (const oldest of listed.keys()) {
    if (listed.size <= LISTED) break;
    listed.delete(oldest);
  }
}

/** Runs in one transaction; where somebody else's came in between, the next verification will read. */
export function runCommands(open: OpenTable, commands: string): void {
  const before = open.established;
  open.nft.run(commands);
  if (before === undefined) return;
  const now = readGeneration(open.netlink);
  before.generation = now === before.generation + 1 ? now : 0;
}

function changeCommands(table: Table, { additions, removals }: Change<Element>): string[] {
  const bySet = (verb: 'add' | 'delete', elements: readonly Element[]): string[] =>
    [...Map.groupBy(elements, ({ set }) => set)].flatMap(([set, list]) =>
      elementCommands(
        verb,
        table,
        set,
        list.map(({ command }) => (verb === 'add' ? command : keyOf(command))),
      ),
    );
  return [
    ...bySet('delete', removals),
    ...bySet(
      'add',
      additions.map(({ entry }) => entry),
    ),
  ];
}

/** All elements, where the generation says that others may have changed some; `rules` where the rules are not what they were. */
function readChanged(
  { nft, netlink }: OpenTable,
  before: NonNullable<OpenTable['established']>,
): readonly Element[] | 'rules' | undefined {
  const generation = readGeneration(netlink);
  if (generation === before.generation) return undefined;
  const actual = readTable(nft, before.table);
  if (actual === undefined || actual.rules !== before.rules) return 'rules';
  before.generation = generation;
  return foreseen(before.table, actual.elements);
}

/** Without those that packets make. */
const foreseen = (table: Table, elements: ReadonlyMap<string, ReadonlySet<string>>): readonly Element[] =>
  [...elements].flatMap(([set, texts]) =>
    madeByPackets(table).has(set) ? [] : [...texts].map((text) => elementOf(set, text, text)),
  );

/** Sets and maps whose elements packets make: `flags dynamic`, of which nft's JSON says nothing. */
const madeByPackets = once(
  ({ body, beside }: Table): ReadonlySet<string> =>
    new Set(
      [
        ...`${body}${beside?.body ?? ''}`.matchAll(/\b(?:set|map) (\w+) \{[^}]*\bflags [^;]*\bdynamic\b/g),
      ].map(([, name]) => name as string),
    ),
);

/** A table as the kernel has it, its rules without handles, counters and mark; undefined where there is none. */
export function readTable(
  nft: Nft,
  { name, beside }: Table,
): { rules: string; mark?: string | undefined; elements: Map<string, Set<string>> } | undefined {
  let listing: Record<string, unknown>[];
  try {
    listing = [name, ...(beside ? [beside.name] : [])].flatMap((table) => nft.list(`list table ${table}`));
  } catch {
    return undefined;
  }
  const elements = new Map<string, Set<string>>();
  const mark = listing.map(chainName).find((chain) => chain?.startsWith(MARK));
  for (const item of listing) {
    const set = (item.set ?? item.map) as { name: string; elem?: unknown[] } | undefined;
    if (set !== undefined) elements.set(set.name, new Set((set.elem ?? []).map(elementText)));
  }
  return { rules: rulesText(listing), mark, elements };
}

const chainName = (item: unknown): string | undefined => (item as { chain?: { name: string } }).chain?.name;

/** Chains and rules of a listing, without handles, counters and the mark. */
const rulesText = (listing: readonly unknown[]): string =>
  JSON.stringify(
    listing.filter((item) => {
      const chain = chainName(item);
      return chain === undefined ? 'rule' in (item as object) : !chain.startsWith(MARK);
    }),
    (key, value) => (key === 'handle' || key === 'counter' ? undefined : value),
  );

/** Names of these chains whose rules are not those that were established. */
export function changedChains(open: OpenTable, chains: readonly string[]): string[] {
  const { established } = open;
  if (established === undefined) return [...chains];
  const rules = JSON.parse(established.rules) as { chain?: { name: string }; rule?: { chain: string } }[];
  return chains.filter((name) => {
    const wanted = rules.filter((item) => (item.chain?.name ?? item.rule?.chain) === name);
    try {
      return (
        rulesText(open.nft.list(`list chain ${established.table.name} ${name}`)) !== JSON.stringify(wanted)
      );
    } catch {
      return true; // not there
    }
  });
}

/** An element of nft's JSON as the text of a command, without what nft writes in more than one way. */
function elementText(element: unknown): string {
  if (Array.isArray(element)) return element.map(elementText).join(' : ');
  if (typeof element !== 'object' || element === null) return String(element);
  const { concat, prefix, range, elem, goto } = element as {
    goto?: { target: string };
    concat?: unknown[];
    prefix?: { addr: string; len: number };
    range?: unknown[];
    elem?: { val: unknown };
  };
  if (goto !== undefined) return `goto ${goto.target}`;
  if (concat !== undefined) return concat.map(elementText).join(' . ');
  if (prefix !== undefined) return `${prefix.addr}/${prefix.len}`;
  if (range !== undefined) return range.map(elementText).join('-');
  return elem === undefined ? JSON.stringify(element) : elementText(elem.val);
}

const PROTOCOL_NUMBERS: Readonly<Record<string, string>> = { tcp: '6', udp: '17', sctp: '132' };

/** Our own element text as elementText writes the kernel's. */
function normalElement(element: string): string {
  // Most have nothing of that.
  if (!/["/p]/.test(element)) return element;
  return element
    .replaceAll('"', '')
    .replace(/\b(tcp|udp|sctp)\b/g, (name) => PROTOCOL_NUMBERS[name] ?? name)
    .replace(/\/(32|128)(?= : |$)/, '');
}
