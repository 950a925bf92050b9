/** Names in pods: the cluster's, by its nameserver as kubelet tells them of it, and contiv's, by that nameserver too. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { RANGES } from '../lab/kubernetes/files.ts';
import {
  addressesOf,
  apply,
  get,
  inPod,
  kubectl,
  makeNamespace,
  pod,
  podsReady,
  removeNamespace,
} from './kubernetes.ts';
import { docker, inside, lab, netctl, on, until } from './lab.ts';

const SPACE = 'names';
const SERVER = 'netexec --http-port=80';

const service = (name: string, spec: object): Promise<string> =>
  apply(
    JSON.stringify({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: SPACE },
      spec: { selector: { app: 'web' }, ports: [{ port: 80 }], ...spec },
    }),
  );

/** What a program in the pod is answered that looks the name up by its resolv.conf, in order; empty where there is no such name. */
const resolve = async (from: string, name: string): Promise<string> =>
  (await inPod(`${SPACE}/${from}`, 'dig +search +short +tries=2', name)).out
    .split('\n')
    .filter(Boolean)
    .sort()
    .join();
const resolves = (from: string, name: string, expected: readonly string[]): Promise<true> =>
  until(
    `${from} finds ${name}`,
    async () => (await resolve(from, name)) === [...expected].sort().join() || undefined,
  );

beforeAll(async () => {
  await makeNamespace(SPACE);
  const web = { namespace: SPACE, labels: { app: 'web' }, args: SERVER };
  await Promise.all([
    pod('web1', { ...web, node: 'node1', spec: { hostname: 'web1', subdomain: 'headless' } }),
    pod('web2', { ...web, node: 'node2' }),
    pod('client', { namespace: SPACE, node: 'node2' }),
  ]);
  await podsReady(SPACE);
});
afterAll(() => removeNamespace(SPACE));

describe('a pod', () => {
  it('is told of the cluster’s nameserver as Kubernetes has it', async () => {
    const { out } = await inPod(`${SPACE}/client`, 'cat /etc/resolv.conf');
    expect(out.trim().split('\n').sort()).toEqual([
      `nameserver ${RANGES[4].nameserver}`,
      'options ndots:5',
      `search ${SPACE}.svc.cluster.local svc.cluster.local cluster.local`,
    ]);
  });

  it('finds Services by their names: their addresses, their pods where they have none, what they stand for', async () => {
    await service('inside', {});
    await service('headless', { clusterIP: 'None' });
    await service('elsewhere', { type: 'ExternalName', externalName: `inside.${SPACE}.svc.cluster.local` });
    const { spec } = await get<{ spec: { clusterIP: string } }>(`service inside -n ${SPACE}`);
    const [[web1 = ''], [web2 = '']] = [await addressesOf('web1', SPACE), await addressesOf('web2', SPACE)];
    for (const name of ['inside', `inside.${SPACE}`, `inside.${SPACE}.svc.cluster.local`])
      await resolves('client', name, [spec.clusterIP]);
    await resolves('client', 'headless', [web1, web2]);
    await resolves('client', `web1.headless`, [web1]);
    await resolves('client', 'elsewhere', [`inside.${SPACE}.svc.cluster.local.`, spec.clusterIP]);
    await expect
      .poll(async () => (await inPod(`${SPACE}/client`, 'curl -s -m 5 http://inside/hostname')).out)
      .toMatch(/^web[12]$/);
  });

  it('finds groups by their names, with containers of Docker in them, as the cluster’s nameserver is', async () => {
    await netctl('group create pods mixed');
    await docker('node1', 'run -d --name=namesake --net=mixed contiv/lab sleep 100000');
    try {
      const labels = { 'io.contiv.net-group': 'mixed' };
      await pod('member', { namespace: SPACE, node: 'node2', labels });
      await podsReady(SPACE, 'member');
      const [member = ''] = await addressesOf('member', SPACE);
      const [container = ''] = (
        await docker(
          'node1',
          "inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' namesake",
        )
      ).split('\n');
      await resolves('client', 'mixed.pods', [member, container]);
      await expect
        .poll(async () =>
          (await inside('node1', 'namesake', 'dig +short mixed')).out.split('\n').filter(Boolean).sort(),
        )
        .toEqual([member, container].sort());
      await kubectl(`-n ${SPACE} delete pod member --now`);
      await resolves('client', 'mixed.pods', [container]);
    } finally {
      await docker('node1', 'rm -f namesake');
      await until('the group is free', async () => (await on('node1', 'netctl group rm mixed')).status === 0);
    }
  });

  it('of another tenant than the cluster’s nameserver finds the names of its own by dnsPolicy Default', async () => {
    await netctl('tenant create blue');
    await netctl('net create -t blue blues --subnet=10.77.0.0/24 --gateway=10.77.0.254');
    await netctl('group create -t blue blues crew');
    try {
      const labels = { 'io.contiv.tenant': 'blue', 'io.contiv.net-group': 'crew' };
      await pod('blue', { namespace: SPACE, node: 'node1', labels, spec: { dnsPolicy: 'Default' } });
      await podsReady(SPACE, 'blue');
      const [own = ''] = await addressesOf('blue', SPACE);
      await resolves('blue', 'crew.blues', [own]);
    } finally {
      await kubectl(`-n ${SPACE} delete pod blue --now --ignore-not-found`);
      for (const object of ['group rm -t blue crew', 'net rm -t blue blues'])
        await until(`${object}`, async () => (await on('node1', `netctl ${object}`)).status === 0);
      await netctl('tenant rm blue');
    }
  });
});

it('after all that hosts are as declared', async () => {
  await removeNamespace(SPACE);
  const { status, out, err } = await lab('check --wait 60');
  expect([status, out, err].join('\n')).toMatch(/^0\n/);
});
