/** What netmaster knows of hosts: as the process that it is, over a restart; and what it logs. Hosts are clients of its API. */
import fs from 'node:fs';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { type Client, connect } from '../src/client/client.ts';
import { openHosts } from '../src/netmaster/hosts.ts';
import { openRoster } from '../src/netmaster/roster.ts';
import type { HostState } from '../src/protocol/hosts.ts';
import { closeCluster, netctl, openCluster } from './cluster.ts';
import { temporaryFolder } from './folder.ts';
import { netmasterOn } from './netmaster.ts';

/** Only ends tests that hang. */
const LIMIT = { timeout: 60_000, interval: 50 };
vi.setConfig({ testTimeout: 180_000 });

interface Beating {
  stop(): void;
}

function beats(client: Client, name: string, underlay: string, condition?: HostState['problems']): Beating {
  const body = {
    name,
    underlay,
    version: '2.0.0',
    ...(condition === undefined ? {} : { condition: { fastPath: true, problems: condition } }),
  };
  const beat = () => void client.call('register', { name }, body).catch(() => {});
  beat();
  const timer = setInterval(beat, 1000);
  const stop = (): void => clearInterval(timer);
  onTestFinished(stop);
  return { stop };
}

const endpoint = (id: string, host: string, address: string) => ({
  endpointID: id,
  tenantName: 'default',
  networkName: 'net1',
  homingHost: host,
  macAddress: '02:02:0a:01:00:02',
  ipAddress: [address],
  containerName: id,
  status: 'running' as const,
});

it('a host is ready or late, one of its name elsewhere is refused for as long as it lives', async () => {
  const netmaster = await netmasterOn(`sqlite:${temporaryFolder()}/netmaster.db`);
  await netmaster.start();
  const client = connect({ urls: [netmaster.url] });
  onTestFinished(() => client.close());
  const states = async () =>
    Object.fromEntries((await client.call('hostStates')).body.map((state) => [state.name, state]));
  const state = async (name: string, wanted: HostState['state']) => {
    const found = async () => {
      const now = (await states())[name];
      return now?.state === wanted ? now : undefined;
    };
    return vi.waitUntil(found, LIMIT) as Promise<HostState>;
  };
  const applied = async (name: string) => {
    const { store, revision } = (await client.call('health')).body;
    await client.call('applied', { name }, { store, revision });
  };

  await client.call(
    'post',
    { collection: 'networks', key: 'default:net1' },
    { tenantName: 'default', networkName: 'net1', subnet: '10.1.0.0/24', gateway: '10.1.0.254' },
  );
  const wrong = [{ problem: 'a name is taken', remedy: 'free it' }];
  const node1 = beats(client, 'node1', '192.0.2.1', wrong);
  beats(client, 'node2', '192.0.2.2');
  await vi.waitUntil(async () => Object.keys(await states()).length === 2, LIMIT);
  expect((await state('node2', 'late')).reason).toBe('it has not said yet what it has applied');
  await client.call('attach', { id: 'web', wait: '0' }, endpoint('web', 'node1', '10.1.0.2'));
  // netmaster has given the host its addresses in reserve: no revision comes behind that.
  await vi.waitUntil(async () => {
    const { body } = await client.call('inspect', { collection: 'networks', key: 'default:net1' });
    return (body.Oper as Record<string, unknown>).reservedIPAddresses !== undefined;
  }, LIMIT);
  await applied('node1');
  await applied('node2');
  expect(await state('node1', 'ready')).toMatchObject({
    underlay: '192.0.2.1',
    version: '2.0.0',
    containers: 1,
    lag: 0,
    fastPath: true,
    problems: wrong,
    seen: expect.stringMatching(/^\d{4}-.*Z$/),
  });
  const metrics = await (await fetch(`${netmaster.url}/metrics`)).text();
  expect(metrics).toContain('contiv_netmaster_hosts{state="ready"} 2');
  expect(metrics).toContain('contiv_netmaster_host_problems{host="node1"} 1');
  // Another host of the name.
  beats(client, 'node1', '192.0.2.9');
  const refused = async () =>
    (await client.call('hostStates')).body.find((each) => each.state === 'refused' && each.name === 'node1');
  expect(await vi.waitUntil(refused, LIMIT)).toMatchObject({
    underlay: '192.0.2.9',
    reason: expect.stringContaining('is alive with underlay 192.0.2.1'),
  });

  await client.call(
    'post',
    { collection: 'networks', key: 'default:net2', wait: '0' },
    { tenantName: 'default', networkName: 'net2', subnet: '10.2.0.0/24', gateway: '10.2.0.254' },
  );
  expect(await state('node2', 'late')).toMatchObject({
    reason: expect.stringContaining('has applied revision'),
  });
  await applied('node2');
  await state('node2', 'ready');

  const alive = await netctl(netmaster.url, ['host', 'rm', 'node1']);
  expect(alive).toMatchObject({
    status: 3,
    err: expect.stringMatching(/^netctl: host node1: is alive: .*\n$/),
  });
  const status = async () => (await client.call('endpoints')).body.map((each) => each.status);
  expect(await status()).toEqual(['running']);

  // The twin goes on, and is not let in as long as node1 was heard of.
  node1.stop();
  await vi.waitUntil(async () => (await states()).node1?.underlay === '192.0.2.9', LIMIT);
}, 180_000);

it('a host that is away is known as that, with since when, until it is removed', async () => {
  const file = `${temporaryFolder()}/netmaster.db`;
  const netmaster = await netmasterOn(`sqlite:${file}`);
  await netmaster.start();
  const client = connect({ urls: [netmaster.url] });
  onTestFinished(() => client.close());
  await client.call(
    'post',
    { collection: 'networks', key: 'default:net1' },
    { tenantName: 'default', networkName: 'net1', subnet: '10.1.0.0/24', gateway: '10.1.0.254' },
  );
  const node1 = beats(client, 'node1', '192.0.2.1');
  await vi.waitUntil(async () => (await client.call('hosts')).body.length === 1, LIMIT);
  await client.call('attach', { id: 'web', wait: '0' }, endpoint('web', 'node1', '10.1.0.2'));
  node1.stop();
  const away = async () => {
    const [host] = (await client.call('hostStates')).body;
    return host?.state === 'away' ? host : undefined;
  };
  const gone = await vi.waitUntil(away, LIMIT);
  expect(gone).toMatchObject({ name: 'node1', underlay: '192.0.2.1', containers: 1 });
  expect(gone?.reason).toBe(`nothing is heard of it since ${gone?.seen}`);
  expect((await client.call('endpoints')).body.map(({ status }) => status)).toEqual(['unreachable']);
  const { body } = await client.call('inspect', { collection: 'endpoints', key: 'web' });
  expect(body.Oper).toMatchObject({ status: 'unreachable' });
  // Noted in the store within its next round.
  const noted = () => fs.readFileSync(`${file}-wal`, 'latin1').includes('"away":');
  await vi.waitUntil(noted, LIMIT);

  await netmaster.kill();
  await netmaster.start();
  expect((await client.call('hostStates')).body).toMatchObject([
    { name: 'node1', state: 'away', underlay: '192.0.2.1', containers: 1, seen: gone?.seen },
  ]);
  const listed = await netctl(netmaster.url, ['host', 'ls']);
  expect(listed.out).toMatch(/^node1 +192\.0\.2\.1 +2\.0\.0 +1 .* away: nothing is heard of it since \S+Z$/m);
  expect((await netctl(netmaster.url, ['endpoint', 'ls'])).out).toMatch(/^default +web .* unreachable$/m);

  const back = beats(client, 'node1', '192.0.2.1');
  await vi.waitUntil(async () => (await away()) === undefined, LIMIT);
  expect((await client.call('endpoints')).body.map(({ status }) => status)).toEqual(['running']);
  back.stop();
  await vi.waitUntil(away, LIMIT);
  const removed = await netctl(netmaster.url, ['host', 'rm', 'node1']);
  expect(removed).toMatchObject({ status: 0, out: 'Deleting host node1 and 1 endpoint of it\n' });
  expect((await client.call('hostStates')).body).toEqual([]);
  expect((await client.call('endpoints')).body).toEqual([]);
  expect(await netctl(netmaster.url, ['host', 'rm', 'node1'])).toMatchObject({
    status: 3,
    err: 'netctl: host node1: no host of this name is known (netctl host ls)\n',
  });
});

it('that a host goes and comes back is logged once each, and is one event each', async () => {
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  const lines: string[] = [];
  const log = pino({}, { write: (line) => void lines.push(JSON.parse(line).msg) });
  const roster = openRoster(parts.mirror, log, { alone: true });
  const hosts = openHosts(parts);
  const node1 = { name: 'node1', underlay: '192.0.2.1' };
  await hosts.beat(node1);
  const lease = () => parts.mirror.stored('host', 'node1')?.lease as string;
  for (let i = 0; i < 2; i++) {
    await parts.store.revoke(lease());
    await parts.mirror.seen((await parts.store.list('none')).revision);
    await roster.noteAway(parts.writer);
    await roster.noteAway(parts.writer);
    // Another netmaster, or this one started anew.
    if (i === 1) openRoster(parts.mirror, log, { alone: true }).close();
    await hosts.beat(node1);
  }
  const away = expect.stringMatching(/^host node1 is away: .* 0 containers there count as unreachable/);
  expect(lines).toEqual([away, 'host node1 is back', away, away, 'host node1 is back']);
  expect(parts.mirror.get('registration', 'node1')).toEqual(node1);
  const events = parts.mirror.events.list({ kinds: new Set(['host']) });
  expect(events.map(({ action }) => action)).toEqual(['joined', 'left', 'joined', 'left', 'joined']);
  roster.close();
});

it('a clock that was ahead and is set back changes nothing of who is silent, who is refused and what is the newest word', async () => {
  vi.useFakeTimers({ toFake: ['Date', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  const roster = openRoster(parts.mirror, pino({ level: 'silent' }), { alone: true });
  onTestFinished(() => roster.close());
  const node1 = { name: 'node1', underlay: '192.0.2.1' };
  await openHosts(parts).beat(node1);
  const condition = (problem: string) => ({ fastPath: true, problems: [{ problem, remedy: '' }] });
  const clock = () => Number(vi.getMockedSystemTime());
  const setBack = () => vi.setSystemTime(clock() - 3_600_000);

  roster.beat('node1', condition('first'));
  roster.refuse({ name: 'node2', underlay: '192.0.2.1' }, 'underlay 192.0.2.1 is host node1’s already');
  setBack();
  expect(roster.states().map(({ state }) => state)).toEqual(['ready', 'refused']);
  // Another netmaster tells what it has heard since, by a clock that is right.
  roster.heard('node1', { at: clock(), condition: condition('second') });
  expect(roster.condition('node1')).toEqual(condition('second'));
  roster.heard('node1', { at: clock() - 1000, condition: condition('first') });
  expect(roster.condition('node1')).toEqual(condition('second'));

  vi.advanceTimersByTime(60_000);
  setBack();
  expect(roster.states().map(({ name }) => name)).toEqual(['node1']);
  expect(roster.state('node1').reason).toMatch(
    /^nothing is heard of it since .* does not count as away yet$/,
  );
});

it('a host that is drained takes no new containers, over a restart too, keeps what it has, and takes them again', async () => {
  const netmaster = await netmasterOn(`sqlite:${temporaryFolder()}/netmaster.db`);
  await netmaster.start();
  const client = connect({ urls: [netmaster.url] });
  onTestFinished(() => client.close());
  const network = { tenantName: 'default', networkName: 'net1' };
  await client.call(
    'post',
    { collection: 'networks', key: 'default:net1' },
    { ...network, subnet: '10.1.0.0/24', gateway: '10.1.0.254' },
  );
  beats(client, 'node1', '192.0.2.1');
  beats(client, 'node2', '192.0.2.2');
  const state = async () =>
    (await client.call('hostStates').catch(() => ({ body: [] as HostState[] }))).body.find(
      ({ name }) => name === 'node1',
    );
  const applied = async () => {
    const { store, revision } = (await client.call('health')).body;
    await client.call('applied', { name: 'node1' }, { store, revision });
  };
  await vi.waitUntil(async () => (await client.call('hosts')).body.length === 2, LIMIT);
  await client.call('attach', { id: 'web', wait: '0' }, endpoint('web', 'node1', '10.1.0.2'));
  await applied();
  const reserve = (host: string, more = {}) =>
    client.call('reserve', {}, { ...network, family: 4, host, ...more }).then(
      ({ body }) => body.address,
      (error: Error) => error.message,
    );

  const service = { ...network, serviceName: 'lb', selectors: ['app=web'], ports: ['80:8080:TCP'] };
  await client.call('post', { collection: 'serviceLBs', key: 'default:lb', wait: '0' }, service);
  const labelled = (id: string, host: string, address: string) =>
    client.call(
      'attach',
      { id, wait: '0' },
      { ...endpoint(id, host, address), macAddress: '02:02:0a:01:00:09', labels: { app: 'web' } },
    );
  await labelled('here', 'node1', '10.1.0.8');
  await labelled('there', 'node2', '10.1.0.9');
  const inspected = async (...command: string[]) =>
    JSON.parse((await netctl(netmaster.url, command)).out).Oper;

  const { status, out } = await netctl(netmaster.url, ['host', 'drain', 'node1']);
  expect({ status, lines: out.split('\n') }).toMatchObject({
    status: 0,
    lines: expect.arrayContaining([
      'Draining host node1: it takes no new containers (netctl host undrain node1)',
      '2 containers left on node1:',
    ]),
  });
  const refusal =
    'host node1: takes no new containers, it is being drained: start it on another host, or take that back with netctl host undrain node1';
  expect(await reserve('node1')).toBe(refusal);
  expect(await reserve('node2')).toMatch(/^10\.1\.0\./);
  expect(await reserve('node1', { ofHost: true })).toMatch(/^10\.1\.0\./);
  // What runs may be told of again.
  await client.call('attach', { id: 'web', wait: '0' }, endpoint('web', 'node1', '10.1.0.2'));
  expect(await state()).toMatchObject({
    state: 'draining',
    reason: expect.stringContaining('takes no new containers since'),
    containers: 2,
  });
  const { providers } = await inspected('service', 'inspect', 'lb');
  expect(providers).toMatchObject([
    {
      endpointID: 'here',
      leftOut: 'host node1 is being drained',
      draining: expect.stringMatching(/^20.*Z$/),
    },
    { endpointID: 'there' },
  ]);
  expect(providers[1]).not.toHaveProperty('leftOut');
  expect(await inspected('endpoint', 'inspect', 'here')).toMatchObject({
    status: 'running',
    draining: providers[0].draining,
  });
  expect((await netctl(netmaster.url, ['endpoint', 'ls'])).out).toMatch(/ here .* running, host drains$/m);
  const traced = await netctl(netmaster.url, ['policy', 'trace', '--from=web', '--to=lb', '--port=80']);
  expect(traced.err).toMatch(
    /say one of 10\.1\.0\.9 \(there, .*\); new connections do not go to 10\.1\.0\.8 \(here, network net1, node1\), as host node1 is being drained$/m,
  );
  await applied(); // it has been some seconds: it would be late
  expect((await netctl(netmaster.url, ['host', 'ls'])).out).toMatch(/^node1 .* draining: /m);
  const summary = await netctl(netmaster.url, ['status']);
  expect(summary.out).toMatch(/^hosts .* 1 draining \(node1\)$/m);
  expect((await netctl(netmaster.url, ['completion', 'words', '--', 'host', 'drain', ''])).out).toBe(
    'node1\nnode2\n',
  );

  await netmaster.kill();
  await netmaster.start();
  await vi.waitUntil(async () => (await state())?.draining !== undefined, LIMIT);
  expect(await reserve('node1')).toBe(refusal);
  const again = await netctl(netmaster.url, ['host', 'drain', 'node1']);
  expect(again.status).toBe(0);

  expect(await netctl(netmaster.url, ['host', 'drain', 'node9'])).toMatchObject({
    status: 3,
    err: expect.stringContaining('host node9: no host of this name is known'),
  });
  const waiting = netctl(netmaster.url, ['host', 'drain', 'node1', '--wait']);
  for (const id of ['web', 'here']) await client.call('detach', { id, host: 'node1', wait: '0' });
  expect((await waiting).out).toMatch(
    /Nothing of ours is left on node1: netplugin leave may follow there\n$/,
  );

  expect((await netctl(netmaster.url, ['host', 'undrain', 'node1'])).status).toBe(0);
  expect(await reserve('node1')).toMatch(/^10\.1\.0\./);
  await applied();
  expect((await state())?.draining).toBeUndefined();
  const { body: events } = await client.call('events', { kind: 'host' });
  expect(events.filter(({ key }) => key === 'node1').map(({ action }) => action)).toEqual(
    expect.arrayContaining(['joined', 'draining', 'undrained']),
  );
});
