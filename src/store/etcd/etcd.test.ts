/** On three real members: `etcd` of Debian's package etcd-server, or another that is first on the PATH. */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type EtcdCluster, type Member, startEtcd } from '../../../test/etcd.ts';
import { type Batch, CompactedError, type Store, UncertainError } from '../store.ts';
import { testStore } from '../suite.ts';
import type { Step } from './epoch.ts';
import { openEtcd } from './etcd.ts';
import { openKeys, range, under } from './keys.ts';
import { openMembers } from './members.ts';

/** Only ends tests that hang. */
const LIMIT = 120_000;

// Elections take seconds, and machines are busy.
vi.setConfig({ testTimeout: 180_000 });

let cluster: EtcdCluster;
beforeAll(async () => {
  cluster = await startEtcd();
}, 60_000);
afterAll(() => cluster?.close());

const names = new Map<Store, string>();
let opens = 0;
async function open(name = `t${++opens}`): Promise<Store> {
  const { endpoints } = cluster;
  const at = names.size % endpoints.length;
  const store = await openEtcd({ endpoints: [...endpoints.slice(at), ...endpoints.slice(0, at)], name });
  names.set(store, name);
  return store;
}

describe('etcd store', () => {
  testStore({
    open,
    async compact(store) {
      await cluster.compact();
      return store;
    },
    beside: (store) => open(names.get(store)),
  });
});

describe('etcd store, while members fail', () => {
  // What a test has left stopped or dead when it failed is no fault of the next one's.
  afterEach(async () => {
    for (const member of cluster.members) {
      member.signal('SIGCONT');
      if (await member.isHealthy()) continue;
      await member.kill();
      member.start();
    }
    await vi.waitUntil(async () => {
      const healthy = await Promise.all(cluster.members.map((member) => member.isHealthy()));
      return healthy.every(Boolean);
    }, LIMIT);
  }, LIMIT);

  const counted = async (store: Store): Promise<number> =>
    ((await store.get('count'))?.value as number | undefined) ?? 0;

  /** Counts up one key from several clients at once; the count that all of them were told. */
  async function count(stores: readonly Store[], until: () => boolean): Promise<number> {
    let told = 0;
    let unknown = 0;
    await Promise.all(
      stores.map(async (store) => {
        while (!until()) {
          const entry = await store.get('count');
          const value = ((entry?.value as number | undefined) ?? 0) + 1;
          try {
            const checks = [{ key: 'count', revision: entry?.revision ?? 0 }];
            if ((await store.transact(checks, [{ key: 'count', value }])).ok) told++;
          } catch (error) {
            if (!(error instanceof UncertainError)) throw error;
            unknown++;
          }
        }
      }),
    );
    expect(unknown).toBe(0);
    return told;
  }

  it('happens each transaction once whose answer was lost, and a watch brings all of them in order', async () => {
    const name = `t${++opens}`;
    const stores = await Promise.all([0, 1, 2, 3, 4, 5].map(() => open(name)));
    onTestFinished(async () => {
      for (const store of stores) await store.close();
    });
    const [first] = stores as [Store, ...Store[]];
    const { revision } = await first.list('');
    let isOver = false;
    const counting = count(stores, () => isOver);
    for (const [i, how] of (
      ['SIGKILL', 'SIGSTOP', 'SIGKILL', 'SIGSTOP', 'SIGSTOP', 'SIGKILL'] as const
    ).entries()) {
      const member = cluster.members[i % 3] as Member;
      if (how === 'SIGKILL') await member.kill();
      else member.signal('SIGSTOP');
      // None may have counted yet.
      const before = await counted(stores[i] as Store);
      await vi.waitUntil(async () => (await counted(first)) > before + 20, LIMIT);
      if (how === 'SIGKILL') member.start();
      else member.signal('SIGCONT');
      // With another one away at once nobody could write.
      await vi.waitUntil(() => member.isHealthy(), LIMIT);
    }
    isOver = true;
    const told = await counting;
    expect(await counted(first)).toBe(told);
    const seen = await brought(first, revision, told);
    expect(seen).toEqual(Array.from({ length: told }, (_, i) => i + 1));
  }, 300_000);

  it('a watch whose member is stopped while history is compacted goes on elsewhere, or says that it cannot', async () => {
    const name = `t${++opens}`;
    const [store, writer] = [await open(name), await open(name)];
    onTestFinished(() => store.close());
    onTestFinished(() => writer.close());
    const { revision } = await store.list('');
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const copy = new Map<string, unknown>();
    let relisted = 0;
    let after = revision;
    const watching = (async () => {
      while (!stop.signal.aborted)
        try {
          for await (const batch of store.watch('', after, stop.signal)) {
            for (const { key, value } of batch.changes) copy.set(key, value);
            after = batch.revision;
          }
        } catch (error) {
          if (!(error instanceof CompactedError)) throw error;
          relisted++;
          const list = await store.list('');
          for (const { key, value } of list.entries) copy.set(key, value);
          after = list.revision;
        }
    })();
    for (const [round, member] of cluster.members.entries()) {
      member.signal('SIGSTOP');
      for (let i = 0; i < 50; i++) await writer.transact([], [{ key: `k/${round}/${i}`, value: i }]);
      await cluster.compact();
      member.signal('SIGCONT');
      await vi.waitUntil(() => copy.size === 50 * (round + 1), LIMIT);
    }
    stop.abort();
    await watching;
    expect(relisted).toBeLessThanOrEqual(3);
    expect(copy).toEqual(new Map((await store.list('')).entries.map(({ key, value }) => [key, value])));
  }, 120_000);
});

async function brought(store: Store, after: number, until: number): Promise<unknown[]> {
  const stop = new AbortController();
  const seen: unknown[] = [];
  for await (const { changes } of store.watch('', after, stop.signal)) {
    seen.push(...changes.map(({ value }) => value));
    if (seen.at(-1) === until) stop.abort();
  }
  return seen;
}

describe('a large transaction', () => {
  const steps: readonly Step[] = ['stage', 'claim', 'check', 'commit', 'write', 'finish'];
  const cases = steps.flatMap((step) =>
    (['SIGKILL', 'SIGSTOP'] as const).map((signal) => ({ step, signal })),
  );

  it.concurrent.for(cases)(
    'whose owner gets $signal in front of $step happens whole or not at all, and keeps nobody else from writing',
    { timeout: 120_000 },
    async ({ step, signal }, { onTestFinished }) => {
      const name = `${step}-${signal}`;
      const store = await open(name);
      onTestFinished(() => store.close());
      const { revision } = await store.list('');
      const owner = path.join(import.meta.dirname, '../../../test/etcdOwner.ts');
      const child = spawn(process.execPath, [owner, cluster.endpoints.join(','), name, step, signal], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      onTestFinished(() => void child.kill('SIGKILL'));
      let said = '';
      child.stdout.on('data', (text) => {
        said += text;
      });
      const ended = new Promise((done) => child.once('close', done));
      const isStopped = (): boolean =>
        child.exitCode !== null ||
        child.signalCode !== null ||
        / T /.test(fs.readFileSync(`/proc/${child.pid}/stat`, 'utf8'));
      await vi.waitUntil(isStopped, LIMIT);
      const began = performance.now();
      expect(await store.transact([], [{ key: 'small', value: 1 }])).toMatchObject({ ok: true });
      // Its lease is of 10 s, and ends with the patience of an etcd that is busy.
      expect(performance.now() - began).toBeLessThan(30_000);
      const shown = (await store.list('k/')).entries;
      expect([0, 300]).toContain(shown.length);
      expect(shown.length).toBe(step === 'write' || step === 'finish' ? 300 : 0);
      if (signal === 'SIGSTOP') child.kill('SIGCONT');
      await ended;
      const later = (await store.list('k/')).entries;
      // Whoever goes on and has not committed has lost its lease, unless nobody had reason to wait for it.
      const { ok, revision: at } = (said === '' ? {} : JSON.parse(said)) as {
        ok?: boolean;
        revision?: number;
      };
      if (ok) expect(later.map((entry) => entry.value)).toEqual(Array(300).fill('large'));
      else expect(later).toEqual(shown);
      const seen = await brought(store, revision, 1);
      if (shown.length > 0) expect(seen.filter((value) => value === 'large')).toHaveLength(300);
      const [batch] = ok ? await first(store, 'k/', revision) : [];
      if (ok) expect(batch).toMatchObject({ revision: at, changes: { length: 300 } });
      const again = await open(name);
      onTestFinished(() => again.close());
      await vi.waitUntil(async () => (await beside(name)).length === 0, LIMIT);
    },
  );

  it('that two netmasters finish leaves what one leaves', async () => {
    const name = `t${++opens}`;
    const helper = await open(name);
    onTestFinished(() => helper.close());
    // Slow in front of the last step: the helper's watch sees what is committed for longer than its owner has.
    const slow = await openEtcd(
      { endpoints: cluster.endpoints, name },
      { before: (step) => (step === 'finish' ? sleep(6000) : undefined) },
    );
    onTestFinished(() => slow.close());
    const { revision } = await helper.list('');
    const watching = first(helper, 'k/', revision);
    const outcome = await slow.transact(
      [],
      Array.from({ length: 300 }, (_, i) => ({ key: `k/${i}`, value: i })),
    );
    const [batch] = await watching;
    expect(outcome).toEqual({ ok: true, revision: batch?.revision });
    expect(batch?.changes).toHaveLength(300);
    expect(await beside(name)).toEqual([]);
  });

  it('neither writes under a lease nor relies on a key that has one', async () => {
    const store = await open();
    onTestFinished(() => store.close());
    const lease = await store.grant(600);
    const made = await store.transact([], [{ key: 'host', value: 1, lease }]);
    const many = Array.from({ length: 200 }, (_, i) => ({ key: `k/${i}`, value: i }));
    await expect(store.transact([], [...many, { key: 'x', value: 1, lease }])).rejects.toThrow(
      'x with a lease',
    );
    const checks = [{ key: 'host', revision: made.ok ? made.revision : 0 }];
    await expect(store.transact(checks, many)).rejects.toThrow('cannot rely on host, which has a lease');
    expect((await store.list('k/')).entries).toEqual([]);
    expect(await store.transact([], [{ key: 'y', value: 1 }])).toMatchObject({ ok: true });
  });
});

async function first(store: Store, prefix: string, after: number): Promise<Batch[]> {
  const stop = new AbortController();
  for await (const batch of store.watch(prefix, after, stop.signal))
    if (batch.changes.length > 0) {
      stop.abort();
      return [batch];
    }
  return [];
}

/** Keys of large transactions that are under way, or left. */
async function beside(name: string): Promise<string[]> {
  const members = openMembers({ endpoints: cluster.endpoints });
  const keys = openKeys(name);
  try {
    const success = [range(keys.epoch), { range: under(keys.staged) }];
    const { responses } = await members.call('txn', { success });
    return responses.flatMap((response) => response.range?.kvs ?? []).map(({ key }) => key.toString());
  } finally {
    members.close();
  }
}
