/** An orchestrator's services, as its controller declares them, with containers of Docker as backends on two hosts. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clear, differences, docker, inside, must, netctl, on, run, until } from './lab.ts';

const ADDRESS = '10.96.0.10';
const NODES = { node1: '192.168.50.11', node2: '192.168.50.12' } as const;
const NODE_PORT = 30_080;
const HEALTH_PORT = 31_000;
const EXTERNAL = '198.51.100.10';
const BACKENDS = { web1: 'node1', web2: 'node2' } as const;
const addresses = new Map<string, string>();

/** The service with these backends ready, and what else is to be so. */
async function declare(
  ready: readonly (keyof typeof BACKENDS)[],
  more: object = {},
  port: object = {},
): Promise<void> {
  const backends = ready.map((name) => ({
    address: addresses.get(name),
    port: 8080,
    host: BACKENDS[name],
    ready: true,
    serving: true,
    terminating: false,
  }));
  const object = {
    kind: 'clusterService',
    namespaceName: 'shop',
    serviceName: 'web',
    tenantName: 'default',
    addresses: [ADDRESS],
    externalAddresses: [EXTERNAL],
    ports: [{ protocol: 6, port: 80, nodePort: NODE_PORT, backends, ...port }],
    ...more,
  };
  await must('node1', 'sh -c', `echo '${JSON.stringify({ objects: [object] })}' | netctl apply -f -`);
}

/** Lines of what answers: its name, then the client that it sees; the error's text where nobody does. */
const ASK = (target: string): string => `socat -t 3 -T 5 - TCP:${target},connect-timeout=3 < /dev/null 2>&1`;
const words = (out: string): string[] => out.trim().replace(/.*: /, '').split(' ');
const ask = async (host: string, target: string): Promise<string[]> =>
  words((await on(host, 'sh -c', ASK(target))).out);
const askFrom = async (container: string, target: string): Promise<string[]> =>
  words((await inside('node1', container, 'sh -c', ASK(target))).out);

/** Who answers, of so many times that none is missed by chance: less than one in a million. */
async function everyone(look: () => Promise<string[]>): Promise<string[]> {
  const found = new Set<string>();
  for (let i = 0; i < 20; i++) found.add((await look())[0] ?? '');
  return [...found].sort();
}

beforeAll(async () => {
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254 --host-access');
  for (const [name, host] of Object.entries(BACKENDS)) {
    addresses.set(name, await run(host, name, 'contiv-net'));
    await docker(
      host,
      `exec -d ${name} socat tcp-listen:8080,fork,reuseaddr`,
      `system:echo ${name} $SOCAT_PEERADDR`,
    );
  }
  await run('node1', 'client', 'contiv-net');
  for (const [name, host] of Object.entries(BACKENDS))
    await until(`${name} listens`, async () => (await ask(host, `${addresses.get(name)}:8080`))[0] === name);
});
afterAll(async () => {
  await must('node1', 'sh -c', 'curl -s -X DELETE $NETMASTER/api/v1/clusterServices/shop:web/');
  await clear();
});

describe('the hosts', () => {
  it('have an address of their own in the network, and reach containers here and elsewhere', async () => {
    for (const host of Object.keys(NODES))
      for (const name of Object.keys(BACKENDS))
        expect((await ask(host, `${addresses.get(name)}:8080`))[0]).toBe(name);
    expect(await differences()).toBe('');
  });
});

describe('a service', () => {
  it('is reached at its address from containers and hosts', async () => {
    await declare(['web1', 'web2']);
    expect(await everyone(() => askFrom('client', `${ADDRESS}:80`))).toEqual(['web1', 'web2']);
    for (const host of Object.keys(NODES))
      expect(await everyone(() => ask(host, `${ADDRESS}:80`)), host).toEqual(['web1', 'web2']);
    expect(await differences()).toBe('');
  });

  it('is reached by its node port at every host, from outside, from hosts and from containers', async () => {
    for (const from of ['outside', ...Object.keys(NODES)])
      for (const node of Object.values(NODES))
        expect(await everyone(() => ask(from, `${node}:${NODE_PORT}`)), `${from} ${node}`).toEqual([
          'web1',
          'web2',
        ]);
    for (const node of Object.values(NODES))
      expect(await everyone(() => askFrom('client', `${node}:${NODE_PORT}`)), node).toEqual(['web1', 'web2']);
  });

  it('is reached at an external address, from inside and where that is routed to a host', async () => {
    expect(await everyone(() => askFrom('client', `${EXTERNAL}:80`))).toEqual(['web1', 'web2']);
    await must('outside', `ip route replace ${EXTERNAL}/32 via ${NODES.node2}`);
    try {
      expect(await everyone(() => ask('outside', `${EXTERNAL}:80`))).toEqual(['web1', 'web2']);
    } finally {
      await must('outside', `ip route del ${EXTERNAL}/32`);
    }
  });

  it('refuses at once where nobody is ready, everywhere', async () => {
    await declare([]);
    expect(await askFrom('client', `${ADDRESS}:80`)).toEqual(['Connection', 'refused']);
    expect(await askFrom('client', `${EXTERNAL}:80`)).toEqual(['Connection', 'refused']);
    for (const host of Object.keys(NODES))
      expect(await ask(host, `${ADDRESS}:80`)).toEqual(['Connection', 'refused']);
    expect(await ask('outside', `${NODES.node1}:${NODE_PORT}`)).toEqual(['Connection', 'refused']);
  });

  it('that keeps clients’ addresses answers where it has backends, and its health check says where', async () => {
    await declare(['web2'], { externalTraffic: 'local', healthCheckNodePort: HEALTH_PORT });
    const [name, client] = await ask('outside', `${NODES.node2}:${NODE_PORT}`);
    expect(name).toBe('web2');
    expect(client).toMatch(/^192\.168\.50\./);
    expect(Object.values(NODES)).not.toContain(client);
    expect(await ask('outside', `${NODES.node1}:${NODE_PORT}`)).not.toContain('web2');
    const health = (node: string) =>
      must('outside', `curl -s -w`, ' %{http_code}', `http://${node}:${HEALTH_PORT}/healthz`);
    await expect
      .poll(() => health(NODES.node2))
      .toBe(
        '{"service":{"namespace":"shop","name":"web"},"localEndpoints":1,"serviceProxyHealthy":true} 200',
      );
    await expect
      .poll(() => health(NODES.node1))
      .toContain('"localEndpoints":0,"serviceProxyHealthy":true} 503');
  });

  it('holds its node port: Docker does not publish it', async () => {
    const { status, err } = await on(
      'node1',
      `docker run --rm --net=contiv-net -p ${NODE_PORT}:80 contiv/lab true`,
    );
    expect(status).not.toBe(0);
    expect(err).toContain(`${NODE_PORT}`);
    await docker('node1', 'ps -aq');
  });

  it('goes with its declaration', async () => {
    await must('node1', 'sh -c', 'curl -s -X DELETE $NETMASTER/api/v1/clusterServices/shop:web/');
    for (const host of Object.keys(NODES))
      await expect.poll(() => must(host, 'ip route'), { message: host }).not.toContain(ADDRESS);
    expect(await differences()).toBe('');
  });
});
