import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { insideOf } from '../../endpoints/inside.ts';
import { type Attachment, openView, type WatchedNetwork } from '../../intent/view.ts';
import type { Publications } from '../publish.ts';
import type { Attached, Endpoints } from '../runtime.ts';
import { type Commands, endpointId, openCommands } from './commands.ts';
import type { CniRequest } from './request.ts';
import { openWorkloads } from './workloads.ts';

const NETWORK: WatchedNetwork = {
  tenantName: 'default',
  networkName: 'net1',
  subnet: '20.1.1.0/24',
  gateway: '20.1.1.254',
  vni: 1,
};
const SIX: WatchedNetwork = {
  tenantName: 'default',
  networkName: 'six',
  ipv6Subnet: 'fd00:6::/64',
  ipv6Gateway: 'fd00:6::1',
  vni: 2,
};
/** A namespace that is there, but not this process's: one of the kernel's other kinds would do, the path alone is compared. */
const NETNS = '/proc/self/ns/uts';

let attachments: Map<string, Attachment>;
let asked: string[];
let missing: string[];
let attach: () => Promise<void>;
let taken: boolean;
/** What endpoints had that have ended while netmaster was away. */
let before: Map<string, string>;
let commands: Commands;

beforeEach(() => {
  attachments = new Map();
  asked = [];
  missing = [];
  attach = async () => {};
  taken = false;
  before = new Map();
  const networks = new Map([NETWORK, SIX].map((n) => [`default:${n.networkName}`, n]));
  const view = { ...openView(), networks };
  const portOf = (attachment: Attachment): Attached =>
    ({
      mac: attachment.endpoint.macAddress,
      mtu: 1450,
      inside: insideOf(
        networks.get(`default:${attachment.endpoint.networkName}`) as WatchedNetwork,
        attachment,
        [],
        view,
      ),
    }) as unknown as Attached;
  let last = 1;
  const endpoints: Endpoints = {
    host: 'node1',
    view,
    live: () => true,
    ready: () => true,
    attachments,
    async reserve({ address, family }) {
      asked.push('reserve');
      const next = `${family === 6 ? 'fd00:6::' : '20.1.1.'}${++last}`;
      return { address: address ?? next, prefixLength: family === 6 ? 64 : 24 };
    },
    addressBefore: (id, family) => (family === 4 ? before.get(id) : undefined),
    async release(network, address) {
      asked.push(`release ${network} ${address}`);
    },
    swarmHas: async () => 0,
    async releaseOfSwarm(network, address) {
      asked.push(`release of Swarm ${network} ${address}`);
    },
    async attach(joining) {
      asked.push('attach');
      await attach();
      const attachment: Attachment = { ...joining, phase: 'joined' };
      attachments.set(joining.endpoint.endpointID, attachment);
      return portOf(attachment);
    },
    portOf: (id) => portOf(attachments.get(id) as Attachment),
    missing: async () => missing,
    publish: async () => {},
    describe: async () => {},
    async detach(id) {
      asked.push('detach');
      attachments.delete(id);
    },
    onDetach: () => {},
  };
  const publications: Publications = {
    claim(_, wanted) {
      if (taken) throw new Error('port 80 is taken on this host');
      return wanted.map(({ lastPort: __, ...p }) => p);
    },
    free: () => {},
  };
  const log = pino({ level: 'silent' });
  commands = openCommands({ endpoints, publications, workloads: openWorkloads(endpoints), log });
});

const request = (command: CniRequest['command'], more: Partial<CniRequest> = {}): CniRequest => ({
  command,
  version: '1.1.0',
  container: 'c1',
  netns: NETNS,
  device: 'eth0',
  args: {},
  configuration: { network: 'net1' },
  name: 'n',
  ...more,
});
const run = (
  command: CniRequest['command'],
  more: Partial<CniRequest> = {},
  gone = new AbortController().signal,
) => commands.run(request(command, more), gone);

describe('ADD', () => {
  it('asks for the address again that the same container had there before netmaster was away', async () => {
    before.set(endpointId('c1', 'eth0'), '20.1.1.77');
    expect(await run('ADD')).toMatchObject({ ips: [{ address: '20.1.1.77/24' }] });
    await run('DEL');
    expect(await run('ADD', { container: 'c2' })).not.toMatchObject({ ips: [{ address: '20.1.1.77/24' }] });
  });

  it('attaches an endpoint whose end we make, and says what it was given', async () => {
    const result = await run('ADD', { args: { CONTIV_NAME: 'web' } });
    expect(result).toMatchObject({ ips: [{ address: '20.1.1.2/24', gateway: '20.1.1.254' }] });
    expect(attachments.get(endpointId('c1', 'eth0'))).toMatchObject({
      endpoint: {
        containerID: 'c1',
        containerName: 'web',
        macAddress: '02:02:14:01:01:02',
        status: 'running',
      },
      sandbox: NETNS,
      runtime: 'cni',
      configuration: 'n',
      end: 'eth0',
    });
  });

  it('that comes again answers the same while all of it is there, and is made anew where something is not', async () => {
    const first = await run('ADD');
    expect(await run('ADD')).toEqual(first);
    expect(asked).toEqual(['reserve', 'attach']);
    missing = ['its device'];
    expect(await run('ADD')).toMatchObject({ ips: [{ address: '20.1.1.3/24' }] });
    expect(asked.slice(2)).toEqual(['detach', 'reserve', 'attach']);
  });

  it('that nobody waits for any more is undone, unless it was there before', async () => {
    const gone = new AbortController();
    attach = async () => gone.abort();
    await expect(run('ADD', {}, gone.signal)).rejects.toMatchObject({ code: 11 });
    expect([attachments.size, asked.at(-1)]).toEqual([0, 'detach']);
    await expect(run('ADD', {}, gone.signal)).rejects.toMatchObject({ code: 11 });
    expect(asked).toEqual(['reserve', 'attach', 'detach']);
  });

  it('gives the address back where a port of the host is taken', async () => {
    taken = true;
    const runtimeConfig = { portMappings: [{ hostPort: 80, containerPort: 80 }] };
    await expect(run('ADD', { configuration: { network: 'net1', runtimeConfig } })).rejects.toThrow(
      'port 80',
    );
    expect(asked).toEqual(['reserve', 'release default:net1 20.1.1.2']);
  });

  it('in a network of IPv6 alone asks for that alone, and refuses another address', async () => {
    const configuration = { network: 'six' };
    expect(await run('ADD', { configuration })).toMatchObject({
      ips: [{ address: 'fd00:6::2/128', gateway: 'fd00:6::1' }],
      routes: [
        { dst: 'fd00:6::1/128' },
        { dst: 'fd00:6::/64', gw: 'fd00:6::1' },
        { dst: '::/0', gw: 'fd00:6::1' },
      ],
      dns: { nameservers: ['fd00:6::1'] },
    });
    expect(asked).toEqual(['reserve', 'attach']);
    expect(attachments.get(endpointId('c1', 'eth0'))?.endpoint).toMatchObject({
      ipAddress: ['fd00:6::2'],
      macAddress: expect.stringMatching(/^02:06(:[0-9a-f]{2}){4}$/),
    });
    const runtimeConfig = { ips: ['20.1.1.7'] };
    await expect(
      run('ADD', {
        container: 'c2',
        netns: '/proc/self/ns/ipc',
        configuration: { ...configuration, runtimeConfig },
      }),
    ).rejects.toThrow('ips: network default:six has no IPv4 subnet');
  });

  it('is refused for a network that is not declared, and in the host’s own namespace', async () => {
    await expect(run('ADD', { configuration: { network: 'net9' } })).rejects.toThrow(
      'network default:net9 does not exist',
    );
    await expect(run('ADD', { netns: '/proc/self/ns/net' })).rejects.toThrow("the host's own");
    await expect(run('ADD', { netns: '/etc/passwd' })).rejects.toMatchObject({ code: 4 });
    expect(asked).toEqual([]);
  });
});

it('commands of one interface come one after the other', async () => {
  const slow = Promise.withResolvers<void>();
  attach = () => slow.promise;
  const added = run('ADD');
  const deleted = run('DEL');
  await new Promise((done) => setImmediate(done));
  expect(asked).toEqual(['reserve', 'attach']);
  slow.resolve();
  await added;
  await deleted;
  expect([attachments.size, asked.at(-1)]).toEqual([0, 'detach']);
});

it('CHECK names what is missing, and who is not known', async () => {
  await expect(run('CHECK')).rejects.toMatchObject({ code: 3 });
  const prevResult = await run('ADD');
  const configuration = { network: 'net1', prevResult };
  expect(await run('CHECK', { configuration })).toBeUndefined();
  const ips = [{ address: '20.1.1.9/24' }];
  await expect(run('CHECK', { configuration: { prevResult: { ips } } })).rejects.toThrow(
    'prevResult lacks its address 20.1.1.2',
  );
  missing = ['route 0.0.0.0/0'];
  await expect(run('CHECK', { configuration })).rejects.toMatchObject({ code: 101 });
});

it('GC detaches what its list lacks, of this network only', async () => {
  for (const container of ['kept', 'gone'])
    await run('ADD', { container, netns: `/proc/self/ns/${container === 'kept' ? 'uts' : 'ipc'}` });
  const gc = (name: string, configuration: object) =>
    run('GC', { container: '', name, configuration: { ...configuration } });
  await gc('n', {});
  await gc('other', { 'cni.dev/valid-attachments': [] });
  expect(attachments.size).toBe(2);
  await gc('n', { 'cni.dev/attachments': [{ containerID: 'kept', ifname: 'eth0' }] });
  expect([...attachments.keys()]).toEqual([endpointId('kept', 'eth0')]);
});
