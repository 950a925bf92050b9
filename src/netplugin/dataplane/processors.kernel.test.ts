/** The verdict on a packet, while another processor has packets of the same connection in the same chains. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { applied, clean, port, state } from '../../../test/hostState.ts';
import { isolate } from '../../../test/isolation.ts';
import { attach, inBox, inRouterOf, type Policy, twoHosts, v4, v6 } from '../../../test/twoHosts.ts';
import { close, received } from '../../linux/libc.ts';
import { bindPort } from '../../linux/netns.ts';
import type { ClusterService, Decision, Port, RuleSet } from '../state.ts';
import { openApplier } from './applier.ts';

beforeAll(isolate);

const open: number[] = [];
const running: ChildProcess[] = [];
afterEach(async () => {
  for (const child of running.splice(0)) {
    child.kill('SIGKILL');
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  }
  for (const fd of open.splice(0)) close(fd);
  clean();
});

const SENDER = path.join(import.meta.dirname, '../../../test/twoProcessors.ts');
const PORT = 9000;
/** Of each phase: two processors send all the while, by IPv4 and by IPv6. */
const SECONDS = 10;
/** The sender ends by itself where nobody ends it: much later than a test. */
const LONGEST = 120;
const UDP = 17;
const [ALLOWING, DENYING, TCP_RULE] = [1, 2, 3];

/** As `rule-add` and `rule-rm` of the allowing rule: without it another denies. A third one, of TCP, never decides. */
function ruleSet(id: number, allowed: boolean): RuleSet {
  const decision = (rule: number, action: 'allow' | 'deny', more: Partial<Decision>): Decision => ({
    group: 0,
    protocol: UDP,
    rule,
    action,
    key: `default:p:${rule}`,
    ...more,
  });
  return {
    id,
    name: `${id} in default: p`,
    narrowed: [],
    decisions: [
      ...(allowed ? [decision(ALLOWING, 'allow', { port: PORT })] : []),
      decision(DENYING, 'deny', {}),
      decision(TCP_RULE, 'allow', { protocol: 6 }),
    ],
  };
}

/** The sender is judged by what it sends, the receiver by what it receives: each by a set of its own, of the numbers `in` and `out`. */
interface Flow {
  readonly address: (n: number) => string;
  readonly from: number;
  readonly to: number;
  readonly in: number;
  readonly out: number;
}

function policy(flows: readonly Flow[], allowed: { in: boolean; out: boolean }): Policy {
  const ports: Record<number, Partial<Port>> = {};
  for (const { from, to, ...sets } of flows) {
    ports[from] = { ...ports[from], judgedOut: sets.out };
    ports[to] = { ...ports[to], judgedIn: sets.in };
  }
  const ruleSets = flows.flatMap((f) => [ruleSet(f.in, allowed.in), ruleSet(f.out, allowed.out)]);
  return { ports, more: { ruleSets } };
}

const flood = ({ from, to, address }: Pick<Flow, 'from' | 'to' | 'address'>): ChildProcess =>
  floodFrom(from, address(from), address(to));

function floodFrom(box: number, from: string, to: string): ChildProcess {
  const args = ['--disable-warning=ExperimentalWarning', SENDER, from, to, `${PORT}`, `${LONGEST}`];
  const child = inBox(box, () => spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
  running.push(child);
  return child;
}

const buffer = Buffer.alloc(64);
function drained(fd: number): number {
  let count = 0;
  while (typeof received(fd, buffer) === 'number') count++;
  return count;
}

/** What arrives meanwhile, at each. */
async function arriving(fds: readonly number[], seconds: number): Promise<number[]> {
  const counts = fds.map(() => 0);
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    await new Promise((done) => setTimeout(done, 10));
    for (const [i, fd] of fds.entries()) counts[i] = (counts[i] as number) + drained(fd);
  }
  return counts;
}

/** How often each rule decided, `set.rule`. */
function hits(n: number): Map<string, number> {
  const text = inRouterOf(n, 'nft -n list set inet contiv hits');
  return new Map(
    [...text.matchAll(/0:(\d) \. 0x(\w+) .*?packets (\d+)/g)].map(([, set, mark, packets]) => [
      `${set}.${Number.parseInt(mark ?? '', 16) % 0x80000000}`,
      Number(packets),
    ]),
  );
}

describe.each([
  ['within a host', [2, 4], [4, 6]],
  ['between hosts', [2, 3], [4, 5]],
] as const)('a flow that nobody answers, sent by two processors %s', (_, four, six) => {
  const flows: readonly Flow[] = [
    { address: v4, from: four[0], to: four[1], in: 5, out: 6 },
    { address: v6, from: six[0], to: six[1], in: 7, out: 8 },
  ];

  it('is let through for 10 s as long as rules of both directions do, and not at all for 10 s where one does not', async () => {
    const { change } = twoHosts();
    const both = { in: true, out: true };
    change(policy(flows, both));
    const fds = flows.map(({ address, to }) =>
      inBox(to, () => bindPort('udp', address(to), PORT, { nonblocking: true })),
    );
    open.push(...fds);
    const senders = flows.map(flood);
    const arrives = async (): Promise<void> => {
      for (const fd of fds) await expect.poll(() => drained(fd), { timeout: 20_000 }).toBeGreaterThan(0);
    };
    await arrives();
    for (const count of await arriving(fds, SECONDS)) expect(count).toBeGreaterThan(100);
    // Each packet was judged by the set and the rule that it must be.
    const allowing = flows.flatMap((f) => [`${f.in}.${ALLOWING}`, `${f.out}.${ALLOWING}`]);
    for (const n of new Set(flows.flatMap(({ from, to }) => [from, to])))
      for (const key of hits(n).keys()) expect(allowing).toContain(key);

    for (const direction of ['in', 'out'] as const) {
      change(policy(flows, { ...both, [direction]: false }));
      await arriving(fds, 0.2); // what was let through before
      const denials = (): number[] =>
        flows.map((f) => hits(direction === 'in' ? f.to : f.from).get(`${f[direction]}.${DENYING}`) ?? 0);
      const before = denials();
      expect(await arriving(fds, SECONDS), direction).toEqual([0, 0]);
      for (const [i, count] of denials().entries())
        expect(count - (before[i] as number)).toBeGreaterThan(100);
      change(policy(flows, both));
      await arrives();
    }
    for (const { exitCode } of senders) expect(exitCode).toBe(null);
  }, 120_000);
});

describe('a flow that is denied, sent by two processors', () => {
  const IN = 7;
  /** The receiver is judged by the set of this number. */
  const denied = (id: number, joined = true) =>
    state({
      ports: [port(2, { joined }), port(4, { joined, judgedIn: id })],
      remotes: [],
      ruleSets: [ruleSet(id, false)],
    });

  it('does not pass while the elements that deny it give way to others, nor while the table is made anew', async () => {
    let applier = openApplier();
    applied(applier, denied(IN, false));
    for (const n of [2, 4]) attach(n);
    applied(applier, denied(IN));
    const fd = inBox(4, () => bindPort('udp', v4(4), PORT, { nonblocking: true }));
    open.push(fd);
    flood({ address: v4, from: 2, to: 4 });
    const denials = (): number =>
      [...hits(2)].reduce((sum, [key, n]) => (key.endsWith(`.${DENYING}`) ? sum + n : sum), 0);
    await expect.poll(denials, { timeout: 20_000 }).toBeGreaterThan(100);

    for (let i = 0; i < 200; i++) applied(applier, denied(i % 2 === 0 ? IN + 2 : IN));
    expect(drained(fd)).toBe(0);
    // As agents that start one after the other: what they find they make anew.
    for (let i = 0; i < 40; i++) {
      applier.close();
      applier = openApplier();
      applied(applier, denied(IN));
    }
    expect(drained(fd)).toBe(0);
    applier.close();
  });
});

describe("a service's address that two processors send to", () => {
  /** Of each family: who asks, and who answers on the host beside it and on the other. */
  const FAMILIES = [
    { service: '10.96.0.10', address: v4, from: 2, near: 4, far: 3 },
    { service: 'fd00:96::10', address: v6, from: 6, near: 4, far: 5 },
  ] as const;
  type Place = 'near' | 'far';
  const PLACES: readonly Place[] = ['near', 'far'];
  const other = (place: Place): Place => (place === 'near' ? 'far' : 'near');

  /** Those answer in both families, and by a service of each. */
  const led = (places: readonly Place[]): ClusterService[] =>
    FAMILIES.map(({ service, address, ...boxes }) => ({
      name: `default/${service}`,
      addresses: [service],
      frontends: [
        {
          address: service,
          protocol: UDP,
          port: PORT,
          backends: places.map((place) => ({ address: address(boxes[place]), port: PORT })),
          otherwise: 'refuse',
        },
      ],
    }));

  /** Of all backends' side. */
  const IN = 5;

  /** Without `allowed` no backend may be asked by anybody. */
  const world = (places: readonly Place[], allowed = true): Policy => ({
    ports: { 3: { judgedIn: IN }, 4: { judgedIn: IN }, 5: { judgedIn: IN } },
    more: { clusterServices: led(places), ruleSets: [ruleSet(IN, allowed)] },
  });

  function listen(): Record<Place, number[]> {
    const at = (place: Place): number[] =>
      FAMILIES.map(({ address, ...boxes }) =>
        inBox(boxes[place], () => bindPort('udp', address(boxes[place]), PORT, { nonblocking: true })),
      );
    const fds = { near: at('near'), far: at('far') };
    open.push(...fds.near, ...fds.far);
    return fds;
  }

  it('leads none of their packets to a backend that is gone, and all to the one that has come, however often', async () => {
    const { change } = twoHosts();
    change(world(['near']));
    const fds = listen();
    const senders = FAMILIES.map(({ service, address, from }) => floodFrom(from, address(from), service));
    const arrives = async (place: Place): Promise<void> => {
      for (const fd of fds[place])
        await expect.poll(() => drained(fd), { timeout: 20_000 }).toBeGreaterThan(0);
    };
    await arrives('near');
    let answering: Place = 'near';
    for (let i = 0; i < 40; i++) {
      answering = other(answering);
      // Every other time by way of both: who stays has the connection or not.
      if (i % 2 === 1) change(world(PLACES));
      change(world([answering]));
      await arriving(fds[other(answering)], 0.1); // what was let through before
      expect(await arriving(fds[other(answering)], 0.1), `${i}`).toEqual([0, 0]);
      await arrives(answering);
    }
    expect(await arriving(fds[other(answering)], SECONDS)).toEqual([0, 0]);
    await arrives(answering);
    // Nobody is left.
    change(world([]));
    await arriving(
      PLACES.flatMap((place) => fds[place]),
      0.2,
    );
    expect(
      await arriving(
        PLACES.flatMap((place) => fds[place]),
        1,
      ),
    ).toEqual([0, 0, 0, 0]);
    for (const { exitCode } of senders) expect(exitCode).toBe(null);
  }, 120_000);

  it('leads none of their packets to a backend once no rule lets it any more, whichever backend', async () => {
    const { change } = twoHosts();
    const fds = listen();
    change(world(['near']));
    const senders = FAMILIES.map(({ service, address, from }) => floodFrom(from, address(from), service));
    for (const place of PLACES) {
      const arrives = async (): Promise<void> => {
        for (const fd of fds[place])
          await expect.poll(() => drained(fd), { timeout: 20_000 }).toBeGreaterThan(0);
      };
      change(world([place]));
      await arrives();
      for (const count of await arriving(fds[place], 2)) expect(count).toBeGreaterThan(100);
      change(world([place], false));
      await arriving(fds[place], 0.2);
      // Of two containers, or of one in both families.
      const denials = (): number =>
        FAMILIES.reduce((sum, boxes) => sum + (hits(boxes[place]).get(`${IN}.${DENYING}`) ?? 0), 0);
      const before = denials();
      expect(await arriving(fds[place], SECONDS), place).toEqual([0, 0]);
      expect(denials() - before).toBeGreaterThan(200);
      change(world([place]));
      await arrives();
    }
    for (const { exitCode } of senders) expect(exitCode).toBe(null);
  }, 120_000);
});
