/** Nameservers in routers and in containers, as the agent tells them: asked with dig, from within a container. */
import { execFile } from 'node:child_process';
import { setTimeout as after } from 'node:timers/promises';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterEach, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { applied, clean, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { bindPort, closeSocket, createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { ARRIVAL, DOCKER_RESOLVER, RESOLVER_PORT } from '../constants.ts';
import { openApplier } from '../dataplane/applier.ts';
import { AWAITED_INTERVAL } from '../intervals.ts';
import type { Port } from '../state.ts';
import { openNameservers } from './serve.ts';

beforeAll(isolate);
afterEach(clean);

const sandbox = (n: number): string => namespacePath(`box${n}`);
const ofSix = (n: number): Port =>
  port(n, { sandbox: sandbox(n), resolver: true, addresses: [`fd00:6::${n}`], gateways: [] });

const endpoint = (n: number, containerName: string) => ({
  kind: 'endpoint',
  key: `ep${n}`,
  object: {
    endpointID: `ep${n}`,
    tenantName: 'default',
    networkName: 'six',
    containerName,
    ipAddress: [`fd00:6::${n}`],
    macAddress: '02:02:00:00:00:00',
    homingHost: 'node1',
    status: 'running',
  },
});

/** What containers 2 and 3, one and two, are answered, whose namespaces have nothing but their loopback interface. */
function containers() {
  const applier = openApplier();
  /** What the log says. */
  const said: string[] = [];
  const nameservers = openNameservers(pino({}, { write: (line) => void said.push(JSON.parse(line).msg) }));
  onTestFinished(() => nameservers.close());
  nameservers.list([
    { kind: 'host', key: 'node1', object: { name: 'node1' } },
    {
      kind: 'network',
      key: 'default:six',
      object: { tenantName: 'default', networkName: 'six', ipv6Subnet: 'fd00:6::/64', vni: 6 },
    },
    endpoint(2, 'one'),
    endpoint(3, 'two'),
  ]);
  for (const n of [2, 3]) {
    createNamespace(`box${n}`);
    inNamespace(sandbox(n), () => sh('ip link set lo up'));
  }
  const pass = (...ports: Port[]) => applied(applier, state({ ports }), true);
  return {
    said,
    pass,
    async serve(...ports: Port[]) {
      pass(...ports);
      await nameservers.serve(state({ ports }).routers);
    },
    async ask(n: number, ...asked: string[]): Promise<string> {
      const dig = ['dig', '+short', '+tries=10', '+time=1', `@${DOCKER_RESOLVER}`, ...asked];
      const { stdout } = await promisify(execFile)('nsenter', [`--net=${sandbox(n)}`, ...dig]);
      return stdout.trim();
    },
    listening: (n: number): string => inNamespace(sandbox(n), () => sh('ss -Hltun')),
  };
}

it('a container of IPv6 alone has names where it asks Docker’s resolver, by UDP and TCP, as who it is', async () => {
  const { serve, ask } = containers();
  await serve(ofSix(2), ofSix(3));
  for (const [n, name, address] of [
    [2, 'two', 'fd00:6::3'],
    [3, 'one', 'fd00:6::2'],
  ] as const)
    for (const way of ['+notcp', '+tcp'])
      expect(await ask(n, way, name, 'AAAA'), `${n} ${way}`).toBe(address);
  expect(await ask(2, '-b', '127.0.0.9', '-x', 'fd00:6::3')).toMatch(/^two\./);
  expect(await ask(2, 'two', 'A')).toBe('');
});

it('nobody listens any more in a container that is none of these, nor in one that IPv4 leads out of', async () => {
  const { serve, ask, listening } = containers();
  await serve(ofSix(2), ofSix(3));
  expect(listening(2)).toContain(DOCKER_RESOLVER);
  await serve(ofSix(3));
  expect(listening(2)).toBe('');
  expect(await ask(3, 'one', 'AAAA')).toBe('fd00:6::2');
  const { resolver: _, ...led } = ofSix(3);
  await serve({ ...led, stub: true, addresses: ['20.1.1.3', 'fd00:6::3'] });
  expect(listening(3)).toBe('');
});

it('a container whose namespace is made after it has joined has names without a look by interval', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] }); // which never comes
  onTestFinished(() => void vi.useRealTimers());
  const { serve, pass, ask, listening } = containers();
  sh('ip netns del box2');
  await serve(ofSix(3), ofSix(2));
  sh('ip netns add box2; ip -n box2 link set lo up');
  // expect.poll would have the interval come after all.
  for (let looks = 0; listening(2) === ''; looks++) {
    expect(looks).toBeLessThan(200);
    await after(100);
  }
  pass(ofSix(3), ofSix(2));
  expect(await ask(2, 'two', 'AAAA')).toBe('fd00:6::3');
});

it('another container with a namespace of the same path is asked for itself', async () => {
  const { serve, ask } = containers();
  await serve(ofSix(2), ofSix(3));
  sh('ip netns del box2; ip netns add box2; ip -n box2 link set lo up');
  await serve(ofSix(3), { ...ofSix(2), endpoint: 'ep4' });
  expect(await ask(2, 'two', 'AAAA')).toBe('fd00:6::3');
});

it('a container whose own program has the port is told of once, and has names when that has ended', async () => {
  const { serve, ask, said } = containers();
  const take = (): number => inNamespace(sandbox(2), () => bindPort('udp', '0.0.0.0', RESOLVER_PORT));
  const told = (): number => said.filter((text) => text.startsWith('no nameserver in the container')).length;
  let taken = take();
  for (let i = 0; i < 3; i++) await serve(ofSix(2), ofSix(3));
  expect(told()).toBe(1);
  expect(await ask(3, 'one', 'AAAA')).toBe('fd00:6::2');
  closeSocket(taken);
  await serve(ofSix(2), ofSix(3));
  expect(await ask(2, 'two', 'AAAA')).toBe('fd00:6::3');
  await serve(ofSix(3));
  taken = take();
  for (let i = 0; i < 3; i++) await serve(ofSix(2), ofSix(3));
  expect(told()).toBe(2);
  closeSocket(taken);
});

it('a container whose namespace does not come is looked for at intervals after a while, and others as they come', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const { serve, listening } = containers();
  sh('ip netns del box2; ip netns del box3');
  const quiet = vi.getTimerCount();
  await serve(ofSix(2));
  expect(vi.getTimerCount()).toBe(quiet + 1);
  await vi.advanceTimersByTimeAsync(2 * ARRIVAL);
  expect(vi.getTimerCount()).toBe(quiet);
  await serve(ofSix(2), ofSix(3));
  expect(vi.getTimerCount()).toBe(quiet + 1);
  sh('ip netns add box3; ip -n box3 link set lo up');
  await vi.advanceTimersByTimeAsync(AWAITED_INTERVAL);
  expect(listening(3)).toContain(DOCKER_RESOLVER);
  expect(vi.getTimerCount()).toBe(quiet);
});
