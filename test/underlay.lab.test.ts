/** What of a host changes under its agent: the address, the MTU and the interface of its underlay. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { clear, differences, docker, inside, lab, must, mustLab, netctl, pings, run, until } from './lab.ts';

const OLD = '192.168.50.12/24';
const NEW = '192.168.50.112/24';
let here = '';
let there = '';

beforeAll(async () => {
  await netctl('net create moving --subnet=10.21.0.0/24 --gateway=10.21.0.254');
  await netctl('group create moving team');
  here = await run('node1', 'here', 'team.moving');
  there = await run('node2', 'there', 'team.moving');
  await run('node2', 'beside', 'team.moving');
  await until('ping', () => pings('node1', 'here', there));
});

const eth0 = (script: string): Promise<string> => must('node2', 'sh -ec', script);
const become = (address: string, mtu: number): Promise<string> =>
  eth0(`ip addr flush dev eth0 scope global; ip addr add ${address} dev eth0
        ip link set eth0 mtu ${mtu} up; ip route replace default via 192.168.50.1`);
const health = async (): Promise<{
  live: boolean;
  underlay: { address: string; mtu: number; problem: string };
}> => JSON.parse(await must('node2', 'curl -s --unix-socket /run/contiv/netplugin.sock http://n/health'));
const listed = async (): Promise<string> => must('node1', "sh -c 'curl -s $NETMASTER/api/v1/hosts/'");
/** Since when each container runs. */
const started = (): Promise<string> => docker('node2', 'inspect -f {{.State.StartedAt}} there beside');
/** Datagrams as large as the sender's own device lets through. */
const large = async (host: string, from: string, to: string): Promise<boolean> => {
  const { out } = await inside(host, from, 'cat /sys/class/net/eth0/mtu');
  return (await inside(host, from, 'ping -c1 -W2', `-s${Number(out) - 28}`, to)).status === 0;
};

afterEach(async () => {
  await become(OLD, 1500);
  await until('node2 is back', async () => (await listed()).includes(OLD.replace('/24', '')));
  expect(await differences()).toBe('');
});
afterAll(clear);

it('another address is followed at once: tunnels, registration, peers; containers run on, check sees what is not', async () => {
  const since = await started();
  // Stopped, the agent follows nothing: what is then the case is seen.
  const { processes } = JSON.parse(await mustLab('status --json')) as {
    processes: { name: string; host: string; pid: number }[];
  };
  const pid = processes.find((p) => p.name === 'netplugin' && p.host === 'node2')?.pid as number;
  process.kill(pid, 'SIGSTOP');
  try {
    await become(NEW, 1500);
    const { out } = await lab('check');
    expect(out).toMatch(/netmaster: host node2 is at 192\.168\.50\.12, its eth0 has 192\.168\.50\.112/);
    expect(out).toMatch(
      /node2: router contiv-default: vx\d+ sends from 192\.168\.50\.12, eth0 has 192\.168\.50\.112/,
    );
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  await until('the way there', () => pings('node1', 'here', there));
  expect(await pings('node2', 'there', here)).toBe(true);
  expect(await listed()).toMatch(/"192\.168\.50\.112"/);
  expect(await differences()).toBe('');
  await expect
    .poll(health)
    .toMatchObject({ live: true, underlay: { address: '192.168.50.112', problem: '' } });
  expect(await started()).toBe(since);
  expect((await inside('node1', 'here', 'dig +short there')).out.trim()).toBe(there);
});

it.each([1400, 1450])(
  'an MTU of %i is that of running containers, of new ones and of tunnels',
  async (mtu) => {
    await become(OLD, mtu);
    expect(await differences()).toBe('');
    await run('node2', `new${mtu}`, 'team.moving');
    for (const container of ['there', 'beside', `new${mtu}`])
      await expect
        .poll(async () => (await inside('node2', container, 'cat /sys/class/net/eth0/mtu')).out.trim())
        .toBe(`${mtu - 50}`);
    // Who sends from the other host learns how much it is from the router beside it.
    await until('large ones from the other host', () => large('node1', 'here', there));
    for (const [from, to] of [
      ['beside', 'there'],
      ['there', `new${mtu}`],
      ['there', 'here'],
    ] as const)
      await until(`large ones from ${from} to ${to}`, () => large('node2', from, to));
    await docker('node2', `rm -f new${mtu}`);
  },
);

it('without an address the host says that it is cut off and what runs goes on; it is back with the address', async () => {
  await eth0('ip addr flush dev eth0 scope global');
  await until('said', async () => (await health()).underlay.problem.includes("'eth0' has no IPv4 address"));
  await until('cut off', async () => !(await health()).live);
  expect(await pings('node2', 'there', 'beside')).toBe(true);
  await become(NEW, 1500);
  await until('the way there', () => pings('node1', 'here', there));
  await expect.poll(health).toMatchObject({ live: true, underlay: { problem: '' } });
  await eth0('ip link set eth0 down');
  await until('said', async () => (await health()).underlay.problem.includes('eth0 is down'));
  await until('cut off', async () => !(await health()).live);
});

it('an interface that goes away and comes back with another address and MTU is the underlay again', async () => {
  // Its wire stays at the switch: renamed, it is gone for who knows it by its name.
  await eth0('ip link set eth0 down; ip link set eth0 name away');
  await until('said', async () =>
    (await health()).underlay.problem.includes("no interface or address 'eth0'"),
  );
  expect(await pings('node2', 'there', 'beside')).toBe(true);
  await eth0('ip link set away name eth0');
  await become(NEW, 1420);
  await until('the way there', () => pings('node1', 'here', there));
  expect(await differences()).toBe('');
});

it('an agent that starts before its interface has an address waits for one, and what ran meanwhile runs on', async () => {
  const since = await started();
  const waits = async (): Promise<number> =>
    (await mustLab('logs netplugin node2')).split('waiting for one').length - 1;
  const before = await waits();
  await mustLab('kill netplugin node2');
  await eth0('ip addr flush dev eth0 scope global');
  const starting = lab('start netplugin node2');
  try {
    await until('it waits', async () => (await waits()) > before);
    expect(await pings('node2', 'there', 'beside')).toBe(true);
  } finally {
    await become(NEW, 1500);
  }
  expect((await starting).status).toBe(0);
  await until('the way there', () => pings('node1', 'here', there));
  expect(await started()).toBe(since);
  expect(await waits()).toBe(before + 1);
  expect(await differences()).toBe('');
});
