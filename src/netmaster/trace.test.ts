import { describe, expect, it } from 'vitest';
import { openTestMirror, type TestMirror } from '../../test/mirror.ts';
import { GLOBAL_DEFAULTS } from '../model/settings.ts';
import { SERVICE_LABEL } from '../model/swarmTask.ts';
import { traceText } from '../netctl/trace.ts';
import type { LiveAnswer } from '../protocol/messages.ts';
import { openQuestions } from './questions.ts';
import { askHosts, compare, type TraceRequest, trace } from './trace.ts';

const endpoint = (id: string, address: string, more: object = {}) => ({
  endpointID: id,
  tenantName: 'default',
  networkName: 'net1',
  ipAddress: [address],
  macAddress: '02:02:00:00:00:01',
  homingHost: 'node1',
  containerName: id,
  status: 'running',
  ...more,
});
const rule = (ruleId: string, more: object) => ({
  tenantName: 'default',
  policyName: 'prod_web',
  ruleId,
  direction: 'in',
  action: 'deny',
  ...more,
});

/** The quick start's: web refuses TCP but for port 80. */
const WORLD = {
  host: [
    { name: 'node1', underlay: '192.0.2.1' },
    { name: 'node2', underlay: '192.0.2.2' },
  ],
  tenant: [{ tenantName: 'default' }, { tenantName: 'blue' }],
  network: [
    {
      tenantName: 'default',
      networkName: 'net1',
      encap: 'vxlan',
      subnet: '20.1.1.0/24',
      gateway: '20.1.1.254',
    },
    {
      tenantName: 'default',
      networkName: 'net6',
      encap: 'vxlan',
      subnet: '20.1.6.0/24',
      ipv6Subnet: 'fd00::/64',
    },
    { tenantName: 'blue', networkName: 'net1', encap: 'vxlan', subnet: '20.1.1.0/24' },
  ],
  policy: [{ tenantName: 'default', policyName: 'prod_web' }],
  rule: [
    rule('1', { protocol: 'tcp' }),
    rule('2', { protocol: 'tcp', port: 80, action: 'allow', priority: 10 }),
    rule('3', { protocol: 'udp', fromEndpointGroup: 'web' }),
  ],
  endpointGroup: [
    { tenantName: 'default', groupName: 'web', networkName: 'net1', policies: ['prod_web'] },
    { tenantName: 'default', groupName: 'idle', networkName: 'net6', policies: ['prod_web'] },
    { tenantName: 'default', groupName: 'client', networkName: 'net1' },
    { tenantName: 'blue', groupName: 'far', networkName: 'net1' },
  ],
  endpoint: [
    endpoint('server', '20.1.1.2', {
      groupName: 'web',
      containerID: '0123456789abcdef',
      labels: { [SERVICE_LABEL]: 's1' },
    }),
    endpoint('client', '20.1.1.3', { homingHost: 'node2', aliases: ['asker'] }),
    endpoint('six', '20.1.6.2', { networkName: 'net6', ipAddress: ['20.1.6.2', 'fd00::2'] }),
    endpoint('sleepy', '20.1.1.4', { status: 'paused', homingHost: 'node3' }),
    endpoint('a1', '20.1.1.5', { containerName: 'twin' }),
    endpoint('a2', '20.1.1.6', { containerName: 'twin', homingHost: 'node2' }),
    endpoint('foreign', '20.1.1.9', { tenantName: 'blue' }),
  ],
  swarmService: [
    {
      serviceID: 's1',
      swarmNetworkID: 'n1',
      swarm: 'w1',
      serviceName: 'front',
      tenantName: 'default',
      networkName: 'net1',
      groupName: 'web',
      virtualAddress: '20.1.1.201',
      ipv6VirtualAddress: 'fd00::201',
      aliases: ['fe'],
    },
  ],
  serviceLB: [
    {
      tenantName: 'default',
      serviceName: 'lb',
      networkName: 'net1',
      vip: '20.1.1.200',
      selectors: ['app=x'],
      ports: ['80:80:TCP'],
    },
  ],
};

const opened = (): Promise<TestMirror> => openTestMirror(WORLD);
const asked = (more: Partial<TraceRequest> = {}): TraceRequest => ({
  tenant: 'default',
  from: 'client',
  to: 'server',
  protocol: 'tcp',
  port: 22,
  ...more,
});
const icmp = (from: string, to: string): TraceRequest =>
  asked({ from, to, protocol: 'icmp', port: undefined });

describe('a trace between workloads', () => {
  const pod = (name: string, address: string) =>
    endpoint(name, address, { workload: `shop:${name}`, workloadUid: `u-${name}`, containerName: undefined });
  const workload = (name: string, labels: object) => ({
    namespaceName: 'shop',
    workloadName: name,
    uid: `u-${name}`,
    tenantName: 'default',
    networkName: 'net1',
    labels,
    namespaceLabels: { 'kubernetes.io/metadata.name': 'shop' },
  });
  const CLUSTER = {
    ...WORLD,
    endpoint: [...WORLD.endpoint, pod('web-1', '20.1.1.21'), pod('db-0', '20.1.1.22')],
    workload: [workload('web-1', { app: 'web' }), workload('db-0', { app: 'db' }), workload('waits', {})],
    networkPolicy: [
      {
        tier: 'admin',
        namespaceName: '',
        policyName: 'monitoring',
        priority: 5,
        subject: {},
        rules: [{ direction: 'in', action: 'pass', peers: [{ workloads: { matchLabels: { app: 'web' } } }] }],
      },
      {
        tier: 'namespace',
        namespaceName: 'shop',
        policyName: 'deny-all',
        subject: {},
        isolates: ['in'],
        rules: [],
      },
      {
        tier: 'namespace',
        namespaceName: 'shop',
        policyName: 'web-to-db',
        subject: { workloads: { matchLabels: { app: 'db' } } },
        isolates: ['in'],
        rules: [
          {
            direction: 'in',
            action: 'accept',
            peers: [{ workloads: { matchLabels: { app: 'web' } } }],
            ports: [{ protocol: 6, port: 5432 }],
          },
        ],
      },
    ],
  };

  it('takes them as NAMESPACE/NAME, and shows tiers and policies by name', async () => {
    const { mirror } = await openTestMirror(CLUSTER);
    const traced = (more: Partial<TraceRequest>) =>
      traceText(trace(mirror, asked({ from: 'shop/web-1', to: 'shop/db-0', ...more })));
    expect(traced({ port: 5432 }).slice(4)).toEqual([
      'Leaving workload shop/web-1: allow, 20.1.1.21 is in no group',
      '',
      'Entering workload shop/db-0: allow, NetworkPolicy shop/web-to-db rule 1 says accept',
      "    admin: ClusterNetworkPolicy monitoring rule 1  matches, and leaves it to those below: 20.1.1.21 is shop/web-1, which is one of the rule's peers",
      "  > namespace: NetworkPolicy shop/web-to-db rule 1  decides: 20.1.1.21 is shop/web-1, which is one of the rule's peers; tcp 5432 is one of the rule's ports",
      '    namespace: NetworkPolicy shop/deny-all  matches, but comes later: denies what no rule of such a policy accepts',
      '',
      'tcp 5432 from workload shop/web-1 to workload shop/db-0: allowed',
    ]);
    expect(traced({ port: 22 })).toContain(
      'Entering workload shop/db-0: deny, NetworkPolicy shop/deny-all: no rule of such a policy accepts it',
    );
  });

  it('is about the present one of a name, while the one before still ends', async () => {
    const before = { ...pod('db-0', '20.1.1.23'), endpointID: 'before', workloadUid: 'u-before' };
    const { mirror } = await openTestMirror({ ...CLUSTER, endpoint: [before, ...CLUSTER.endpoint] });
    expect(trace(mirror, asked({ from: 'shop/web-1', to: 'shop/db-0' })).to.address).toBe('20.1.1.22');
  });

  it('says that one has no endpoint yet', async () => {
    const { mirror } = await openTestMirror(CLUSTER);
    expect(() => trace(mirror, asked({ to: 'shop/waits' }))).toThrow(
      'to: workload shop/waits has no endpoint: it has not started, or has ended',
    );
  });

  const backend = (n: number, more: object = {}) => ({
    address: `20.1.1.${n}`,
    port: 5432,
    host: 'node1',
    ready: true,
    serving: true,
    terminating: false,
    ...more,
  });
  const served = (backends: readonly object[], more: object = {}) =>
    openTestMirror({
      ...CLUSTER,
      endpoint: [...CLUSTER.endpoint, pod('open', '20.1.1.23')],
      workload: [...CLUSTER.workload, workload('open', {})],
      networkPolicy: CLUSTER.networkPolicy.map((policy) =>
        policy.policyName === 'deny-all'
          ? { ...policy, subject: { workloads: { matchLabels: { app: 'db' } } } }
          : policy,
      ),
      clusterService: [
        {
          namespaceName: 'shop',
          serviceName: 'db',
          tenantName: 'default',
          addresses: ['10.96.0.10', 'fd00:96::10'],
          externalAddresses: ['198.51.100.9'],
          ports: [{ protocol: 6, port: 80, backends }],
          ...more,
        },
      ],
    });
  const toDb = (more: Partial<TraceRequest> = {}) =>
    asked({ from: 'shop/web-1', to: 'shop/db', port: 80, ...more });

  it('goes to each backend of a service, by its name and at its addresses, and says which and what decides there', async () => {
    const { mirror } = await served([
      backend(22, { port: 22 }),
      backend(23),
      backend(21, { ready: false, serving: false }),
    ]);
    expect(traceText(trace(mirror, toDb()))).toEqual([
      'from  workload shop/web-1 20.1.1.21, network net1, on node1',
      'to    service shop/db 10.96.0.10',
      '      tcp 80',
      '',
      'Backends: 2 of 3: those that are ready',
      '',
      '-- workload shop/db-0 20.1.1.22, network net1, on node1, tcp 22: DENIED',
      '',
      'Leaving workload shop/web-1: allow, 20.1.1.21 is in no group',
      '',
      'Entering workload shop/db-0: deny, NetworkPolicy shop/deny-all: no rule of such a policy accepts it',
      expect.stringContaining('leaves it to those below'),
      expect.stringContaining('shop/web-to-db rule 1  does not match'),
      expect.stringContaining('  > namespace: NetworkPolicy shop/deny-all  decides'),
      '',
      'Note: connections that are open already go on',
      '',
      '-- workload shop/open 20.1.1.23, network net1, on node1, tcp 5432: allowed',
      '',
      'Leaving workload shop/web-1: allow, 20.1.1.21 is in no group',
      '',
      expect.stringMatching(/^Entering workload shop\/open: allow/),
      expect.stringContaining('admin: ClusterNetworkPolicy monitoring rule 1'),
      '',
      'tcp 80 from workload shop/web-1 to service shop/db: PARTLY allowed, by 1 of 2 backends',
    ]);
    for (const to of ['service:shop/db', '10.96.0.10', '198.51.100.9'])
      expect(trace(mirror, toDb({ to })), to).toMatchObject({
        to: { name: 'service shop/db' },
        verdict: 'partly',
      });
  });

  it('has the verdict of all backends of a service, and says why there are none', async () => {
    const one = await served([backend(22)]);
    expect(trace(one.mirror, toDb())).toMatchObject({
      verdict: 'allow',
      service: {
        backends: [
          { to: { name: 'workload shop/db-0' }, in: { decides: 'NetworkPolicy shop/web-to-db rule 1' } },
        ],
      },
    });
    expect(trace(one.mirror, toDb({ port: 81 }))).toMatchObject({
      verdict: 'unreachable',
      service: { chosen: 'it has no such port, and refuses: it has 80 of protocol 6', backends: [] },
    });
    const chosen = async (backends: readonly object[], more: object = {}) =>
      trace((await served(backends, more)).mirror, toDb()).service?.chosen;
    expect(await chosen([])).toBe('nobody answers: it refuses');
    expect(await chosen([backend(22, { ready: false, terminating: true })])).toBe(
      '1 of 1: none is ready: those that end and still answer',
    );
    const drained = await served([backend(22, { host: 'node3' }), backend(23)]);
    await drained.put({ draining: [{ name: 'node3', since: 1 }] });
    expect(trace(drained.mirror, toDb()).service).toMatchObject({
      chosen: '1 of 2: those that are ready; what is on node3 counts as ending, as that is being drained',
      backends: [{ to: { name: 'workload shop/open' } }],
    });
    const far = backend(23, { host: 'node2' });
    expect(await chosen([backend(22), far], { internalTraffic: 'local' })).toBe(
      '1 of 2: those on host node1, as internal traffic is local',
    );
    expect(await chosen([far], { internalTraffic: 'local' })).toBe(
      'none is on host node1, as internal traffic is local: nothing is answered',
    );
  });

  it('is allowed where a service leads a workload to itself', async () => {
    const { mirror } = await served([backend(22)]);
    const traced = trace(mirror, toDb({ from: 'shop/db-0' }));
    expect(traced.verdict).toBe('allow');
    expect(traced.service?.backends[0]?.notes).toContain(
      "workload shop/db-0 is led to itself, which no policy judges: it sees the nameserver's address as who asks",
    );
  });

  it('goes to a workload that is called as a service is, and refuses what services cannot be', async () => {
    const { mirror } = await served([backend(22)], { serviceName: 'db-0' });
    expect(trace(mirror, toDb({ to: 'shop/db-0' }))).toMatchObject({
      to: { name: 'workload shop/db-0' },
      notes: expect.arrayContaining(["'shop/db-0' is a service too: say service:shop/db-0 for that"]),
    });
    expect(trace(mirror, toDb({ to: 'service:shop/db-0' })).to.name).toBe('service shop/db-0');
    const refused = (more: Partial<TraceRequest>) => () => trace(mirror, toDb({ to: '10.96.0.10', ...more }));
    expect(refused({ from: '10.96.0.10', to: 'server' })).toThrow(
      'from: 10.96.0.10 is of service shop/db-0, which opens no connections',
    );
    expect(refused({ from: '192.0.2.7' })).toThrow(
      /^from: address 192\.0\.2\.7 is outside the tenant: which backends/,
    );
    expect(refused({ to: 'fd00:96::10' })).toThrow(
      'to: service shop/db-0 has no address of the family of 20.1.1.21',
    );
    expect(refused({ protocol: 'icmp', port: undefined })).toThrow(
      'protocol: service shop/db-0 is asked at a port of tcp, udp or 132',
    );
  });

  it('agrees with the kernel about policies by name', () => {
    const rule = 'NetworkPolicy shop/web-to-db rule 1';
    const side = { considered: [], decides: rule, verdict: 'allow', why: '' } as const;
    expect(compare(side, { verdict: 'allow', rule, changed: [] })).toEqual({
      agrees: true,
      text: `agrees: allow, ${rule} decides`,
    });
  });
});

describe('a trace', () => {
  it('says on both sides what was considered, what decides and the verdict', async () => {
    const { mirror } = await opened();
    expect(traceText(trace(mirror, asked()))).toEqual([
      'from  container client 20.1.1.3, network net1, on node2',
      'to    container server 20.1.1.2, group web, network net1, on node1',
      '      tcp 22',
      '',
      'Leaving container client: allow, 20.1.1.3 is in no group',
      '',
      'Entering container server: deny, rule default:prod_web:1 of priority 1 says deny',
      '    default:prod_web:2  does not match: port is 22, not 80',
      '  > default:prod_web:1  decides: protocol is tcp',
      '    default:prod_web:3  does not match: 20.1.1.3 is in no group, not in group web; protocol is tcp, not udp',
      '',
      "Note: 'client' is a group too: say group:client for that",
      'Note: connections that are open already go on',
      '',
      'tcp 22 from container client to container server: DENIED',
    ]);
    const allowed = traceText(trace(mirror, asked({ port: 80 })));
    expect(allowed).toContain(
      '    default:prod_web:1  matches, but loses (its priority 1 is lower than 10 of default:prod_web:2): protocol is tcp',
    );
    expect(allowed.at(-1)).toBe('tcp 80 from container client to container server: allowed');
  });

  it('takes a container by name, id, alias or address, and a group by one of its containers', async () => {
    const { mirror } = await opened();
    for (const from of ['client', 'container:client', 'asker', '20.1.1.3'])
      expect(trace(mirror, asked({ from })).from).toMatchObject({ address: '20.1.1.3', host: 'node2' });
    for (const to of ['server', '0123456789ab', 'web', 'group:web', '20.1.1.2'])
      expect(trace(mirror, asked({ to })).to).toMatchObject({ address: '20.1.1.2', group: 'web' });
    expect(trace(mirror, asked({ to: 'web' })).notes).toContain(
      'group web: taken is container server, its only one',
    );
  });

  it('judges a group without containers as if it had one, and says so', async () => {
    const { mirror } = await opened();
    const traced = trace(mirror, asked({ to: 'idle' }));
    expect(traced).toMatchObject({
      verdict: 'deny',
      to: { name: 'group idle', group: 'idle', network: 'net6' },
      in: { group: 'default:idle', decides: 'default:prod_web:1' },
    });
    expect(traced.to).not.toHaveProperty('host');
    expect(traced.notes[1]).toMatch(
      /^group idle has no container: judged as if one had 20\.1\.6\.\d+ and fd00::/,
    );
    expect(trace(mirror, asked({ from: 'group:client' })).from.address).toMatch(/^20\.1\.1\./);
  });

  it('judges one in a network of IPv6 alone by such an address', async () => {
    const { mirror, put } = await opened();
    await put({
      network: [{ tenantName: 'default', networkName: 'six', encap: 'vxlan', ipv6Subnet: 'fd06::/64' }],
      endpointGroup: [{ tenantName: 'default', groupName: 'sixes', networkName: 'six', policies: [] }],
    });
    const { from, notes } = trace(mirror, asked({ from: 'group:sixes', to: 'six' }));
    expect(from.address).toMatch(/^fd06::/);
    expect(notes.join()).toMatch(/group sixes has no container: judged as if one had fd06::/);
  });

  it('says that networks do not reach each other where the forwarding mode is bridge', async () => {
    const bridge = { ...GLOBAL_DEFAULTS, fwdMode: 'bridge' };
    const { mirror } = await openTestMirror({ ...WORLD, global: [bridge] });
    expect(trace(mirror, asked({ from: 'container:client', to: 'six' }))).toMatchObject({
      verdict: 'unreachable',
      notes: [
        'networks net1 and net6 do not reach each other: the forwarding mode of the cluster is bridge (netctl global info)',
      ],
    });
    expect(trace(mirror, asked({ to: '8.8.8.8' })).verdict).toBe('allow');
    expect(trace(mirror, icmp('client', 'sleepy')).verdict).toBe('allow');
    const { mirror: routing } = await opened();
    expect(trace(routing, asked({ to: 'six' })).verdict).toBe('allow');
  });

  it('is of IPv6 where an end is, and refuses ends of different families', async () => {
    const { mirror } = await opened();
    expect(trace(mirror, icmp('six', 'fd00:0::2'))).toMatchObject({ verdict: 'allow', protocol: 58 });
    expect(trace(mirror, icmp('idle', 'fd00::2')).from.address).toMatch(/^fd00::/);
    expect(() => trace(mirror, icmp('client', 'fd00::2'))).toThrow(
      'container client has no address of the family of fd00::2',
    );
  });

  const OF_SWARM = /service front \(20\.1\.1\.201, fd00::201\) .* say one of 20\.1\.1\.2 \(server,/;
  it.each<[string, TraceRequest, RegExp]>([
    ['a tenant that is none', asked({ tenant: 'red' }), /^tenant red does not exist$/],
    [
      'a name that nobody has',
      asked({ to: 'nobody' }),
      /no running container, external endpoint, group or address 'nobody'/,
    ],
    [
      'a name that two containers have',
      asked({ to: 'twin' }),
      /several: say one of 20\.1\.1\.5 .*20\.1\.1\.6/,
    ],
    ['a service', asked({ to: 'lb' }), /service lb \(20\.1\.1\.200\) .* none now/],
    ["a service's address", asked({ to: '20.1.1.200' }), /service lb/],
    ['a service of Swarm', asked({ to: 'front' }), OF_SWARM],
    ['its IPv6 address', asked({ to: 'fd00::201' }), OF_SWARM],
    ['an alias of it', asked({ to: 'fe' }), OF_SWARM],
    ['its virtual address', asked({ to: '20.1.1.201' }), OF_SWARM],
    ['two ends outside', asked({ from: '192.0.2.7', to: '192.0.2.8' }), /neither address 192\.0\.2\.7 nor/],
    ['no end', asked({ from: '' }), /^from is missing/],
    ['a protocol that is none', asked({ protocol: 'tcpp' }), /^protocol: 'tcpp' must be/],
    ['TCP without a port', asked({ port: undefined }), /^port: tcp needs one/],
    ['ICMP with a port', asked({ protocol: 'icmp' }), /^port: icmp has no ports/],
  ])('refuses %s', async (_, request, message) => {
    const { mirror } = await opened();
    expect(() => trace(mirror, request)).toThrow(message);
  });

  it.each<[string, TraceRequest, string, RegExp]>([
    [
      'who is in another tenant',
      asked({ to: 'foreign' }),
      'unreachable',
      /is in tenant blue: tenants do not/,
    ],
    ['a group of another tenant', asked({ to: 'far' }), 'unreachable', /group far is in tenant blue/],
    ['an address that nobody has', asked({ to: '20.1.1.77' }), 'unreachable', /no container has it/],
    ['that the gateway answers ping', icmp('client', '20.1.1.254'), 'allow', /the router itself answers/],
    [
      'that the gateway answers nothing else',
      asked({ to: '20.1.1.254' }),
      'unreachable',
      /refuses everything/,
    ],
    ['a paused container', asked({ to: 'sleepy' }), 'allow', /sleepy is paused: it answers nothing/],
    [
      'a host that is gone',
      asked({ to: 'sleepy' }),
      'allow',
      /host node3 of container sleepy is not heard of/,
    ],
    ['the way out', asked({ to: '192.0.2.7' }), 'allow', /outside the tenant: by way of the host/],
    ['DNS outside', asked({ to: '192.0.2.7', port: 53 }), 'allow', /names of the tenant are answered by its/],
    [
      'DNS of the gateway',
      asked({ to: '20.1.1.254', port: 53 }),
      'allow',
      /asked of the host's resolvers, each as if the container asked it/,
    ],
    [
      'the way out of a network without a gateway',
      asked({ from: 'idle', to: '2001:db8::1' }),
      'allow',
      /network net6 has no gateway of that family/,
    ],
    ['the way in', asked({ from: '192.0.2.7' }), 'deny', /published ports only/],
    ['itself', asked({ from: 'server' }), 'allow', /to itself does not leave it/],
    ['UDP', asked({ protocol: 'udp' }), 'allow', /asked for each packet/],
  ])('says of %s what policy does not', async (_, request, verdict, note) => {
    const { mirror } = await opened();
    const traced = trace(mirror, request);
    expect(traced.verdict).toBe(verdict);
    expect(traced.notes.join('\n')).toMatch(note);
  });
});

describe('the kernels', () => {
  it('are asked on the host of each end for their side, also where nothing judges it', async () => {
    const { mirror } = await opened();
    const questions = openQuestions();
    const heard: object[] = [];
    const attach = (host: string, answer: LiveAnswer) =>
      questions.attach(host, (message) => {
        if (message.type !== 'ask') return;
        heard.push(message.question);
        questions.answer(host, message.id, answer);
      });
    attach('node1', { verdict: 'deny', rule: 'default:prod_web:1', changed: [] });
    attach('node2', { verdict: 'deny', rule: 'default:old:1', changed: [] });
    expect(await askHosts(trace(mirror, asked()), questions)).toEqual([
      {
        host: 'node2',
        direction: 'out',
        agrees: false,
        text: 'differs: the kernel says deny, rule default:old:1 decides; declared is allow, no rule decides',
      },
      { host: 'node1', direction: 'in', agrees: true, text: 'agrees: deny, rule default:prod_web:1 decides' },
    ]);
    const [client, server] = ['20.1.1.3', '20.1.1.2'];
    expect(heard).toEqual([
      { tenant: 'default', direction: 'out', own: client, peer: server, protocol: 6, port: 22 },
      { tenant: 'default', direction: 'in', own: server, peer: client, protocol: 6, port: 22 },
    ]);
  });

  it('are not asked where no rule is: itself, the gateway, what nothing leads to, a container that is not there', async () => {
    const { mirror } = await opened();
    const questions = openQuestions();
    for (const request of [
      asked({ from: 'server' }),
      icmp('client', '20.1.1.254'),
      asked({ to: 'foreign' }),
      asked({ from: 'idle' }),
    ])
      expect(await askHosts(trace(mirror, request), questions)).toEqual([]);
  });

  const side = {
    considered: [],
    verdict: 'deny',
    decides: 'default:p:1',
    group: 'default:web',
    why: '',
  } as const;
  it.each<[LiveAnswer | 'away' | 'silent', boolean, string]>([
    [{ verdict: 'deny', rule: 'default:p:1', changed: [] }, true, 'agrees: deny, rule default:p:1 decides'],
    [
      { verdict: 'allow', rule: '', changed: [] },
      false,
      'differs: the kernel says allow, no rule decides; declared is deny, rule default:p:1 decides',
    ],
    [
      { verdict: 'deny', rule: 'default:p:2', changed: [] },
      false,
      'differs: the kernel says deny, rule default:p:2 decides; declared is deny, rule default:p:1 decides',
    ],
    [
      { verdict: 'deny', rule: 'default:p:1', changed: ['judge_in'] },
      false,
      'differs: its chains are not as they were set up: judge_in',
    ],
    [
      { verdict: 'allow', rule: '', changed: [], problem: 'there is no router of tenant blue' },
      false,
      'differs: there is no router of tenant blue',
    ],
    ['silent', false, 'does not answer within 3 s'],
    ['away', false, 'is not connected to this netmaster'],
  ])('%o', (answer, agrees, text) => {
    expect(compare(side, answer)).toEqual({ agrees, text });
  });
});

describe('between containers of a network of encapsulation direct', () => {
  const SHORT = '192.0.2.2/32';
  const way = async (encap: string, links: readonly (string | undefined)[]): Promise<string> => {
    const network = WORLD.network.map((n) =>
      n.networkName === 'net1' && n.tenantName === 'default' ? { ...n, encap } : n,
    );
    const host = WORLD.host.map((h, i) => ({ ...h, ...(links[i] !== undefined && { link: links[i] }) }));
    const mirror = await openTestMirror({ ...WORLD, network, host });
    return trace(mirror.mirror, asked()).notes.join();
  };
  it('it is said how it goes between hosts', async () => {
    const direct = 'from host node2 to node1 it goes by their link, without a tunnel';
    expect(await way('direct', ['192.0.2.1/24', '192.0.2.2/24'])).toContain(direct);
    expect(await way('direct', ['192.0.2.1/24', undefined])).toContain(direct);
    for (const link of [SHORT, ''])
      expect(await way('direct', ['192.0.2.1/24', link])).toContain(
        'hosts node2 and node1 share no link: it goes by VXLAN',
      );
    expect(await way('vxlan', ['192.0.2.1/24', '192.0.2.2/24'])).not.toMatch(/link/);
  });
});
