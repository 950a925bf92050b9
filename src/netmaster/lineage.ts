/**
 * Which revisions belong to this store's past. A store may be put back to an earlier state: from a backup, by a copy of its file, by a
 * snapshot of its machine or of etcd. It then counts on from there, and says other things by revisions that some host has
 * seen already. So a revision alone tells nobody how far he is: it goes with the term in which it was told.
 *
 *   lineage/lineage   the terms, the oldest first: each netmaster's start begins one, and so does a restore
 *
 *   before    term a (from 1) ......... b (from 40) ...... 60
 *   put back to 50, and started:
 *             term a (from 1) ......... b (from 40) .. 51 c
 *   "b, 45" is of this store's past: who has it goes on from there.   "b, 55" is not: he lists everything.
 *
 * Watchers are told of a term with its own revision (`store` of synced and change: ID.TERM), so that what they say is exact.
 */
import { randomBytes } from 'node:crypto';
import type { Logger } from 'pino';
import type { Write } from '../store/store.ts';
import { type Mirror, storeKey } from './mirror.ts';
import type { View } from './tables.ts';
import { storedTerms, type Term } from './terms.ts';
import type { Decision, Writer } from './writer.ts';

/** Terms that are kept: who comes from an earlier one lists everything. */
const KEPT = 50;
/** Milliseconds between two terms that are begun as somebody has seen more than the store has. */
const PAUSE = 60_000;
/** Milliseconds for which status shows that the store was put back. */
const SHOWN = 7 * 86_400_000;

export const LINEAGE = storeKey('lineage', 'lineage');
const newId = (): string => randomBytes(6).toString('hex');

/** Begins one more. */
export function decideTerm(view: View, restored?: string): Decision<undefined> {
  const before = storedTerms(view);
  const terms = [...(before?.object ?? [])];
  const last = terms.pop();
  if (last !== undefined && before !== undefined) terms.push({ ...last, from: before.revision });
  const value = [...terms.slice(-KEPT + 1), termOf(restored)];
  return {
    checks: [{ key: LINEAGE, revision: before?.revision ?? 0 }],
    writes: [{ key: LINEAGE, value }],
    answer: undefined,
  };
}

/** Of a store whose contents come from elsewhere: nothing that was told of it before is of its past. `before`: the record that was there. */
export function firstTerm(restored: string, before: unknown): Write {
  const replaces = ((before ?? []) as readonly Term[]).flatMap(({ id, replaces = [] }) => [...replaces, id]);
  return { key: LINEAGE, value: [{ ...termOf(restored), replaces: replaces.slice(-KEPT) }] };
}

const termOf = (text: string | undefined): Term => ({
  id: newId(),
  ...(text === undefined ? {} : { restored: { text, at: new Date().toISOString() } }),
});

/**
 * `past`: it is of this store's past, or as far as it goes. `another`: it never was, or it is not known any more. `ahead`: whoever
 * says it has seen what this store has not, which once had it.
 */
export type Judgement = 'past' | 'another' | 'ahead';

/** `alone`: no other netmaster writes, so that the mirror shows all there is. */
export function judge(mirror: Mirror, position: string, revision: number, alone: boolean): Judgement {
  const [id, term] = position.split('.');
  const [own = ''] = mirror.storeId.split('.');
  if (id !== own) return 'another';
  const terms = storedTerms(mirror)?.object ?? [];
  const isBeyond = revision > mirror.revision;
  // An agent of before terms; or a store of before them.
  if (term === undefined || terms.length === 0) return isBeyond && alone ? 'ahead' : 'past';
  const at = terms.findIndex((known) => known.id === term);
  const isReplaced = terms.some(({ replaces = [] }) => replaces.includes(term));
  if (at < 0) return terms.length >= KEPT || isReplaced ? 'another' : 'ahead';
  const until = terms[at + 1] && (terms[at + 1]?.from ?? storedTerms(mirror)?.revision);
  if (until !== undefined) return revision < until ? 'past' : 'ahead';
  return isBeyond && alone ? 'ahead' : 'past';
}

/** What status shows: when the store was put back, and by what it is known; undefined: it was not, or long ago. */
export function restoredText(view: View): string | undefined {
  const found = (storedTerms(view)?.object ?? []).findLast(
    ({ restored }) => restored !== undefined,
  )?.restored;
  if (found === undefined || Date.parse(found.at) < Date.now() - SHOWN) return undefined;
  return `${found.at}: ${found.text}`;
}

export interface Lineage {
  /** Whether a revision is of this store's past. Where it is ahead, that is said, and a term begun, so that all others list anew. */
  holds(position: string, revision: number, who: string): boolean;
}

export function openLineage(parts: {
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly log: Logger;
  readonly alone: boolean;
}): Lineage {
  const { mirror, writer, log, alone } = parts;
  let noted = Number.NEGATIVE_INFINITY;
  return {
    holds(position, revision, who) {
      const judgement = judge(mirror, position, revision, alone);
      if (judgement !== 'ahead' || performance.now() < noted + PAUSE) return judgement === 'past';
      noted = performance.now();
      const text = `the store was put back to an earlier state: ${who} has seen revision ${revision}, which is not of its past. Hosts list everything anew; what was declared since is lost`;
      log.warn({ revision: mirror.revision }, text);
      writer
        .write(() => decideTerm(mirror, text))
        .catch((error) => log.error({ err: error }, 'not written that the store was put back'));
      return false;
    },
  };
}
