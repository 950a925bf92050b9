/** A hundred containers at once over two hosts. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clear, differences, docker, inside, must, netctl, on, until } from './lab.ts';

const COUNT = 100;
const HOSTS = ['node1', 'node2'];
const containers = Array.from({ length: COUNT }, (_, i) => ({
  name: `many${i}`,
  host: HOSTS[i % HOSTS.length] as string,
  group: `g${i % 10}`,
}));
const of = (host: string) => containers.filter((c) => c.host === host).map((c) => c.name);

/** Ten groups, each with a policy that denies all but ping, and names another group. */
beforeAll(async () => {
  await netctl('net create many --subnet=10.9.0.0/24 --gateway=10.9.0.254');
  for (let i = 0; i < 10; i++) {
    const add = (...flags: string[]) => netctl(`policy rule-add p${i}`, ...flags);
    await netctl(`policy create p${i}`);
    await add('none', '-action=deny');
    await add('ping', '-protocol=icmp', '-action=allow', '-priority=2');
    if (i > 0) await add('friends', `--from-group=g${i - 1}`, '-action=allow', '-priority=3');
    await netctl(`group create many g${i} -policy=p${i}`);
  }
});
afterAll(clear);

describe('a hundred containers started at once', () => {
  it('all get distinct addresses', async () => {
    const started = await Promise.all(
      containers.map(({ name, host, group }) =>
        on(host, `docker run -d --name=${name} --net=${group}.many contiv/lab sleep 100000`),
      ),
    );
    expect(started.filter((s) => s.status !== 0).map((s) => s.err)).toEqual([]);
    const addresses: string[] = [];
    for (const host of HOSTS)
      addresses.push(
        ...(
          await docker(
            host,
            "inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'",
            ...of(host),
          )
        ).split('\n'),
      );
    expect(new Set(addresses).size).toBe(COUNT);
    // A container's name comes a moment after its group's has its address.
    const names = [...Array.from({ length: 10 }, (_, i) => `g${i}`), ...containers.map(({ name }) => name)];
    for (const host of HOSTS)
      await until(`names on ${host}`, async () => {
        const { out } = await inside(host, of(host)[0] as string, 'dig +short', ...names);
        return out.trim().split('\n').length === 2 * COUNT;
      });
  });

  it('resolve and ping each other by name', async () => {
    const names = containers.map((c) => c.name).join(' ');
    const script = `for n in ${names}; do ping -c 1 -W 3 $n >/dev/null || echo $n; done`;
    const unreached = await Promise.all(
      containers.map(async ({ name, host }) => {
        const { out } = await inside(host, name, 'sh -c', script);
        return out
          .split('\n')
          .filter((line) => line)
          .map((target) => `${name} to ${target}`);
      }),
    );
    expect(unreached.flat()).toEqual([]);
    expect(await differences()).toBe('');
  });

  it('leave nothing after docker rm -f of all', async () => {
    await Promise.all(HOSTS.map((host) => docker(host, 'rm -f', ...of(host))));
    expect(await differences()).toBe('');
    for (const host of HOSTS) {
      await expect.poll(() => must(host, 'ip -br link')).not.toMatch(/^(ct|cc|cx|vx)/m);
      await expect.poll(() => must(host, 'ip netns list')).not.toMatch(/contiv-/);
    }
    await expect
      .poll(async () => JSON.parse(await netctl('net inspect many')).Oper)
      .not.toHaveProperty('allocatedAddressesCount');
  });
});
