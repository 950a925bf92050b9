/** Pods of a real cluster in contiv's networks: on both nodes, beside Docker's containers, under the cluster's policies and contiv's. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  AGNHOST,
  addressesOf,
  apply,
  get,
  inPod,
  kubectl,
  makeNamespace,
  networkSuite,
  pod,
  podsReady,
  removeNamespace,
} from './kubernetes.ts';
import { docker, inside, lab, must, mustLab, netctl, on, until } from './lab.ts';

const SPACE = 'shop';
const SERVER = 'netexec --http-port=80';

beforeAll(async () => {
  await makeNamespace(SPACE, { team: 'shop' });
  await pod('web', {
    namespace: SPACE,
    node: 'node1',
    labels: { app: 'web' },
    args: SERVER,
    ports: [{ name: 'http', containerPort: 80 }],
  });
  await pod('db', {
    namespace: SPACE,
    node: 'node2',
    labels: { app: 'db' },
    args: SERVER,
    ports: [{ name: 'http', containerPort: 80 }],
  });
  await podsReady(SPACE);
});
afterAll(async () => {
  await removeNamespace(SPACE);
  await docker('node1', 'rm -f outsider').catch(() => {});
});
afterEach(() => kubectl(`-n ${SPACE} delete networkpolicy --all`));

/** From a pod, what answers at the address; '' where nothing does within 2 s. */
const ask = async (from: string, address: string): Promise<string> =>
  (await inPod(`${SPACE}/${from}`, `curl -s -m 2 http://${address}/hostname`)).out.trim();
const becomes = (what: string, look: () => Promise<string>, answer: string): Promise<true> =>
  until(what, async () => (await look()) === answer || undefined);
const policy = (name: string, spec: object): Promise<string> =>
  apply(
    JSON.stringify({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name, namespace: SPACE },
      spec,
    }),
  );
const DB = { matchLabels: { app: 'db' } };

const BARE = { name: 'main', image: AGNHOST };
/**
 * What a pod does first of all: hears what comes by UDP, and asks the server five times. A packet that is dropped is sent again after a
 * second, which is past the end of each time: so what is allowed was let through at once.
 */
const FIRST_WORDS = `socat -u UDP-RECV:81 OPEN:/heard,creat,append & for i in 1 2 3 4 5; do
  if timeout 0.9 bash -c "exec 3<>/dev/tcp/$1/80"; then printf 'yes '; else printf 'no '; fi; done 2>/dev/null
  sleep 1; cat /heard 2>/dev/null; echo done; exec sleep 100000`;
const SEND_TO_ALL =
  'until [ -e /enough ]; do for i in $(seq 2 60); do echo heard >/dev/udp/$0$i/81; done 2>/dev/null; sleep 0.02; done';

describe('pods', () => {
  it('on both nodes reach each other, and their hosts reach them', async () => {
    const [[web = ''], [db = '']] = [await addressesOf('web', SPACE), await addressesOf('db', SPACE)];
    expect([web, db].every((address) => address.startsWith('10.32.'))).toBe(true);
    // A pod without a probe is ready before its server listens.
    await becomes('db', () => ask('web', db), 'db');
    await becomes('web', () => ask('db', web), 'web');
    for (const host of ['node1', 'node2'])
      for (const [name, address] of [
        ['web', web],
        ['db', db],
      ] as const)
        await expect.poll(() => must(host, `curl -s -m 5 http://${address}/hostname`)).toBe(name);
  });

  it('reach a Service by its ClusterIP, whose pods come and go', async () => {
    await kubectl(`-n ${SPACE} expose pod db --port=8080 --target-port=http`);
    const { spec } = await get<{ spec: { clusterIP: string } }>(`service db -n ${SPACE}`);
    await becomes('the service', () => ask('web', `${spec.clusterIP}:8080`), 'db');
    await becomes('itself', () => ask('db', `${spec.clusterIP}:8080`), 'db');
    await expect.poll(() => must('node1', `curl -s -m 5 http://${spec.clusterIP}:8080/hostname`)).toBe('db');
    await kubectl(`-n ${SPACE} delete service db`);
    await becomes('nobody', () => ask('web', `${spec.clusterIP}:8080`), '');
  });

  it('are judged by NetworkPolicies, which follow labels as they change', async () => {
    const [db = ''] = await addressesOf('db', SPACE);
    await policy('deny', { podSelector: DB, policyTypes: ['Ingress'] });
    await becomes('denied', () => ask('web', db), '');
    await policy('allow', {
      podSelector: DB,
      ingress: [{ from: [{ podSelector: { matchLabels: { role: 'client' } } }], ports: [{ port: 'http' }] }],
    });
    expect(await ask('web', db)).toBe('');
    await kubectl(`-n ${SPACE} label pod web role=client`);
    await becomes('allowed', () => ask('web', db), 'db');
    await kubectl(`-n ${SPACE} label pod web role-`);
    await becomes('denied again', () => ask('web', db), '');
    await kubectl(`-n ${SPACE} delete networkpolicy --all`);
    await becomes('let through', () => ask('web', db), 'db');
  });

  it('that are denied everything are still ready: their own node asks them', async () => {
    await policy('deny', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
    const readinessProbe = { httpGet: { port: 80, path: '/hostname' }, periodSeconds: 1 };
    const image = {
      name: 'main',
      image: 'registry.k8s.io/e2e-test-images/agnhost:2.66.1',
      args: SERVER.split(' '),
      readinessProbe,
    };
    for (const node of ['node1', 'node2'])
      await pod(`probed-${node}`, { namespace: SPACE, node, spec: { containers: [image] } });
    await podsReady(SPACE, 'probed-node1', 'probed-node2');
    const [probed = ''] = await addressesOf('probed-node2', SPACE);
    expect(await ask('web', probed)).toBe('');
    await kubectl(`-n ${SPACE} delete pod probed-node1 probed-node2`);
  });

  it('and containers of Docker are in one group under one policy, both ways, and its name finds both', async () => {
    await netctl('policy create closed');
    await netctl('policy rule-add closed 1 -direction=in -protocol=tcp -action=deny');
    await netctl('policy rule-add closed 2 -direction=in -protocol=tcp -port=80 -action=allow -priority=10');
    await netctl('group create pods frontend -policy=closed');
    await docker(
      'node1',
      'run -d --name=outsider --net=frontend contiv/lab sh -c',
      'mkdir -p /w; hostname >/w/hostname; httpd -p 80 -h /w; httpd -p 81 -h /w; sleep 100000',
    );
    await pod('member', {
      namespace: SPACE,
      node: 'node2',
      labels: { 'io.contiv.net-group': 'frontend' },
      args: 'netexec --http-port=80',
    });
    await podsReady(SPACE, 'member');
    const [member = ''] = await addressesOf('member', SPACE);
    const outsider = (
      await docker('node1', "inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' outsider")
    ).trim();
    const fromDocker = async (address: string): Promise<string> =>
      (await inside('node1', 'outsider', `wget -qO- -T 2 http://${address}/hostname`)).out.trim();
    await becomes('the pod answers', () => fromDocker(member), 'member');
    await expect.poll(() => ask('member', outsider)).not.toBe('');
    // Whatever else listens there is closed by the group's policy.
    expect(await ask('member', `${outsider}:81`)).toBe('');
    const names = async (): Promise<string> =>
      (await inside('node1', 'outsider', 'dig +short frontend')).out
        .split('\n')
        .filter(Boolean)
        .sort()
        .join();
    await becomes('the name of the group', names, [member, outsider].sort().join());
    await docker('node1', 'rm -f outsider');
    await kubectl(`-n ${SPACE} delete pod member`);
    await until(
      'the group is free',
      async () => (await on('node1', 'netctl group rm frontend')).status === 0,
    );
    await netctl('policy rule-rm closed 1');
    await netctl('policy rule-rm closed 2');
    await netctl('policy rm closed');
  });

  it('say in an event what netmaster says of them, and start when it is right', async () => {
    await pod('early', { namespace: SPACE, labels: { 'io.contiv.net-group': 'later' } });
    await until('the event', async () => {
      const { items } = await get<{ items: { message: string }[] }>(
        `events -n ${SPACE} --field-selector=reason=NetworkRefused`,
      );
      return items.some(({ message }) =>
        message.includes('endpointGroup default:later, which does not exist'),
      );
    });
    await netctl('group create pods later');
    await podsReady(SPACE, 'early');
    await kubectl(`-n ${SPACE} delete pod early`);
    await until('the group is free', async () => (await on('node1', 'netctl group rm later')).status === 0);
  });

  it('start while netkube and netplugin are killed, each judged from its first packet', async () => {
    await policy('deny', { podSelector: DB, policyTypes: ['Ingress'] });
    const names = Array.from({ length: 6 }, (_, i) => `burst-${i}`);
    const made = Promise.all(
      names.map((name, i) =>
        pod(name, { namespace: SPACE, node: i % 2 ? 'node1' : 'node2', labels: { app: 'db' }, args: SERVER }),
      ),
    );
    await mustLab('kill netkube node1');
    await mustLab('kill netplugin node2');
    await made;
    await mustLab('start netplugin node2');
    await mustLab('start netkube node1');
    await podsReady(SPACE, ...names);
    for (const name of names) {
      const [address = ''] = await addressesOf(name, SPACE);
      expect(await ask('web', address)).toBe('');
    }
    await kubectl(`-n ${SPACE} delete pod`, ...names);
  });

  it('send nothing before their policy holds on both hosts, and nothing that it allows is refused once they run', async () => {
    const [db = ''] = await addressesOf('db', SPACE);
    const friends = { podSelector: { matchLabels: { role: 'friend' } } };
    await policy('friends', { podSelector: DB, ingress: [{ from: [friends] }] });
    await policy('nobody', { podSelector: { matchLabels: { newcomer: 'yes' } }, policyTypes: ['Ingress'] });
    await becomes('denied', () => ask('web', db), '');
    // All the time web sends to whoever comes: to the addresses around those that there are.
    const sender = inPod(`${SPACE}/web`, 'bash -c', SEND_TO_ALL, db.replace(/\d+$/, ''));
    const names = Array.from({ length: 6 }, (_, i) => `newcomer-${i}`);
    // The second time those who had the addresses before, and the names, were the others.
    for (const turn of [0, 1]) {
      const isFriend = (i: number): boolean => (i >> 1) % 2 === turn;
      const role = (i: number): object => (isFriend(i) ? { role: 'friend' } : {});
      await Promise.all(
        names.map((name, i) =>
          pod(name, {
            namespace: SPACE,
            node: i % 2 ? 'node1' : 'node2',
            labels: { newcomer: 'yes', ...role(i) },
            spec: { containers: [{ ...BARE, command: ['bash', '-c', FIRST_WORDS, 'newcomer', db] }] },
          }),
        ),
      );
      await podsReady(SPACE, ...names);
      for (const [i, name] of names.entries()) {
        const logs = () => kubectl(`-n ${SPACE} logs ${name}`);
        await until(`${name} has asked`, async () => (await logs()).includes('done'));
        expect([name, (await logs()).trim()]).toEqual([
          name,
          `${(isFriend(i) ? 'yes ' : 'no ').repeat(5)}done`,
        ]);
      }
      await kubectl(`-n ${SPACE} delete pod`, ...names);
    }
    await inPod(`${SPACE}/web`, 'touch /enough');
    expect(await sender).toMatchObject({ status: 0 });
  });

  it('are traced by name as both kernels judge them, also a pod of a name that another had', async () => {
    interface Traced {
      readonly verdict: string;
      readonly in: { decides?: string };
      readonly live: { agrees: boolean; text: string }[];
    }
    const traced = async (from: string, to: string): Promise<string> => {
      const answer = await netctl(
        `policy trace --from=${SPACE}/${from} --to=${SPACE}/${to} --port=80 --live -j`,
      );
      const { verdict, in: into, live } = JSON.parse(answer) as Traced;
      const differing = live.filter(({ agrees }) => !agrees).map(({ text }) => text);
      return [verdict, into.decides ?? 'no rule', live.length, ...differing].join(', ');
    };
    const become = (node: string): Promise<void> =>
      pod('again', { namespace: SPACE, node, labels: { app: 'db' }, args: SERVER });
    await become('node1');
    await podsReady(SPACE, 'again');
    for (const [from, to] of [
      ['web', 'db'],
      ['db', 'web'],
      ['web', 'again'],
    ] as const)
      await expect.poll(() => traced(from, to)).toBe('allow, no rule, 2');
    await policy('deny', { podSelector: DB, policyTypes: ['Ingress'] });
    const denied = `deny, NetworkPolicy ${SPACE}/deny, 2`;
    await becomes('denied', () => traced('web', 'db'), denied);
    await expect.poll(() => traced('db', 'web')).toBe('allow, no rule, 2');
    await kubectl(`-n ${SPACE} delete pod again`);
    await become('node2');
    await podsReady(SPACE, 'again');
    await expect.poll(() => traced('web', 'again')).toBe(denied);
    await policy('allow', { podSelector: DB, ingress: [{ from: [{ podSelector: {} }] }] });
    await becomes('allowed', () => traced('web', 'db'), `allow, NetworkPolicy ${SPACE}/allow rule 1, 2`);
    const [again = ''] = await addressesOf('again', SPACE);
    await becomes('it answers', () => ask('web', again), 'again');
    await kubectl(`-n ${SPACE} delete pod again`);
  });

  it('are traced through a Service to each of its pods, as both kernels judge them, and flows and endpoints have their names', async () => {
    const labels = { app: 'db', closed: 'yes' };
    await pod('closed', {
      namespace: SPACE,
      node: 'node1',
      labels,
      args: SERVER,
      ports: [{ name: 'http', containerPort: 80 }],
    });
    await kubectl(`-n ${SPACE} expose pod db --name=both --selector=app=db --port=8080 --target-port=http`);
    await podsReady(SPACE, 'closed');
    await policy('close', { podSelector: { matchLabels: { closed: 'yes' } }, policyTypes: ['Ingress'] });
    const { spec } = await get<{ spec: { clusterIP: string } }>(`service both -n ${SPACE}`);
    interface Traced {
      readonly verdict: string;
      readonly service?: {
        readonly chosen: string;
        readonly backends: readonly {
          readonly to: { name: string };
          readonly verdict: string;
          readonly in: { decides?: string };
          readonly live: readonly { agrees: boolean }[];
        }[];
      };
    }
    const traced = async (to: string): Promise<string> => {
      const answer = await netctl(`policy trace --from=${SPACE}/web --to=${to} --port=8080 --live -j`);
      const { verdict, service } = JSON.parse(answer) as Traced;
      const backends = (service?.backends ?? []).map(({ to: { name }, verdict: v, in: into, live }) =>
        [name, v, into.decides ?? 'no rule', live.map(({ agrees }) => agrees).join()].join(' '),
      );
      return [verdict, service?.chosen, ...backends.sort()].join('; ');
    };
    const expected = [
      'partly',
      '2 of 2: those that are ready',
      `workload ${SPACE}/closed deny NetworkPolicy ${SPACE}/close true,true`,
      `workload ${SPACE}/db allow no rule true,true`,
    ].join('; ');
    for (const to of [`${SPACE}/both`, spec.clusterIP])
      await expect.poll(() => traced(to), { message: to }).toBe(expected);
    // From the one that is closed: nobody is kept from himself.
    const self = await inPod(
      `${SPACE}/closed`,
      'bash -c',
      `for i in $(seq 20); do curl -s -m 5 http://${spec.clusterIP}:8080/hostname; echo; done | sort | uniq`,
    );
    expect(self.out.trim()).toBe('closed\ndb');
    await until('the flow', async () => {
      await ask('web', `${spec.clusterIP}:8080`);
      return new RegExp(`${SPACE}/web 10\\S+ +${SPACE}/closed 10\\S+ .*NetworkPolicy ${SPACE}/close`).test(
        await netctl('flows --denied'),
      );
    });
    expect(await netctl('endpoint ls')).toMatch(new RegExp(`${SPACE}/closed .* node1 `));
    await kubectl(`-n ${SPACE} delete service both`);
    await kubectl(`-n ${SPACE} delete pod closed`);
  });

  it('keep a node from being left: netplugin leave names them, and takes nothing away', async () => {
    const [db = ''] = await addressesOf('db', SPACE);
    const networks = () => docker('node2', 'network ls -q --filter driver=netplugin');
    const had = await networks();
    await mustLab('stop netplugin node2');
    try {
      const { status, err } = await on('node2', 'netplugin leave --cni-conf-dir=/etc/cni/net.d');
      expect(status).toBe(3);
      expect(err).toMatch(
        /contiv-default: there are containers on these networks still \(.*shop\/db.*\): remove/,
      );
      expect(await networks()).toBe(had);
      expect(await on('node2', 'ls /etc/cni/net.d/05-contiv.conflist')).toMatchObject({ status: 0 });
      expect(await ask('web', db)).toBe('db');
    } finally {
      await mustLab('start netplugin node2');
    }
  });

  it('leave nothing behind, and all hosts are as declared', async () => {
    const { status, out, err } = await lab('check --wait 60');
    expect([status, out, err].join('\n')).toMatch(/^0\n/);
  });
});

/** NETPOL=. for all of them, which takes most of an hour. */
const FOCUS =
  process.env.NETPOL ??
  'should support a .default-deny-ingress. policy|should enforce policy to allow traffic only from a pod in a different namespace based on PodSelector and NamespaceSelector|should allow egress access on one named port|should enforce except clause while egress access to server in CIDR block';

describe("upstream's suite for NetworkPolicy", () => {
  it('passes', { timeout: 2 * 3600_000 }, async () => {
    const { results, log } = await networkSuite(`Netpol .*(${FOCUS})`);
    const failed = [...results].filter(([, how]) => how !== 'passed');
    expect(failed, log.slice(-4000)).toEqual([]);
    expect(results.size).toBeGreaterThan(2);
  });
});
