/** NetworkPolicies in the real tables: what is compiled of them, and packets between namespaces. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { clean } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { localHost, type PolicyWorld, viewOf } from '../../../test/policySimulator.ts';
import { probe } from '../../../test/probe.ts';
import { forgetConnections } from '../../linux/conntrack.ts';
import { close, received } from '../../linux/libc.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../linux/netlink.ts';
import { bindPort, createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import type { NetworkPolicy } from '../../model/networkPolicy.ts';
import { judge, type Packet } from '../../model/verdict.ts';
import type { Workload } from '../../model/workload.ts';
import { openCompiler } from '../compile/compile.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { HostState } from '../state.ts';
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

const TENANT = 'default';
const NAMES = ['web', 'db', 'cache', 'client'] as const;
type Name = (typeof NAMES)[number];
const v4 = (name: Name): string => `20.1.1.${10 + NAMES.indexOf(name)}`;
const v6 = (name: Name): string => `fd00:1::${10 + NAMES.indexOf(name)}`;
const box = (name: string): string => `box-${name}`;
const inBox = <T>(name: Name, use: () => T): T => inNamespace(namespacePath(box(name)), use);

const pod = (name: Name, more: Partial<Workload> = {}): Workload => ({
  namespaceName: name === 'client' ? 'outside' : 'shop',
  workloadName: name,
  uid: `uid-${name}`,
  tenantName: TENANT,
  networkName: 'net1',
  labels: { app: name },
  namespaceLabels: { 'kubernetes.io/metadata.name': name === 'client' ? 'outside' : 'shop' },
  ports: name === 'web' ? [{ name: 'http', protocol: 6, port: 8080 }] : [],
  ...more,
});

const policy = (policyName: string, more: Partial<NetworkPolicy>): NetworkPolicy => ({
  tier: 'namespace',
  namespaceName: 'shop',
  policyName,
  subject: {},
  isolates: ['in'],
  rules: [],
  ...more,
});
/** Of tiers admin and baseline. */
const clusterPolicy = (policyName: string, more: Partial<NetworkPolicy>): NetworkPolicy => {
  const { isolates: _, ...rest } = policy(policyName, { namespaceName: '', priority: 10, ...more });
  return rest;
};

const worldWith = (
  networkPolicies: readonly NetworkPolicy[],
  pods = NAMES.map((name) => pod(name)),
): PolicyWorld => ({
  networks: [{ tenantName: TENANT, networkName: 'net1', subnet: '20.1.1.0/24', ipv6Subnet: 'fd00:1::/64' }],
  groups: [],
  policies: [],
  rules: [],
  endpoints: NAMES.map((name, i) => ({
    endpointID: name,
    tenantName: TENANT,
    networkName: 'net1',
    ipAddress: [v4(name), v6(name)],
    macAddress: `02:02:14:01:01:0${i}`,
    homingHost: 'node1',
    status: 'running',
    workload: `${name === 'client' ? 'outside' : 'shop'}:${name}`,
    workloadUid: `uid-${name}`,
  })),
  workloads: pods,
  networkPolicies,
});

/** Makes all of it; answers how to change the world. */
function build(world: PolicyWorld) {
  const applier = openApplier();
  const compiler = openCompiler();
  const view = viewOf(world) as ReturnType<typeof viewOf> & { put(object: object): void };
  const apply = (joined: boolean, verify = false) => {
    const local = localHost(world, 'node1');
    const phase = joined ? ('joined' as const) : ('joining' as const);
    const attachments = new Map([...local.attachments].map(([id, a]) => [id, { ...a, phase }]));
    const state: HostState = compiler.compile(view, { ...local, attachments });
    const report = applier.apply(state, { verify });
    expect(report.failed).toEqual([]);
    return { state, report };
  };
  for (const port of apply(false).state.routers[0]?.ports ?? []) {
    const at = box(port.endpoint);
    createNamespace(at);
    sh(`ip link set ${port.peer} netns ${at} name eth0`);
    inNamespace(namespacePath(at), () => {
      sh('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 up');
      for (const address of port.addresses)
        sh(`ip addr add ${address} dev eth0 ${address.includes(':') ? 'nodad' : ''}`);
      sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
      sh(`ip -6 route add ${NAMESERVER6} dev eth0; ip -6 route add default via ${NAMESERVER6}`);
    });
  }
  const put = (kind: string, key: string, object: object | null): void =>
    view.put({ kind, key, object } as object);
  return {
    apply,
    put,
    setPolicies(policies: readonly NetworkPolicy[]): void {
      for (const p of [...view.networkPolicies]) put('networkPolicy', keyOf(p), null);
      for (const p of policies) put('networkPolicy', keyOf(p), p);
    },
    setPod: (p: Workload) => put('workload', `${p.namespaceName}:${p.workloadName}`, p),
  };
}
const keyOf = (p: NetworkPolicy): string => `${p.tier}:${p.namespaceName}:${p.policyName}`;

const PORTS = [79, 80, 81, 8079, 8080, 8500, 9000, 9001];
const packets = (): Packet[] =>
  NAMES.flatMap((a) =>
    NAMES.flatMap((b) =>
      a === b
        ? []
        : [v4, v6].flatMap((at) => [
            ...PORTS.map((port) => ({ from: at(a), to: at(b), protocol: 6, port })),
            { from: at(a), to: at(b), protocol: 17, port: 8080 },
            ...[7, 80, 8080].map((port) => ({ from: at(a), to: at(b), protocol: 132, port })),
            { from: at(a), to: at(b), protocol: at === v6 ? 58 : 1 },
          ]),
    ),
  );
const namespaceOf = (address: string): string =>
  namespacePath(box(NAMES.find((name) => [v4(name), v6(name)].includes(address)) ?? ''));

const SELECTS = (app: string) => ({ workloads: { matchLabels: { app } } });
const SHOP = { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } };
const CASES: Readonly<Record<string, readonly NetworkPolicy[]>> = {
  'default deny of both directions': [policy('deny', { isolates: ['in', 'out'] })],
  'peers by labels and namespaces': [
    policy('db', {
      subject: SELECTS('db'),
      rules: [
        {
          direction: 'in',
          action: 'accept',
          peers: [
            { namespaces: SHOP, ...SELECTS('web') },
            {
              namespaces: {
                matchExpressions: [
                  { key: 'kubernetes.io/metadata.name', operator: 'NotIn', values: ['shop'] },
                ],
              },
            },
          ],
          ports: [{ protocol: 6, port: 80 }],
        },
      ],
    }),
  ],
  'a prefix without others, also of what are pods': [
    policy('block', {
      rules: [
        {
          direction: 'in',
          action: 'accept',
          peers: [
            { prefix: '20.1.0.0/16', except: [`${v4('db')}/32`] },
            { prefix: 'fd00:1::/64', except: [`${v6('cache')}/127`] },
          ],
        },
      ],
    }),
  ],
  'ranges of ports': [
    policy('range', {
      rules: [
        {
          direction: 'in',
          action: 'accept',
          ports: [
            { protocol: 6, port: 8080, endPort: 9000 },
            { protocol: 17, port: 1, endPort: 65535 },
          ],
        },
        {
          direction: 'in',
          action: 'accept',
          peers: [SELECTS('web')],
          ports: [{ protocol: 6, port: 80, endPort: 81 }],
        },
      ],
    }),
  ],
  'ports by name, of its own and of peers': [
    policy('named', {
      isolates: ['in', 'out'],
      rules: [
        { direction: 'in', action: 'accept', ports: [{ protocol: 6, name: 'http' }] },
        { direction: 'out', action: 'accept', ports: [{ protocol: 6, name: 'http' }] },
      ],
    }),
  ],
  'ports of SCTP, and of others the same numbers': [
    policy('sctp', {
      rules: [
        {
          direction: 'in',
          action: 'accept',
          ports: [
            { protocol: 132, port: 7 },
            { protocol: 132, port: 8000, endPort: 9000 },
            { protocol: 6, port: 80 },
          ],
        },
      ],
    }),
  ],
  'all tiers': [
    clusterPolicy('first', {
      tier: 'admin',
      subject: { namespaces: SHOP },
      rules: [
        { direction: 'in', action: 'pass', peers: [SELECTS('web')] },
        { direction: 'in', action: 'deny', ports: [{ protocol: 6, port: 80 }] },
        { direction: 'in', action: 'accept', ports: [{ protocol: 6, port: 81 }] },
      ],
    }),
    policy('db', {
      subject: SELECTS('db'),
      rules: [{ direction: 'in', action: 'accept', ports: [{ protocol: 6, port: 8500, endPort: 9000 }] }],
    }),
    clusterPolicy('last', {
      tier: 'baseline',
      rules: [
        { direction: 'in', action: 'accept', peers: [SELECTS('client')] },
        { direction: 'in', action: 'deny', peers: [{}] },
      ],
    }),
  ],
};

describe('the kernel judges as NetworkPolicies are defined', () => {
  it('in each of these, one after the other in the same router, and finds no drift', async () => {
    const built = build(worldWith([]));
    for (const [what, policies] of Object.entries(CASES)) {
      built.setPolicies(policies);
      built.apply(true);
      inNamespace(namespacePath('contiv-default'), forgetAll);
      const world = worldWith(policies);
      const asked = packets();
      const through = await probe(asked, namespaceOf, 1500);
      const wrong = asked.flatMap((packet, i) => {
        const { verdict } = judge(world, packet);
        return (verdict === 'allow') === through[i] ? [] : [{ ...packet, wanted: verdict }];
      });
      expect(wrong, what).toEqual([]);
      expect(new Set(through).size, what).toBe(what.startsWith('default deny') ? 1 : 2);
      expect(built.apply(true, true).report, what).toMatchObject({ repaired: [], writes: 0 });
    }
  }, 180_000);
});

/** A ping that passed is a connection for a while: the next one of its number would pass, too. */
function forgetAll(): void {
  const netfilter = openNetlink(NETLINK_NETFILTER);
  forgetConnections(netfilter, () => true);
  netfilter.close();
}

const SENDER = path.join(import.meta.dirname, '../../../test/twoProcessors.ts');
const PORT = 9000;
const LONGEST = 120;

function flood(from: Name, to: Name, address: (name: Name) => string): void {
  const args = [
    '--disable-warning=ExperimentalWarning',
    SENDER,
    address(from),
    address(to),
    `${PORT}`,
    `${LONGEST}`,
  ];
  const child = inBox(from, () => spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] }));
  running.push(child);
}

const buffer = Buffer.alloc(64);
function drained(fd: number): number {
  let count = 0;
  while (typeof received(fd, buffer) === 'number') count++;
  return count;
}
const listen = (name: Name, address: string): number => {
  const fd = inBox(name, () => bindPort('udp', address, PORT, { nonblocking: true }));
  open.push(fd);
  return fd;
};

describe('a flow that nobody answers, sent by two processors', () => {
  const onlyFriends = policy('friends', {
    subject: SELECTS('db'),
    rules: [
      {
        direction: 'in',
        action: 'accept',
        peers: [{ workloads: { matchLabels: { friend: 'yes' } } }],
        ports: [{ protocol: 17, port: 8000, endPort: 10_000 }],
      },
    ],
  });
  const web = (friend: boolean): Workload =>
    pod('web', { labels: { app: 'web', ...(friend && { friend: 'yes' }) } });

  it('passes as long as its sender has the label, and not once when a change of labels has been applied', async () => {
    const built = build(worldWith([onlyFriends]));
    built.setPod(web(true));
    built.apply(true);
    const fds = [listen('db', v4('db')), listen('db', v6('db'))];
    for (const address of [v4, v6]) flood('web', 'db', address);
    const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));
    for (let round = 0; round < 5; round++) {
      for (const fd of fds) await expect.poll(() => drained(fd), { timeout: 20_000 }).toBeGreaterThan(0);
      built.setPod(web(false));
      built.apply(true);
      await pause(200); // what was let through before
      for (const fd of fds) drained(fd);
      await pause(1000);
      expect(fds.map(drained)).toEqual([0, 0]);
      built.setPod(web(true));
      built.apply(true);
    }
  }, 120_000);

  it('does not pass while labels of both ends change again and again, none of which allows it', async () => {
    const built = build(worldWith([onlyFriends]));
    built.apply(true);
    const fd = listen('db', v4('db'));
    flood('web', 'db', v4);
    const denied = (): boolean =>
      /packets [1-9]/.test(
        inNamespace(namespacePath('contiv-default'), () => sh('nft list set inet contiv hits')),
      );
    await expect.poll(denied, { timeout: 20_000 }).toBe(true);
    for (let i = 0; i < 60; i++) {
      built.setPod(pod('web', { labels: { app: 'web', round: `${i}` } }));
      if (i % 2 === 0) built.setPod(pod('db', { labels: { app: 'db', round: `${i}` } }));
      // The rule sets of the policy become others, and so does the table when there is no range of ports any more.
      built.setPolicies(
        [
          i % 3 === 0
            ? onlyFriends
            : policy(`friends-${i % 5}`, {
                subject: SELECTS('db'),
                rules: [{ direction: 'in', action: 'accept', peers: [SELECTS('cache')] }],
              }),
          policy('friends', { subject: SELECTS('db') }),
        ].slice(0, i % 3 === 0 ? 1 : 2),
      );
      built.apply(true);
    }
    expect(drained(fd)).toBe(0);
  }, 120_000);
});
