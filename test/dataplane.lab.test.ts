/** Each trap of the data plane, on real hosts with real containers. node2's resolver is on loopback. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import {
  addressOf,
  type Background,
  background,
  clear,
  DOCKER_USER,
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
import { vxlan } from './packet.ts';

const OUTSIDE = '198.51.100.1';
/** Without a user of its own, which the image does not have. */
const TCPDUMP = ['tcpdump', '-Z', 'root', '-lnni', 'eth0'];
let resolver: Background;

beforeAll(async () => {
  await netctl('net create one --subnet=10.1.0.0/24 --gateway=10.1.0.254 --pkt-tag=100');
  await netctl(
    'net create two --subnet=10.2.0.0/24 --gateway=10.2.0.254 --subnetv6=fd00:2::/64 --gatewayv6=fd00:2::fe',
  );
  await netctl('net create closed --subnet=10.3.0.0/24');
  await run('node1', 'ann', 'one');
  await run('node2', 'bob', 'one');
  await run('node1', 'cal', 'two');
  await run('node2', 'dan', 'two');
  // The resolver of the hosts, and one of the world's: the outside answers every A query with 203.0.113.9.
  resolver = background(
    'outside',
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    `${import.meta.dirname}/resolver.ts`,
  );
  await until('resolver', async () => resolver.lines.includes('ready'));
  await until('names', () => pings('node1', 'cal', 'dan'));
});
afterAll(async () => {
  await resolver?.end('SIGTERM');
  await clear();
});

describe('between containers', () => {
  it('carries IPv6 as IPv4, by name', async () => {
    expect((await inside('node1', 'cal', 'ping -6 -c 1 -W 2 dan')).out).toMatch(/from fd00:2::3: .*ttl=64/);
  });

  it('is one hop between networks of a tenant, in both directions', async () => {
    const { out } = await inside('node1', 'ann', 'ping -c 1 -W 2', await addressOf('node2', 'dan'));
    expect(out).toMatch(/ttl=63/);
  });

  it('answers for the gateway on every host, IPv4 and IPv6', async () => {
    for (const [host, name] of [
      ['node1', 'cal'],
      ['node2', 'dan'],
    ] as const) {
      expect(await pings(host, name, '10.2.0.254')).toBe(true);
      expect(await pings(host, name, 'fd00:2::fe')).toBe(true);
    }
  });

  it('goes past the routers once a connection is established, between hosts and within one', async () => {
    await run('node1', 'eve', 'one');
    const router = (host: string, command: string): Promise<string> =>
      must(host, 'ip netns exec contiv-default sh -c', command);
    const forwarded = async (host: string): Promise<number> => {
      const [names = '', values = ''] = (await router(host, 'grep ^Ip: /proc/net/snmp')).split('\n');
      return Number(values.split(' ')[names.split(' ').indexOf('ForwDatagrams')]);
    };
    /** Received by the containers' veths and the tunnel: what either way takes. */
    const received = async (host: string): Promise<number> => {
      const devices = await router(host, "grep -E '(ct.*|vx100):' /proc/net/dev");
      return devices
        .split('\n')
        .map((line) => Number(line.trim().split(/[:\s]+/)[2]))
        .reduce((sum, packets) => sum + packets, 0);
    };
    for (const [host, name, hosts] of [
      ['node2', 'bob', ['node1', 'node2']],
      ['node1', 'eve', ['node1']],
    ] as const) {
      await docker(host, `exec -d ${name} iperf3 -s -1`);
      await until('server', async () => (await inside(host, name, 'netstat -ltn')).out.includes(':5201'));
      const before = await Promise.all(
        hosts.map(async (h) => [await forwarded(h), await received(h)] as const),
      );
      await docker('node1', `exec ann iperf3 -c ${name} -n 20M`);
      for (const [i, h] of hosts.entries()) {
        const [byRouter = 0, packets = 0] = before[i] ?? [];
        expect((await received(h)) - packets).toBeGreaterThan(300);
        expect((await forwarded(h)) - byRouter).toBeLessThan(30);
      }
    }
    await docker('node1', 'rm -f eve');
  });

  it('does not reach an address that nobody has, on any way', async () => {
    const capture = background('outside', "tcpdump -lnni eth0 'host 10.2.0.99 or host 10.1.0.99'");
    await until('capture', async () => capture.lines.some((l) => l.includes('listening on')));
    const nobody = ['10.1.0.99', '10.2.0.99'];
    expect(await Promise.all(nobody.map((to) => pings('node1', 'ann', to)))).toEqual([false, false]);
    await capture.end();
    expect(capture.lines.filter((l) => l.includes('10.1.0.99') || l.includes('10.2.0.99'))).toEqual([]);
  });

  it('drops packets with a source that is not the container’s, and counts them', async () => {
    const counter = async (): Promise<number> =>
      Number(
        /packets (\d+)/.exec(
          await must('node1', 'ip netns exec contiv-default nft list counter inet contiv spoofed'),
        )?.[1],
      );
    const before = await counter();
    const capture = background('node2', "tcpdump -lnni eth0 'udp port 4789'");
    await until('capture', async () => capture.lines.some((l) => l.includes('listening on')));
    const pid = await docker('node1', 'inspect -f {{.State.Pid}} ann');
    // An address of the other container, set up within the container's namespace by its "root".
    await must('node1', `nsenter -t ${pid} -n ip addr add 10.1.0.77/32 dev eth0`);
    await inside('node1', 'ann', 'ping -c 2 -W 1 -I 10.1.0.77 10.1.0.3');
    await must('node1', `nsenter -t ${pid} -n ip addr del 10.1.0.77/32 dev eth0`);
    await capture.end();
    expect(await counter()).toBeGreaterThan(before);
    expect(capture.lines.filter((l) => l.includes('10.1.0.77'))).toEqual([]);
  });
});

describe('the way out', () => {
  it('reaches outside from every host whatever Docker sets the FORWARD policy to', async () => {
    // With nftables Docker has chains of its own for that, and leaves the policy as it is.
    expect(await must('node1', 'iptables -S FORWARD')).toMatch(
      DOCKER_USER ? /-P FORWARD DROP/ : /-P FORWARD ACCEPT/,
    );
    expect(await pings('node1', 'ann', OUTSIDE)).toBe(true);
    expect(await pings('node2', 'dan', OUTSIDE)).toBe(true);
  });

  it('stays closed for a network without gateway, which works within', async () => {
    await run('node1', 'x1', 'closed');
    await run('node2', 'x2', 'closed');
    await until('within', () => pings('node1', 'x1', 'x2'));
    expect(await pings('node1', 'x1', OUTSIDE)).toBe(false);
    expect((await inside('node1', 'x1', 'ip route')).out).not.toMatch(/default/);
    expect((await inside('node1', 'x1', 'ls /sys/class/net')).out.split(/\s+/).filter((n) => n)).toEqual([
      'eth0',
      'lo',
    ]);
  });

  it('stays closed for it also when the container makes a route of its own', async () => {
    const pid = await docker('node1', 'inspect -f {{.State.Pid}} x1');
    await must('node1', `nsenter -t ${pid} -n ip route add default via 169.254.53.53`);
    expect(await pings('node1', 'x1', '10.1.0.254')).toBe(true); // the route leads to the router
    expect(await pings('node1', 'x1', OUTSIDE)).toBe(false);
  });

  it("leads to Docker's own bridges by published ports only", async () => {
    await run('node1', 'bridged', 'bridge', '-p', '8181:80');
    await docker('node1', 'exec -d bridged httpd -f -p 80 -h /www');
    const address = await addressOf('node1', 'bridged');
    const fetch = (url: string) => inside('node1', 'ann', `curl -s -m 3 ${url}`);
    await until('published', async () => (await fetch('http://192.168.50.11:8181/')).status === 0);
    expect((await fetch(`http://${address}/`)).status).not.toBe(0);
    await docker('node1', 'rm -f bridged');
  });

  it('keeps containers from forging VXLAN', async () => {
    const target = await addressOf('node2', 'bob');
    const capture = background('node2', 'docker exec bob', ...TCPDUMP, 'icmp');
    await until('capture', async () => capture.lines.some((l) => l.includes('listening on')));
    // As node1 would send it: inner addresses that node2 takes. From another host, and from the host itself.
    const forged = vxlan({
      vni: 100,
      from: { mac: vtepMac('192.168.50.11'), address: await addressOf('node1', 'ann') },
      to: { mac: vtepMac('192.168.50.12'), address: target },
    }).toString('base64');
    // With socat, which hosts and containers both have: netcat is many programs, and not everywhere.
    const send = (host: string, ...into: string[]) =>
      must(
        host,
        ...into,
        'sh',
        '-c',
        `echo ${forged} | base64 -d | socat -u - UDP4-SENDTO:192.168.50.12:4789`,
      );
    const arrived = (): string[] => capture.lines.filter((l) => l.includes('echo request'));
    await send('node1', 'docker exec ann');
    await send('node2', 'docker exec dan');
    expect(arrived()).toEqual([]);
    // The packet is right: from the host itself it does arrive, and nothing before it has.
    await send('node1');
    await until('packet', async () => arrived().length > 0);
    expect(arrived()).toHaveLength(1);
    await inside('node2', 'bob', 'killall tcpdump');
    await capture.end();
  });

  it('does not lead to netmaster', async () => {
    const version = 'curl -sk -m 2 https://192.168.50.11:9999/version';
    const asked = await Promise.all([inside('node1', 'ann', version), inside('node2', 'bob', version)]);
    for (const { status } of asked) expect(status).not.toBe(0);
    expect((await on('outside', version)).status).toBe(0);
  });
});

describe('published ports', () => {
  beforeAll(async () => {
    await run('node1', 'pub', 'two', '-p', '8080:80');
    await docker('node1', 'exec -d pub httpd -f -p 80 -h /www');
    await until(
      'httpd',
      async () => (await inside('node1', 'pub', 'curl -s http://127.0.0.1/')).status === 0,
    );
  });
  const fetch = (host: string, url: string) => on(host, `curl -s -m 5 ${url}`);

  it('may be the same one at several addresses of the host, each of another container', async () => {
    for (const [name, address] of [
      ['pub-local', '127.0.0.1'],
      ['pub-outer', '192.168.50.11'],
    ] as const) {
      await run('node1', name, 'two', '-p', `${address}:8082:80`);
      await inside('node1', name, 'sh -c', `echo ${name} >/www/index.html`);
      await docker('node1', `exec -d ${name} httpd -f -p 80 -h /www`);
    }
    for (const [address, name] of [
      ['127.0.0.1', 'pub-local'],
      ['192.168.50.11', 'pub-outer'],
    ] as const)
      await until(name, async () => (await fetch('node1', `http://${address}:8082/`)).out === `${name}\n`);
    await docker('node1', 'rm -f pub-local pub-outer');
  });

  it('may be thousands in a row, and lead each to its own port', async () => {
    const answer = (name: string, port: number) =>
      docker('node1', `exec -d ${name} socat UDP4-RECVFROM:${port},fork`, `SYSTEM:echo ${port}`);
    const asked = async (host: string, to: string) =>
      (await on(host, 'sh -c', `echo | socat -t 0.5 - UDP4:${to}`)).out.trim();
    // More than dockerd could tell in a call of a megabyte; shifted ones are another way.
    await run('node1', 'turn', 'two', '-p', '20000-30000:20000-30000/udp');
    await run('node1', 'shifted', 'two', '-p', '31000-31999:41000-41999/udp');
    for (const port of [20_000, 25_123, 30_000]) await answer('turn', port);
    for (const port of [41_000, 41_999]) await answer('shifted', port);
    for (const [host, address] of [
      ['outside', '192.168.50.11'],
      ['node1', '127.0.0.1'],
    ] as const) {
      for (const port of [20_000, 25_123, 30_000])
        await until('port', async () => (await asked(host, `${address}:${port}`)) === String(port));
      for (const port of [31_000, 31_999])
        await until(
          'shifted',
          async () => (await asked(host, `${address}:${port}`)) === String(port + 10_000),
        );
    }
    const second = 'docker run --rm --net=two -p 29000-29010:80-90/udp contiv/lab true';
    expect((await on('node1', second)).err).toContain(
      'cannot publish udp 0.0.0.0:29000-29010: port 29000 is taken on this host',
    );
    expect(await differences()).toBe('');
    await docker('node1', 'rm -f turn shifted');
    await docker('node1', 'run --rm --net=two -p 29000-29010:80-90/udp contiv/lab true');
  });

  it('are reached from outside, from the host, on localhost, and from containers of both hosts', async () => {
    const url = 'http://192.168.50.11:8080/';
    expect((await fetch('outside', url)).out).toBe('hello from contiv\n');
    expect((await fetch('node1', url)).out).toBe('hello from contiv\n');
    expect((await fetch('node1', 'http://127.0.0.1:8080/')).out).toBe('hello from contiv\n');
    for (const [host, name] of [
      ['node1', 'ann'],
      ['node1', 'pub'],
      ['node2', 'bob'],
    ] as const)
      expect((await inside(host, name, `curl -s -m 5 ${url}`)).out).toBe('hello from contiv\n');
  });

  it('show the container the address of an outside client', async () => {
    const capture = background('node1', "docker exec pub tcpdump -Z root -lnni eth0 'tcp port 80'");
    await until('capture', async () => capture.lines.some((l) => l.includes('listening on')));
    await fetch('outside', 'http://192.168.50.11:8080/');
    await until('packets', async () => capture.lines.some((l) => l.includes('192.168.50.1.')));
    await capture.end('SIGTERM');
    await inside('node1', 'pub', 'killall tcpdump');
  });

  it('are refused where they are taken, with the port in the message, and nothing is left', async () => {
    const { status, err } = await on('node1', 'docker run -d --name=late --net=two -p 8080:80 contiv/lab');
    expect(status).not.toBe(0);
    expect(err).toMatch(/port 8080 is taken/);
    await docker('node1', 'rm -f late');
    expect(await differences()).toBe('');
  });

  it('are free again when the container is gone', async () => {
    await docker('node1', 'rm -f pub');
    expect((await fetch('outside', 'http://192.168.50.11:8080/')).status).not.toBe(0);
    await run('node1', 'pub', 'two', '-p', '8080:80');
    await docker('node1', 'rm -f pub');
  });
});

describe('a container on two networks', () => {
  it('answers on both addresses and has names in both', async () => {
    await run('node1', 'both', 'one');
    await docker('node1', 'network connect two both');
    const text = await docker(
      'node1',
      "inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' both",
    );
    const [first = '', second = ''] = text.split(' ');
    // A name comes a moment after the address.
    for (const target of [first, second, 'both'])
      for (const asker of ['bob', 'dan'])
        await until(`${asker} to reach ${target}`, () => pings('node2', asker, target));
    expect(await differences()).toBe('');
    await docker('node1', 'network disconnect two both');
    expect(await differences()).toBe('');
    expect(await pings('node2', 'bob', 'both')).toBe(true);
  });
});

describe('names', () => {
  const ask = (host: string, name: string, ...args: string[]): Promise<string> =>
    inside(host, name, 'dig +short +tries=2 +time=3', ...args).then((r) => r.out.trim());

  it('resolve aliases, other networks of the tenant, and back from addresses', async () => {
    await run('node2', 'store', 'one', '--network-alias=cache');
    expect(await until('alias', async () => (await ask('node1', 'ann', 'cache')) || undefined)).toBe(
      await addressOf('node2', 'store'),
    );
    expect(await ask('node1', 'ann', 'dan.two')).toBe(await addressOf('node2', 'dan'));
    expect(await ask('node1', 'ann', 'dan')).toBe('');
    expect(await ask('node1', 'ann', '-x', await addressOf('node2', 'store'))).toBe('store.one.');
  });

  it('resolve a group to all members, on hosts of both kinds', async () => {
    await netctl('group create one app');
    const members = [
      await run('node1', 'app1', 'app.one'),
      await run('node2', 'app2', 'app.one'),
      await run('node2', 'app3', 'app'),
    ];
    for (const [host, name] of [
      ['node1', 'ann'],
      ['node2', 'bob'],
    ] as const)
      await until(
        `all members at ${host}`,
        async () => (await ask(host, name, 'app')).split('\n').sort().join() === [...members].sort().join(),
      );
    await docker('node2', 'pause app2');
    await until(
      'paused member leaves',
      async () => !(await ask('node1', 'ann', 'app')).includes(members[1] as string),
    );
    await docker('node2', 'unpause app2');
    await until('member is back', async () =>
      (await ask('node1', 'ann', 'app')).includes(members[1] as string),
    );
  });

  it('that are unknown are no names, and a known one without the type is empty', async () => {
    expect((await inside('node1', 'ann', 'dig nosuch')).out).toMatch(/NXDOMAIN/);
    expect((await inside('node1', 'ann', 'dig bob AAAA')).out).toMatch(/NOERROR.*\n.*ANSWER: 0/);
  });

  it('of others are answered by the host’s resolver, and by an outside one that is asked', async () => {
    expect(await ask('node1', 'ann', 'example.com')).toBe('203.0.113.9');
    expect(await ask('node1', 'ann', '@198.51.100.1', 'example.com')).toBe('203.0.113.9');
    expect(await ask('node1', 'ann', '+tcp', 'example.com')).toBe('203.0.113.9');
  });

  it('of ours are answered whichever outside resolver is asked, and by the gateway', async () => {
    const b = await addressOf('node2', 'bob');
    expect(await ask('node1', 'ann', '@198.51.100.1', 'bob')).toBe(b);
    expect(await ask('node1', 'ann', '@10.1.0.254', 'bob')).toBe(b);
    expect(await ask('node1', 'ann', '+tcp', 'bob')).toBe(b);
  });
});
