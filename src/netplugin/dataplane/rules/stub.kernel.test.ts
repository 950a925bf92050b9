/** Questions that a container sends to Docker's resolver, on real sockets, and what its kernel remembers of them. */
import { execFile } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { applied, clean, GATEWAYS, inRouter, port, state } from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { ethernet, udp } from '../../../../test/packet.ts';
import { setOption } from '../../../linux/libc.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../../linux/netlink.ts';
import { bindPort, createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { openNft } from '../../../linux/nftables.ts';
import { listChains } from '../../../linux/nftset.ts';
import { DOCKER_RESOLVER, NAMESERVER, RESOLVER_PORT, STUB_PORTS } from '../../constants.ts';
import { type NameserverSocket, openResolver, openRouter } from '../../nameservers/router.ts';
import type { Port } from '../../state.ts';
import { type Applier, openApplier } from '../applier.ts';
import { removeDockerNat } from '../sandboxes.ts';
import { readTable } from '../tables.ts';
import { stubTable, tablesOfDockerNat } from './stub.ts';

beforeAll(isolate);

const FRAMES = path.join(import.meta.dirname, '../../../../test/frames.ts');
const BOX = namespacePath('box');
const inBox = (command: string): string => inNamespace(BOX, () => sh(command));
/** More than a packet takes, so in fragments by UDP. */
const LONG = 'x'.repeat(4000);

let applier: Applier;
let opened: { close(): void }[];
beforeEach(() => {
  opened = [];
  applier = openApplier();
  createNamespace('box');
});
afterEach(async () => {
  for (const each of opened) each.close();
  await clean();
});

/** A container with these ports, the first one set up, its router with a nameserver that says what it was asked, at length. */
function container(...ports: readonly Port[]): void {
  applied(applier, state({ ports }));
  const [first] = ports as [Port];
  sh(`ip link set ${first.peer} netns box name eth0`);
  inBox('ip link set lo up; ip link set eth0 up; ip addr add 20.1.1.2/24 dev eth0');
  const hop = first.gateways.length > 0 ? GATEWAYS[0] : undefined;
  inBox(hop ? `ip route add default via ${hop}` : `ip route add ${NAMESERVER} dev eth0`);
  answering(openRouter('contiv-default').sockets);
}

/** Says what was asked, by whom, at length. */
function answering(sockets: readonly NameserverSocket[]): () => Promise<void> {
  for (const { protocol, version, fd, of } of sockets)
    if (protocol === 'udp') {
      const server = dgram.createSocket(`udp${version}`);
      server.on('message', (bytes, from) =>
        server.send(`${bytes} from ${of ?? from.address} ${LONG}`, from.port, from.address),
      );
      opened.push(server.bind({ fd }));
    } else {
      const tcp = net.createServer((socket) => {
        socket.on('error', () => {}); // the client's end is not what is tested
        socket.once('data', (bytes) => socket.end(`${bytes} from ${of ?? socket.remoteAddress} ${LONG}`));
      });
      opened.push(tcp.listen({ fd }));
    }
  return async () => {}; // with the others, after the test
}

/** What is answered to a socket that is bound to `own`, and who answers. */
async function ask(own: string, server: string, checksums = true): Promise<{ answer: string; from: string }> {
  const fd = inNamespace(BOX, () => bindPort('udp', own, 0, { nonblocking: true }));
  if (!checksums) setOption(fd, 1, 11, 1); // SO_NO_CHECK
  const socket = dgram.createSocket('udp4').bind({ fd });
  opened.push(socket);
  const answered = once(socket, 'message', { signal: AbortSignal.timeout(20_000) });
  socket.send('who', 53, server);
  const [bytes, from] = (await answered) as [Buffer, dgram.RemoteInfo];
  return { answer: String(bytes), from: `${from.address}:${from.port}` };
}

async function askByTcp(server: string, own = '0.0.0.0'): Promise<string> {
  const script = `const socket = require('net').connect({ port: 53, host: '${server}', localAddress: '${own}' }, () => socket.write('who'));
    socket.setTimeout(20000, () => socket.destroy()).pipe(process.stdout);`;
  const { stdout } = await promisify(execFile)('nsenter', [`--net=${BOX}`, process.execPath, '-e', script]);
  return stdout;
}

const ANSWER = `who from 20.1.1.2 ${LONG}`;
/** Whether the container's kernel tracks what it sends: it does not, as long as nothing in the namespace asks for it. */
function tracks(): boolean {
  const to = String(9000 + sent++);
  inBox(`bash -c 'echo > /dev/udp/20.1.1.254/${to}'`);
  return inBox('cat /proc/net/nf_conntrack').includes(`dport=${to} `);
}
let sent = 0;

/** As Docker does it (20.10 to 29, with iptables). */
function dockerNat(): void {
  const rules = [
    '-N DOCKER_OUTPUT',
    `-I OUTPUT -d ${DOCKER_RESOLVER} -j DOCKER_OUTPUT`,
    '-N DOCKER_POSTROUTING',
    `-I POSTROUTING -d ${DOCKER_RESOLVER} -j DOCKER_POSTROUTING`,
    ...['udp', 'tcp'].flatMap((protocol) => [
      `-I DOCKER_OUTPUT -d ${DOCKER_RESOLVER} -p ${protocol} --dport 53 -j DNAT --to-destination ${DOCKER_RESOLVER}:4000`,
      `-I DOCKER_POSTROUTING -s ${DOCKER_RESOLVER} -p ${protocol} --sport 4000 -j SNAT --to-source :53`,
    ]),
  ];
  for (const rule of rules) inBox(`iptables-nft -w -t nat ${rule}`);
}
const tables = (): string => inBox('nft list tables');
const verify = (...ports: readonly Port[]) => applied(applier, state({ ports }), true);

describe('what a container asks of Docker’s resolver', () => {
  const networks: readonly [string, Partial<Port>][] = [
    ['with a gateway', { sandbox: BOX, stub: true }],
    ['without one', { sandbox: BOX, stub: true, gateways: [] }],
  ];
  for (const [name, more] of networks) {
    it(`is answered from the address that was asked, in a network ${name}`, async () => {
      container(port(2, more));
      for (const own of ['0.0.0.0', '127.0.0.1', '127.0.0.2', '127.1.2.3', '20.1.1.2'])
        for (const checksums of [true, false])
          expect(await ask(own, DOCKER_RESOLVER, checksums), `${own} ${checksums}`).toEqual({
            answer: ANSWER,
            from: `${DOCKER_RESOLVER}:53`,
          });
      expect(await ask('0.0.0.0', NAMESERVER)).toEqual({ answer: ANSWER, from: `${NAMESERVER}:53` });
      expect(await askByTcp(DOCKER_RESOLVER)).toBe(ANSWER);
      expect(await askByTcp(DOCKER_RESOLVER, '127.0.0.2')).toBe(ANSWER);
      expect(await askByTcp(NAMESERVER)).toBe(ANSWER);
    });
  }

  it('is answered so beside rules of the container’s own that track connections, and before Docker’s', async () => {
    container(port(2, { sandbox: BOX, stub: true }));
    dockerNat();
    inBox('nft add table ip own');
    inBox("nft add chain ip own in '{ type filter hook input priority 0; policy drop; }'");
    inBox('nft add rule ip own in ct state established accept');
    expect(await ask('0.0.0.0', DOCKER_RESOLVER)).toEqual({ answer: ANSWER, from: `${DOCKER_RESOLVER}:53` });
    expect(await askByTcp(DOCKER_RESOLVER)).toBe(ANSWER);
  });

  it('is answered where the container’s default route leads elsewhere, as by Docker’s bridge', async () => {
    container(port(2, { sandbox: BOX, stub: true }));
    inBox(`ip route add ${NAMESERVER} via ${GATEWAYS[0]}`);
    inBox('ip link add docker type bridge; ip link set docker up; ip addr add 172.17.0.2/16 dev docker');
    inBox('ip route replace default via 172.17.0.1');
    for (const own of ['0.0.0.0', '127.0.0.2'])
      expect((await ask(own, DOCKER_RESOLVER)).answer, own).toBe(ANSWER);
    expect(await askByTcp(DOCKER_RESOLVER)).toBe(ANSWER);
  });

  it('is answered as ever when the container’s port is another one, over verifications', async () => {
    const [one, other] = [{}, { group: 7 }].map((more) => port(2, { sandbox: BOX, stub: true, ...more }));
    container(one as Port);
    const before = inBox('nft list table ip contiv');
    for (const now of [other, one, other]) {
      applied(applier, state({ ports: [{ ...(now as Port), joined: true }] }));
      expect(inBox('nft list table ip contiv')).toBe(before);
      for (let i = 0; i < 2; i++) {
        expect(verify({ ...(now as Port), joined: true }).repaired).toEqual([]);
        expect(inBox('nft list table ip contiv')).toBe(before);
      }
    }
    expect((await ask('127.0.0.1', DOCKER_RESOLVER)).answer).toBe(ANSWER);
  });

  it('leaves by the network that leads there, with the container’s address in it', async () => {
    const other = port(3, { sandbox: BOX, stub: true, addresses: ['20.1.1.3'], gateways: ['20.1.1.253'] });
    container(port(2, { sandbox: BOX, stub: true }), other);
    sh(`ip link set ${other.peer} netns box name eth1`);
    inBox('ip link set eth1 up; ip addr add 20.1.1.3/24 dev eth1');
    const from = async () => (await ask('0.0.0.0', DOCKER_RESOLVER)).answer.split(' ')[2];
    expect(await from()).toBe('20.1.1.2');
    expect(await askByTcp(DOCKER_RESOLVER)).toBe(ANSWER);
    inBox('ip route replace default via 20.1.1.253 dev eth1 onlink');
    expect(await from()).toBe('20.1.1.3');
  });
});

it('a question by UDP is no connection for the router, whether it asks or is answered', async () => {
  container(port(2, { sandbox: BOX, stub: true }));
  const entries = (): string => inRouter('cat /proc/net/nf_conntrack').replaceAll(/^.* tcp .*\n/gm, '');
  for (const own of ['0.0.0.0', '20.1.1.2']) await ask(own, DOCKER_RESOLVER);
  expect(entries()).toBe('');
  await ask('0.0.0.0', NAMESERVER); // as others do, whose questions the router may have to translate
  expect(entries()).toContain('dport=53 ');
});

describe('what a container of IPv6 alone asks of Docker’s resolver', () => {
  const six = port(2, { sandbox: BOX, resolver: true, addresses: ['fd00:1::2'], gateways: [] });
  const OF_SIX = `who from fd00:1::2 ${LONG}`;
  const opens = () => openResolver(BOX, 'fd00:1::2', answering);
  beforeEach(() => {
    inBox('ip link set lo up');
    applied(applier, state({ ports: [six] }));
  });

  it('is answered in it, from the address that was asked, and stays as it is over verifications', async () => {
    opens();
    for (const own of ['0.0.0.0', '127.0.0.1', '127.0.0.2'])
      for (const checksums of [true, false])
        expect(await ask(own, DOCKER_RESOLVER, checksums), `${own} ${checksums}`).toEqual({
          answer: OF_SIX,
          from: `${DOCKER_RESOLVER}:53`,
        });
    expect(await askByTcp(DOCKER_RESOLVER)).toBe(OF_SIX);
    expect(await askByTcp(DOCKER_RESOLVER, '127.0.0.2')).toBe(OF_SIX);
    expect(verify(six)).toMatchObject({ repaired: [], writes: 0 });
  });

  it('is answered so beside rules of the container’s own that track connections, and before Docker’s, which goes', async () => {
    opens();
    dockerNat();
    inBox('nft add table ip own');
    inBox("nft add chain ip own in '{ type filter hook input priority 0; policy drop; }'");
    inBox('nft add rule ip own in ct state established accept');
    // As Docker's own resolver needs it: what is asked arrives in the container too.
    inBox(`nft add rule ip own in iif lo ip daddr ${DOCKER_RESOLVER} ct state new accept`);
    expect(await ask('0.0.0.0', DOCKER_RESOLVER)).toEqual({ answer: OF_SIX, from: `${DOCKER_RESOLVER}:53` });
    expect(await askByTcp(DOCKER_RESOLVER)).toBe(OF_SIX);
    verify(six);
    expect(tables()).toBe('table ip contiv\ntable ip own\n');
  });

  it('is led there in the pass in which its network of IPv4 has gone, and to the router in the one in which it has come', () => {
    const { resolver: _, ...beside } = six;
    const four = port(3, { sandbox: BOX, stub: true });
    const leads = (): string => (inBox('nft list table ip contiv').includes(NAMESERVER) ? 'router' : 'here');
    expect(leads()).toBe('here');
    applied(applier, state({ ports: [{ ...beside }, four] }));
    expect(leads()).toBe('router');
    applied(applier, state({ ports: [{ ...six }] }));
    expect(leads()).toBe('here');
  });

  it('goes to ours alone: another user’s program cannot have a part in it, and an earlier process of ours answers until it ends', async () => {
    opens();
    const NOBODY = 65534;
    for (const protocol of ['udp', 'tcp'] as const)
      for (const shared of ['latest', 'user'] as const)
        inNamespace(BOX, () => {
          process.seteuid?.(NOBODY);
          try {
            expect(() => bindPort(protocol, DOCKER_RESOLVER, RESOLVER_PORT, { shared }), protocol).toThrow(
              'EADDRINUSE',
            );
          } finally {
            process.seteuid?.(0);
          }
        });
    opens();
    for (let i = 0; i < 20; i++) {
      expect((await ask('0.0.0.0', DOCKER_RESOLVER)).answer).toBe(OF_SIX);
      expect(await askByTcp(DOCKER_RESOLVER)).toBe(OF_SIX);
    }
  });

  it('waits while nobody listens yet: the name is not said to be out of reach', async () => {
    const fd = inNamespace(BOX, () => bindPort('udp', '127.0.0.1', 0, { nonblocking: true }));
    const socket = dgram.createSocket('udp4').bind({ fd });
    opened.push(socket);
    socket.connect(53, DOCKER_RESOLVER);
    await once(socket, 'connect');
    const answered = once(socket, 'message', { signal: AbortSignal.timeout(20_000) }); // throws by an error of the socket's
    for (let i = 0; i < 3; i++) socket.send('early');
    opens();
    socket.send('who');
    expect(String((await answered)[0])).toBe(OF_SIX);
  });
});

describe('who shares another network with a container', () => {
  const AUTHOR = '172.30.0.1';

  /** A network that is none of ours, such as Docker's bridge, with a neighbour. */
  function bridged(): string {
    createNamespace('neighbour');
    sh('ip link add eth9 netns box type veth peer name eth9 netns neighbour');
    inBox('ip link set eth9 up; ip addr add 172.30.0.2/24 dev eth9');
    const mac = /link\/ether (\S+)/.exec(inBox('ip -o link show eth9'))?.[1] as string;
    inNeighbour(`ip link set lo up; ip link set eth9 up; ip addr add ${AUTHOR}/24 dev eth9`);
    return mac;
  }
  const inNeighbour = (command: string): string => inNamespace(namespacePath('neighbour'), () => sh(command));

  it.each([
    ['by its loopback address', AUTHOR, '127.0.0.1', 9],
    ['as if it were an answer to it', NAMESERVER, '172.30.0.2', STUB_PORTS.loopback],
    ['as if it were one to another loopback address', NAMESERVER, '172.30.0.2', STUB_PORTS.kept],
  ])('reaches nothing that listens on loopback alone, %s', async (_, from, to, source) => {
    container(port(2, { sandbox: BOX, stub: true }));
    const mac = bridged();
    const own = /link\/ether (\S+)/.exec(inNeighbour('ip -o link show eth9'))?.[1] as string;
    const got: string[] = [];
    const listen = (address: string): void => {
      const fd = inNamespace(BOX, () => bindPort('udp', address, 7000, { nonblocking: true }));
      const socket = dgram.createSocket('udp4').bind({ fd });
      socket.on('message', (bytes) => got.push(`${address} ${bytes}`));
      opened.push(socket);
    };
    listen('127.0.0.1');
    listen('172.30.0.2');
    const send = (...frames: Buffer[]): string =>
      inNeighbour(`${process.execPath} ${FRAMES} eth9 ${frames.map((f) => f.toString('hex')).join(' ')}`);
    const frame = (ends: [string, string], port: number, text: string): Buffer =>
      ethernet(own, mac, udp(...ends, port, 7000, Buffer.from(text)));
    send(frame([from, to], source, 'forged'), frame([AUTHOR, '172.30.0.2'], 9, 'last'));
    await vi.waitUntil(() => got.length > 0 && got.at(-1)?.endsWith('last'), { timeout: 20_000 });
    expect(got.filter((text) => text.startsWith('127.'))).toEqual([]);
  });
});

describe('a container’s namespace', () => {
  const one = port(2, { sandbox: BOX, stub: true });

  it('tracks no connection once Docker has set up its resolver, by iptables or by nftables', async () => {
    for (const set of [
      dockerNat,
      () => {
        inBox('nft add table ip docker-dns');
        inBox("nft add chain ip docker-dns dns-dnat '{ type nat hook output priority -100; }'");
        inBox(
          `nft add rule ip docker-dns dns-dnat ip daddr ${DOCKER_RESOLVER} udp dport 53 dnat to ${DOCKER_RESOLVER}:4000`,
        );
      },
    ]) {
      if (opened.length === 0) container(one);
      set();
      expect(tracks()).toBe(true);
      expect(verify(one).repaired).toEqual([]);
      expect(tables()).toBe('table ip contiv\n');
      expect(tracks()).toBe(false);
      expect(await ask('0.0.0.0', DOCKER_RESOLVER)).toEqual({
        answer: ANSWER,
        from: `${DOCKER_RESOLVER}:53`,
      });
    }
    expect(verify(one).writes).toBe(0);
  });

  it('keeps Docker’s rules while Docker is still at it, and where somebody else’s are among them', () => {
    container(one);
    dockerNat();
    inBox('iptables-nft -t nat -D DOCKER_POSTROUTING 1');
    verify(one);
    expect(tables()).toContain('table ip nat');
    inBox(
      `iptables-nft -t nat -I DOCKER_POSTROUTING -s ${DOCKER_RESOLVER} -p tcp --sport 4000 -j SNAT --to-source :53`,
    );
    inBox('iptables-nft -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 8080');
    verify(one);
    expect(inBox('iptables-nft -t nat -S')).toContain('--to-ports 8080');
    inBox('iptables-nft -t nat -F PREROUTING');
    verify(one);
    expect(tables()).toBe('table ip contiv\n');
  });

  it('keeps what its own hands add to Docker’s table just when that is about to be removed', () => {
    container(one);
    dockerNat();
    const added = '-t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 8181';
    const remove = (meanwhile: () => void) =>
      inNamespace(BOX, () => {
        const [nft, netlink] = [openNft(), openNetlink(NETLINK_NETFILTER)];
        opened.push(nft, netlink);
        const list = (command: string) => {
          const listed = nft.list(command);
          if (command.includes('table ip nat')) meanwhile();
          return listed;
        };
        return removeDockerNat({ ...nft, list }, netlink);
      });
    expect(remove(() => sh(`iptables-nft ${added}`))).toBe('changed');
    expect(inBox('iptables-nft -t nat -S')).toContain('--to-ports 8181');
    inBox('iptables-nft -t nat -F PREROUTING');
    expect(remove(() => {})).toBe(1);
    expect(tables()).toBe('table ip contiv\n');
  });

  it('has our rules again where somebody has changed them', async () => {
    container(one);
    const before = inBox('nft list ruleset');
    inBox('nft flush chain ip contiv input');
    expect(verify(one).writes).toBeGreaterThan(0);
    expect(inBox('nft list ruleset')).toBe(before);
    expect(verify(one).writes).toBe(0);
  });

  const RULES = 20_000;
  function manyRules(table: string): void {
    const rules = Array.from({ length: RULES }, (_, i) => `tcp dport ${i} counter accept\n`).join('');
    const file = path.join(os.tmpdir(), `rules-${process.pid}`);
    fs.writeFileSync(file, `table ip ${table} { chain many {\n${rules}}\n}\n`);
    inBox(`nft -f ${file}; rm ${file}`);
  }

  it('may have any number of rules of its own: none of them is read', () => {
    container(one);
    dockerNat();
    manyRules('own'); // as those have who run other containers in theirs
    manyRules('nat');
    const listed = inNamespace(BOX, () => {
      const [nft, netlink] = [openNft(), openNetlink(NETLINK_NETFILTER)];
      opened.push(nft, netlink);
      let items = 0;
      const list = (command: string) => {
        const answer = nft.list(command);
        items += answer.length;
        return answer;
      };
      expect(tablesOfDockerNat({ ...nft, list }, listChains(netlink))).toEqual([]);
      expect(readTable({ ...nft, list }, stubTable([one]))).toBeDefined();
      return items;
    });
    expect(listed).toBeLessThan(100);
    verify(one);
    inBox('nft flush chain ip contiv input');
    expect(verify(one).writes, 'it was not left alone').toBeGreaterThan(0);
  });

  it('is left alone for a while where that took long, until its port is another one', () => {
    container(one);
    manyRules('contiv');
    verify(one);
    inBox('nft flush chain ip contiv input');
    expect(verify(one).writes).toBe(0);
    expect(verify(port(2, { sandbox: BOX, stub: true })).writes).toBeGreaterThan(0);
  });
});
