/**
 * The store on etcd v3, for several netmasters: revisions, history and leases are etcd's own. A transaction is one of etcd's, with two things
 * of ours in each: it happens only while no large transaction is under way (epoch.ts), and puts its own name under `each`, by which it
 * finds out whether it happened when its answer was lost.
 */
import { randomInt, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Batch,
  type Change,
  type Check,
  CompactedError,
  type Entry,
  type Outcome,
  type Store,
  UncertainError,
  type Write,
} from '../store.ts';
import { BYTES, chunks, isCommitted, OPERATIONS, openEpochs, renew, type Step } from './epoch.ts';
import { follow, type Revision } from './follow.ts';
import { isAt, openKeys, parse, put, range, revisionOf, under } from './keys.ts';
import {
  codeOf,
  type EtcdOptions,
  LostError,
  NOT_FOUND,
  OUT_OF_RANGE,
  openMembers,
  refused,
} from './members.ts';
import type { KeyValue, Operation, RangeRequest, TxnResponse } from './protocol.ts';

/** Entries that are read at once. */
const PAGE = 2000;
/** Milliseconds between two looks at a large transaction that a watch waits for. */
const HELP = 200;
/** Milliseconds between two looks at what large transactions left. */
const TIDY = 10_000;

export interface EtcdHooks {
  before?(step: Step): Promise<void> | void;
}

/** Throws an Error with one plain line where no member answers. */
export async function openEtcd(options: EtcdOptions, hooks: EtcdHooks = {}): Promise<Store> {
  const members = openMembers(options);
  const keys = openKeys(options.name);
  const closing = new AbortController();
  /** The newest revision that is known: what is sent now is written behind it. */
  let known = 0;
  /** The newest one that was written here. */
  let written = 0;

  const noted = <A extends { header: { revision: string } }>(answer: A): A => {
    known = Math.max(known, Number(answer.header.revision));
    return answer;
  };

  /** Of one key, the first revision after that with which it changed, and has `value` where that is asked for; undefined: none did. */
  async function changeOf(key: Buffer, after: number, value?: unknown): Promise<number | undefined> {
    const { responses, header } = noted(await members.call('txn', { success: [range(key)] }));
    const now = responses[0]?.range?.kvs[0];
    const isWanted = (kv: KeyValue): boolean => value === undefined || parse(kv) === value;
    if (now !== undefined && value !== undefined && isWanted(now)) return revisionOf(now);
    if (now !== undefined && revisionOf(now) <= after) return undefined;
    const until = now === undefined ? Number(header.revision) : revisionOf(now);
    const stop = new AbortController();
    // Of a key that is not there it is not known whether it was.
    const timer = setTimeout(() => stop.abort(), now === undefined ? 5000 : 20_000);
    try {
      for await (const { revision, events } of follow({
        members,
        range: { key },
        after,
        signal: stop.signal,
      })) {
        if (events.some(({ kv, type }) => value === undefined || (type === 'PUT' && isWanted(kv))))
          return revision;
        if (revision >= until) return undefined;
      }
      if (now === undefined) return undefined;
    } catch (error) {
      if (!(error instanceof CompactedError)) throw error;
    } finally {
      clearTimeout(timer);
      stop.abort();
    }
    throw new UncertainError(
      'it is not known whether the transaction was written: etcd has forgotten what came next',
    );
  }

  const epochs = openEpochs({ members, keys, signal: closing.signal, changeOf, ...hooks });

  /** What a request of operations reads, of one revision: of before the large transaction that is under way. */
  async function read(
    wanted: RangeRequest,
  ): Promise<{ kvs: readonly KeyValue[]; more: boolean; each: number; at: number }> {
    for (;;) {
      const answer = noted(
        await members.call('txn', {
          success: [range(keys.epoch), range(keys.each), { range: wanted }],
        }),
      );
      const [epoch, each, found] = answer.responses.map((each) => each.range);
      const [underWay] = epoch?.kvs ?? [];
      if (underWay === undefined)
        return {
          kvs: found?.kvs ?? [],
          more: found?.more ?? false,
          each: revisionOf(each?.kvs[0]),
          at: Number(answer.header.revision),
        };
      const at = Number(underWay.createRevision) - 1;
      try {
        const success: Operation[] = [{ key: keys.each }, wanted].map((each) => ({
          range: { ...each, revision: at },
        }));
        const [before, listed] = (await members.call('txn', { success })).responses.map((each) => each.range);
        return {
          kvs: listed?.kvs ?? [],
          more: listed?.more ?? false,
          each: revisionOf(before?.kvs[0]),
          at,
        };
      } catch (error) {
        if (codeOf(error) !== OUT_OF_RANGE) throw refused(error);
        await epochs.over();
      }
    }
  }

  async function list(prefix: string): Promise<{ entries: Entry[]; revision: number }> {
    const { key, rangeEnd } = under(keys.data(prefix));
    const first = await read({ key, rangeEnd, limit: PAGE });
    const entries = first.kvs.map(keys.entryOf);
    let { more } = first;
    let last = first.kvs.at(-1);
    while (more && last !== undefined) {
      const from = Buffer.concat([last.key, Buffer.from([0])]);
      try {
        const { responses } = await members.call('txn', {
          success: [{ range: { key: from, rangeEnd, limit: PAGE, revision: first.at } }],
        });
        const page = responses[0]?.range;
        for (const kv of page?.kvs ?? []) entries.push(keys.entryOf(kv));
        more = page?.more ?? false;
        last = page?.kvs.at(-1);
      } catch (error) {
        if (codeOf(error) === OUT_OF_RANGE) return list(prefix); // it took longer than history is kept
        throw refused(error);
      }
    }
    // A watch goes on from there; what leases took since comes again.
    return { entries, revision: first.each };
  }

  const fits = (checks: readonly Check[], writes: readonly Write[]): boolean =>
    checks.length <= OPERATIONS &&
    writes.length <= OPERATIONS &&
    (writes.length < 2 || chunks(writes).length < 2);

  async function transact(checks: readonly Check[], writes: readonly Write[]): Promise<Outcome> {
    if (closing.signal.aborted) throw new Error('the store is closed');
    // etcd takes no key twice.
    const last = [...new Map(writes.map((write) => [write.key, write])).values()];
    for (const { key, value } of last)
      if (Buffer.byteLength(JSON.stringify(value) ?? '') > BYTES + (BYTES >> 2))
        throw new Error(`${key} is larger than etcd takes`);
    const outcome = await (fits(checks, last) ? transactOnce : epochs.transact)(checks, last);
    if (outcome.ok) {
      known = Math.max(known, outcome.revision);
      written = Math.max(written, outcome.revision);
    }
    return outcome;
  }

  /**
   * Its checks are sent again with it, so that it does not happen twice where one of them is on what it writes. One without checks may:
   * then it happens later than it might.
   */
  async function transactOnce(checks: readonly Check[], writes: readonly Write[]): Promise<Outcome> {
    const id = randomUUID();
    const request = {
      compare: [isAt(keys.epoch, 0), ...checks.map(({ key, revision }) => isAt(keys.data(key), revision))],
      success: [...writes.map(keys.operationOf), put(keys.each, id)],
      failure: [
        range(keys.epoch),
        ...checks.map(({ key }) => ({ range: { key: keys.data(key), keysOnly: true } })),
      ],
    };
    const since = known;
    let lost: LostError | undefined;
    for (const goOn = members.deadline(); ; ) {
      let answer: TxnResponse;
      try {
        answer = noted(await members.once('txn', request));
      } catch (error) {
        if (error instanceof LostError) {
          lost = error;
          if (await goOn()) continue;
          throw new UncertainError(
            `it is not known whether it was written: no member of etcd answers, the last asked was ${error.message}`,
          );
        }
        if (codeOf(error) !== NOT_FOUND) throw refused(error);
        const happened = lost === undefined ? undefined : await changeOf(keys.each, since, id);
        if (happened !== undefined) return { ok: true, revision: happened };
        return {
          ok: false,
          conflicts: writes.flatMap(({ key, lease }) => (lease === undefined ? [] : [key])),
        };
      }
      if (answer.succeeded) return { ok: true, revision: Number(answer.header.revision) };
      const happened = lost === undefined ? undefined : await changeOf(keys.each, since, id);
      if (happened !== undefined) return { ok: true, revision: happened };
      const [epoch, ...found] = answer.responses.map((each) => each.range?.kvs[0]);
      if (epoch === undefined)
        return {
          ok: false,
          conflicts: checks
            .filter(({ revision }, i) => revisionOf(found[i]) !== revision)
            .map(({ key }) => key),
        };
      await epochs.over();
    }
  }

  async function* watch(prefix: string, after: number, signal: AbortSignal): AsyncGenerator<Batch> {
    /** Since a large transaction was claimed: what came, and whether it is committed. */
    let held: Revision[] | undefined;
    let committed = false;
    const both = AbortSignal.any([signal, closing.signal]);
    const help = async (): Promise<void> => {
      while (held !== undefined && !both.aborted) {
        await epochs.over().catch(() => {});
        await sleep(HELP);
      }
    };
    const batchOf = (...revisions: readonly Revision[]): Batch => {
      const changes = new Map<string, Change>();
      for (const { events } of revisions)
        for (const { type, kv } of events) {
          if (!keys.isData(kv) || !keys.keyOf(kv).startsWith(prefix)) continue;
          const key = keys.keyOf(kv);
          changes.set(
            key,
            type === 'PUT' ? keys.entryOf(kv) : { key, value: undefined, revision: revisionOf(kv) },
          );
        }
      return { revision: (revisions.at(-1) as Revision).revision, changes: [...changes.values()] };
    };
    const following = { members, range: keys.followed, after, signal: both, written: () => written };
    for await (const revision of follow(following)) {
      const epoch = revision.events.find(({ kv }) => kv.key.equals(keys.epoch));
      if (epoch?.type === 'PUT') {
        const isFirst = held === undefined;
        held ??= [];
        if (isFirst) void help();
        committed = isCommitted(epoch.kv);
      }
      if (held === undefined) {
        yield batchOf(revision);
        continue;
      }
      held.push(revision);
      if (epoch?.type !== 'DELETE') continue;
      const came = held;
      held = undefined;
      if (committed) yield batchOf(...came);
      else for (const each of came) yield batchOf(each);
    }
  }

  async function idOf(): Promise<string> {
    const made = { success: [put(keys.id, randomUUID()), put(keys.each, 'made')] };
    const { responses } = await members.call('txn', {
      compare: [isAt(keys.id, 0)],
      ...made,
      failure: [range(keys.id)],
    });
    const found = responses[0]?.range?.kvs[0];
    return found === undefined ? idOf() : (parse(found) as string);
  }

  const tidying = setInterval(() => void epochs.tidy().catch(() => {}), TIDY); // later, or by others
  tidying.unref();

  let id: string;
  try {
    id = await idOf();
    await epochs.over();
    await epochs.tidy();
  } catch (error) {
    clearInterval(tidying);
    members.close();
    throw refused(error);
  }

  return {
    id,
    async get(key) {
      const { kvs } = await read({ key: keys.data(key) });
      return kvs[0] === undefined ? undefined : keys.entryOf(kvs[0]);
    },
    list,
    transact,
    watch,
    async grant(ttl) {
      // An id of ours: asked for again, it is the same lease.
      const lease = String(randomInt(1, 2 ** 48 - 1));
      await members.call('grant', { TTL: Math.ceil(ttl), ID: lease });
      return lease;
    },
    renew: (lease) => renew(members, lease),
    async revoke(lease) {
      await members.call('revoke', { ID: lease }).catch((error) => {
        if (codeOf(error) !== NOT_FOUND) throw refused(error);
      });
    },
    async problem() {
      let last: unknown;
      // Each member once: it is moved on from whoever does not answer.
      for (const _ of options.endpoints)
        try {
          const { errors } = await members.once('status', {});
          return errors.length === 0 ? undefined : `etcd says ${errors.join(', ')}`;
        } catch (error) {
          last = error;
          if (!(error instanceof LostError)) break;
        }
      return last instanceof LostError
        ? `no member of etcd answers, the last asked was ${last.message}`
        : refused(last).message;
    },
    async describe() {
      const place = options.endpoints.join(', ');
      try {
        const { dbSize } = await members.once('status', {});
        return { kind: 'etcd', place, bytes: Number(dbSize) };
      } catch {
        return { kind: 'etcd', place }; // problem() says why
      }
    },
    async close() {
      if (closing.signal.aborted) return;
      closing.abort();
      clearInterval(tidying);
      members.close();
    },
  };
}
