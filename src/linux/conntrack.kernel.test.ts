import dgram from 'node:dgram';
import { once } from 'node:events';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../test/isolation.ts';
import {
  type Connection,
  countConnections,
  findByReply,
  forgetConnections,
  listConnections,
} from './conntrack.ts';
import { NETLINK_NETFILTER, type Netlink, openNetlink } from './netlink.ts';
import { openNft } from './nftables.ts';

const UDP = 17;
let netlink: Netlink;

beforeAll(() => {
  isolate();
  sh('ip addr add 10.1.1.1/32 dev lo; ip addr add 10.1.1.2/32 dev lo; ip addr add 10.1.1.3/32 dev lo');
  sh('ip addr add fd00::1/128 dev lo nodad; ip addr add fd00::2/128 dev lo nodad');
  const nft = openNft();
  // A rule that asks for the state makes the kernel track; port 53 is led to 5353.
  nft.run(`table inet t {
    chain track { type filter hook input priority 0; ct state established accept; }
    chain lead { type nat hook output priority -100; ip daddr 10.1.1.3 udp dport 53 dnat ip to 10.1.1.2:5353; }
  }`);
  nft.close();
  netlink = openNetlink(NETLINK_NETFILTER);
});
afterAll(() => netlink.close());

/** Sends one datagram from address to address and port; answers the source port. */
async function datagram(from: string, to: string, port: number): Promise<number> {
  const socket = dgram.createSocket(from.includes(':') ? 'udp6' : 'udp4');
  // Someone must be there: the refusal of a closed port would end the entry.
  const listener = dgram.createSocket(to.includes(':') ? 'udp6' : 'udp4');
  const [address, at] = to === '10.1.1.3' ? ['10.1.1.2', 5353] : [to, port];
  listener.bind(at, address);
  await once(listener, 'listening');
  socket.bind(0, from);
  await once(socket, 'listening');
  socket.send('x', port, to);
  await once(listener, 'message');
  const source = socket.address().port;
  socket.close();
  listener.close();
  return source;
}

const pairs = (version: 4 | 6): string[] =>
  listConnections(netlink, version).map(({ original: o }) => `${o.source} > ${o.destination}`);

/** Those with one of these addresses on any side. */
const of =
  (addresses: readonly string[]) =>
  ({ original, reply }: Connection): boolean =>
    [original.source, original.destination, reply.source, reply.destination].some((a) =>
      addresses.includes(a),
    );

beforeEach(() => {
  forgetConnections(netlink, of(['10.1.1.1', '10.1.1.2', '10.1.1.3', 'fd00::1', 'fd00::2']));
});

describe('forgetConnections', () => {
  it('forgets those of the addresses, on either side, and says how many', async () => {
    await datagram('10.1.1.1', '10.1.1.2', 1001);
    await datagram('10.1.1.2', '10.1.1.1', 1002);
    await datagram('10.1.1.2', '10.1.1.2', 1003);
    expect(pairs(4)).toHaveLength(3);
    expect(countConnections(netlink)).toBe(3);
    expect(forgetConnections(netlink, of(['10.1.1.1']))).toBe(2);
    expect(countConnections(netlink)).toBe(1);
    expect(pairs(4)).toEqual(['10.1.1.2 > 10.1.1.2']);
  });

  it('forgets those of IPv6', async () => {
    await datagram('fd00::1', 'fd00::2', 1001);
    await datagram('fd00::2', 'fd00::2', 1002);
    expect(countConnections(netlink)).toBe(2);
    expect(forgetConnections(netlink, of(['fd00::1']))).toBe(1);
    expect(pairs(6)).toEqual(['fd00::2 > fd00::2']);
  });

  it('forgets a translated one by the address that it was translated to', async () => {
    await datagram('10.1.1.1', '10.1.1.3', 53);
    expect(pairs(4)).toEqual(['10.1.1.1 > 10.1.1.3']);
    expect(forgetConnections(netlink, of(['10.1.1.2']))).toBe(1);
    expect(pairs(4)).toEqual([]);
  });

  it('does nothing where nothing is known', () => {
    expect(forgetConnections(netlink, of(['10.9.9.9']))).toBe(0);
    expect(forgetConnections(netlink, of([]))).toBe(0);
    expect(countConnections(netlink)).toBe(0);
  });
});

describe('findByReply', () => {
  it('tells where a redirected connection was going', async () => {
    const port = await datagram('10.1.1.1', '10.1.1.3', 53);
    const found = findByReply(netlink, {
      source: '10.1.1.2',
      sourcePort: 5353,
      destination: '10.1.1.1',
      destinationPort: port,
      protocol: UDP,
    });
    expect(found?.original).toEqual({
      source: '10.1.1.1',
      sourcePort: port,
      destination: '10.1.1.3',
      destinationPort: 53,
      protocol: UDP,
    });
  });

  it('finds IPv6', async () => {
    const port = await datagram('fd00::1', 'fd00::2', 1001);
    const reply = { source: 'fd00::2', sourcePort: 1001, destination: 'fd00::1', destinationPort: port };
    expect(findByReply(netlink, { ...reply, protocol: UDP })?.original.destination).toBe('fd00::2');
  });

  it('is undefined where there is none', async () => {
    const port = await datagram('10.1.1.1', '10.1.1.3', 53);
    const reply = { source: '10.1.1.2', sourcePort: 5353, destination: '10.1.1.1', protocol: UDP };
    expect(findByReply(netlink, { ...reply, destinationPort: port ^ 1 })).toBeUndefined();
    expect(findByReply(netlink, { ...reply, destinationPort: port, protocol: 6 })).toBeUndefined();
  });
});
