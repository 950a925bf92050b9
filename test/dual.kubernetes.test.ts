/** A cluster of both families, in a lab of its own beside the one of the other tests: hosts, pods and Services have IPv4 and IPv6, and tunnels go by IPv4. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WORLD, WORLD6 } from '../lab/hosts.ts';
import { hostAddress, hostAddress6 } from '../lab/state.ts';
import { openAsking, WEB } from './asking.ts';
import { AGNHOST, openKubernetes } from './kubernetes.ts';
import { LAB, openLab, until } from './lab.ts';

const NAME = `${LAB.slice(-10)}k4`;
const { mustLab, lab, on, netctl, differences } = openLab(NAME);
const { kubectl, get, makeNamespace, pod, podsReady, inPod, networkSuite, nodesReady } = openKubernetes(NAME);

const SPACE = 'dual';
const { ask, askByUdp, becomes, server, policy, service, addresses } = openAsking(NAME, SPACE);
const NODES = {
  node1: [hostAddress(1), hostAddress6(1)],
  node2: [hostAddress(2), hostAddress6(2)],
} as const;
const HOSTS = Object.keys(NODES) as (keyof typeof NODES)[];
const BOTH = ['IPv4', 'IPv6'] as const;
type Family = 0 | 1;
const FAMILIES: readonly Family[] = [0, 1];
const PODS = ['10.32.0.0/16', 'fd32::/64'] as const;
const SERVICES = [/^10\.96\./, /^fd96::/] as const;
const isOf = (family: Family, address: string): boolean => address.includes(':') === (family === 1);

const one = async (name: string, family: Family): Promise<string> =>
  (await addresses(name))[family] as string;
/** Of a Service that has both, in whichever order. */
const of = (family: Family, assigned: readonly string[]): string =>
  assigned.find((address) => isOf(family, address)) as string;
/** What the asking answers for each family becomes that. */
async function each(
  from: string,
  target: (family: Family) => string | Promise<string>,
  port: number,
  answers: readonly [string, string],
): Promise<void> {
  for (const family of FAMILIES) {
    const address = await target(family);
    await becomes(
      `${from} hears '${answers[family]}' of ${address}, port ${port}`,
      () => ask(from, address, port),
      answers[family],
    );
  }
}
const same = (answer: string): [string, string] => [answer, answer];

beforeAll(async () => {
  await mustLab('down');
  await mustLab('up --quiet --kubernetes --families 4,6');
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
  if (process.env.KEEP_LAB === undefined) await lab('down');
});

describe('a cluster of both families', () => {
  it('has nodes and pods with an address of each, by which they reach each other and the world', async () => {
    const { items } = await get<{
      items: { metadata: { name: string }; status: { addresses: { type: string; address: string }[] } }[];
    }>('nodes');
    for (const { metadata, status } of items)
      expect(
        status.addresses.filter(({ type }) => type === 'InternalIP').map(({ address }) => address),
      ).toEqual(NODES[metadata.name as keyof typeof NODES]);
    for (const name of ['web', 'far', 'client', 'other'])
      expect(await addresses(name)).toEqual([
        expect.stringMatching(/^10\.32\./),
        expect.stringMatching(/^fd32::/),
      ]);
    for (const name of ['web', 'far'])
      for (const from of ['client', 'other', ...HOSTS])
        await each(from, (family) => one(name, family), 80, same(name));
    // Nothing listens there, so the world itself has answered.
    for (const from of ['client', 'other'])
      await each(from, (family) => [WORLD, WORLD6][family] as string, 9, same('refused'));
  });

  it('holds NetworkPolicies in both: by labels, and by blocks of addresses of one family or of each', async () => {
    const web = (family: Family): Promise<string> => one('web', family);
    await policy('closed', { podSelector: WEB, policyTypes: ['Ingress'] });
    for (const from of ['client', 'other']) await each(from, web, 80, same('silent'));
    await policy('closed', {
      podSelector: WEB,
      ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } } }], ports: [{ port: 'http' }] }],
    });
    await kubectl(`-n ${SPACE} label pod other role=friend`);
    await each('other', web, 80, same('web'));
    await each('client', web, 80, same('silent'));
    for (const family of FAMILIES) expect(await askByUdp('other', await web(family), 53)).toBe('');
    await kubectl(`-n ${SPACE} label pod other role-`);

    // A block is of its own family, and says nothing of the other one.
    for (const family of FAMILIES) {
      await policy('closed', {
        podSelector: WEB,
        ingress: [{ from: [{ ipBlock: { cidr: PODS[family] } }] }],
      });
      await each('other', web, 80, family === 0 ? ['web', 'silent'] : ['silent', 'web']);
    }
    const except = async (name: string, family: Family): Promise<object> => ({
      ipBlock: { cidr: PODS[family], except: [`${await one(name, family)}/${family === 0 ? 32 : 128}`] },
    });
    await policy('closed', {
      podSelector: WEB,
      ingress: [{ from: [await except('client', 0), await except('other', 1)] }],
    });
    await each('client', web, 80, ['silent', 'web']);
    await each('other', web, 80, ['web', 'silent']);
    await kubectl(`-n ${SPACE} delete networkpolicy closed`);

    await policy('kept', {
      podSelector: WEB,
      policyTypes: ['Egress'],
      egress: [{ to: [{ ipBlock: { cidr: PODS[0] } }, await except('far', 1)] }],
    });
    await each('web', (family) => one('far', family), 80, ['far', 'silent']);
    await each('web', (family) => [WORLD, WORLD6][family] as string, 9, same('silent'));
    await each('other', (family) => one('far', family), 80, same('far'));
  });

  it.each([
    ['PreferDualStack', ['IPv4', 'IPv6']],
    ['RequireDualStack', ['IPv6', 'IPv4']],
  ])(
    'leads both addresses of a Service with %s to pods, by TCP and UDP, and its node ports of both',
    async (ipFamilyPolicy, ipFamilies) => {
      const { addresses: assigned, nodePort } = await service('web', {
        type: 'NodePort',
        ipFamilyPolicy,
        ipFamilies,
      });
      expect(assigned).toEqual(ipFamilies.map((f) => expect.stringMatching(SERVICES[f === 'IPv4' ? 0 : 1])));
      for (const from of ['client', 'other', 'web', ...HOSTS])
        await each(from, (family) => of(family, assigned), 8080, same('web'));
      for (const from of ['client', 'other'])
        for (const address of assigned)
          await becomes(`${from} asks ${address} by UDP`, () => askByUdp(from, address, 8053), 'web');
      for (const from of ['outside', 'client', ...HOSTS])
        for (const node of HOSTS) await each(from, (family) => NODES[node][family], nodePort, same('web'));
      // Policy is decided after translation.
      await policy('closed', { podSelector: WEB, ingress: [{ from: [{ ipBlock: { cidr: PODS[1] } }] }] });
      await each('other', (family) => of(family, assigned), 8080, ['silent', 'web']);
      expect(await differences()).toBe('');
    },
  );

  it('leads a Service of one family by that alone, also at its node port, and refuses by both where nobody answers', async () => {
    for (const family of FAMILIES) {
      const { addresses: assigned, nodePort } = await service(`single${family}`, {
        type: 'NodePort',
        ipFamilyPolicy: 'SingleStack',
        ipFamilies: [BOTH[family]],
      });
      expect(assigned).toEqual([expect.stringMatching(SERVICES[family])]);
      for (const from of ['client', 'node2'])
        await becomes(`${from} asks it`, () => ask(from, assigned[0] as string, 8080), 'web');
      await each(
        'outside',
        (asked) => NODES.node2[asked],
        nodePort,
        family === 0 ? ['web', 'refused'] : ['refused', 'web'],
      );
    }
    const { addresses: empty } = await service('empty', {
      ipFamilyPolicy: 'RequireDualStack',
      selector: { app: 'nobody' },
    });
    for (const from of ['client', 'node1'])
      await each(from, (family) => of(family, empty), 8080, same('refused'));
  });

  it('answers names with A and AAAA: of Services, of pods behind a headless one, and of groups; and backwards', async () => {
    const dual = { ipFamilyPolicy: 'PreferDualStack' };
    const { addresses: assigned } = await service('web', dual);
    await service('each', { ...dual, clusterIP: 'None' });
    const dig = async (...words: string[]): Promise<string> =>
      (await inPod(`${SPACE}/client`, 'dig +short +tries=2 +time=3', ...words)).out.trim();
    await netctl('group create pods backend');
    await server('member', { node: 'node2', labels: { 'io.contiv.net-group': 'backend' } });
    await podsReady(SPACE, 'member');
    for (const family of FAMILIES) {
      const type = family === 0 ? 'A' : 'AAAA';
      const name = `web.${SPACE}.svc.cluster.local`;
      await becomes(`${type} of the Service`, () => dig(type, name), of(family, assigned));
      await becomes(
        `${type} of its pod`,
        () => dig(type, `each.${SPACE}.svc.cluster.local`),
        await one('web', family),
      );
      await becomes('backwards', () => dig('-x', of(family, assigned)), `${name}.`);
      await becomes(
        `${type} of the group`,
        () => dig('+search', type, 'backend.pods'),
        await one('member', family),
      );
    }
    await kubectl(`-n ${SPACE} delete pod member --now`);
    await until('the group to be gone', async () => {
      return (await on('node1', 'netctl group rm backend')).status === 0;
    });
  });

  it('maps hostPort of both', async () => {
    const main = { name: 'main', image: AGNHOST, args: ['netexec', '--http-port=80'] };
    await pod('mapped', {
      namespace: SPACE,
      node: 'node2',
      spec: { containers: [{ ...main, ports: [{ containerPort: 80, hostPort: 8088 }] }] },
    });
    await podsReady(SPACE, 'mapped');
    for (const from of ['outside', 'node1', 'client'])
      await each(from, (family) => NODES.node2[family], 8088, same('mapped'));
    await kubectl(`-n ${SPACE} delete pod mapped --now`);
  });

  it('has addresses of both again when a node has rebooted', async () => {
    await mustLab('reboot node2');
    await nodesReady();
    await podsReady(SPACE);
    const { addresses: assigned } = await service('web', { ipFamilyPolicy: 'RequireDualStack' });
    await each('other', (family) => of(family, assigned), 8080, same('web'));
    await each('client', (family) => one('far', family), 80, same('far'));
    expect(await differences()).toBe('');
  });

  // DUAL=. for all of them, which takes half an hour.
  it("passes upstream's cases of both families", { timeout: 2 * 3600_000 }, async () => {
    const focus = process.env.DUAL ?? 'create|should be able to reach pod|pod-Service: http|affinity: udp';
    const { results, log } = await networkSuite(
      `\\[Feature:IPv6DualStack\\].*(${focus})`,
      'SCTP|sctp|Disruptive',
    );
    const failed = [...results].filter(([, how]) => how !== 'passed');
    expect(failed, log.slice(-4000)).toEqual([]);
    expect(results.size).toBeGreaterThan(2);
  });
});
