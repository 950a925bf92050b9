/**
 * What is in a store, and a store's contents from elsewhere: what netmaster backup, restore and move do (copies.ts). As a file it is in
 * client/backupFile.ts.
 *
 * All of it is of one revision. What goes with a lease, hosts that live and netmasters that run, is not in it: they say themselves that
 * they are there. Revisions are those of the store that it was taken from, and tell the order of events alone: another store counts by
 * itself. So hosts take a store that was filled for another one (lineage.ts): they list everything, and what runs goes on.
 */
import type { Contents, Kept } from '../client/backupFile.ts';
import { GLOBAL_DEFAULTS } from '../model/settings.ts';
import { DEFAULT_TENANT } from '../model/tenant.ts';
import { oneLine } from '../model/text.ts';
import type { Entry, Store, Write } from '../store/store.ts';
import { firstTerm, LINEAGE } from './lineage.ts';
import { parseStoreKey, ROOT, storeKey } from './mirror.ts';

/** Of one revision, without what has a lease. */
export async function contentsOf(store: Store): Promise<Contents> {
  const { entries, revision } = await store.list(ROOT);
  return { store: store.id, revision, entries: entries.filter(({ lease }) => lease === undefined) };
}

const isEvent = (key: string): boolean => parseStoreKey(key).kind === 'event';

/**
 * Events are told apart by revision and a number in it. All that is written at once has one revision, so they are numbered on, in
 * the order in which they happened.
 */
function numbered(entries: readonly Kept[]): readonly Kept[] {
  const firstOf = ({ value }: { value: unknown }): number => (value as { first: number }).first;
  const events = entries
    .filter(({ key }) => isEvent(key))
    .sort((a, b) => a.revision - b.revision || firstOf(a) - firstOf(b));
  let next = 0;
  const first = new Map<string, number>();
  for (const { key, value } of events) {
    first.set(key, next);
    next += (value as { events: readonly unknown[] }).events.length;
  }
  return entries.map((entry) =>
    isEvent(entry.key)
      ? { ...entry, value: { ...(entry.value as object), first: first.get(entry.key) } }
      : entry,
  );
}

/** What a start makes, and what tells of it: nothing that is lost with it. */
function isOfStart({ key: text, value, lease }: Entry): boolean {
  const { kind, key } = parseStoreKey(text);
  if (lease !== undefined || kind === 'lineage' || kind === 'event') return true;
  if (kind === 'tenant') return key === DEFAULT_TENANT;
  return kind === 'global' && JSON.stringify(value) === JSON.stringify(GLOBAL_DEFAULTS);
}

/** Throws an Error with one plain line where netmasters run on a store that several share. */
export async function mustBeStill(store: Store): Promise<void> {
  const { entries } = await store.list(storeKey('replica', ''));
  const running = entries.map(({ value }) => (value as { url: string }).url);
  if (running.length > 0)
    throw new Error(
      `netmaster ${running.join(', ')} runs on it: stop it first (a netmaster that was killed counts for 10 s)`,
    );
}

/**
 * The store has these contents and no others, in one transaction, or what it had before. `why`: what status says of it. Throws an Error with
 * one plain line where a netmaster runs on it, or where something is in it and `over` is not said.
 */
export async function fill(
  store: Store,
  contents: Contents,
  { over, why }: { readonly over: boolean; readonly why: string },
): Promise<{ readonly revision: number; readonly replaced: number }> {
  await mustBeStill(store);
  const { entries } = await store.list(ROOT);
  const inIt = entries.filter((entry) => !isOfStart(entry)).length;
  if (inIt > 0 && !over)
    throw new Error(
      `${inIt} entries are in it: name an empty store, or say --replace, and they are lost (netmaster backup keeps them)`,
    );
  const stranger = contents.entries.find(({ key }) => !key.startsWith(ROOT));
  if (stranger !== undefined)
    throw new Error(`${oneLine(stranger.key, 64)} is no key of netmaster's: this is no netmaster's backup`);
  const next = new Set(contents.entries.map(({ key }) => key));
  const lineage = entries.find(({ key }) => key === LINEAGE);
  const writes: Write[] = [
    ...entries
      .filter(({ key, lease }) => lease === undefined && !next.has(key) && key !== LINEAGE)
      .map(({ key }) => ({ key, value: undefined })),
    ...numbered(contents.entries)
      .filter(({ key }) => key !== LINEAGE)
      .map(({ key, value }) => ({ key, value })),
    firstTerm(why, lineage?.value),
  ];
  const before = lineage?.revision ?? 0;
  // A netmaster that has started meanwhile has written there.
  const outcome = await store.transact([{ key: LINEAGE, revision: before }], writes);
  if (!outcome.ok) throw new Error('a netmaster has started on it meanwhile: stop it, and try again');
  return { revision: outcome.revision, replaced: inIt };
}
