/** Services of a real cluster, which has no kube-proxy until the last of these tests: who answers, asked by pods, by nodes and from outside. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AGNHOST,
  addressesOf,
  apply,
  get,
  inPod,
  kubectl,
  makeNamespace,
  type PodOptions,
  pod,
  podsReady,
  removeNamespace,
} from './kubernetes.ts';
import { lab, must, mustLab, on, until } from './lab.ts';

const SPACE = 'services';
const NODES = { node1: '192.168.50.11', node2: '192.168.50.12' } as const;
const HOSTS = Object.keys(NODES);
const SERVER = 'netexec --http-port=80 --udp-port=53';
/** Where a test routes it, outside reaches it by a node. */
const EXTERNAL = '198.51.100.40';
const BOTH = ['web1', 'web2'];
const ZONE = 'topology.kubernetes.io/zone';
const REFUSED = ['refused'];
const SILENT = ['silent'];

type Protocol = 'TCP' | 'UDP';

/** One line a time: who answered, or how nobody did. */
const ASK: Readonly<Record<Protocol, string>> = {
  TCP: 'curl -s -m 3 http://$0/$2; case $? in 0) echo;; 7) echo refused;; *) echo silent;; esac',
  // One datagram each way: dd ends with the first.
  UDP: `exec 3<>/dev/udp/\${0%:*}/\${0##*:}; echo $2 >&3; answer=$(timeout 3 dd bs=512 count=1 <&3 2>/dev/null)
    case $?:$answer in 0:?*) echo "$answer";; 1:*) echo refused;; *) echo silent;; esac`,
};

/** All that was answered, each once. Twenty times miss one of two in one of a million. */
async function ask(
  from: string,
  target: string,
  { protocol = 'TCP' as Protocol, times = 1, what = 'hostname' } = {},
): Promise<string[]> {
  const script = `for i in $(seq $1); do ${ASK[protocol]}; done`;
  const words = [target, String(times), what];
  const { out } =
    from === 'outside' || HOSTS.includes(from)
      ? await on(from, 'bash -c', script, ...words)
      : await inPod(`${SPACE}/${from}`, 'bash -c', script, ...words);
  return [...new Set(out.trim().split('\n'))].sort();
}

/** What is declared is carried out soon, and then holds. */
async function answers(
  from: string,
  target: string,
  expected: readonly string[],
  protocol: Protocol = 'TCP',
): Promise<void> {
  const times = expected.length > 1 ? 20 : 1;
  const wanted = expected.join();
  let found: string[] = [];
  await until(
    `${from}, of ${protocol} ${target}, hears ${wanted}`,
    async () => {
      found = await ask(from, target, { protocol, times });
      return found.join() === wanted;
    },
    30,
  ).catch((error) => {
    throw new Error(`${error.message}, but ${found.join()}`);
  });
}

/** Of all that may answer, this one does each time. */
const always = (from: string, target: string, who: string): Promise<true> =>
  until(
    `${from}, of ${target}, hears ${who} alone`,
    async () => (await ask(from, target, { times: 20 })).join() === who,
  ) as Promise<true>;
/** Who is on the node of whom. */
const NEAR = { client: 'web1', node1: 'web1', other: 'web2', node2: 'web2' } as const;

interface Declared {
  readonly spec: { clusterIP: string; healthCheckNodePort?: number; ports?: { nodePort?: number }[] };
}

const PORTS = [
  { name: 'web', protocol: 'TCP', port: 8080, targetPort: 'http' },
  { name: 'names', protocol: 'UDP', port: 8053, targetPort: 53 },
];

/** Answers its address, and its ports at nodes in the order of PORTS. */
async function service(
  name: string,
  spec: object,
): Promise<{ address: string; tcp: number; udp: number; health: number }> {
  const object = { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: SPACE } };
  await apply(JSON.stringify({ ...object, spec: { selector: { app: 'web' }, ports: PORTS, ...spec } }));
  const declared = (await get<Declared>(`service ${name} -n ${SPACE}`)).spec;
  const [tcp = 0, udp = 0] = (declared.ports ?? []).map(({ nodePort }) => nodePort);
  return { address: declared.clusterIP, tcp, udp, health: declared.healthCheckNodePort ?? 0 };
}

const server = (name: string, options: PodOptions): Promise<void> =>
  pod(name, {
    namespace: SPACE,
    args: SERVER,
    ports: [{ name: 'http', containerPort: 80 }],
    ...options,
  });

/** Outside sends what is for the address to the node. */
async function routed(node: keyof typeof NODES, use: () => Promise<void>): Promise<void> {
  await must('outside', `ip route replace ${EXTERNAL}/32 via ${NODES[node]}`);
  try {
    await use();
  } finally {
    await must('outside', `ip route del ${EXTERNAL}/32`);
  }
}

beforeAll(async () => {
  await makeNamespace(SPACE);
  await Promise.all([
    server('web1', { node: 'node1', labels: { app: 'web', one: 'web1' } }),
    server('web2', { node: 'node2', labels: { app: 'web', one: 'web2' } }),
    pod('client', { namespace: SPACE, node: 'node1' }),
    pod('other', { namespace: SPACE, node: 'node2' }),
  ]);
  await podsReady(SPACE);
});
afterAll(() => removeNamespace(SPACE));

describe('a Service', () => {
  it('is reached at its ClusterIP by pods and nodes, over TCP and UDP', async () => {
    const { address } = await service('inside', {});
    for (const from of ['client', 'other', ...HOSTS]) {
      await answers(from, `${address}:8080`, BOTH);
      await answers(from, `${address}:8053`, BOTH, 'UDP');
    }
  });

  it('is reached at its port of each node, from outside, by nodes and by pods', async () => {
    const { tcp, udp } = await service('nodes', { type: 'NodePort' });
    for (const from of ['outside', 'client', ...HOSTS])
      for (const node of Object.values(NODES)) {
        await answers(from, `${node}:${tcp}`, BOTH);
        await answers(from, `${node}:${udp}`, BOTH, 'UDP');
      }
  });

  it('is reached at its external addresses, from inside and where they are routed to a node', async () => {
    await service('external', { externalIPs: [EXTERNAL] });
    for (const from of ['client', 'node2']) await answers(from, `${EXTERNAL}:8080`, BOTH);
    await routed('node2', async () => {
      await answers('outside', `${EXTERNAL}:8080`, BOTH);
      await answers('outside', `${EXTERNAL}:8053`, BOTH, 'UDP');
    });
    await kubectl(`-n ${SPACE} delete service external`);
  });

  it('leads a pod to itself, who sees another address than its own', async () => {
    const { address } = await service('hairpin', { selector: { one: 'web1' } });
    await answers('web1', `${address}:8080`, ['web1']);
    await answers('web1', `${address}:8053`, ['web1'], 'UDP');
    const [own = ''] = await addressesOf('web1', SPACE);
    expect((await ask('web1', `${address}:8080`, { what: 'clientip' }))[0]).not.toContain(own);
  });

  it('with sessionAffinity leads a client to the same pod each time, until that is gone', async () => {
    const { address, tcp } = await service('sticky', { type: 'NodePort', sessionAffinity: 'ClientIP' });
    for (const [from, target] of [
      ['client', `${address}:8080`],
      ['node2', `${address}:8080`],
      ['outside', `${NODES.node1}:${tcp}`],
    ] as const) {
      await until('somebody answers', async () => BOTH.includes((await ask(from, target))[0] ?? ''));
      expect((await ask(from, target, { times: 20 })).length, from).toBe(1);
    }
    const [kept = ''] = await ask('client', `${address}:8080`);
    const [other = ''] = BOTH.filter((name) => name !== kept);
    await kubectl(`-n ${SPACE} label pod ${kept} app-`);
    try {
      await answers('client', `${address}:8080`, [other]);
    } finally {
      await kubectl(`-n ${SPACE} label pod ${kept} app=web --overwrite`);
    }
    expect(await ask('client', `${address}:8080`, { times: 20 })).toEqual([other]);
  });

  it('without endpoints refuses at once, over TCP and UDP', async () => {
    const { address, tcp, udp } = await service('empty', { type: 'NodePort', selector: { app: 'nobody' } });
    for (const from of ['client', ...HOSTS]) {
      await answers(from, `${address}:8080`, REFUSED);
      await answers(from, `${address}:8053`, REFUSED, 'UDP');
    }
    for (const node of Object.values(NODES)) {
      await answers('outside', `${node}:${tcp}`, REFUSED);
      await answers('outside', `${node}:${udp}`, REFUSED, 'UDP');
    }
  });

  it('that is headless, or a name only, is not ours to answer: its pods are reached as they are', async () => {
    await service('headless', { clusterIP: 'None' });
    await service('elsewhere', {
      type: 'ExternalName',
      externalName: 'example.com',
      selector: undefined,
      ports: undefined,
    });
    await service('known', {});
    const known = async (): Promise<string[]> =>
      JSON.parse(await must('node1', 'sh -c', 'curl -s $NETMASTER/api/v1/clusterServices/'))
        .filter((s: { namespaceName: string }) => s.namespaceName === SPACE)
        .map((s: { serviceName: string }) => s.serviceName);
    await until('the one behind them', async () => (await known()).includes('known'));
    expect(await known()).not.toContain('headless');
    expect(await known()).not.toContain('elsewhere');
    const [web1] = await addressesOf('web1', SPACE);
    expect(await ask('client', `${web1}:80`)).toEqual(['web1']);
  });

  it('with externalTrafficPolicy Local answers at nodes that have endpoints, keeps the client’s address, and says where it is healthy', async () => {
    const { tcp, udp, health } = await service('local', {
      type: 'LoadBalancer',
      externalTrafficPolicy: 'Local',
      selector: { one: 'web2' },
    });
    await answers('outside', `${NODES.node2}:${tcp}`, ['web2']);
    await answers('outside', `${NODES.node2}:${udp}`, ['web2'], 'UDP');
    await answers('outside', `${NODES.node1}:${tcp}`, SILENT);
    expect((await ask('outside', `${NODES.node2}:${tcp}`, { what: 'clientip' }))[0]).toMatch(
      /^192\.168\.50\.1:/,
    );
    const healthAt = async (node: string): Promise<string> =>
      (
        await on('outside', `curl -s -m 3 -w`, ' %{http_code}', `http://${node}:${health}/healthz`)
      ).out.replace(/.*"localEndpoints":/, '');
    await until('node2 is healthy', async () => (await healthAt(NODES.node2)).startsWith('1,'));
    expect(await healthAt(NODES.node2)).toMatch(/ 200$/);
    expect(await healthAt(NODES.node1)).toMatch(/^0,.* 503$/);
    const status = { status: { loadBalancer: { ingress: [{ ip: EXTERNAL }] } } };
    await kubectl(
      `-n ${SPACE} patch service local --subresource=status --type=merge -p`,
      JSON.stringify(status),
    );
    await answers('client', `${EXTERNAL}:8080`, ['web2']);
    await routed('node2', () => answers('outside', `${EXTERNAL}:8080`, ['web2']));
    await kubectl(`-n ${SPACE} delete service local`);
  });

  it('with internalTrafficPolicy Local leads pods and nodes to their own node, and is silent where that has none', async () => {
    const near = await service('near', { internalTrafficPolicy: 'Local' });
    for (const [from, own] of Object.entries(NEAR)) await always(from, `${near.address}:8080`, own);
    const far = await service('far', {
      type: 'NodePort',
      internalTrafficPolicy: 'Local',
      selector: { one: 'web2' },
    });
    for (const from of ['other', 'node2']) {
      await answers(from, `${far.address}:8080`, ['web2']);
      await answers(from, `${far.address}:8053`, ['web2'], 'UDP');
    }
    for (const from of ['client', 'node1']) {
      await answers(from, `${far.address}:8080`, SILENT);
      await answers(from, `${far.address}:8053`, SILENT, 'UDP');
    }
    // It says nothing of who comes from outside.
    await answers('outside', `${NODES.node1}:${far.tcp}`, ['web2']);
  });

  it.each(['PreferSameZone', 'PreferSameNode', 'PreferClose'])(
    'with trafficDistribution %s leads to who is near, and elsewhere where nobody is',
    async (trafficDistribution) => {
      // Zones that are their nodes.
      if (trafficDistribution !== 'PreferSameNode')
        for (const node of HOSTS) await kubectl(`label node ${node} ${ZONE}=${node} --overwrite`);
      try {
        const { address } = await service('preferring', { trafficDistribution });
        for (const [from, own] of Object.entries(NEAR)) await always(from, `${address}:8080`, own);
        await kubectl(`-n ${SPACE} label pod web1 app-`);
        for (const from of Object.keys(NEAR)) await always(from, `${address}:8080`, 'web2');
        await kubectl(`-n ${SPACE} label pod web1 app=web`);
        await always('client', `${address}:8080`, 'web1');
      } finally {
        await kubectl(`-n ${SPACE} label pod web1 app=web --overwrite`);
        await kubectl(`-n ${SPACE} delete service preferring`);
        for (const node of HOSTS) await kubectl(`label node ${node} ${ZONE}-`);
      }
    },
  );

  it('leads to pods that are not ready only where it publishes them', async () => {
    const container = {
      name: 'main',
      image: AGNHOST,
      args: SERVER.split(' '),
      ports: [{ name: 'http', containerPort: 80 }],
      readinessProbe: { exec: { command: ['false'] } },
    };
    await server('unready', { labels: { one: 'unready' }, spec: { containers: [container] } });
    const selector = { one: 'unready' };
    const shy = await service('shy', { selector });
    const early = await service('early', { selector, publishNotReadyAddresses: true });
    await answers('client', `${early.address}:8080`, ['unready']);
    await answers('client', `${shy.address}:8080`, REFUSED);
    await kubectl(`-n ${SPACE} delete pod unready --grace-period=0 --force`);
  });

  it('leads to pods that end while they are its only ones, and not to those beside others', async () => {
    const args = `${SERVER} --delay-shutdown=60`;
    const spec = { terminationGracePeriodSeconds: 60 };
    await server('ending', { labels: { one: 'ending', pair: 'yes' }, args, spec });
    await server('staying', { labels: { pair: 'yes' } });
    await podsReady(SPACE, 'ending', 'staying');
    const alone = await service('alone', { selector: { one: 'ending' } });
    const pair = await service('pair', { selector: { pair: 'yes' } });
    await answers('client', `${alone.address}:8080`, ['ending']);
    await answers('client', `${pair.address}:8080`, ['ending', 'staying']);
    await kubectl(`-n ${SPACE} delete pod ending --wait=false`);
    await answers('client', `${pair.address}:8080`, ['staying']);
    expect(await ask('client', `${pair.address}:8080`, { times: 20 })).toEqual(['staying']);
    expect(await ask('client', `${alone.address}:8080`, { times: 5 })).toEqual(['ending']);
    await kubectl(`-n ${SPACE} delete pod ending --grace-period=0 --force`);
    await answers('client', `${alone.address}:8080`, REFUSED);
  });

  it('is reached as before with kube-proxy beside, and after it', async () => {
    const { address, tcp, udp } = await service('beside', { type: 'NodePort', externalIPs: [EXTERNAL] });
    const empty = await service('empty', { type: 'NodePort', selector: { app: 'nobody' } });
    const all = async (): Promise<void> => {
      for (const from of ['client', ...HOSTS]) {
        await answers(from, `${address}:8080`, BOTH);
        await answers(from, `${address}:8053`, BOTH, 'UDP');
        await answers(from, `${NODES.node2}:${tcp}`, BOTH);
      }
      for (const node of Object.values(NODES)) {
        await answers('outside', `${node}:${tcp}`, BOTH);
        await answers('outside', `${node}:${udp}`, BOTH, 'UDP');
        await answers('outside', `${node}:${empty.tcp}`, REFUSED);
      }
      await answers('client', `${empty.address}:8080`, REFUSED);
      await routed('node1', () => answers('outside', `${EXTERNAL}:8080`, BOTH));
    };
    try {
      for (const node of HOSTS) await mustLab(`start kube-proxy ${node}`);
      for (const node of HOSTS)
        await until('its table', async () =>
          (await on(node, 'nft list table ip kube-proxy')).out.includes(address),
        );
      await all();
    } finally {
      for (const node of HOSTS) {
        await mustLab(`kill kube-proxy ${node}`);
        for (const family of ['ip', 'ip6'])
          await must(node, 'nft', `add table ${family} kube-proxy; delete table ${family} kube-proxy`);
      }
    }
    await answers('outside', `${NODES.node1}:${tcp}`, BOTH);
  });
});

it('after all that hosts are as declared', async () => {
  await removeNamespace(SPACE);
  const { status, out, err } = await lab('check --wait 60');
  expect([status, out, err].join('\n')).toMatch(/^0\n/);
});
