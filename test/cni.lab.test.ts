/** CNI as runtimes call it: the real executable, in namespaces of the lab's hosts, beside Docker's containers. */
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  clear,
  differences,
  docker,
  type Ended,
  feed,
  inside,
  lab,
  must,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

const PROGRAM = path.join(path.dirname(import.meta.dirname), 'dist/contiv-cni');

interface Call {
  readonly command: string;
  /** Container and namespace alike. */
  readonly name: string;
  readonly netns?: string;
  readonly args?: string;
  readonly configuration?: object;
  /** Words before the program. */
  readonly before?: readonly string[];
}

const NETWORK = { network: 'contiv-net' };

function cni(host: string, call: Call): Promise<Ended> {
  const { command, name, netns, args = '', configuration = NETWORK, before = [] } = call;
  const text = JSON.stringify({ cniVersion: '1.1.0', name: 'test', type: 'contiv-cni', ...configuration });
  const variables = [
    `CNI_COMMAND=${command}`,
    `CNI_CONTAINERID=${name}`,
    `CNI_NETNS=${netns ?? `/run/netns/${name}`}`,
    'CNI_IFNAME=eth0',
    'CNI_PATH=/opt/cni/bin',
    `CNI_ARGS=${args}`,
  ];
  return on(
    host,
    'sh -c',
    'text=$1; shift; printf %s "$text" | env "$@"',
    'cni',
    text,
    ...variables,
    ...before,
    PROGRAM,
  );
}

interface Result {
  readonly ips: readonly { readonly address: string }[];
  readonly dns: { readonly nameservers: readonly string[] };
}

const answer = ({ status, out, err }: Ended): Result => {
  if (status !== 0) throw new Error(`exit status ${status}: ${out}${err}`);
  return JSON.parse(out);
};
const refusal = ({ status, out }: Ended): { readonly code: number; readonly msg: string } => {
  expect(status).toBe(1);
  return JSON.parse(out);
};

const made: [host: string, name: string][] = [];

/**
 * From the namespace $0, whether $1 answers, all the time, and three times more once it runs. What is dropped at first is sent again
 * after a second: so an answer may be late, where nothing is to answer each try ends soon.
 */
const ASK = `ask() { if timeout $1 ip netns exec $0 busybox nc $2 80 -e true 2>/dev/null; then echo yes; else echo no; fi; }
  until [ -e /run/$0-runs ]; do ask 0.5 $1; done; echo runs; rm /run/$0-runs
  patience=1; [ $0 = stranger ] || patience=10; for i in 1 2 3; do ask $patience $1; done`;

/** A namespace of the name on the host, and what an ADD answers to it. */
async function add(host: string, name: string, more: Partial<Call> = {}): Promise<Ended> {
  await must(host, `ip netns add ${name}`);
  made.push([host, name]);
  return cni(host, { command: 'ADD', name, ...more });
}

const addressIn = (ended: Ended): string => answer(ended).ips[0]?.address.split('/')[0] ?? '';
const within = (host: string, name: string, command: string): Promise<Ended> =>
  on(host, `ip netns exec ${name} ${command}`);
const reaches = async (host: string, name: string, address: string, port: number): Promise<boolean> =>
  (await within(host, name, `busybox nc -w 3 ${address} ${port} -e true`)).status === 0;
const attached = async (host: string): Promise<string[]> =>
  JSON.parse(await must(host, 'curl -s --unix-socket /run/contiv/netplugin.sock http://n/attachments'))
    .filter((a: { runtime: string }) => a.runtime === 'cni')
    .map((a: { endpoint: { containerID: string } }) => a.endpoint.containerID);

async function dropNamespaces(): Promise<void> {
  for (const [host, name] of made.splice(0)) {
    await cni(host, { command: 'DEL', name });
    const { out } = await on(host, `ip netns pids ${name}`);
    for (const pid of out.split('\n').filter((p) => p)) await on(host, `kill ${pid}`);
    await on(host, `ip netns delete ${name}`);
  }
}

beforeAll(async () => {
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
});
afterEach(dropNamespaces);
afterAll(clear);

describe('a namespace that was added by CNI', () => {
  it('and a container of Docker’s are in one group: policy holds both ways, and each resolves the other', async () => {
    await netctl('policy create closed');
    await netctl('policy rule-add closed 1 -direction=in -protocol=tcp -action=deny');
    await netctl(
      'policy rule-add closed 2 -direction=in -protocol=tcp -port=8080 -action=allow -priority=10',
    );
    await netctl('group create contiv-net web -policy=closed');
    const web = await run('node1', 'web1', 'web.contiv-net');
    const box = addressIn(
      await add('node2', 'box', { args: 'CONTIV_NAME=box', configuration: { ...NETWORK, group: 'web' } }),
    );
    for (const port of [8080, 9090]) {
      await docker('node1', `exec web1 httpd -p ${port}`);
      await must('node2', `ip netns exec box busybox httpd -p ${port} -h /run/contiv`);
    }
    await until('both listen', () => reaches('node2', 'box', web, 8080));
    expect(await reaches('node2', 'box', web, 9090)).toBe(false);
    const fromWeb = async (port: number): Promise<boolean> =>
      (await inside('node1', 'web1', `nc -w 3 ${box} ${port} -e true`)).status === 0;
    await until('the other way too', () => fromWeb(8080));
    expect(await fromWeb(9090)).toBe(false);
    // Names come a moment after what they name.
    await expect.poll(() => pings('node1', 'web1', 'box')).toBe(true);
    const resolved = async (name: string): Promise<string[]> =>
      (await within('node2', 'box', `dig +short @20.1.1.254 ${name}`)).out.trim().split('\n').sort();
    await expect.poll(() => resolved('web1')).toEqual([web]);
    await expect.poll(() => resolved('web')).toEqual([box, web].sort());
    expect(await differences()).toBe('');
    await docker('node1', 'rm -f web1');
  });

  it('has what the answer says, again where it was changed, and CHECK tells', async () => {
    const added = await add('node1', 'box');
    const result = answer(added);
    const check = () =>
      cni('node1', { command: 'CHECK', name: 'box', configuration: { ...NETWORK, prevResult: result } });
    expect(await check()).toMatchObject({ status: 0, out: '' });
    expect(answer(await cni('node1', { command: 'ADD', name: 'box' }))).toEqual(result);
    // The agent puts it right with its next look, which may come between the two: then it is taken away once more.
    const changed = await until('CHECK refuses', async () => {
      await must('node1', 'ip -n box route del default');
      const checked = await check();
      return checked.status !== 0 && checked;
    });
    expect(refusal(changed)).toMatchObject({
      code: 101,
      msg: expect.stringContaining('route 0.0.0.0/0'),
    });
    await until('it is there again', async () => (await check()).status === 0);
  });

  it('takes ports of the host, which lead to it from outside', async () => {
    const mapping = { HostPort: 8081, ContainerPort: 80, Protocol: 'tcp' };
    const runtimeConfig = { portMappings: [mapping] };
    answer(await add('node1', 'box', { configuration: { ...NETWORK, runtimeConfig } }));
    await must('node1', 'ip netns exec box busybox httpd -p 80 -h /run/contiv');
    const node1 = JSON.parse(await mustLab('status --json')).hosts[0].address;
    const status = async () => (await on('outside', `busybox nc -w 3 ${node1} 8081 -e true`)).status;
    await until('it is reached', async () => (await status()) === 0);
    expect(
      refusal(await add('node1', 'other', { configuration: { ...NETWORK, runtimeConfig } })).msg,
    ).toContain('port 8081 is taken');
  });

  it('is gone with its namespace, without a word', async () => {
    answer(await add('node1', 'box'));
    await must('node1', 'ip netns delete box');
    await until('it is gone', async () => (await attached('node1')).length === 0);
    expect(await differences()).toBe('');
  });

  it('is taken away where GC does not list it', async () => {
    answer(await add('node1', 'kept'));
    answer(await add('node1', 'gone'));
    answer(await add('node1', 'other', { configuration: { ...NETWORK, name: 'another' } }));
    const valid = [{ containerID: 'kept', ifname: 'eth0' }];
    const gc = (more: object) =>
      cni('node1', { command: 'GC', name: '', configuration: { ...NETWORK, ...more } });
    expect(await gc({})).toMatchObject({ status: 0 });
    expect((await attached('node1')).sort()).toEqual(['gone', 'kept', 'other']);
    expect(await gc({ 'cni.dev/valid-attachments': valid })).toMatchObject({ status: 0, out: '' });
    expect((await attached('node1')).sort()).toEqual(['kept', 'other']);
  });
});

describe('a pod', () => {
  const args = (name: string): string =>
    `IgnoreUnknown=1;K8S_POD_UID=uid-${name};K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=${name}`;
  const workload = (method: string, name: string): Promise<string> =>
    must(
      'node1',
      'sh -c',
      `curl -sf -X ${method} "$NETMASTER/api/v1/workloads/ns1:${name}/" -H 'content-type: application/json' -d '${JSON.stringify({ namespaceName: 'ns1', workloadName: name, uid: `uid-${name}`, tenantName: 'default', networkName: 'contiv-net' })}'`,
    );

  it('waits for its workload, and is in the network that it names', async () => {
    const added = add('node1', 'pod', { args: args('web'), configuration: {} });
    await new Promise((done) => setTimeout(done, 1000));
    expect(await attached('node1')).toEqual([]);
    await workload('POST', 'web');
    const address = addressIn(await added);
    const inspect = 'curl -sf "$NETMASTER/api/v1/inspect/networks/default:contiv-net/"';
    await expect
      .poll(async () => JSON.parse(await must('node1', 'sh -c', inspect)).Oper.endpoints)
      .toMatchObject([{ containerName: 'ns1/web', ipAddress: [address] }]);
    await workload('DELETE', 'web');
  });

  it('sends nothing before its policy holds on both hosts, and what that allows passes from its start on', async () => {
    const pod = (name: string, labels: object) => ({
      kind: 'workload',
      namespaceName: 'ns1',
      workloadName: name,
      uid: `uid-${name}`,
      tenantName: 'default',
      networkName: 'contiv-net',
      labels,
    });
    const policy = {
      kind: 'networkPolicy',
      tier: 'namespace',
      namespaceName: 'ns1',
      policyName: 'friends',
      subject: { workloads: { matchLabels: { app: 'server' } } },
      isolates: ['in'],
      rules: [
        {
          direction: 'in',
          action: 'accept',
          peers: [{ workloads: { matchLabels: { role: 'friend' } } }],
        },
      ],
    };
    const objects = [
      pod('server', { app: 'server' }),
      pod('friend', { role: 'friend' }),
      pod('stranger', {}),
      policy,
    ];
    await feed('node1', JSON.stringify(objects), 'netctl apply -f -');
    try {
      const server = addressIn(await add('node2', 'server', { args: args('server'), configuration: {} }));
      await must('node2', 'ip netns exec server busybox httpd -p 80 -h /run/contiv');
      let address = '';
      // The stranger has the address of the friend that has just ended.
      for (const name of ['friend', 'stranger']) {
        await must('node1', `ip netns add ${name}`);
        made.push(['node1', name]);
        // From before it is attached until it has tried some times since.
        const asking = must('node1', 'sh -c', ASK, name, server);
        const runtimeConfig = address === '' ? {} : { ips: [address] };
        const call = { command: 'ADD', name, args: args(name), configuration: { runtimeConfig } };
        const given = addressIn(await cni('node1', call));
        if (address !== '') expect(given).toBe(address);
        address = given;
        await must('node1', `touch /run/${name}-runs`);
        const [before = '', after = ''] = (await asking)
          .trim()
          .replaceAll('\n', ' ')
          .split(/ ?runs /);
        expect(after).toBe(
          Array(3)
            .fill(name === 'friend' ? 'yes' : 'no')
            .join(' '),
        );
        if (name === 'stranger') expect(before).not.toContain('yes');
        await cni('node1', { command: 'DEL', name });
      }
    } finally {
      await dropNamespaces();
      await feed('node1', JSON.stringify(objects), 'netctl delete -f -');
    }
  });

  it('whose runtime is killed while it waits is not attached when its workload comes', async () => {
    const before = ['timeout', '-s', 'KILL', '1'];
    const killed = await add('node1', 'pod', { args: args('late'), configuration: {}, before });
    expect([killed.status, killed.out]).toEqual([137, '']);
    await workload('POST', 'late');
    await new Promise((done) => setTimeout(done, 2000));
    expect(await attached('node1')).toEqual([]);
    await workload('DELETE', 'late');
  });

  it('of no workload is refused, to be tried again', async () => {
    // Events of a kind are told at a limited rate: a new agent has not told any yet.
    await mustLab('kill netplugin node1');
    await mustLab('start netplugin node1');
    expect(refusal(await add('node1', 'pod', { args: args('none'), configuration: {} }))).toMatchObject({
      code: 11,
      msg: 'pod ns1/none is not known to netmaster yet: is netkube running?',
    });
    const told =
      / denial pod ns1\/none is not known to netmaster yet: is netkube running\? \(host node1 \(netplugin node1\), /;
    await until('the event', async () => told.test(await netctl('events --kind denial')));
  });
});

describe('while netplugin is away', () => {
  afterEach(() => mustLab('start netplugin node1'));

  it('DEL takes the interface away, and netplugin finds that it is gone', async () => {
    answer(await add('node1', 'box'));
    await mustLab('kill netplugin node1');
    expect(await cni('node1', { command: 'DEL', name: 'box' })).toMatchObject({ status: 0, out: '' });
    expect((await on('node1', 'ip -n box link show eth0')).status).not.toBe(0);
    await mustLab('start netplugin node1');
    await until('it is gone', async () => (await attached('node1')).length === 0);
    expect(await differences()).toBe('');
  });

  it('STATUS says so, VERSION is answered, ADD waits for it', async () => {
    await mustLab('kill netplugin node1');
    expect(refusal(await cni('node1', { command: 'STATUS', name: '' }))).toMatchObject({ code: 50 });
    expect((await cni('node1', { command: 'VERSION', name: '' })).out).toContain('"1.1.0"]');
    const added = add('node1', 'box');
    await new Promise((done) => setTimeout(done, 1000));
    await mustLab('start netplugin node1');
    answer(await added);
    expect(await cni('node1', { command: 'STATUS', name: '' })).toMatchObject({ status: 0, out: '' });
  });

  it('killed in the middle of a hundred ADDs, it answers all of them when it is back, and DELs leave nothing', async () => {
    const each = (script: string): string => `for i in $(seq 100); do ${script}\ndone\n`;
    const call = (command: string): string =>
      `(echo '{"cniVersion":"1.1.0","name":"many","network":"contiv-net"}' | CNI_COMMAND=${command} CNI_CONTAINERID=m$i CNI_NETNS=/run/netns/m$i CNI_IFNAME=eth0 ${PROGRAM} >/run/m$i 2>&1 || echo $i: $(cat /run/m$i)) &`;
    await must('node1', 'sh -c', each('ip netns add m$i'));
    try {
      const many = must('node1', 'sh -c', `${each(call('ADD'))} wait`);
      await until('some are attached', async () => (await attached('node1')).length > 5);
      await mustLab('kill netplugin node1');
      await mustLab('start netplugin node1');
      expect(await many).toBe('');
      const addresses = await must('node1', 'sh -c', each('grep -o \'"address":"[^"]*\' /run/m$i'));
      expect(new Set(addresses.split('\n')).size).toBe(100);
      expect(
        await must('node1', 'sh -c', each('ip -n m$i -4 -br addr show eth0 | grep -q 20.1.1. || echo m$i')),
      ).toBe('');
      expect(await must('node1', 'sh -c', `${each(call('ADD'))} wait`)).toBe('');
      expect(await must('node1', 'sh -c', each('grep -o \'"address":"[^"]*\' /run/m$i'))).toBe(addresses);
      expect(await must('node1', 'sh -c', `${each(call('DEL'))} wait`)).toBe('');
      await expect.poll(() => attached('node1')).toEqual([]);
      expect(await must('node1', 'sh -c', each('ip -n m$i link show eth0 2>/dev/null || true'))).toBe('');
    } finally {
      await on('node1', 'sh -c', each('ip netns delete m$i; rm -f /run/m$i'));
    }
  });
});

describe('in a network of IPv6 alone', () => {
  const SIX = { network: 'six' };
  const member = { ...SIX, group: 'closed6' };
  const OUTSIDE = 'fd00:50::1';

  beforeAll(async () => {
    await netctl('net create six --subnetv6=fd00:6::/64 --gatewayv6=fd00:6::1');
    await netctl('policy create in6');
    await netctl('policy rule-add in6 1 -direction=in -protocol=tcp -action=deny');
    await netctl('policy rule-add in6 2 -direction=in -protocol=tcp -port=8080 -action=allow -priority=10');
    await netctl('group create six closed6 -policy=in6');
  });

  it('policy holds both ways between hosts, names and addresses are answered, and a trace says why', async () => {
    const box = addressIn(await add('node1', 'box', { args: 'CONTIV_NAME=box', configuration: member }));
    await must('node2', 'ip netns add far');
    made.push(['node2', 'far']);
    const added = await must(
      'node2',
      'netplugin endpoint add --netns /run/netns/far --network closed6.six --name far',
    );
    const far = /^far: eth0 (fd00:6::[0-9a-f]+)\/128$/.exec(added)?.[1] ?? '';
    for (const [host, name] of [
      ['node1', 'box'],
      ['node2', 'far'],
    ] as const)
      for (const port of [8080, 9090])
        await must(host, `ip netns exec ${name} busybox httpd -p ${port} -h /run/contiv`);
    for (const [host, name, other] of [
      ['node1', 'box', far],
      ['node2', 'far', box],
    ] as const) {
      await until(`${name} reaches ${other}`, () => reaches(host, name, other, 8080));
      expect(await reaches(host, name, other, 9090)).toBe(false);
    }
    expect((await within('node1', 'box', `busybox ping -c 1 -W 5 ${far}`)).out).toMatch(/ttl=64/);
    const asked = async (question: string): Promise<string> =>
      (await within('node1', 'box', `dig +short @fd00:6::1 ${question}`)).out.trim();
    await expect.poll(() => asked('far AAAA')).toBe(far);
    expect(await asked('far A')).toBe('');
    await expect
      .poll(async () => (await asked('closed6 AAAA')).split('\n').sort())
      .toEqual([box, far].sort());
    expect(await asked(`-x ${far}`)).toBe('far.six.');
    const trace = `policy trace --from=${box} --to=far --protocol=tcp --live --port=`;
    expect(await netctl(`${trace}9090`)).toMatch(/in6/);
    expect(await netctl(`${trace}8080`)).toContain('allow');
    await expect
      .poll(async () => (await on('node1', 'netctl flows --denied')).out)
      .toMatch(new RegExp(`${far}.*9090|9090.*${far}`));
    expect(await netctl('endpoint ls')).toContain(far);
    expect(JSON.parse(await netctl('net inspect six')).Oper).toMatchObject({ allocatedAddressesCount: 2 });
    expect(await differences()).toBe('');
    await must('node2', 'netplugin endpoint rm far');
  });

  it('services lead to providers by IPv6, what leaves goes by the gateway, and other tenants are kept off', async () => {
    await netctl(
      'net create dual --subnet=20.7.1.0/24 --gateway=20.7.1.254 --subnetv6=fd00:7::/64 --gatewayv6=fd00:7::1',
    );
    await run('node2', 'web', 'dual', '--label', 'app=web');
    await docker('node2', 'exec -d web httpd -f -p 8080 -h /www');
    await netctl('service create lb6 --network=six --selector=app=web --port=80:8080:TCP');
    const vip = JSON.parse(await netctl('service inspect lb6')).Oper.serviceVip as string;
    expect(vip).toMatch(/^fd00:6::/);
    const box = addressIn(await add('node1', 'box', { configuration: SIX }));
    await until('the service', () => reaches('node1', 'box', vip, 80));
    await until(
      'its name',
      async () => (await within('node1', 'box', `dig +short @fd00:6::1 lb6 AAAA`)).out.trim() === vip,
    );
    await must('node1', 'ip -6 addr add fd00:50::11/64 dev eth0 nodad');
    await must('outside', `ip -6 addr add ${OUTSIDE}/64 dev eth0 nodad`);
    try {
      await until(
        'the way out',
        async () => (await within('node1', 'box', `busybox ping -c 1 -W 2 ${OUTSIDE}`)).status === 0,
      );
    } finally {
      await must('node1', 'ip -6 addr del fd00:50::11/64 dev eth0');
      await must('outside', `ip -6 addr del ${OUTSIDE}/64 dev eth0`);
    }
    await netctl('tenant create green');
    await netctl('net create -t green six --subnetv6=fd00:6::/64 --gatewayv6=fd00:6::1');
    const green = { ...SIX, tenant: 'green' };
    const other = addressIn(await add('node1', 'other', { configuration: green }));
    expect(other).not.toBe('');
    await must('node1', 'ip netns exec box busybox httpd -p 81 -h /run/contiv');
    expect(await reaches('node1', 'box', box, 81)).toBe(true);
    for (const address of new Set([box, vip]))
      expect(await reaches('node1', 'other', address, 81)).toBe(false);
    expect(await differences()).toBe('');
    await netctl('service rm lb6');
    await docker('node2', 'rm -f web');
  });

  it('Docker that gives each network IPv4 has none, which netctl says when it is made, and of which host', async () => {
    const { err } = await on('node1', 'netctl net create told6 --subnetv6=fd00:8::/64');
    expect(err).toContain('has no IPv4 subnet: Docker before 28, and Swarm, are not offered it');
    const told = (host: string): RegExp =>
      new RegExp(
        `network default:told6 is not offered to Docker: .* Docker 20\\.10.* have 28 or newer.*netplugin ${host}`,
      );
    for (const host of ['node1', 'node2']) {
      await until(host, async () => told(host).test(await netctl('events --kind name')));
      expect((await on(host, 'docker network inspect told6')).status).not.toBe(0);
    }
    expect((await on('node1', 'netctl status')).out).not.toContain('not offered');
    const byHand =
      'network create -d netplugin -o network=told6 --ipam-driver netplugin --ipam-opt network=told6';
    expect((await on('node1', `docker ${byHand} --ipv6 mine`)).err).toContain(
      'network default:told6 has no IPv4 subnet, and Docker asks for one',
    );
    await netctl('net rm told6');
  });
});

describe('a bare namespace', () => {
  const endpoint = (line: string): Promise<Ended> => on('node1', `netplugin endpoint ${line}`);

  it('is on a network until it is removed, whatever becomes of netplugin', async () => {
    await must('node1', 'ip netns add bare');
    made.push(['node1', 'bare']);
    const added = await endpoint('add --netns /run/netns/bare --network contiv-net --name bare');
    expect(added.out).toMatch(/^bare: eth0 20\.1\.1\.\d+\/24\n$/);
    await mustLab('kill netplugin node1');
    await mustLab('start netplugin node1');
    expect(await endpoint('add --netns /run/netns/bare --network contiv-net --name bare')).toEqual(added);
    expect((await endpoint('ls')).out).toMatch(/bare +eth0 +default +contiv-net/);
    // What an agent had reserved that was killed amid ADDs, here and in the test before, is free again after a minute.
    expect(await differences(180)).toBe('');
    expect((await endpoint('rm bare')).out).toBe('Removed bare\n');
    expect((await on('node1', 'ip -n bare link show eth0')).status).not.toBe(0);
    expect((await endpoint('rm bare')).err).toContain('endpoint bare has no eth0 on this host');
  });

  it('that is not there is refused', async () => {
    const { status, err } = await endpoint('add --netns /run/netns/none --network contiv-net --name none');
    expect([status, err]).toEqual([3, expect.stringContaining("'/run/netns/none' is no network namespace")]);
    expect((await lab('exec node1 -- netplugin endpoint')).out).toContain('Usage: netplugin endpoint add');
  });
});
