/**
 * What happened, kept in the store: what a transaction changed is written with it, in the same transaction, so that no change is without
 * its events and no event without its change.
 *
 *   decision {writes, events} --writer--> one transaction: the writes, event/KIND/ID, and the oldest ones of that kind deleted
 *   store's watch --mirror--> this log, of every netmaster alike --> answers, followers, netmaster's own log
 *
 * A record has the events of one transaction that are of one kind. Of each kind EVENTS and BYTES are kept, so that containers that come
 * and go do not take the place of what people changed. With each transaction a few records go at most: on etcd more would make a
 * large transaction of a small one. So after many at once there is more for a while.
 */
import { randomUUID } from 'node:crypto';
import type { FieldChanges } from '../protocol/declared.ts';
import type { Event, Happened } from '../protocol/events.ts';
import { EVENT_KINDS, type EventKind } from '../protocol/wire.ts';
import type { Write } from '../store/store.ts';

/** Of each kind. */
export const EVENTS = 5000;
export const BYTES = 2 << 20;
/** Records of a kind that a transaction deletes at most. */
const DELETED = 4;
/** Events of one transaction: of more is said how many they are. */
export const AT_ONCE = 1000;
/** Bytes of a record, and characters of a value in it as JSON: a larger one is cut. */
const RECORD_BYTES = 64 << 10;
const VALUE_LENGTH = 1000;

/** Who asked for a change, as far as it is known. */
export interface Caller {
  readonly by?: string;
  readonly from?: string;
}

/** An event as a decision has it. */
export interface Occurrence extends Happened {
  /** Id of its record, where it must be written once only: the decision looks whether it is there, and checks that it is not. */
  readonly once?: string;
  /** Milliseconds, Unix time, where it is not now. */
  readonly at?: number;
}

/** As it is stored, under event/KIND/ID. */
interface Stored extends Caller {
  readonly time: string;
  /** Number of the first of its events in the transaction. */
  readonly first: number;
  readonly events: readonly Omit<Happened, 'kind'>[];
}

/** One that is being made. */
interface Draft {
  readonly kind: EventKind;
  readonly id: string;
  readonly time: number;
  readonly events: Omit<Happened, 'kind'>[];
  bytes: number;
}
/** Bytes of a record beside its events, or somewhat more. */
const HEAD_BYTES = 200;

interface Kept {
  readonly key: string;
  readonly kind: EventKind;
  readonly revision: number;
  readonly bytes: number;
  readonly stored: Stored;
}

export interface Filter {
  readonly kinds?: ReadonlySet<string> | undefined;
  /** Milliseconds, Unix time: from then on. */
  readonly since?: number | undefined;
  /** Behind this one. */
  readonly after?: Position | undefined;
  readonly tenant?: string | undefined;
}

/** Of an event: `12-0` is the first one of revision 12. */
export interface Position {
  readonly revision: number;
  readonly number: number;
}

export interface EventLog {
  /** By the mirror: a record as the store has it; undefined: it is gone. */
  put(key: string, value: unknown, revision: number): void;
  /** By the mirror, when all of a change is there: tells listeners of what has come. */
  settled(): void;
  /** What a transaction writes besides for what happens with it. */
  record(events: readonly Occurrence[], caller: Caller): Write[];
  /** The same of several transactions, of which none is there yet when the next one is recorded. */
  recorder(): Pick<EventLog, 'record'>;
  /** The oldest first. */
  list(filter: Filter): Event[];
  onEvents(listener: (events: readonly Event[]) => void): () => void;
}

const isKind = (text: string): text is EventKind => EVENT_KINDS.some((kind) => kind === text);

/** `12-3`, or `12`: behind all of revision 12. undefined: it is neither. */
export function readPosition(text: string): Position | undefined {
  const match = /^(\d{1,15})(?:-(\d{1,9}))?$/.exec(text);
  if (match === null) return undefined;
  return {
    revision: Number(match[1]),
    number: match[2] === undefined ? Number.POSITIVE_INFINITY : Number(match[2]),
  };
}

/** Key of a record without the kind of all events in front: `repair/RUN-7`. */
export const recordKey = (kind: EventKind, id: string): string => `${kind}/${id}`;

export function openEventLog(storeKeyOf: (key: string) => string): EventLog {
  const byKind = new Map<EventKind, Kept[]>(EVENT_KINDS.map((kind) => [kind, []]));
  const totals = new Map(EVENT_KINDS.map((kind) => [kind, { events: 0, bytes: 0 }]));
  const byKey = new Map<string, Kept>();
  const listeners = new Set<(events: readonly Event[]) => void>();
  let came: Kept[] = [];

  const ofKind = (kind: EventKind): Kept[] => byKind.get(kind) as Kept[];
  function count({ kind, stored, bytes }: Kept, sign: 1 | -1): void {
    const total = totals.get(kind) as { events: number; bytes: number };
    total.events += sign * stored.events.length;
    total.bytes += sign * bytes;
  }

  /** What transactions that are not there yet take away, and what they bring. */
  interface Coming {
    readonly gone: Set<Kept>;
    readonly totals: Map<EventKind, { events: number; bytes: number }>;
  }

  /** Records that go for so many more, the oldest first. */
  function surplus(kind: EventKind, events: number, bytes: number, coming: Coming): Kept[] {
    const total = coming.totals.get(kind) ?? { ...(totals.get(kind) as { events: number; bytes: number }) };
    coming.totals.set(kind, total);
    const gone: Kept[] = [];
    for (const kept of ofKind(kind)) {
      if (total.events + events <= EVENTS && total.bytes + bytes <= BYTES) break;
      if (gone.length === DELETED) break;
      if (coming.gone.has(kept)) continue;
      coming.gone.add(kept);
      gone.push(kept);
      total.events -= kept.stored.events.length;
      total.bytes -= kept.bytes;
    }
    total.events += events;
    total.bytes += bytes;
    return gone;
  }

  function record(all: readonly Occurrence[], caller: Caller, coming: Coming): Write[] {
    const now = Date.now();
    const some = all.length <= AT_ONCE ? all : [...all.slice(0, AT_ONCE - 1), theRest(all)];
    const records: Draft[] = [];
    /** Those that take more, by kind. */
    const open = new Map<EventKind, Draft>();
    for (const { kind, once, at, ...event } of some) {
      const cut = event.fields === undefined ? event : { ...event, fields: cutFields(event.fields) };
      const size = Buffer.byteLength(JSON.stringify(cut)) + 1;
      let record = once === undefined ? open.get(kind) : undefined;
      if (record === undefined || record.bytes + size > RECORD_BYTES) {
        const id = once ?? randomUUID();
        record = { kind, id, time: Math.min(at ?? now, now), events: [], bytes: HEAD_BYTES };
        records.push(record);
        if (once === undefined) open.set(kind, record);
      }
      record.events.push(cut);
      record.bytes += size;
    }
    let first = 0;
    const writes: Write[] = [];
    for (const { kind, id, time, events } of records) {
      const value: Stored = { time: new Date(time).toISOString(), ...caller, first, events };
      writes.push({ key: storeKeyOf(recordKey(kind, id)), value });
      first += events.length;
    }
    for (const [kind, own] of Map.groupBy(records, (record) => record.kind)) {
      const events = own.reduce((sum, record) => sum + record.events.length, 0);
      const bytes = own.reduce((sum, record) => sum + record.bytes, 0);
      for (const { key } of surplus(kind, events, bytes, coming))
        writes.push({ key: storeKeyOf(key), value: undefined });
    }
    return writes;
  }

  function recorder(): Pick<EventLog, 'record'> {
    const coming: Coming = { gone: new Set(), totals: new Map() };
    return { record: (events, caller) => record(events, caller, coming) };
  }

  return {
    put(key, value, revision) {
      const [kind = ''] = key.split('/');
      if (!isKind(kind)) return; // of another version of netmaster
      const all = ofKind(kind);
      const before = byKey.get(key);
      if (before !== undefined) {
        all.splice(all.indexOf(before), 1); // the oldest go: it is found at once
        byKey.delete(key);
        count(before, -1);
      }
      if (value === undefined) return;
      const bytes = Buffer.byteLength(JSON.stringify(value));
      const kept: Kept = { key, kind, revision, bytes, stored: value as Stored };
      all.push(kept);
      byKey.set(key, kept);
      count(kept, 1);
      came.push(kept);
    },
    settled() {
      if (came.length === 0) return;
      const events = eventsOf(came);
      // A list comes in the order of keys; what is written afterwards comes in its own order, at the end.
      for (const [kind, its] of Map.groupBy(came, (kept) => kept.kind)) {
        const all = ofKind(kind);
        const from = Math.max(0, all.length - its.length - 1);
        const isSorted = all
          .slice(from)
          .every((kept, i, end) => i === 0 || inOrder(end[i - 1] as Kept, kept) < 0);
        if (!isSorted) all.sort(inOrder);
      }
      came = [];
      for (const listener of listeners) listener(events);
    },
    record: (events, caller) => recorder().record(events, caller),
    recorder,
    list({ kinds, since, after, tenant }) {
      const wanted = EVENT_KINDS.filter((kind) => kinds?.has(kind) ?? true).flatMap((kind) =>
        after === undefined
          ? ofKind(kind)
          : ofKind(kind).filter(({ revision }) => revision >= after.revision),
      );
      return eventsOf(wanted).filter((event) => isWanted(event, { since, after, tenant }));
    },
    onEvents(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

const inOrder = (a: Kept, b: Kept): number => a.revision - b.revision || a.stored.first - b.stored.first;

function isWanted(event: Event, { since, after, tenant }: Filter): boolean {
  if (since !== undefined && Date.parse(event.time) < since) return false;
  if (tenant !== undefined && event.tenant !== tenant) return false;
  if (after === undefined) return true;
  const { revision, number } = readPosition(event.id) as Position;
  return revision > after.revision || (revision === after.revision && number > after.number);
}

/** Whether one that has just come is what is asked for. */
export const matches = (event: Event, filter: Filter): boolean =>
  (filter.kinds?.has(event.kind) ?? true) && isWanted(event, filter);

/** In the order in which they happened. */
function eventsOf(records: readonly Kept[]): Event[] {
  const sorted = records.toSorted(inOrder);
  return sorted.flatMap(({ kind, revision, stored: { time, by, from, first, events } }) =>
    events.map((event, i) => ({
      id: `${revision}-${first + i}`,
      revision,
      time,
      kind,
      ...event,
      ...(by === undefined ? {} : { by }),
      ...(from === undefined ? {} : { from }),
    })),
  );
}

function theRest(all: readonly Occurrence[]): Occurrence {
  const rest = all.slice(AT_ONCE - 1);
  const { kind, action } = rest[0] as Occurrence;
  return { kind, action, text: `${rest.length} more objects in the same step` };
}

const cutFields = (fields: FieldChanges): FieldChanges =>
  Object.fromEntries(
    Object.entries(fields).map(([field, sides]) => [
      field,
      Object.fromEntries(Object.entries(sides).map(([side, value]) => [side, cutValue(value)])),
    ]),
  );

function cutValue(value: unknown): unknown {
  const text = JSON.stringify(value) ?? '';
  return text.length <= VALUE_LENGTH ? value : `${text.slice(0, VALUE_LENGTH).toWellFormed()}…`;
}
