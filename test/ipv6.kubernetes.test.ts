/**
 * A cluster of IPv6 alone, in a lab of its own beside the one of the other tests: hosts, pods and Services have no other address. Tunnels, etcd, netmaster
 * and the API server go by it too.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WORLD6 } from '../lab/hosts.ts';
import { hostAddress6 } from '../lab/state.ts';
import { openAsking, WEB } from './asking.ts';
import { AGNHOST, openKubernetes } from './kubernetes.ts';
import { type Background, LAB, openLab, until } from './lab.ts';
import { openPackaged } from './packaged.ts';

const NAME = `${LAB.slice(-10)}k6`;
const { mustLab, lab, must, on, netctl, differences, background } = openLab(NAME);
const { kubectl, get, makeNamespace, pod, podsReady, inPod, networkSuite, nodesReady, removeNamespace } =
  openKubernetes(NAME);

const SPACE = 'six';
const NODES = { node1: hostAddress6(1), node2: hostAddress6(2) } as const;
const HOSTS = Object.keys(NODES) as (keyof typeof NODES)[];
const { ask, askByUdp, becomes, server, policy, service, addresses } = openAsking(NAME, SPACE);
const one = async (name: string): Promise<string> => (await addresses(name))[0] as string;

let world: Background | undefined;
beforeAll(async () => {
  await mustLab('down');
  await mustLab('up --quiet --kubernetes --families 6');
  world = background(
    'outside',
    'sh -c',
    'mkdir /run/world && echo world > /run/world/hostname && exec busybox httpd -f -p [::]:80 -h /run/world',
  );
  await makeNamespace(SPACE);
  await Promise.all([
    server('web', { node: 'node1', labels: { app: 'web' } }),
    server('far', { node: 'node2', labels: { app: 'far' } }),
    pod('client', { namespace: SPACE, node: 'node1' }),
    pod('other', { namespace: SPACE, node: 'node2' }),
  ]);
  await podsReady(SPACE);
}, 600_000);
afterEach(() => kubectl(`-n ${SPACE} delete networkpolicy,service --all`));
afterAll(async () => {
  await world?.end();
  if (process.env.KEEP_LAB === undefined) await lab('down');
});

describe('a cluster of IPv6 alone', () => {
  it('has nodes, pods and Services with no other address', async () => {
    const { items } = await get<{ items: { status: { addresses: { type: string; address: string }[] } }[] }>(
      'nodes',
    );
    const internal = items.flatMap(({ status }) =>
      status.addresses.filter(({ type }) => type === 'InternalIP').map(({ address }) => address),
    );
    expect(internal.sort()).toEqual(Object.values(NODES));
    for (const name of ['web', 'far', 'client', 'other'])
      expect(await addresses(name)).toEqual([expect.stringMatching(/^fd32::/)]);
    for (const has of [
      (await inPod(`${SPACE}/web`, 'ip -4 -o addr show scope global')).out,
      await must('node1', 'ip -4 -o addr show dev eth0'),
    ])
      expect(has.trim()).toBe('');
    expect(await kubectl('get services -A', '-o', 'jsonpath={.items[*].spec.clusterIPs}')).toMatch(
      /^(?:\["fd96::[0-9a-f]+"\] ?)+$/,
    );
  });

  it('has pods reach each other, their nodes them, and they the world and the API server', async () => {
    for (const [name, address] of [
      ['web', await one('web')],
      ['far', await one('far')],
    ] as const)
      for (const from of ['client', 'other', ...HOSTS])
        await becomes(`${from} asks ${name}`, () => ask(from, address, 80), name);
    // Nothing listens there, so the world itself has answered.
    for (const from of ['client', 'other'])
      await becomes(`${from} asks the world`, () => ask(from, WORLD6, 9), 'refused');
    for (const from of ['client', 'other'])
      await until(`${from} asks the API server`, async () =>
        (await inPod(`${SPACE}/${from}`, 'curl -sk -m 5 https://kubernetes.default/version')).out.includes(
          'gitVersion',
        ),
      );
  });

  it('holds NetworkPolicies both ways: by labels, by addresses and ports', async () => {
    const [web, far] = [await one('web'), await one('far')];
    await policy('closed', { podSelector: WEB, policyTypes: ['Ingress'] });
    await becomes('other is denied', () => ask('other', web, 80), 'silent');
    await becomes('client is denied', () => ask('client', web, 80), 'silent');
    expect(await ask('web', far, 80)).toBe('far');
    await policy('friends', {
      podSelector: WEB,
      ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } } }], ports: [{ port: 'http' }] }],
    });
    await kubectl(`-n ${SPACE} label pod other role=friend`);
    await becomes('the friend is let through', () => ask('other', web, 80), 'web');
    expect(await ask('client', web, 80)).toBe('silent');
    expect(await askByUdp('other', web, 53)).toBe('');
    await kubectl(`-n ${SPACE} label pod other role-`);
    await becomes('no friend any more', () => ask('other', web, 80), 'silent');
    await kubectl(`-n ${SPACE} delete networkpolicy --all`);
    await becomes('client is let through', () => ask('client', web, 80), 'web');

    await policy('kept', {
      podSelector: WEB,
      policyTypes: ['Egress'],
      egress: [{ to: [{ ipBlock: { cidr: 'fd32::/64', except: [`${await one('client')}/128`] } }] }],
    });
    await becomes('the world is denied', () => ask('web', WORLD6, 80), 'silent');
    await becomes('far is let through', () => ask('web', far, 80), 'far');
    await policy('kept', {
      podSelector: WEB,
      policyTypes: ['Egress'],
      egress: [{ to: [{ ipBlock: { cidr: 'fd32::/64', except: [`${far}/128`] } }] }],
    });
    await becomes('far is denied', () => ask('web', far, 80), 'silent');
    expect(await ask('other', far, 80)).toBe('far');
  });

  it('has pods that are denied everything ready by their probes, and one that fails not', async () => {
    await policy('deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
    const probes = {
      readinessProbe: { httpGet: { port: 80, path: '/hostname' }, periodSeconds: 1 },
      livenessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1 },
    };
    const container = (port: number) => ({
      name: 'main',
      image: AGNHOST,
      args: ['netexec', `--http-port=${port}`],
      ...probes,
    });
    for (const node of HOSTS)
      await pod(`probed-${node}`, { namespace: SPACE, node, spec: { containers: [container(80)] } });
    await podsReady(SPACE, ...HOSTS.map((node) => `probed-${node}`));
    const { livenessProbe: _, ...unready } = container(81);
    await pod('unready', { namespace: SPACE, node: 'node2', spec: { containers: [unready] } });
    await until('a probe to have failed', async () =>
      (await kubectl(`-n ${SPACE} get events --field-selector reason=Unhealthy`)).includes('pod/unready'),
    );
    await kubectl(`-n ${SPACE} delete pod unready probed-node1 probed-node2 --now`);
  });

  it('leads ClusterIPs to pods by TCP and UDP, from pods and nodes, refuses where there is none, and node ports from outside', async () => {
    const { addresses: assigned, nodePort } = await service('web', { type: 'NodePort' });
    const address = assigned[0] as string;
    for (const from of ['client', 'other', 'web', ...HOSTS])
      await becomes(`${from} asks the Service`, () => ask(from, address, 8080), 'web');
    for (const from of ['client', 'other'])
      await becomes(`${from} asks it by UDP`, () => askByUdp(from, address, 8053), 'web');
    for (const from of ['outside', 'client', ...HOSTS])
      for (const node of HOSTS)
        await becomes(`${from} asks ${node}`, () => ask(from, NODES[node], nodePort), 'web');
    const [empty = ''] = (await service('empty', { selector: { app: 'nobody' } })).addresses;
    await becomes('refused', () => ask('client', empty, 8080), 'refused');
    expect(await differences()).toBe('');
    // Policy is decided after translation.
    await policy('closed', { podSelector: WEB, policyTypes: ['Ingress'] });
    await becomes('other is denied', () => ask('other', address, 8080), 'silent');
  });

  it('answers names with AAAA: of Services, of pods behind a headless one, and of groups; and backwards', async () => {
    const [address = ''] = (await service('web', {})).addresses;
    await service('each', { clusterIP: 'None' });
    const dig = async (...words: string[]): Promise<string> =>
      (await inPod(`${SPACE}/client`, 'dig +short +tries=2 +time=3', ...words)).out.trim();
    const name = `web.${SPACE}.svc.cluster.local`;
    await becomes('the Service by its name', () => dig('AAAA', name), address);
    expect(await dig('A', name)).toBe('');
    await becomes('its pod', () => dig('AAAA', `each.${SPACE}.svc.cluster.local`), await one('web'));
    await becomes('backwards', () => dig('-x', address), `${name}.`);
    await becomes('asked by the name', () => ask('other', 'web', 8080), 'web');
    await netctl('group create pods backend');
    await server('member', { node: 'node2', labels: { 'io.contiv.net-group': 'backend' } });
    await podsReady(SPACE, 'member');
    await becomes('the group', () => dig('+search', 'AAAA', 'backend.pods'), await one('member'));
    await kubectl(`-n ${SPACE} delete pod member --now`);
    await until('the group to be gone', async () => {
      return (await on('node1', 'netctl group rm backend')).status === 0;
    });
  });

  it('maps hostPort, and has pods of the network of their node', async () => {
    const image = { name: 'main', image: AGNHOST, args: ['netexec', '--http-port=80'] };
    await pod('mapped', {
      namespace: SPACE,
      node: 'node2',
      spec: { containers: [{ ...image, ports: [{ containerPort: 80, hostPort: 8088 }] }] },
    });
    await pod('inhost', {
      namespace: SPACE,
      node: 'node2',
      hostNetwork: true,
      args: 'netexec --http-port=8089',
    });
    await podsReady(SPACE, 'mapped', 'inhost');
    for (const from of ['outside', 'node1', 'client'])
      await becomes(`${from} asks hostPort`, () => ask(from, NODES.node2, 8088), 'mapped');
    expect(await addresses('inhost')).toEqual([NODES.node2]);
    for (const from of ['client', 'other', 'node1'])
      await becomes(`${from} asks a pod of the host`, () => ask(from, NODES.node2, 8089), 'node2');
    await kubectl(`-n ${SPACE} delete pod mapped inhost --now`);
  });

  it("passes upstream's cases: a denial, a rule of addresses, a Service", { timeout: 1800_000 }, async () => {
    const { results, log } = await networkSuite(
      'Netpol .*between server and client should (support a .default-deny-ingress. policy|enforce except clause while egress access to server in CIDR block)|Services should serve a basic endpoint from pods',
      'SCTP',
    );
    const failed = [...results].filter(([, how]) => how !== 'passed');
    expect(failed, log.slice(-4000)).toEqual([]);
    expect(results.size).toBeGreaterThan(2);
  });

  it('gets its pods back when a node has rebooted, and all is as declared', async () => {
    await mustLab('reboot node2');
    await nodesReady();
    await podsReady(SPACE);
    const [address = ''] = (await service('web', {})).addresses;
    await becomes('other asks the Service', () => ask('other', address, 8080), 'web');
    await becomes('client asks far', async () => ask('client', await one('far'), 80), 'far');
    expect(await must('node2', 'ip -j -6 addr show dev eth0')).toContain(NODES.node2);
    expect(await differences()).toBe('');
  });

  it('is served by pods as packaging/kubernetes has them', async () => {
    const { install, ready, coreDns } = openPackaged(NAME);
    await removeNamespace(SPACE);
    await install();
    await ready();
    await coreDns(1);
    await makeNamespace(SPACE);
    await server('web', { node: 'node1', labels: { app: 'web' } });
    await pod('other', { namespace: SPACE, node: 'node2' });
    await podsReady(SPACE);
    await service('web', {});
    await becomes('asked by the name', () => ask('other', 'web', 8080), 'web');
    await policy('closed', { podSelector: WEB, policyTypes: ['Ingress'] });
    await becomes('other is denied', () => ask('other', 'web', 8080), 'silent');
    expect(await differences(120)).toBe('');
  }, 600_000);
});
