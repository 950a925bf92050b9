import { pino } from 'pino';
import { expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import { statusLines } from '../netctl/status.ts';
import { openHosts } from './hosts.ts';
import { storeKey } from './mirror.ts';
import { openRoster } from './roster.ts';
import { clusterStatus } from './status.ts';

async function open() {
  const parts = await openCluster();
  const roster = openRoster(parts.mirror, pino({ level: 'silent' }), { alone: true });
  onTestFinished(async () => {
    roster.close();
    await closeCluster(parts);
  });
  const put = async (kind: string, key: string, value: unknown): Promise<void> => {
    const outcome = await parts.store.transact([], [{ key: storeKey(kind, key), value }]);
    if (outcome.ok) await parts.mirror.seen(outcome.revision);
  };
  const put6 = (name: string, ipv6Subnet: string, ipv6Gateway: string) =>
    put('network', `default:${name}`, {
      tenantName: 'default',
      networkName: name,
      encap: 'vxlan',
      ipv6Subnet,
      ipv6Gateway,
    });
  const network = (name: string, subnet: string, gateway: string) =>
    put('network', `default:${name}`, {
      tenantName: 'default',
      networkName: name,
      encap: 'vxlan',
      subnet,
      gateway,
    });
  const address = (name: string, text: string) =>
    put('address', `default:${name}/${text}`, { host: 'node1', endpoint: `e${text}` });
  const status = () => clusterStatus({ ...parts, roster, version: '2.0.0' });
  return { ...parts, roster, network, put6, address, status };
}

it('of an empty cluster all is well', async () => {
  const { status } = await open();
  const found = await status();
  expect(found).toMatchObject({
    netmaster: { version: '2.0.0', store: 'memory', netmasters: [] },
    hosts: { ready: 0, late: 0, away: 0, refused: 0, draining: 0 },
    problems: [],
  });
  expect(statusLines(found, []).at(-1)).toBe('all is well');
});

it('the use of a network is in addresses that it has to give, and a full one is a problem', async () => {
  const { network, address, status } = await open();
  await network('small', '10.1.0.0/30', '10.1.0.2');
  await network('ranged', '10.2.0.10-10.2.0.12/24', '10.2.0.254');
  await address('ranged', '10.2.0.10');
  expect(await status()).toMatchObject({
    networks: [
      { network: 'default:small', used: 0, size: 1 },
      { network: 'default:ranged', used: 1, size: 3 },
    ],
    problems: [],
  });
  await address('small', '10.1.0.1');
  const full = await status();
  expect(full.problems).toEqual([
    {
      of: 'network default:small',
      problem: '1 of 1 addresses are in use: nothing more starts there',
      remedy: expect.stringContaining('declare another network'),
    },
  ]);
  const lines = statusLines(full, []);
  expect(lines).toContain('default:small   10.1.0.0/30             1          1 (100 %)');
  expect(lines.slice(-3)).toEqual([
    '1 problem:',
    '  network default:small: 1 of 1 addresses are in use: nothing more starts there',
    expect.stringMatching(/^ {6}-> /),
  ]);
});

it('a network of IPv6 alone is counted in that, as far as a number counts', async () => {
  const { put6, address, status } = await open();
  await put6('few', 'fd00:7::/126', 'fd00:7::1');
  await put6('many', 'fd00:6::/64', 'fd00:6::1');
  await address('many', 'fd00:6::1');
  await address('many', 'fd00:6::2');
  const found = await status();
  expect(found.networks).toEqual([
    { network: 'default:few', subnet: 'fd00:7::/126', used: 0, reserved: 0, size: 2 },
    { network: 'default:many', subnet: 'fd00:6::/64', used: 1, reserved: 0, size: Number.MAX_SAFE_INTEGER },
  ]);
  expect(statusLines(found, []).join()).toMatch(/default:many +fd00:6::\/64 +over 2\^53 +1 \(0 %\)/);
});

it('what a host says is wrong there is under its name, and goes when it says so no more', async () => {
  const { roster, status, ...parts } = await open();
  const hosts = openHosts(parts);
  await hosts.beat({ name: 'node1', underlay: '192.0.2.1' });
  await hosts.beat({ name: 'node2', underlay: '192.0.2.2' });
  roster.beat('node1', { problems: [{ problem: 'taken', remedy: 'free it' }] });
  roster.beat('node2');
  expect((await status()).problems).toEqual([{ of: 'host node1', problem: 'taken', remedy: 'free it' }]);
  roster.beat('node1', { problems: [] });
  expect((await status()).problems).toEqual([]);
});
