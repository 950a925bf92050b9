/**
 * Two tenants with the same names and addresses on the same hosts, of which one attacks: with root in a container, raw
 * sockets and the right to change its own network. Everything that arrives at the other tenant's containers and routers
 * is captured all the while.
 *
 *   node1   blue-a (attacker)   red-a   red-c (20.1.1.77, published 8080)
 *   node2   blue-b "db"         red-b "db"   red-h (in `hidden`, 10.66.0.2)
 */
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostFolder } from '../lab/state.ts';
import { exitDevice, vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import { NAMESERVER, NAMESERVER6 } from '../src/netplugin/constants.ts';
import { temporaryFolder } from './folder.ts';
import {
  addressOf,
  type Background,
  background,
  clear,
  differences,
  docker,
  type Ended,
  inside,
  LAB,
  must,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';
import { arp, echo, ethernet, icmp, ip, PROTOCOL, tcpSyn, udp, udpDatagram, vxlan } from './packet.ts';

const OUTSIDE = '198.51.100.1';
const HOST = '192.168.50.11';
const OTHER_HOST = '192.168.50.12';
const ATTACKER = '20.1.1.2';
const GATEWAY = '20.1.1.254';
/** Of red alone: container red-c, and red-h in a network that blue does not have. */
const VAULT = '20.1.1.77';
const VAULT6 = 'fd00:1::77';
const HIDDEN = '10.66.0.2';
/** In attacks where the true ones would look like the other tenant's own. */
const MARK = '20.1.1.166';
const MARK_MAC = '02:66:66:66:66:66';
const TENANTS = ['red', 'blue'];
const ROOT = ['--cap-add=NET_ADMIN', '--cap-add=NET_RAW'];
const FRAMES = [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  `${import.meta.dirname}/frames.ts`,
];

let resolver: Background;
let mac = '';
let routerMac = '';
let pid = '';

/** Host's and router's end of a tenant's way out on node1. */
interface Transit {
  readonly host: string;
  readonly router: string;
  readonly host6: string;
  readonly router6: string;
}
let red: Transit;
let blue: Transit;

async function transitOf(tenant: string): Promise<Transit> {
  const addresses = async (...command: string[]): Promise<string[]> =>
    (await must('node1', ...command)).split(/\s+/).filter((word) => /^(100\.127|fd6f).*\//.test(word));
  const end = async (...command: string[]): Promise<string[]> =>
    (await addresses(...command, 'scope', 'global')).map((a) => a.split('/')[0] as string);
  const [host = '', host6 = ''] = await end('ip', '-br', 'addr', 'show', 'dev', exitDevice(tenant));
  const [router = '', router6 = ''] = await end(
    ...['ip', '-n', `contiv-${tenant}`, '-br', 'addr', 'show', 'dev', 'uplink'],
  );
  return { host, router, host6, router6 };
}

const attacker = (...command: string[]): Promise<Ended> => inside('node1', 'blue-a', ...command);
const shell = (script: string): Promise<Ended> => attacker('sh', '-c', script);
/** Frames as they are, from the attacker's eth0. */
const raw = (...frames: Buffer[]): Promise<string> =>
  must('node1', `nsenter -t ${pid} -n`, ...FRAMES, 'eth0', ...frames.map((f) => f.toString('hex')));
/** IP packets to the router. */
const packets = (...list: Buffer[]): Promise<string> =>
  raw(...list.map((packet) => ethernet(mac, routerMac, packet)));

beforeAll(async () => {
  resolver = background('outside', ...FRAMES.slice(0, 2), `${import.meta.dirname}/resolver.ts`);
  await until('resolver', async () => resolver.lines.includes('ready'));
  for (const tenant of TENANTS) {
    await netctl(`tenant create ${tenant}`);
    const dual = ['--subnetv6=fd00:1::/64', '--gatewayv6=fd00:1::fe', `--gateway=${GATEWAY}`];
    await netctl(`net create net -t ${tenant} --subnet=20.1.1.0/24`, ...dual);
    await netctl(`group create net web -t ${tenant}`);
    await run('node1', `${tenant}-a`, `web.net/${tenant}`, ...ROOT);
    await run('node2', `${tenant}-b`, `web.net/${tenant}`, ...ROOT, '--network-alias=db');
    await docker('node2', `exec ${tenant}-b sh -c`, `echo ${tenant} > /www/index.html`);
    await docker('node2', `exec ${tenant}-b httpd -p 80 -h /www`);
  }
  await netctl('net create hidden -t red --subnet=10.66.0.0/24 --gateway=10.66.0.254');
  const address = [`--ip=${VAULT}`, `--ip6=${VAULT6}`];
  await run(
    'node1',
    'red-c',
    'net/red',
    ...address,
    '--network-alias=vault',
    '-p',
    '8080:80',
    '-p',
    '53:53/udp',
  );
  await docker('node1', 'exec red-c httpd -p 80 -h /www');
  await run('node2', 'red-h', 'hidden/red', '--network-alias=vault');
  for (const tenant of TENANTS) await until(`${tenant}'s names`, () => pings('node1', `${tenant}-a`, 'db'));
  expect(await addressOf('node1', 'blue-a')).toBe(ATTACKER);
  expect(await addressOf('node1', 'red-a')).toBe(ATTACKER);
  await attacker('ping', '-c', '1', '-W', '2', GATEWAY);
  mac = (await attacker('cat', '/sys/class/net/eth0/address')).out.trim();
  routerMac = /lladdr (\S+)/.exec((await attacker('ip', 'neigh', 'show', GATEWAY)).out)?.[1] ?? '';
  pid = await docker('node1', 'inspect -f {{.State.Pid}} blue-a');
  red = await transitOf('red');
  blue = await transitOf('blue');
});
afterAll(async () => {
  await resolver?.end('SIGTERM');
  await clear();
});

describe('each tenant', () => {
  it.each(TENANTS)('resolves and reaches its own: %s', async (tenant) => {
    for (const name of ['db', 'db.net', `db.net.${tenant}`, 'DB', `${tenant}-b`])
      expect((await inside('node1', `${tenant}-a`, `curl -s -m 5 http://${name}/`)).out).toBe(`${tenant}\n`);
    const members = (await inside('node1', `${tenant}-a`, 'dig +short web')).out.trim().split('\n');
    expect(members.sort()).toEqual(['20.1.1.2', '20.1.1.3']);
  });

  it('has host ports of its own: one that the other has is refused, with the port in the message', async () => {
    const { status, err } = await on(
      ...([
        'node1',
        'docker',
        'run',
        '--rm',
        '--net=net/blue',
        '-p',
        '8080:80',
        'contiv/lab',
        'true',
      ] as const),
    );
    expect(status).not.toBe(0);
    expect(err).toMatch(/cannot publish tcp .*8080: port 8080 is taken on this host/);
  });

  it('cannot publish the port of the tunnels, nor that of netmaster', async () => {
    for (const port of ['4789:80/udp', `${HOST}:4789:80/udp`, '9999:80', `${HOST}:9999:80`]) {
      const { err } = await on('node1', `docker run --rm --net=net/blue -p ${port} contiv/lab true`);
      expect(err).toMatch(/port \d+ is taken on this host/);
    }
  });

  it('reaches what the other publishes as any outsider would', async () => {
    expect((await attacker('curl', '-s', '-m', '5', `http://${HOST}:8080/`)).out).toBe('hello from contiv\n');
    expect((await inside('node2', 'blue-b', `curl -s -m 5 http://${HOST}:8080/`)).out).toBe(
      'hello from contiv\n',
    );
  });
});

/** What the kernels of routers and containers say by themselves. */
const HOUSEKEEPING =
  /ARP, |ICMP6, (router (solicitation|advertisement)|neighbor (solicitation|advertisement)|multicast listener report)|HBH ICMP6/;
const MARKED = /\.166\b|::166\b|02:66:66/;

interface Watch {
  readonly name: string;
  readonly capture: Background;
  /** A line that should not be there. */
  isStrange(line: string): boolean;
}

describe('an attacker', () => {
  const watches: Watch[] = [];
  let round = 0;
  /** Bytes of red's own pings, and more: no attack has such. */
  const FENCE = 200;
  const isFence = (line: string): boolean =>
    Number(/ICMP echo \w+, .* length (\d+)$/.exec(line)?.[1] ?? 0) > FENCE;

  /** Each of red's containers and routers sees a ping of red's own: what was sent before has been captured by then. */
  async function fence(): Promise<void> {
    const size = FENCE + round++;
    const ping = (host: string, from: string, to: string): Promise<Ended> =>
      inside(host, from, 'ping -c 1 -W 5 -s', String(size), to);
    for (const [host, from, to] of [
      ['node1', 'red-a', '20.1.1.3'],
      ['node1', 'red-c', '20.1.1.3'],
      ['node1', 'red-a', OUTSIDE],
    ] as const)
      expect((await ping(host, from, to)).status).toBe(0);
    const text = `length ${size + 8}`;
    for (const { name, capture } of watches)
      await until(`a ping in the capture of ${name}`, async () =>
        capture.lines.some((l) => l.includes(text)),
      );
  }

  async function strange(attack: () => Promise<unknown>): Promise<string[]> {
    const before = watches.map(({ capture }) => capture.lines.length);
    await attack();
    await fence();
    return watches.flatMap(({ name, capture, isStrange }, i) =>
      capture.lines
        .slice(before[i])
        .filter((line) => !isFence(line) && isStrange(line))
        .map((line) => `${name}: ${line}`),
    );
  }

  beforeAll(async () => {
    const arrives = (line: string): boolean => MARKED.test(line) || !HOUSEKEEPING.test(line);
    // Without a user of its own, which the image does not have.
    const dump = ['tcpdump', '-Z', 'root', '-lnn', '-Q', 'in', '-i'];
    for (const [host, name] of [
      ['node1', 'red-a'],
      ['node1', 'red-c'],
      ['node2', 'red-b'],
    ] as const)
      watches.push({
        name,
        capture: background(host, `docker exec ${name}`, ...dump, 'eth0'),
        isStrange: arrives,
      });
    for (const host of ['node1', 'node2'])
      watches.push({
        name: `red's router on ${host}`,
        capture: background(host, 'ip netns exec contiv-red', ...dump, 'any'),
        isStrange: arrives,
      });
    watches.push({
      name: 'the wire',
      capture: background('outside', ...dump, 'eth0', 'ip or ip6'),
      isStrange: (line) =>
        MARKED.test(line) || (!HOUSEKEEPING.test(line) && !/IP 192\.168\.50\.\d+[. ]/.test(line)),
    });
    for (const { name, capture } of watches)
      await until(`capture of ${name}`, async () => capture.lines.some((l) => l.includes('listening on')));
    expect(await strange(async () => {})).toEqual([]);
  });
  afterAll(async () => {
    for (const [host, name] of [
      ['node1', 'red-a'],
      ['node1', 'red-c'],
      ['node2', 'red-b'],
    ] as const)
      await inside(host, name, 'killall tcpdump');
    for (const { capture } of watches) await capture.end();
  });

  it('is seen where it is let: what the captures would show', async () => {
    const seen = await strange(() => attacker('curl', '-s', '-m', '5', `http://${HOST}:8080/`));
    expect(seen.some((line) => line.startsWith('red-c: '))).toBe(true);
    expect(seen.some((line) => line.startsWith("red's router on node1: "))).toBe(true);
    const tunnel = JSON.parse(await netctl('net inspect net -t red')) as {
      Oper: { pktTag: number };
    };
    const forged = forgedTunnel(tunnel.Oper.pktTag).toString('base64');
    // From the host itself the same packet does arrive.
    const seenB = await strange(() =>
      must('node1', 'sh -c', `echo ${forged} | base64 -d | socat -u - UDP:${OTHER_HOST}:4789`),
    );
    expect(seenB.some((line) => line.startsWith('red-b: '))).toBe(true);
  });

  const forgedTunnel = (vni: number): Buffer =>
    vxlan({
      vni,
      from: { mac: vtepMac(HOST), address: '20.1.1.2' },
      to: { mac: vtepMac(OTHER_HOST), address: '20.1.1.3' },
    });
  const targets = (): string[] => [...[VAULT, VAULT6, HIDDEN], ...Object.values(red)];
  const ports = [53, 80, 4789, 8080];

  const attacks: [name: string, attack: () => Promise<unknown>][] = [
    [
      "sends to the other's addresses and to its way out",
      () =>
        shell(
          targets()
            .flatMap((target) => [
              `ping -c 1 -W 1 ${target}`,
              ...ports.map((port) => `echo x | nc -w 1 ${target} ${port}`),
              ...ports.map((port) => `echo x | nc -u -w 1 ${target} ${port}`),
            ])
            .map((command) => `{ ${command}; } &`)
            .concat('wait')
            .join('\n'),
        ),
    ],
    [
      'sends to the same from the other host',
      () =>
        inside(
          ...(['node2', 'blue-b', 'sh', '-c'] as const),
          `${targets()
            .flatMap((target) => [`ping -c 1 -W 1 ${target} &`, `curl -s -m 1 'http://${target}:8080/' &`])
            .join('\n')}\nwait`,
        ),
    ],
    [
      'adds routes to what it wants to reach',
      async () => {
        await shell(
          [...Object.values(red), VAULT, HIDDEN, HOST]
            .map((a) => `ip route replace ${a} dev eth0; ping -c 1 -W 1 ${a}`)
            .join('; '),
        );
        await shell(
          [...Object.values(red), VAULT, HIDDEN, HOST].map((a) => `ip route del ${a} dev eth0`).join('; '),
        );
      },
    ],
    [
      "sends with sources that are the other's, the gateway's, the nameserver's, the host's",
      () =>
        packets(
          ...[VAULT, HIDDEN, GATEWAY, NAMESERVER, red.router, red.host, blue.host, blue.router, HOST]
            .concat(['127.0.0.1', '0.0.0.0', '255.255.255.255', '224.0.0.1', MARK])
            .flatMap((from) =>
              [VAULT, HIDDEN, red.router, red.host, HOST, OTHER_HOST, OUTSIDE, '20.1.1.3'].flatMap((to) => [
                echo(from, to),
                udp(from, to, 4789, 8080, Buffer.from('x')),
                tcpSyn(from, to, 7777, 8080),
              ]),
            ),
          ...[VAULT6, 'fd00:1::fe', NAMESERVER6, red.router6, red.host6, '::', '::1', 'fd00:1::166'].flatMap(
            (from) => [VAULT6, red.router6, red.host6, 'fd00:1::3'].map((to) => echo(from, to)),
          ),
        ),
    ],
    [
      'asks for and answers ARP as others',
      () =>
        raw(
          ...[VAULT, GATEWAY, '20.1.1.3', HIDDEN, HOST, red.host, red.router].flatMap((address) => [
            ethernet(
              MARK_MAC,
              'ff:ff:ff:ff:ff:ff',
              arp(2, { mac: MARK_MAC, address }, { mac: MARK_MAC, address }),
              {
                type: 0x0806,
              },
            ),
            ethernet(
              MARK_MAC,
              routerMac,
              arp(2, { mac: MARK_MAC, address }, { mac: routerMac, address: GATEWAY }),
              {
                type: 0x0806,
              },
            ),
            ethernet(
              MARK_MAC,
              'ff:ff:ff:ff:ff:ff',
              arp(1, { mac: MARK_MAC, address: MARK }, { mac: '00:00:00:00:00:00', address }),
              { type: 0x0806 },
            ),
          ]),
        ),
    ],
    [
      'forges VXLAN to the hosts',
      async () => {
        const { Oper } = JSON.parse(await netctl('net inspect net -t red')) as {
          Oper: { pktTag: number };
        };
        const forged = forgedTunnel(Oper.pktTag);
        const hosts = [HOST, OTHER_HOST, red.host, blue.host, red.router, '172.17.0.1'];
        await packets(
          ...hosts.flatMap((to) => [
            udp(ATTACKER, to, 4789, 4789, forged),
            udp(ATTACKER, to, 54321, 4789, forged),
            udp(HOST, to, 54321, 4789, forged),
            udp(OTHER_HOST, to, 54321, 4789, forged),
            // In fragments, the first of them too short for the ports to be judged with the rest.
            ip(ATTACKER, to, PROTOCOL.UDP, udpDatagram(999, 4789, forged).subarray(0, 8), { more: true }),
            ip(ATTACKER, to, PROTOCOL.UDP, udpDatagram(999, 4789, forged).subarray(8), { offset: 8 }),
          ]),
        );
        const text = forged.toString('base64');
        await shell(
          hosts
            .map((to) => `{ echo ${text} | base64 -d | nc -u -w 1 -p 4789 ${to} 4789; } &`)
            .join('\n')
            .concat('\nwait'),
        );
        await inside(
          ...(['node2', 'blue-b', 'sh', '-c'] as const),
          [HOST, OTHER_HOST].map((to) => `echo ${text} | base64 -d | nc -u -w 1 ${to} 4789`).join('; '),
        );
      },
    ],
    [
      "forges ICMP errors about the other's connections and the hosts' tunnels",
      () => {
        const quotes = [
          udp(OTHER_HOST, HOST, 4789, 4789, Buffer.alloc(8)),
          udp(HOST, OTHER_HOST, 4789, 4789, Buffer.alloc(8)),
          udp(OUTSIDE, red.router, 53, 1024, Buffer.alloc(8)),
          udp(red.router, OUTSIDE, 1024, 53, Buffer.alloc(8)),
          udp('20.1.1.3', '20.1.1.2', 80, 1024, Buffer.alloc(8)),
          udp(VAULT, '20.1.1.3', 80, 1024, Buffer.alloc(8)),
          tcpSyn(VAULT, OUTSIDE, 80, 1024),
        ];
        return packets(
          ...quotes.flatMap((quote) =>
            [HOST, OTHER_HOST, OUTSIDE, red.router, red.host, VAULT, '20.1.1.3'].flatMap((to) => [
              ip(ATTACKER, to, PROTOCOL.ICMP, icmp(3, 4, Buffer.from([0, 0, 2, 88]), quote)),
              ip(ATTACKER, to, PROTOCOL.ICMP, icmp(3, 3, Buffer.alloc(4), quote)),
              ip(ATTACKER, to, PROTOCOL.ICMP, icmp(5, 1, Buffer.from([20, 1, 1, 2]), quote)),
              ip(ATTACKER, to, PROTOCOL.ICMP, icmp(11, 0, Buffer.alloc(4), quote)),
            ]),
          ),
        );
      },
    ],
    [
      'sends to all',
      () =>
        raw(
          ...['255.255.255.255', '20.1.1.255', '224.0.0.1', '239.1.1.1', VAULT].flatMap((to) => [
            ethernet(mac, 'ff:ff:ff:ff:ff:ff', echo(ATTACKER, to)),
            ethernet(mac, routerMac, echo(ATTACKER, to)),
            ethernet(mac, 'ff:ff:ff:ff:ff:ff', udp(ATTACKER, to, 5353, 5353, Buffer.from('x'))),
          ]),
          ...['ff02::1', 'ff02::2', 'ff05::1', VAULT6].flatMap((to) => [
            ethernet(mac, '33:33:00:00:00:01', echo('fd00:1::2', to)),
            ethernet(mac, routerMac, echo('fe80::166', to)),
          ]),
        ),
    ],
    [
      'tags its frames',
      () =>
        raw(
          ...[0, 1, 100, 1001, 4094].flatMap((vlan) => [
            ethernet(mac, routerMac, echo(ATTACKER, VAULT), { vlan }),
            ethernet(mac, routerMac, echo(VAULT, '20.1.1.3'), { vlan }),
            ethernet(mac, 'ff:ff:ff:ff:ff:ff', echo(ATTACKER, VAULT), { vlan }),
          ]),
        ),
    ],
    [
      'sends in fragments',
      () =>
        packets(
          ...[VAULT, HIDDEN, red.router, red.host].flatMap((to) => [
            ip(ATTACKER, to, PROTOCOL.UDP, udpDatagram(1, 53, Buffer.alloc(64)).subarray(0, 8), {
              more: true,
            }),
            ip(ATTACKER, to, PROTOCOL.UDP, Buffer.alloc(64), { offset: 8 }),
            // A later fragment without a first.
            ip(VAULT, to, PROTOCOL.UDP, Buffer.alloc(64), { offset: 64 }),
          ]),
        ),
    ],
    [
      "asks the other's addresses for names",
      () =>
        shell(
          targets()
            .map(
              (to) =>
                `dig +tries=1 +time=1 @${to} vault & dig +tries=1 +time=1 @${to} example.com & dig +tcp +tries=1 +time=1 @${to} example.com &`,
            )
            .join('\n')
            .concat('\nwait'),
        ),
    ],
  ];
  it.each(attacks)('reaches nobody when it %s', async (_, attack) => {
    expect(await strange(attack)).toEqual([]);
  });

  it("changes nothing of the hosts' own: paths, neighbours", async () => {
    // An answer of the other host's own: an error about it is `related`, the attacker's own connection.
    const quote = ip(OTHER_HOST, ATTACKER, PROTOCOL.ICMP, icmp(0, 0, Buffer.from([0x77, 0x77, 0, 1])));
    await packets(
      echo(ATTACKER, OTHER_HOST),
      ip(ATTACKER, OTHER_HOST, PROTOCOL.ICMP, icmp(3, 4, Buffer.from([0, 0, 2, 88]), quote)),
      ip(ATTACKER, OTHER_HOST, PROTOCOL.ICMP, icmp(5, 1, Buffer.from([198, 51, 100, 1]), quote)),
    );
    await fence();
    expect(await must('node2', `ip route get ${HOST}`)).not.toMatch(/mtu|expires/);
    expect(await must('node1', `ip route get ${OTHER_HOST}`)).not.toMatch(/mtu|expires|via/);
    for (const host of ['node1', 'node2'])
      expect(await must(host, 'ip neigh')).not.toMatch(/02:66:66|20\.1\.1\./);
  });

  it('finds nobody on its link but the router', async () => {
    await attacker('ping', '-6', '-c', '2', '-W', '1', '-I', 'eth0', 'ff02::1');
    const neighbours = (await attacker('ip', '-6', 'neigh')).out
      .trim()
      .split('\n')
      .filter((l) => /lladdr/.test(l));
    expect(neighbours.length).toBeGreaterThan(0);
    expect(neighbours.filter((line) => !line.includes(routerMac))).toEqual([]);
  });
});

describe('nothing is learnt', () => {
  /**
   * What the attacker sees of commands, all run at once: by command, without what differs each time. `names` stand in
   * commands and in what they say: the target's own.
   */
  async function seen(names: readonly string[], commands: readonly string[]): Promise<string> {
    const plain = (text: string): string =>
      names.reduce((t, name, i) => t.replaceAll(name, `TARGET${i}`), text);
    const { out } = await shell(
      [
        'cd $(mktemp -d)',
        ...commands.map((command, i) => `{ ${command}; echo status $?; } > ${i} 2>&1 &`),
        'wait',
        ...commands.map((_, i) => `echo COMMAND ${i}; cat ${i}`),
      ].join('\n'),
    );
    const text = out
      .replace(/id: \d+|;; Query time.*|;; WHEN.*|;; MSG SIZE.*|; COOKIE.*|; <<>>.*|;; SERVER.*/g, '')
      .replace(/\d+ ?milliseconds|[\d./]+ ?ms\b/g, '#')
      .replace(/COMMAND (\d+)/g, (_, i) => `COMMAND ${plain(commands[Number(i)] as string)}`);
    return plain(text);
  }

  const unused = (kind: 'host' | 'router'): string =>
    ['100.127.3.', '100.127.4.', '100.127.5.']
      .map((prefix) => `${prefix}${kind === 'host' ? 200 : 201}`)
      .find((address) => ![red, blue].some((transit) => transit[kind] === address)) as string;
  const pairs: [what: string, there: () => string, not: () => string][] = [
    ['a container of the same subnet', () => VAULT, () => '20.1.1.78'],
    ['a container of the same subnet, IPv6', () => VAULT6, () => 'fd00:1::78'],
    ['a container of a network of the other alone', () => HIDDEN, () => '10.67.0.2'],
    ["the router's end of the other's way out", () => red.router, () => unused('router')],
    ["the host's end of the other's way out", () => red.host, () => unused('host')],
    ["the router's end of the other's way out, IPv6", () => red.router6, () => 'fd6f:6e74:6976::ffff:1'],
    ["the host's end of the other's way out, IPv6", () => red.host6, () => 'fd6f:6e74:6976::ffff:0'],
  ];
  it('of any of them: it looks as if nobody were there', async () => {
    // Whether silence is said to be `unreachable` is a matter of the kernel's rate limit (net/ipv4/route.c, ip_error: five at
    // once, then one a second), each family's own. Only traceroute shows it, and waits for its turn.
    const targets = pairs.flatMap(([, there, not]) => [there(), not()]);
    const traced = new Map<string, string>();
    const trace = async (family: readonly string[]): Promise<void> => {
      for (const target of family)
        traced.set(
          target,
          await seen([target], [`sleep 5; traceroute -n -q 1 -m 2 -w 1 ${target} | sed 's/ [0-9.]* ms//'`]),
        );
    };
    const six = (target: string): boolean => target.includes(':');
    await Promise.all([trace(targets.filter(six)), trace(targets.filter((target) => !six(target)))]);
    for (const [what, there, not] of pairs) expect(traced.get(there()), what).toBe(traced.get(not()));

    // Of the others only answers are looked at.
    const probes = (target: string): string[] => {
      const url = six(target) ? `[${target}]` : target;
      const http = (port: number): string =>
        `curl -sv -m 2 'http://${url}:${port}/' 2>&1 | grep -o 'refused\\|HTTP/.*'`;
      return [
        `ping -c 1 -W 1 ${target} | grep -o 'ttl=.*'`,
        ...[80, 8080, 53].map((port) => http(port)),
        ...(six(target) ? [] : [`arping -c 1 -w 1 -I eth0 ${target} | grep -c reply`]),
      ];
    };
    const probed = await Promise.all(targets.map((target) => seen([target], probes(target))));
    for (const [i, [what]] of pairs.entries()) expect(probed[2 * i], what).toBe(probed[2 * i + 1]);
  });

  it('of any of them that is asked for a name: it answers as nobody would', async () => {
    // The nameserver says SERVFAIL after 10 s without an answer: all are asked at once.
    const ask = (target: string): Promise<string> =>
      seen(
        [target],
        ['+notcp', '+tcp'].map(
          (more) =>
            `dig +tries=1 +time=15 ${more} @${target} example.com | grep -o 'status: [A-Z]*\\|refused\\|203.0.113.9'`,
        ),
      );
    const asked = await Promise.all(
      pairs.map(
        async ([what, there, not]) => [what, ...(await Promise.all([ask(there()), ask(not())]))] as const,
      ),
    );
    for (const [what, there, not] of asked) expect(there, what).toBe(not);
  });

  const servers = ['127.0.0.11', GATEWAY, NAMESERVER, NAMESERVER6, OUTSIDE];
  it.each(servers)('from the nameserver, asked by way of %s', async (server) => {
    const of = (name: string, container: string, ...reverse: string[]): Promise<string> => {
      const forms = [
        ...[name, name.toUpperCase(), `${name}.net`, `${name}.net.red`, `${name}.NET.RED`],
        ...[`${name}.hidden`, `${name}.hidden.red`, `${container}.net.red`],
      ];
      const asked = forms.flatMap((form) => ['', '-t ANY ', '-t AAAA ', '+tcp '].map((more) => more + form));
      const commands = [...asked, ...reverse.map((address) => `-x ${address}`)];
      const labels = (address: string): string => `${address.split('.').reverse().join('.')}.in-addr.arpa`;
      return seen(
        [name, name.toUpperCase(), container, ...reverse, ...reverse.map(labels)],
        commands.map((command) => `dig +tries=1 +time=5 @${server} ${command}`),
      );
    };
    const answers = await of('vault', 'red-c', VAULT, HIDDEN);
    expect(answers).toBe(await of('nobdy', 'red-x', '20.1.1.78', '10.67.0.2'));
    // What nobody has goes on to a server outside, which has an address for everything.
    expect(answers).toMatch(server === OUTSIDE ? /203\.0\.113\.9/ : /NXDOMAIN/);
    expect(answers).not.toMatch(/20\.1\.1\.(2|3|77)\b|10\.66\.|fd00:/);
  });
});

describe("a tenant's removal", () => {
  /** It is not there any more, nor is a copy torn that was made while the server wrote: that is looked at again. */
  const lacksRed = (file: string, from: string) => async (): Promise<boolean> => {
    try {
      return !/\bred\b/.test(rowsOf(file, from));
    } catch {
      return false;
    }
  };
  /** Of a database that its server keeps locked: from a copy, with its journal. */
  function rowsOf(file: string, from: string): string {
    const copy = path.join(temporaryFolder(), 'copy.db');
    for (const end of ['', '-wal']) if (fs.existsSync(file + end)) fs.copyFileSync(file + end, copy + end);
    const db = new DatabaseSync(copy);
    const rows = db.prepare(`SELECT * FROM ${from}`).all();
    db.close();
    expect(rows.length).toBeGreaterThan(0);
    return JSON.stringify(rows);
  }

  it('leaves nothing of it, and the other as it was', async () => {
    for (const host of ['node1', 'node2']) {
      const ids = await docker(host, 'ps -aq --filter name=red-');
      await docker(host, 'rm -f', ...ids.split('\n'));
    }
    await netctl('group rm -t red web');
    for (const network of ['net', 'hidden']) await netctl(`net rm -t red ${network}`);
    await netctl('tenant rm red');
    expect(await differences()).toBe('');

    const api = async (collection: string): Promise<string> =>
      must('node1', 'sh -c', `curl -sf $NETMASTER/api/v1/${collection}/`);
    for (const collection of ['tenants', 'networks', 'endpointGroups'])
      expect(await api(collection)).not.toMatch(/red/);
    // What its addresses and tags were is kept until each host has applied that they are no more; events tell of it for good.
    const entries = "entry WHERE key NOT LIKE '/contiv/event/%'";
    await until("netmaster's store", lacksRed(`${hostFolder(LAB, 'node1')}/contiv/netmaster.db`, entries));
    for (const host of ['node1', 'node2']) {
      await until(
        'Docker to let go of the networks',
        async () => !(await docker(host, 'network ls')).includes('/red'),
      );
      await expect.poll(() => must(host, 'ip netns list')).not.toMatch(/contiv-red/);
      await expect.poll(() => must(host, 'ip link')).not.toContain(exitDevice('red'));
      for (const address of [red.router, red.router6])
        await expect.poll(() => must(host, 'nft list table inet contiv')).not.toContain(`${address} `);
      await until(
        "the agent's files",
        async () =>
          (await on(host, 'grep -l', '"red', '-r', '/var/lib/contiv', '--include=*.json')).status === 1,
      );
      await until("the agent's copy", lacksRed(`${hostFolder(LAB, host)}/contiv/view.db`, 'object'));
    }
    expect((await attacker('curl', '-s', '-m', '5', 'http://db/')).out).toBe('blue\n');
  });

  it('makes room for another of the same name, which starts afresh', async () => {
    await netctl('tenant create red');
    await netctl(`net create net -t red --subnet=20.1.1.0/24 --gateway=${GATEWAY}`);
    expect(await run('node1', 'red-new', 'net/red')).toBe('20.1.1.2');
    expect((await inside('node1', 'red-new', 'dig +noall +comments db')).out).toMatch(/NXDOMAIN/);
    expect((await inside('node1', 'red-new', 'dig +noall +comments vault')).out).toMatch(/NXDOMAIN/);
    expect(await pings('node1', 'red-new', '20.1.1.3')).toBe(false);
  });
});
