/** What users of Contiv 1.x know, on two hosts: forwarding mode bridge, infra networks, addresses that stay; published ports. */
import { afterEach, describe, expect, it } from 'vitest';
import {
  addressOf,
  background,
  clear,
  differences,
  docker,
  inside,
  must,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

const HOSTS = ['node1', 'node2'] as const;

afterEach(async () => {
  await clear();
  await netctl('global set --fwd-mode routing');
});

it('in bridge mode networks of a tenant do not reach each other, on one host and between two', async () => {
  await netctl('global set --fwd-mode bridge');
  for (const n of [1, 2])
    await netctl(`net create wire${n} --subnet=10.41.${n}.0/24 --gateway=10.41.${n}.254`);
  await run('node1', 'a1', 'wire1');
  const near = await run('node1', 'b1', 'wire1');
  const far = await run('node2', 'c1', 'wire1');
  const others = [await run('node1', 'a2', 'wire2'), await run('node2', 'b2', 'wire2')];
  for (const address of [near, far]) await until(address, () => pings('node1', 'a1', address));
  for (const address of others) expect(await pings('node1', 'a1', address), address).toBe(false);
  expect(await pings('node2', 'c1', others[0] as string)).toBe(false);
  expect(await differences()).toBe('');
});

describe('an infra network', () => {
  it('has an address of each host: hosts and containers of the whole tenant reach each other, and Docker is not offered it', async () => {
    await netctl('net create -n infra hosts --subnet=10.42.0.0/24');
    await netctl('net create pods --subnet=10.43.0.0/24 --gateway=10.43.0.254');
    const ofHost = (host: string): Promise<string> =>
      until(`address of ${host}`, async () => {
        const [, found] = /inet (10\.42\.0\.\d+)\/32/.exec(await must(host, 'ip -o -4 addr')) ?? [];
        return found;
      });
    const [one, two] = [await ofHost('node1'), await ofHost('node2')];
    expect(one).not.toBe(two);
    const networks = await docker('node1', "network ls --format '{{.Name}}'");
    expect(networks.split('\n')).toContain('pods');
    expect(networks.split('\n')).not.toContain('hosts');
    const containers = [await run('node1', 'p1', 'pods'), await run('node2', 'p2', 'pods')];
    for (const host of HOSTS)
      for (const address of [...containers, one, two])
        await until(
          `${host} to ${address}`,
          async () => (await on(host, `busybox ping -c 1 -W 2 ${address}`)).status === 0,
        );
    for (const address of [one, two]) await until(address, () => pings('node1', 'p1', address));
    // A server of the host's at its address; what containers may not reach on a host they do not reach there either.
    const server = background('node2', `busybox httpd -f -p ${two}:7777 -h /run/contiv`);
    const status = async (host: string, container: string, at: string): Promise<string> =>
      (await inside(host, container, `curl -sk -m 3 -o /dev/null -w %{http_code} ${at}`)).out.trim();
    await until('the server', async () => (await status('node1', 'p1', `http://${two}:7777/`)) === '404');
    expect(await status('node2', 'p2', `http://${two}:7777/`)).toBe('404');
    await server.end();
    expect(await status('node1', 'p1', `https://${one}:9999/`)).toBe('000');
    expect(await differences()).toBe('');
    await docker('node1', 'rm -f p1');
    await docker('node2', 'rm -f p2');
    await netctl('net rm hosts');
    await until('the address goes', async () => !(await must('node1', 'ip -o -4 addr')).includes('10.42.0.'));
    await expect.poll(() => must('node1', 'ip route')).not.toContain('10.43.0.0/24');
  });
});

describe('a container that is stopped and started', () => {
  it('keeps its address, also beside others that came and went, unless it is another’s by then', async () => {
    await netctl('net create rest --subnet=10.44.0.0/24 --gateway=10.44.0.254');
    await netctl('group create rest web');
    const plain = await run('node1', 'plain', 'rest');
    const member = await run('node1', 'member', 'web.rest');
    const had = async (): Promise<string[]> => [
      await addressOf('node1', 'plain'),
      await addressOf('node1', 'member'),
    ];
    await docker('node1', 'stop -t 0 plain member');
    const other = await run('node1', 'other', 'rest');
    expect([plain, member]).not.toContain(other);
    await docker('node1', 'start plain');
    await docker('node1', 'start member');
    expect(await had()).toEqual([plain, member]);
    await docker('node1', 'restart -t 0 plain');
    await docker('node1', 'restart -t 0 member');
    expect(await had()).toEqual([plain, member]);
    // One that is new has nobody's, whoever is stopped.
    await docker('node1', 'stop -t 0 plain');
    expect(await run('node1', 'late', 'rest')).not.toBe(plain);
    await docker('node1', 'start plain');
    expect(await had()).toEqual([plain, member]);
    // Where it is another's by now, it has the next one.
    await docker('node1', 'stop -t 0 plain');
    expect(await run('node1', 'heir', 'rest', `--ip=${plain}`)).toBe(plain);
    await docker('node1', 'start plain');
    expect(await addressOf('node1', 'plain')).not.toBe(plain);
    expect(await differences()).toBe('');
  });
});

it('published ports are shown, those that Docker chooses too, and those of a network without gateway, which lead nowhere', async () => {
  await netctl('net create ways --subnet=10.45.0.0/24 --gateway=10.45.0.254');
  await netctl('net create shut --subnet=10.46.0.0/24');
  await run(
    'node1',
    'open',
    'ways',
    '-p',
    '8080:80',
    '-p',
    '9000-9003:9000-9003/udp',
    '--expose',
    '443',
    '-P',
  );
  await run('node1', 'closed', 'shut', '-p', '8081:80');
  await docker('node1', 'network connect shut open');
  const inspect = async (name: string) => JSON.parse(await netctl(`endpoint inspect ${name}`)).Oper;
  const { published, others } = await until('ports of open', async () => {
    const oper = await inspect('open');
    return (oper.published ?? []).length === 3 && oper.others !== undefined && oper;
  });
  // The first is Docker's choice, which docker port does not know of a driver that is not its own.
  expect(
    published.toSorted((a: string, b: string) => Number.parseInt(b, 10) - Number.parseInt(a, 10)),
  ).toEqual([expect.stringMatching(/^\d{5}->443\/tcp$/), '9000-9003->9000-9003/udp', '8080->80/tcp']);
  expect(others).toMatchObject([{ network: 'shut.default', containerName: 'open' }]);
  await expect
    .poll(() => inspect('closed'))
    .toMatchObject({
      notPublished: ['8081->80/tcp'],
      note: expect.stringContaining('network default:shut has no gateway'),
    });
  const wide = await netctl('endpoint ls --wide');
  expect(wide).toContain('8080->80/tcp');
  expect(wide).toContain('8081->80/tcp (no gateway)');
});
