import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { NOTHING, REPORT } from '../../../test/hostState.ts';
import type { Applied, WatchedObject } from '../../protocol/messages.ts';
import { openProgress } from '../../turns.ts';
import { followKernel } from '../converge.ts';
import type { TimedReport } from '../dataplane/index.ts';
import { combine } from '../dataplane/outcome.ts';
import type { Follower } from '../follower.ts';
import type { Docker } from '../runtimes/docker/engine.ts';
import { followOffer, startOffer } from '../runtimes/docker/networks.ts';
import { openFollowers } from './acknowledge.ts';
import { openView } from './view.ts';

const TIMED: TimedReport = { ...REPORT, seconds: 0, cpuSeconds: 0 };
const rule: WatchedObject = { kind: 'rule', key: 'r', object: {} };
const network: WatchedObject = {
  kind: 'network',
  key: 'default:net1',
  object: { tenantName: 'default', networkName: 'net1', subnet: '20.1.1.0/24', vni: 1 },
};

/** Holds what it is told when the test says so. */
function follower(name: string, awaited: Follower['awaited']) {
  const progress = openProgress();
  const made = {
    name,
    awaited,
    /** Settles at once what it is told. */
    prompt: true,
    closed: false,
    changed() {
      progress.ask();
      if (made.prompt) progress.done(progress.asked);
      return true;
    },
    settled: () => progress.settled(),
    close: () => {
      made.closed = true;
    },
    settle: () => progress.done(progress.asked),
  };
  return made;
}

/**
 * An agent's wiring: the kernel that is followed as the agent does, by a data plane of the test's; names of the test's, and
 * Docker's networks as the agent offers them, to a Docker of the test's. By fake timers.
 */
function wiring() {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const said: { msg: string; follower?: string }[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void said.push(JSON.parse(line)) });
  const view = openView();
  const acknowledged: number[] = [];
  /** Revisions that the kernel was brought to, in their order. */
  const applied: number[] = [];
  const world = {
    live: true,
    revision: 0,
    apply: async (): Promise<TimedReport> => TIMED,
    docker: async (): Promise<void> => {},
  };
  const followers = openFollowers({
    position: (): Applied | undefined => (world.live ? { store: 's', revision: world.revision } : undefined),
    acknowledge: ({ revision }) => void acknowledged.push(revision),
    log,
  });
  followers.add(
    followKernel({
      dataplane: {
        apply(state) {
          applied.push(Number(state.underlay));
          return world.apply();
        },
      },
      log,
      metrics: { passed: () => {} },
      ready: () => true,
      compile: () => ({ ...NOTHING, underlay: String(world.revision) }),
      tell: followers.tell,
    }),
  );
  const names = followers.add(follower('names', 'briefly'));
  const flows = followers.add(follower('flows', 'never'));
  flows.prompt = false;
  const docker = {
    version: async () => ({ Version: '20.10.24', ApiVersion: '1.41' }),
    listNetworks: () => world.docker().then(() => []),
    createNetwork: () => world.docker().then(() => ({ id: 'id' })),
  } as unknown as Docker;
  followers.add(
    followOffer(
      startOffer(
        docker,
        { view, live: () => true },
        log,
        () => {},
        () => {},
        false,
      ),
      { changed() {}, idle: async () => {} },
    ),
  );
  onTestFinished(() => void followers.close());
  return {
    ...{ world, followers, names, flows, acknowledged, applied },
    /** What the log says of followers, without the kernel's own lines. */
    said: () => said.filter((line) => line.follower !== undefined).map((l) => `${l.follower}: ${l.msg}`),
    /** netmaster tells a change. Others have their turn before the pass, which by fake timers is a millisecond. */
    async change(...objects: WatchedObject[]) {
      world.revision++;
      for (const object of objects) view.put(object);
      followers.tell({ type: 'view', objects, listed: false });
      await vi.advanceTimersByTimeAsync(1);
    },
    after: (ms: number) => vi.advanceTimersByTimeAsync(ms),
  };
}
const LATE = 'netmaster counts this host as late';
const GIVEN_UP = 'it is not waited for any more';

it('a change is acknowledged when all go by it that it concerns, and told once more now and then', async () => {
  const { change, names, acknowledged, after, flows } = wiring();
  names.prompt = false;
  await change(rule);
  await after(1000);
  expect(acknowledged).toEqual([]);
  names.settle();
  await after(0);
  expect(acknowledged).toEqual([1]);
  names.prompt = true;
  await after(60_000);
  expect(new Set(acknowledged)).toEqual(new Set([1]));
  expect(acknowledged.length).toBeGreaterThan(5);
  expect(flows.closed).toBe(false); // never settled, and nobody waited for it
});

it('nothing is acknowledged while netmaster is not followed', async () => {
  const { change, world, acknowledged, after } = wiring();
  world.live = false;
  await change(rule);
  await after(60_000);
  expect(acknowledged).toEqual([]);
});

it('what comes while the kernel is brought to something is acknowledged with the last of it, after the next pass', async () => {
  const { change, world, acknowledged, applied, after } = wiring();
  const ends: (() => void)[] = [];
  world.apply = () => new Promise((done) => ends.push(() => done(TIMED)));
  await change(rule);
  for (let i = 0; i < 3; i++) await change(rule);
  expect([applied, acknowledged]).toEqual([[1], []]);
  ends[0]?.();
  await after(0);
  expect([applied, acknowledged]).toEqual([[1, 4], [1]]);
  ends[1]?.();
  await after(0);
  expect(acknowledged).toEqual([1, 4]);
});

it.each<[string, () => Promise<TimedReport>]>([
  ['fails', () => Promise.reject(new Error('no kernel'))],
  ['stops in the middle', async () => ({ ...TIMED, complete: false })],
])('a pass that %s is not acknowledged, nor what comes after it, until one holds', async (_, apply) => {
  const { change, world, acknowledged, said, after } = wiring();
  world.apply = apply;
  await change(rule);
  await change(rule);
  await after(20_000);
  expect(acknowledged).toEqual([]);
  expect(said()).toEqual([
    expect.stringContaining(`kernel: it does not go by what was declared yet: ${LATE}`),
  ]);
  world.apply = async () => TIMED;
  await after(10_000);
  expect(new Set(acknowledged)).toEqual(new Set([1, 2]));
  expect(acknowledged.at(-1)).toBe(2);
  expect(said().at(-1)).toBe('kernel: it goes by what was declared again');
});

it('what the kernel has refused is tried again soon, then less and less often, and acknowledged when it holds', async () => {
  const { change, world, acknowledged, applied, after } = wiring();
  const begun = performance.now();
  const tries: number[] = [];
  world.apply = async () => {
    tries.push(Math.round((performance.now() - begun) / 10) * 10); // without the turns of others
    return { ...TIMED, ...combine([{ failed: [{ code: 'EINVAL', message: 'route add: EINVAL' }] }]) };
  };
  await change(rule);
  await after(12_000);
  expect(tries.slice(0, 4)).toEqual([0, 500, 1500, 3500]);
  expect(tries.length).toBeLessThan(8);
  expect(acknowledged).toEqual([]);
  world.apply = async () => TIMED;
  await after(4000);
  expect(new Set(acknowledged)).toEqual(new Set([1]));
  const passes = applied.length;
  await after(3900);
  expect(applied.length - passes).toBeLessThan(2);
});

it('names that are not answered make what concerns them late, each time, and withhold nothing for good', async () => {
  const { change, names, acknowledged, said, after } = wiring();
  names.prompt = false;
  await change(rule);
  await after(2000); // netmaster has answered by then, and named this host
  expect(acknowledged).toEqual([]);
  await after(600);
  expect(acknowledged).toEqual([1]);
  await change(rule);
  await after(2000);
  expect(new Set(acknowledged)).toEqual(new Set([1]));
  await after(600);
  expect(acknowledged.at(-1)).toBe(2);
  expect(said()).toEqual([`names: it does not go by what was declared yet: ${GIVEN_UP}`]);
  names.prompt = true;
  names.settle();
  await after(0);
  expect(said().at(-1)).toBe('names: it goes by what was declared again');
  await change(rule);
  expect(acknowledged.at(-1)).toBe(3);
});

it('a new network waits for a Docker that is slow', async () => {
  const { change, world, acknowledged, after } = wiring();
  await after(0);
  world.docker = () => new Promise((done) => setTimeout(done, 1000));
  await change(network);
  await after(900);
  expect(acknowledged).toEqual([]);
  await after(200);
  expect(acknowledged).toEqual([1]);
});

it('where Docker hangs, a new network is late once; rules are not, before it or after', async () => {
  const { change, world, acknowledged, said, after } = wiring();
  await after(0);
  const hung = Promise.withResolvers<void>();
  world.docker = () => hung.promise;
  await after(11_000); // in the list that is taken now and then
  await change(rule);
  expect(acknowledged.at(-1)).toBe(1);
  await change(network);
  await after(2000); // netmaster has answered by then, and named this host
  expect(acknowledged.at(-1)).toBe(1);
  await after(1000);
  expect(acknowledged.at(-1)).toBe(2);
  expect(said()).toEqual([`Docker's networks: it does not go by what was declared yet: ${GIVEN_UP}`]);
  for (let i = 0; i < 10; i++) {
    await change(rule);
    expect(acknowledged.at(-1)).toBe(3 + i);
    await after(10_000);
  }
  expect(said()).toHaveLength(1);
  hung.resolve();
  await after(0);
  expect(said().at(-1)).toBe("Docker's networks: it goes by what was declared again");
  await change(network);
  expect(acknowledged.at(-1)).toBe(13);
});

it('no timer is set into the past for what was told long ago', async () => {
  const { change, after, acknowledged } = wiring();
  await after(60_000);
  const timers = vi.spyOn(globalThis, 'setTimeout');
  onTestFinished(() => timers.mockRestore());
  await change(rule); // Docker's networks do not concern it: nothing was ever told them
  expect(acknowledged.at(-1)).toBe(1);
  expect(timers).toHaveBeenCalled();
  for (const [, delay] of timers.mock.calls) expect(delay).toBeGreaterThanOrEqual(0);
});

it('a rule that follows a network at once is acknowledged with it, not before', async () => {
  const { change, world, acknowledged, after } = wiring();
  await after(0);
  world.docker = () => new Promise((done) => setTimeout(done, 1000));
  await change(network);
  await change(rule);
  await after(500);
  expect(acknowledged).toEqual([]);
  await after(600);
  expect(acknowledged).toEqual([1, 2]);
});

it('what is under way when the agent ends is not acknowledged, and the kernel ends before those that it tells', async () => {
  const { change, world, names, acknowledged, applied, followers, after } = wiring();
  const ends: (() => void)[] = [];
  world.apply = () => new Promise((done) => ends.push(() => done(TIMED)));
  await change(rule);
  const closed = followers.close();
  await change(rule);
  await after(60_000);
  expect(names.closed).toBe(false);
  ends[0]?.();
  await closed;
  expect(names.closed).toBe(true);
  await after(60_000);
  expect([applied, acknowledged]).toEqual([[1], []]);
});
