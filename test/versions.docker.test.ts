/** What newer Dockers than Debian's offer is used, and their firewalls let through what is ours: on the Docker that the lab was made with. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  addressOf,
  background,
  clear,
  DOCKER_USER,
  differences,
  docker,
  feed,
  inside,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

const VERSION = Number(process.env.LAB_DOCKER);
const BACKEND = process.env.LAB_FIREWALL_BACKEND;
const HOSTS = ['node1', 'node2'] as const;
const HOST = '192.168.50.11';

beforeAll(async () => {
  await netctl('net create open --subnet=10.33.0.0/24 --gateway=10.33.0.254');
  await netctl('net create shut --subnet=10.34.0.0/24 --subnetv6=fd00:34::/64');
});
afterAll(clear);

it('the hosts run the Docker and the firewall that were asked for', async () => {
  for (const host of HOSTS) {
    expect(await docker(host, "version -f '{{.Server.Version}}'")).toMatch(new RegExp(`^${VERSION}\\b`));
    const backend = await docker(host, "info -f '{{.FirewallBackend.Driver}}'");
    expect(backend).toBe(BACKEND || 'iptables');
    expect((await on(host, 'iptables -S DOCKER-USER')).status === 0).toBe(DOCKER_USER);
  }
});

it('a network without a gateway has none in Docker either, and no address of it is spent', async () => {
  const configOf = async (network: string): Promise<unknown> =>
    JSON.parse(await docker('node1', `network inspect ${network}`))[0].IPAM.Config;
  const shut = [{ Subnet: '10.34.0.0/24' }, { Subnet: 'fd00:34::/64' }];
  expect(await configOf('shut')).toEqual(shut);
  expect(await configOf('open')).toEqual([{ Subnet: '10.33.0.0/24', Gateway: '10.33.0.254' }]);
  await docker(
    'node1',
    'network create -d netplugin --ipv6 -o network=shut --ipam-driver netplugin --ipam-opt network=shut byhand',
  );
  expect(await configOf('byhand')).toEqual(shut);
  await docker('node1', 'network rm byhand');
  expect(await run('node1', 'here', 'shut')).toBe('10.34.0.2');
  await run('node2', 'there', 'shut');
  await until('names', () => pings('node1', 'here', 'there'));
  const routes = await inside('node1', 'here', 'sh -c', 'ip route; ip -6 route');
  expect(routes.out).not.toMatch(/default/);
  await docker('node1', 'rm -f here');
  await docker('node2', 'rm -f there');
  expect(await differences()).toBe('');
});

it("of Docker's NAT for its resolver nothing stays in a container: it would have all connections tracked there", async () => {
  await run('node1', 'plain', 'open');
  const pid = await docker('node1', 'inspect -f {{.State.Pid}} plain');
  await until(
    'our table alone',
    async () => (await on('node1', `nsenter -t ${pid} -n nft list tables`)).out === 'table ip contiv\n',
  );
  expect((await inside('node1', 'plain', 'dig +short plain')).out).toMatch(/^10\.33\.0\.\d+\n$/);
  await docker('node1', 'rm -f plain');
});

describe.runIf(VERSION >= 28)('a network of IPv6 alone', () => {
  beforeAll(async () => {
    await netctl('net create six --subnetv6=fd00:6::/64 --gatewayv6=fd00:6::1');
    await netctl('policy create in6');
    await netctl('policy rule-add in6 1 -direction=in -protocol=tcp -action=deny');
    await netctl('policy rule-add in6 2 -direction=in -protocol=tcp -port=80 -action=allow -priority=10');
    await netctl('group create six closed -policy=in6');
  });

  it('is one in Docker, its containers keep to policy between hosts, and have names by our nameserver', async () => {
    const [{ EnableIPv4, EnableIPv6, IPAM }] = JSON.parse(
      await docker('node1', 'network inspect closed.six'),
    );
    expect([EnableIPv4, EnableIPv6]).toEqual([false, true]);
    expect(IPAM.Config).toEqual([{ Subnet: 'fd00:6::/64', Gateway: 'fd00:6::1' }]);
    await run('node1', 'here', 'closed.six', '--network-alias', 'alias');
    await run('node2', 'there', 'closed.six', '--label', 'app=web');
    for (const port of [80, 81]) await docker('node2', `exec -d there httpd -f -p ${port} -h /www`);
    expect((await inside('node1', 'here', 'ip -4 -o addr show dev eth0')).out).toBe('');
    const asked = async (
      name: string,
      type = 'AAAA',
      from: [string, string] = ['node1', 'here'],
    ): Promise<string> => (await inside(...from, `dig +short ${name} ${type}`)).out.trim();
    await expect.poll(() => asked('there')).toMatch(/^fd00:6::[0-9a-f]+$/);
    await expect.poll(async () => (await asked('closed')).split('\n').length).toBe(2);
    await expect.poll(() => asked('alias', 'AAAA', ['node2', 'there'])).toBe(await asked('here'));
    expect(await asked('there', 'A')).toBe('');
    expect(await asked('', `-x ${await asked('there')}`)).toMatch(/^there\./);
    await netctl('service create lb6 --network=six --selector=app=web --port=80:80:TCP');
    const vip = JSON.parse(await netctl('service inspect lb6')).Oper.serviceVip as string;
    await expect.poll(() => asked('lb6')).toBe(vip);
    await until(
      'the service',
      async () => (await inside('node1', 'here', 'curl -s -m 2 http://lb6/')).out === 'hello from contiv\n',
    );
    await netctl('service rm lb6');
    // Docker's NAT for its own resolver goes, as elsewhere.
    const pid = await docker('node1', 'inspect -f {{.State.Pid}} here');
    await until(
      'our table alone',
      async () => (await on('node1', `nsenter -t ${pid} -n nft list tables`)).out === 'table ip contiv\n',
    );
    const get = async (port: number): Promise<number> =>
      (await inside('node1', 'here', `curl -s -m 2 http://there:${port}/`)).status;
    await until('port 80', async () => (await get(80)) === 0);
    expect(await get(81)).toBe(28);
    expect(await differences()).toBe('');
    await docker('node1', 'stop -t 0 here');
    await docker('node1', 'start here');
    await until('port 80 again', async () => (await get(80)) === 0);
    await docker('node1', 'rm -f here');
    await docker('node2', 'rm -f there');
    await netctl('group rm closed');
    await netctl('net rm six');
  });
});

describe.runIf(VERSION >= 29)('a container, whose name Docker says when it asks for its address,', () => {
  const NAMES = ['one', 'two', 'three', 'four', 'five'];
  const addresses = (): Promise<string[]> => Promise.all(NAMES.map((name) => addressOf('node2', name)));
  afterEach(async () => void (await on('node2', 'docker', 'rm', '-f', ...NAMES)));

  it('has its address again where several start at once, also under another name', async () => {
    for (const name of NAMES) await run('node2', name, 'open');
    const before = await addresses();
    await docker('node2', `stop -t 0 ${NAMES.join(' ')}`);
    await docker('node2', 'rename one more');
    await docker('node2', 'rename two one');
    await docker('node2', 'rename more two');
    await Promise.all(NAMES.map((name) => docker('node2', `start ${name}`)));
    const [one, two, ...others] = before;
    expect(await addresses()).toEqual([two, one, ...others]);
  });

  it('has it after dockerd was killed, which starts all at once', async () => {
    for (const name of NAMES) await run('node2', name, 'open', '--restart=always');
    const before = await addresses();
    await mustLab('kill dockerd node2');
    await mustLab('start dockerd node2');
    await until('addresses', async () => (await addresses()).every((address) => address !== ''));
    expect(await addresses()).toEqual(before);
    expect(await differences()).toBe('');
  });

  it('is named where it is refused one', async () => {
    const taken = await run('node2', 'one', 'open');
    expect((await on('node2', `docker run --name=two --net=open --ip=${taken} contiv/lab true`)).status).toBe(
      125,
    );
    await until('the event', async () =>
      (await netctl('events')).includes(
        `Docker's RequestAddress for two: network default:open: address ${taken}`,
      ),
    );
  });

  it('knows its own name from its first moment on', async () => {
    for (let n = 0; n < 10; n++) {
      const { status, out } = await on(
        'node2',
        `docker run --rm --name=first${n} --net=open contiv/lab dig +short +tries=1 first${n}`,
      );
      expect([status, out]).toEqual([0, expect.stringMatching(/^10\.33\.0\.\d+\n$/)]);
    }
  });
});

describe("Docker's firewall", () => {
  beforeAll(async () => {
    await netctl('policy create web');
    await netctl('policy rule-add web 1 -direction=in -protocol=tcp -action=deny');
    await netctl('policy rule-add web 2 -direction=in -protocol=tcp -port=80 -action=allow -priority=10');
    await netctl('group create open served -policy=web');
    await run('node1', 'served', 'served.open', '-p', '8086:80', '-p', '8087:81');
    for (const port of [80, 81]) await docker('node1', `exec -d served httpd -f -p ${port} -h /www`);
    await run('node2', 'client', 'open');
  });
  const dropped = async (): Promise<string[]> =>
    JSON.parse(await docker1('curl -s --unix-socket /run/contiv/netplugin.sock http://host/health')).dropped;
  const docker1 = (command: string): Promise<string> => mustLab(`exec node1 -- ${command}`);
  /** Outside nothing listens on port 9, and says so (curl: 7). */
  const wayOut = async (host: string, container: string): Promise<boolean> =>
    (await inside(host, container, 'curl -s -m 2 http://192.168.50.1:9/')).status === 7;
  const reaches = async (from: string, url: string): Promise<boolean> =>
    (await on(from, `curl -s -m 2 ${url}`)).status === 0;

  it('lets containers out and published ports in, and our policy decides', async () => {
    await until('published', () => reaches('outside', `http://${HOST}:8086/`));
    expect(await wayOut('node1', 'served')).toBe(true);
    expect(await wayOut('node2', 'client')).toBe(true);
    expect(await reaches('node2', `http://${HOST}:8086/`)).toBe(true);
    expect(await reaches('node1', 'http://127.0.0.1:8086/')).toBe(true);
    expect((await inside('node2', 'client', 'curl -s -m 2 http://served/')).status).toBe(0);
    for (const port of [8087, 8088]) expect(await reaches('outside', `http://${HOST}:${port}/`)).toBe(false);
    expect((await inside('node2', 'client', 'curl -s -m 2 http://served:81/')).status).toBe(28);
    expect(await dropped()).toEqual([]);
  });

  it("and containers of Docker's own beside ours have their ports, and theirs only", async () => {
    await docker('node1', 'run -d --name=plain -p 8088:80 contiv/lab httpd -f -p 80 -h /www');
    await until('its port', () => reaches('outside', `http://${HOST}:8088/`));
    const address = await addressOf('node1', 'plain');
    expect((await inside('node2', 'client', `curl -s -m 2 http://${HOST}:8088/`)).status).toBe(0);
    expect((await inside('node1', 'served', `curl -s -m 2 http://${address}/`)).status).not.toBe(0);
    expect((await inside('node1', 'plain', 'curl -s -m 2 http://10.33.0.254:8087/')).status).not.toBe(0);
    await docker('node1', 'rm -f plain');
  });

  it('and all of it after dockerd was killed, while ours went on', async () => {
    const pinging = background('node2', 'docker exec client ping -i 0.1 served');
    await mustLab('kill dockerd node1');
    await mustLab('start dockerd node1');
    await docker('node1', 'start served');
    for (const port of [80, 81]) await docker('node1', `exec -d served httpd -f -p ${port} -h /www`);
    await until('published', () => reaches('outside', `http://${HOST}:8086/`));
    await until('the way out', () => wayOut('node1', 'served'));
    await pinging.end();
    expect(await dropped()).toEqual([]);
    expect(await differences()).toBe('');
  });

  it('is told from another one, which drops what ours lets pass', async () => {
    const own = 'table inet own { chain passing { type filter hook forward priority 10; policy drop; }; }';
    await feed('node1', own, 'nft -f -');
    const chain = 'table inet own, chain passing (its policy) drops what';
    await until(
      'it is named',
      async () =>
        (await dropped()).sort().join() ===
        `${chain} comes in to published ports, IPv4,${chain} containers send out, IPv4`,
    );
    expect(await wayOut('node1', 'served')).toBe(false);
    await docker1('nft delete table inet own');
    await until('nothing is dropped', async () => (await dropped()).length === 0);
    expect(await wayOut('node1', 'served')).toBe(true);
  });
});
