/**
 * Makes an nftables table of the kernel equal to a Table. The difference to what was established before is written, in
 * one transaction; the kernel is read only when verifying, and only where its generation says that somebody else has
 * changed something (every transaction makes a new one: net/netfilter/nf_tables_api.c, nf_tables_commit).
 */
import type { Netlink } from '../../linux/netlink.ts';
import type { Nft } from '../../linux/nftables.ts';
import { readGeneration } from '../../linux/nftset.ts';
import { changedParts } from './parts.ts';
import type { Pass } from './pass.ts';
import { createCommands, type Elements, elementCommands, type Table } from './ruleset.ts';

/** One table of one namespace. */
export interface OpenTable {
  readonly nft: Nft;
  /** A netfilter socket of the same namespace. */
  readonly netlink: Netlink;
  /** How often the table was made, which sets its counters to 0. */
  made?: number;
  /** What was established; undefined: nothing yet. */
  established?: { readonly table: Table; readonly rules: string; generation: number };
}

export function establishTable(open: OpenTable, table: Table, where: string, pass: Pass): void {
  if (pass.verify) repair(open, where, pass);
  const before = open.established;
  if (before === undefined || before.table.body !== table.body) {
    runCommands(open, createCommands(table));
    open.made = (open.made ?? 0) + 1;
    pass.writes++;
    const generation = readGeneration(open.netlink);
    open.established = { table, rules: readTable(open.nft, table)?.rules ?? '', generation };
    return;
  }
  const { gone, added } = difference(before.table.parts, table.parts);
  const commands = changeCommands(table, gone, added);
  if (commands.length > 0) runCommands(open, commands.join('\n'));
  pass.writes += count(gone) + count(added);
  open.established = { ...before, table };
}

/** Runs in one transaction; where somebody else's came in between, the next verification will read. */
export function runCommands(open: OpenTable, commands: string): void {
  const before = open.established;
  open.nft.run(commands);
  if (before === undefined) return;
  const now = readGeneration(open.netlink);
  before.generation = now === before.generation + 1 ? now : 0;
}

type Sets = ReadonlyMap<string, ReadonlySet<string>>;

const count = (sets: Sets): number => [...sets.values()].reduce((sum, set) => sum + set.size, 0);

/** From the parts that are not in both: elements that go, and that come. */
function difference(
  before: ReadonlyMap<object, Elements>,
  after: ReadonlyMap<object, Elements>,
): { gone: Sets; added: Sets } {
  const changed = changedParts(before, after);
  const bySet = (lists: readonly Elements[]): Map<string, Set<string>> => {
    const sets = new Map<string, Set<string>>();
    for (const elements of lists)
      for (const [set, list] of elements) {
        const found = sets.get(set) ?? new Set<string>();
        for (const element of list) found.add(element);
        sets.set(set, found);
      }
    return sets;
  };
  const gone = bySet(changed.gone);
  const added = bySet(changed.added);
  for (const [set, elements] of gone)
    for (const element of elements) if (added.get(set)?.delete(element)) elements.delete(element);
  return { gone, added };
}

/** A map's element is deleted by its key. */
function changeCommands(table: Table, gone: Sets, added: Sets): string[] {
  const commands: string[] = [];
  for (const [set, elements] of gone)
    commands.push(
      ...elementCommands(
        'delete',
        table,
        set,
        [...elements].map((e) => e.split(' : ')[0] as string),
      ),
    );
  for (const [set, elements] of added) commands.push(...elementCommands('add', table, set, elements));
  return commands;
}

/** Puts right what others have changed, where the generation says that they may have. */
function repair(open: OpenTable, where: string, pass: Pass): void {
  const before = open.established;
  if (before === undefined) return;
  const generation = readGeneration(open.netlink);
  if (generation === before.generation) return;
  const actual = readTable(open.nft, before.table);
  if (actual === undefined || actual.rules !== before.rules) {
    pass.repaired.push(`${where}: rules of table ${before.table.name} differed`);
    delete open.established; // made anew
    return;
  }
  before.generation = generation;
  const wanted = new Map<string, Map<string, string>>();
  for (const elements of before.table.parts.values())
    for (const [set, list] of elements) {
      const texts = wanted.get(set) ?? new Map<string, string>();
      for (const element of list) texts.set(normalElement(element), element);
      wanted.set(set, texts);
    }
  const gone = new Map<string, Set<string>>();
  const added = new Map<string, Set<string>>();
  for (const [set, have] of actual.elements) {
    if (OWN_BY_KERNEL.has(set)) continue;
    const texts = wanted.get(set) ?? new Map<string, string>();
    gone.set(set, new Set([...have].filter((element) => !texts.has(element))));
    added.set(set, new Set([...texts].filter(([text]) => !have.has(text)).map(([, element]) => element)));
  }
  for (const [set, elements] of gone)
    for (const element of elements) pass.repaired.push(`${where}: removed element ${element} of set ${set}`);
  for (const [set, elements] of added)
    for (const element of elements)
      pass.repaired.push(`${where}: restored element ${normalElement(element)} of set ${set}`);
  const commands = changeCommands(before.table, gone, added);
  if (commands.length > 0) runCommands(open, commands.join('\n'));
  pass.writes += count(gone) + count(added);
}

/** Sets whose elements packets make. */
const OWN_BY_KERNEL: ReadonlySet<string> = new Set([
  'asking',
  'hits',
  'begun',
  'outside',
  'piecing',
  'refused',
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
  const { concat, prefix, range, elem } = element as {
    concat?: unknown[];
    prefix?: { addr: string; len: number };
    range?: unknown[];
    elem?: { val: unknown };
  };
  if (concat !== undefined) return concat.map(elementText).join(' . ');
  if (prefix !== undefined) return `${prefix.addr}/${prefix.len}`;
  if (range !== undefined) return range.map(elementText).join('-');
  return elem === undefined ? JSON.stringify(element) : elementText(elem.val);
}

const PROTOCOL_NUMBERS: Readonly<Record<string, string>> = { tcp: '6', udp: '17', sctp: '132' };

/** Our own element text as elementText writes the kernel's. */
function normalElement(element: string): string {
  return element
    .replaceAll('"', '')
    .replace(/\b(tcp|udp|sctp)\b/g, (name) => PROTOCOL_NUMBERS[name] ?? name)
    .replace(/\/(32|128)(?= : |$)/, '');
}
