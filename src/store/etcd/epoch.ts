/**
 * Transactions that are too large for one of etcd's, which takes 128 checks and 128 operations. They are done in steps, and while `epoch` is
 * there nobody else writes, and nobody shows what is written (etcd.ts):
 *
 *   stage    staged/T/owner under T's lease; staged/T/N: the writes, in pieces
 *   claim    if epoch is not there and staged/T/owner is:    epoch = {T, claimed} under T's lease
 *   check    reads what T relies on. Where that is another: epoch is deleted (if it is T's claim), and T answers its conflicts
 *   commit   if epoch is as T claimed it:                    epoch = {T, committed, pieces} without a lease. T is true from here on
 *   write    some at a time, each if epoch is as committed:  the keys themselves
 *   finish   if epoch is as committed:                       epoch and staged/T/ are deleted, in one transaction
 *
 * Until the commit nothing has happened: the lease ends with its owner and takes the claim along. From the commit on it happens
 * whoever lives: who waits for a committed epoch for a while writes and finishes it. Two that do so write the same, in the same order;
 * after the finish no write of theirs succeeds. Meanwhile leases alone change keys, so what is written has no lease, and what is relied on
 * has none either.
 */
import { randomInt, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Check, Outcome, Write } from '../store.ts';
import { UncertainError } from '../store.ts';
import { isAt, isThere, type Keys, leaseOf, parse, put, range, remove, revisionOf, under } from './keys.ts';
import { codeOf, LostError, type Members, NOT_FOUND } from './members.ts';
import type { Compare, KeyValue, Operation, TxnResponse } from './protocol.ts';

/** What one transaction of etcd's takes: the store's own check and operation are beside these. */
export const OPERATIONS = 127;
/** Bytes of one transaction; etcd takes 1.5 MiB in all. */
export const BYTES = 1 << 20;
/** Seconds after which a transaction has not happened whose owner is gone before its commit. */
const TTL = 10;
/** Milliseconds for which a committed transaction is its owner's to finish. */
const PATIENCE = 2000;
const POLL = 50;

interface Epoch {
  readonly id: string;
  readonly state: 'claimed' | 'committed';
  readonly pieces: number;
}
export const isCommitted = (kv: KeyValue): boolean => (parse(kv) as Epoch).state === 'committed';

type Plain = Pick<Write, 'key' | 'value'>;

const sizeOf = ({ key, value }: Plain): number =>
  Buffer.byteLength(key) + Buffer.byteLength(JSON.stringify(value) ?? '') + 64;
/** Consecutive ones that fit into one transaction. */
export function chunks(writes: readonly Plain[], limit = OPERATIONS): Plain[][] {
  const made: Plain[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const write of writes) {
    const size = sizeOf(write);
    if (bytes + size > BYTES || (made.at(-1)?.length ?? 0) >= limit) {
      made.push([]);
      bytes = 0;
    }
    made.at(-1)?.push(write);
    bytes += size;
  }
  return made;
}

/** For tests: called in front of each step. */
export type Step = 'stage' | 'claim' | 'check' | 'commit' | 'write' | 'finish';

export interface Epochs {
  transact(checks: readonly Check[], writes: readonly Write[]): Promise<Outcome>;
  /** When there is none, or another; a committed one that its owner leaves is finished. */
  over(): Promise<void>;
  /** Staged writes whose owner is gone, and that no epoch names, are deleted. */
  tidy(): Promise<void>;
}

export interface EpochParts {
  readonly members: Members;
  readonly keys: Keys;
  /** Runs until the store is closed. */
  readonly signal: AbortSignal;
  /** Of what was changed with a revision after that, the first revision with which it was; undefined: it was not. */
  changeOf(key: Buffer, after: number): Promise<number | undefined>;
  before?(step: Step): Promise<void> | void;
}

export function openEpochs({ members, keys, signal, changeOf, before = () => {} }: EpochParts): Epochs {
  const txn = (
    compare: readonly Compare[],
    success: readonly Operation[],
    failure: readonly Operation[] = [],
  ): Promise<TxnResponse> => members.call('txn', { compare, success, failure });

  async function read(...wanted: readonly Buffer[]): Promise<(KeyValue | undefined)[]> {
    const { responses } = await txn([], wanted.map(range));
    return responses.map(({ range: found }) => found?.kvs[0]);
  }

  async function stage(id: string, lease: string, pieces: readonly Plain[][]): Promise<void> {
    const owner = keys.stagedOf(id, 'owner');
    await txn([], [put(owner, id, lease)]);
    for (const [i, piece] of pieces.entries()) {
      const done = await txn([isThere(owner)], [put(keys.stagedOf(id, i), piece.map(packed))]);
      if (!done.succeeded)
        throw new Error('the transaction took too long to be staged, and has not happened');
    }
  }

  /** Revision of the claim. Sent again, it finds its own. */
  async function claim(id: string, lease: string, pieces: number): Promise<number> {
    const owner = keys.stagedOf(id, 'owner');
    const epoch: Epoch = { id, state: 'claimed', pieces };
    for (;;) {
      const { succeeded, header, responses } = await txn(
        [isAt(keys.epoch, 0), isThere(owner)],
        [put(keys.epoch, epoch, lease)],
        [range(keys.epoch), range(owner)],
      );
      if (succeeded) return Number(header.revision);
      const [found, owned] = responses.map(({ range: found }) => found?.kvs[0]);
      if (found !== undefined && (parse(found) as Epoch).id === id) return revisionOf(found);
      if (owned === undefined)
        throw new Error('the transaction waited too long for others, and has not happened');
      await over();
    }
  }

  async function conflictsOf(checks: readonly Check[]): Promise<string[]> {
    const conflicts: string[] = [];
    for (let i = 0; i < checks.length; i += OPERATIONS) {
      const some = checks.slice(i, i + OPERATIONS);
      const { responses } = await txn(
        [],
        some.map(({ key }) => ({ range: { key: keys.data(key), keysOnly: true } })),
      );
      for (const [j, { key, revision }] of some.entries()) {
        const found = responses[j]?.range?.kvs[0];
        if (revisionOf(found) !== revision) conflicts.push(key);
        else if (found !== undefined && leaseOf(found) !== undefined)
          throw new Error(`a large transaction cannot rely on ${key}, which has a lease`);
      }
    }
    return conflicts;
  }

  /** Revision of the commit. Only its owner commits: sent again, it finds its own, or that others have finished it. */
  async function commit(epoch: Epoch, claimed: number): Promise<number> {
    const { succeeded, header, responses } = await txn(
      [isAt(keys.epoch, claimed)],
      [put(keys.epoch, { ...epoch, state: 'committed' })],
      [range(keys.epoch)],
    );
    if (succeeded) return Number(header.revision);
    const [found] = responses[0]?.range?.kvs ?? [];
    if (found !== undefined && (parse(found) as Epoch).id === epoch.id && isCommitted(found))
      return revisionOf(found);
    // The next that became of the claim is the commit, where what came behind it is that; else it ended with its lease.
    const next = await changeOf(keys.epoch, claimed);
    if (next !== undefined && (await changeOf(keys.stagedOf(epoch.id, 0), claimed)) !== undefined)
      throw new UncertainError(
        'it is not known whether the transaction was written: others may have finished it',
      );
    throw new Error('the transaction took too long, and has not happened');
  }

  /** False: another has finished it. */
  async function write(committed: number, writes: readonly Plain[]): Promise<boolean> {
    for (const chunk of chunks(writes)) {
      const { succeeded } = await txn([isAt(keys.epoch, committed)], chunk.map(keys.operationOf));
      if (!succeeded) return false;
    }
    return true;
  }

  async function finish(id: string, committed: number): Promise<void> {
    await txn(
      [isAt(keys.epoch, committed)],
      [remove({ key: keys.epoch }), remove(under(keys.stagedOf(id))), put(keys.each, `large ${id}`)],
    );
  }

  /** A transaction of somebody who left it: from what is staged. */
  async function finishFor(kv: KeyValue): Promise<void> {
    const { id, pieces } = parse(kv) as Epoch;
    const committed = revisionOf(kv);
    for (let i = 0; i < pieces; i++) {
      const [piece] = await read(keys.stagedOf(id, i));
      if (piece === undefined || !(await write(committed, (parse(piece) as Packed[]).map(unpacked)))) return;
    }
    await finish(id, committed);
  }

  let waiting: Promise<void> | undefined;
  async function untilOver(): Promise<void> {
    let first: KeyValue | undefined;
    let since = performance.now();
    while (!signal.aborted) {
      const [found] = await read(keys.epoch);
      if (found === undefined || (first !== undefined && first.createRevision !== found.createRevision))
        return;
      if (first?.modRevision !== found.modRevision) {
        first = found;
        since = performance.now();
      }
      if (isCommitted(found) && performance.now() - since > PATIENCE) return finishFor(found);
      await sleep(POLL);
    }
  }
  function over(): Promise<void> {
    waiting ??= untilOver().finally(() => {
      waiting = undefined;
    });
    return waiting;
  }

  async function clear(id: string): Promise<void> {
    await txn([], [remove(under(keys.stagedOf(id)))]);
  }

  async function run(
    id: string,
    lease: string,
    checks: readonly Check[],
    writes: readonly Plain[],
  ): Promise<Outcome> {
    const pieces = chunks(writes, Number.POSITIVE_INFINITY);
    await before('stage');
    await stage(id, lease, pieces);
    await before('claim');
    const claimed = await claim(id, lease, pieces.length);
    const release = async (): Promise<void> => {
      await txn([isAt(keys.epoch, claimed)], [remove({ key: keys.epoch })]);
      await clear(id);
    };
    await before('check');
    try {
      const conflicts = await conflictsOf(checks);
      if (conflicts.length > 0) {
        await release();
        return { ok: false, conflicts };
      }
    } catch (error) {
      await release();
      throw error;
    }
    await before('commit');
    const committed = await commit({ id, state: 'claimed', pieces: pieces.length }, claimed);
    await before('write');
    if (await write(committed, writes)) {
      await before('finish');
      await finish(id, committed);
    }
    // It may have been another that finished it.
    const finished = await changeOf(keys.epoch, committed);
    if (finished === undefined) throw new UncertainError('the transaction is written, and not yet shown');
    return { ok: true, revision: finished };
  }

  return {
    over,
    async transact(checks, writes) {
      const leased = writes.find((write) => write.lease !== undefined);
      if (leased !== undefined)
        throw new Error(`a large transaction cannot write ${leased.key} with a lease`);
      const id = randomUUID();
      const lease = String(randomInt(1, 2 ** 48 - 1));
      await members.call('grant', { TTL: TTL, ID: lease });
      const renewing = setInterval(() => void renew(members, lease).catch(() => {}), (TTL * 1000) / 4);
      try {
        return await run(id, lease, checks, writes);
      } catch (error) {
        if (error instanceof LostError)
          throw new UncertainError(`it is not known whether the transaction was written: ${error.message}`);
        throw error;
      } finally {
        clearInterval(renewing);
        await members.call('revoke', { ID: lease }).catch(() => {});
      }
    },
    async tidy() {
      const { responses } = await txn(
        [],
        [range(keys.epoch), { range: { ...under(keys.staged), keysOnly: true } }],
      );
      const [epoch, staged] = responses.map(({ range: found }) => found?.kvs ?? []);
      const names = (staged ?? []).map(({ key }) => key.subarray(keys.staged.length).toString().split('/'));
      const owned = new Set(names.filter(([, piece]) => piece === 'owner').map(([id]) => id));
      for (const kv of epoch ?? []) owned.add((parse(kv) as Epoch).id);
      for (const id of new Set(names.map(([id = '']) => id))) if (!owned.has(id)) await clear(id);
    },
  };
}

/** Of staged writes: without a value it is a delete. */
type Packed = readonly [key: string, value?: unknown];
const packed = ({ key, value }: Plain): Packed => (value === undefined ? [key] : [key, value]);
const unpacked = ([key, value]: Packed): Plain => ({ key, value });

/** False: the lease has ended. */
export async function renew(members: Members, lease: string): Promise<boolean> {
  for (const goOn = members.deadline(); ; ) {
    try {
      const { call, failed } = await members.stream('renew');
      const timer = setTimeout(() => call.cancel(), 4000);
      try {
        call.write({ ID: lease });
        for await (const { TTL } of call) return Number(TTL) > 0;
      } catch (error) {
        if (codeOf(error) === NOT_FOUND) return false;
      } finally {
        clearTimeout(timer);
        call.cancel();
      }
      failed();
    } catch {
      // signing in failed: another member
    }
    if (!(await goOn())) throw new LostError('no member of etcd renews leases');
  }
}
