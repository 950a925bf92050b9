/**
 * Makes an nftables table of the kernel equal to a Table. The difference to what was established before is written, in
 * one transaction; the kernel is read only when verifying, and only where its generation says that somebody else has
 * changed something (every transaction makes a new one: net/netfilter/nf_tables_api.c, nf_tables_commit).
 */
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

/** One table of one namespace. */
export interface OpenTable {
  readonly nft: Nft;
  /** A netfilter socket of the same namespace. */
  readonly netlink: Netlink;
  readonly elements: Tracker<Element>;
  /** How often the table was made, which sets its counters to 0. */
  made?: number;
  /** What was established; undefined: nothing yet. */
  established?: { readonly table: Table; readonly rules: string; generation: number };
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
  if (before === undefined || before.table.body !== table.body) {
    const { repaired = [] } = found && before ? compareFound(open, before.table, found) : {};
    make(open, table);
    return { writes: 1, repaired };
  }
  const { outcome } = establish(open.elements, {
    wanted: byPart(table),
    list: found && (() => found),
    write(change) {
      runCommands(open, changeCommands(table, change).join('\n'));
      return { outcome: { writes: change.additions.length + change.removals.length } };
    },
  });
  open.established = { ...before, table };
  return outcome;
}

/** What somebody else has changed in a table that is about to be made anew. */
const compareFound = (open: OpenTable, table: Table, found: readonly Element[]): Outcome => ({
  repaired: open.elements.compare({ wanted: byPart(table), present: found }).repaired,
});

function make(open: OpenTable, table: Table): void {
  open.nft.run(createCommands(table));
  open.made = (open.made ?? 0) + 1;
  open.elements.assume(byPart(table));
  const generation = readGeneration(open.netlink);
  open.established = { table, rules: readTable(open.nft, table)?.rules ?? '', generation };
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
  return [...actual.elements].flatMap(([set, texts]) =>
    OWN_BY_KERNEL.has(set) ? [] : [...texts].map((text) => elementOf(set, text, text)),
  );
}

/** Sets whose elements packets make. */
const OWN_BY_KERNEL: ReadonlySet<string> = new Set([
  'asking',
  'hits',
  'begun',
  'outside',
  'piecing',
  'refused',
  'stay',
  'stay6',
  'stay_outside',
  'stay_outside6',
  'told',
  'told6',
  'told_port',
  'undivided',
]);

/** A table as the kernel has it, its rules without handles and counters; undefined where there is none. */
export function readTable(
  nft: Nft,
  { name, beside }: Table,
): { rules: string; elements: Map<string, Set<string>> } | undefined {
  let listing: Record<string, unknown>[];
  try {
    listing = [name, ...(beside ? [beside.name] : [])].flatMap((table) => nft.list(`list table ${table}`));
  } catch {
    return undefined;
  }
  const elements = new Map<string, Set<string>>();
  for (const item of listing) {
    const set = (item.set ?? item.map) as { name: string; elem?: unknown[] } | undefined;
    if (set !== undefined) elements.set(set.name, new Set((set.elem ?? []).map(elementText)));
  }
  return { rules: rulesText(listing), elements };
}

/** Chains and rules of a listing, without handles and counters. */
const rulesText = (listing: readonly unknown[]): string =>
  JSON.stringify(
    listing.filter((item) => 'chain' in (item as object) || 'rule' in (item as object)),
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
