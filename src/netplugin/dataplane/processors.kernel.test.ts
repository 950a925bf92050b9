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
import type { Decision, RuleSet } from '../state.ts';
import { openApplier } from './apply.ts';

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
/** Of each phase. */
const SECONDS = 2.5;
/** The sender ends by itself where nobody ends it: much later than a test. */
const LONGEST = 120;
const [IN, OUT] = [7, 8];
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

/** The sender is judged by what it sends, the receiver by what it receives: each by a set of its own. */
const policy = (from: number, to: number, allowed: { in: boolean; out: boolean }): Policy => ({
  ports: { [from]: { judgedOut: OUT }, [to]: { judgedIn: IN } },
  more: { ruleSets: [ruleSet(IN, allowed.in), ruleSet(OUT, allowed.out)] },
});

function flood(from: number, own: string, peer: string): ChildProcess {
  const args = ['--disable-warning=ExperimentalWarning', SENDER, own, peer, `${PORT}`, `${LONGEST}`];
  const child = inBox(from, () => spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
  running.push(child);
  return child;
}

const buffer = Buffer.alloc(64);
function drained(fd: number): number {
  let count = 0;
  while (typeof received(fd, buffer) === 'number') count++;
  return count;
}

/** What arrives meanwhile. */
async function arriving(fd: number, seconds: number): Promise<number> {
  let count = 0;
  for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
    await new Promise((done) => setTimeout(done, 10));
    count += drained(fd);
  }
  return count;
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
  ['within a host', 2, 4],
  ['between hosts', 2, 3],
])('a flow that nobody answers, sent by two processors %s', (_, from, to) => {
  it.each([
    ['in', 'IPv4', v4],
    ['in', 'IPv6', v6],
    ['out', 'IPv4', v4],
    ['out', 'IPv6', v6],
  ] as const)(
    'is let through as long as rules of direction %s do, by %s, and no longer',
    async (direction, __, address) => {
      const { change } = twoHosts();
      change(policy(from, to, { in: true, out: true }));
      const fd = inBox(to, () => bindPort('udp', address(to), PORT, { nonblocking: true }));
      open.push(fd);
      const sender = flood(from, address(from), address(to));
      await expect.poll(() => drained(fd), { timeout: 20_000 }).toBeGreaterThan(0);
      expect(await arriving(fd, SECONDS)).toBeGreaterThan(100);
      // Each packet was judged by the set and the rule that it must be.
      for (const n of [from, to]) for (const key of hits(n).keys()) expect(['7.1', '8.1']).toContain(key);

      const without = { in: direction !== 'in', out: direction !== 'out' };
      change(policy(from, to, without));
      await arriving(fd, 0.2); // what was let through before
      const denying = `${direction === 'in' ? IN : OUT}.${DENYING}`;
      const judging = direction === 'in' ? to : from;
      const before = hits(judging).get(denying) ?? 0;
      expect(await arriving(fd, SECONDS)).toBe(0);
      expect((hits(judging).get(denying) ?? 0) - before).toBeGreaterThan(100);

      change(policy(from, to, { in: true, out: true }));
      await expect.poll(() => drained(fd), { timeout: 20_000 }).toBeGreaterThan(0);
      expect(sender.exitCode).toBe(null);
    },
  );
});

describe('a flow that is denied, sent by two processors', () => {
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
    flood(2, v4(2), v4(4));
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
