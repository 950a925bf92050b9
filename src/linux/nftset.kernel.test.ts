import dgram from 'node:dgram';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../test/isolation.ts';
import { addressBytes } from './address.ts';
import { NETLINK_NETFILTER, type Netlink, openNetlink, u32 } from './netlink.ts';
import { type Nft, openNft } from './nftables.ts';
import { findElement, listElements } from './nftset.ts';

let netlink: Netlink;
let nft: Nft;

beforeAll(() => {
  isolate();
  sh('ip addr add 10.1.1.1/32 dev lo');
  netlink = openNetlink(NETLINK_NETFILTER);
  nft = openNft();
  nft.run(`table inet t {
    map ranges { type ipv4_addr : mark; flags interval; elements = { 10.1.0.0/16 : 7, 10.2.0.1-10.2.0.5 : 8, 10.3.0.1 : 9 }; }
    map ports { type mark . inet_proto . inet_service : mark; elements = { 1 . tcp . 80 : 0x80000005 }; }
    set told { type mark . mark; elements = { 1 . 2 }; }
    set hits { type inet_service; size 65535; flags dynamic; counter; }
    chain c { type filter hook output priority 0; udp dport 1000-1009 update @hits { udp dport }; }
  }`);
});
afterAll(() => {
  netlink.close();
  nft.close();
});

const key = (...parts: Buffer[]): Buffer => Buffer.concat(parts);

describe('findElement', () => {
  it('finds by key, and the value with it', () => {
    const found = findElement(
      netlink,
      't',
      'ports',
      key(u32(1), Buffer.of(6, 0, 0, 0), Buffer.of(0, 80, 0, 0)),
    );
    expect(found?.data.readUInt32LE()).toBe(0x80000005);
    expect(
      findElement(netlink, 't', 'ports', key(u32(1), Buffer.of(6, 0, 0, 0), Buffer.of(0, 81, 0, 0))),
    ).toBeUndefined();
    expect(findElement(netlink, 't', 'told', key(u32(1), u32(2)))?.data).toHaveLength(0);
    expect(findElement(netlink, 't', 'told', key(u32(2), u32(1)))).toBeUndefined();
  });

  it('finds the interval that an address is in', () => {
    const range = (address: string): number | undefined =>
      findElement(netlink, 't', 'ranges', addressBytes(address))?.data.readUInt32LE();
    expect(['10.1.0.0', '10.1.7.7', '10.1.255.255'].map(range)).toEqual([7, 7, 7]);
    expect(['10.2.0.1', '10.2.0.3', '10.2.0.5'].map(range)).toEqual([8, 8, 8]);
    expect(range('10.3.0.1')).toBe(9);
    for (const outside of ['10.0.255.255', '10.2.0.0', '10.2.0.6', '10.3.0.0', '10.3.0.2', '255.255.255.255'])
      expect(range(outside), outside).toBeUndefined();
  });

  it('is undefined where there is no such set or table', () => {
    expect(findElement(netlink, 't', 'nowhere', u32(1))).toBeUndefined();
    expect(findElement(netlink, 'nowhere', 'told', u32(1))).toBeUndefined();
  });
});

describe('listElements', () => {
  it('gives counters as packets count them', async () => {
    const socket = dgram.createSocket('udp4');
    for (const port of [1001, 1002, 1002, 1002])
      await new Promise((done) => socket.send('xx', port, '10.1.1.1', done));
    socket.close();
    const counts = listElements(netlink, 't', 'hits').map((e) => [e.key.readUInt16BE(), e.packets, e.bytes]);
    expect(new Map(counts.map(([port, ...count]) => [port, count]))).toEqual(
      new Map([
        [1001, [1, 30]],
        [1002, [3, 90]],
      ]),
    );
  });

  it('lists thousands, and says that there is no such set', () => {
    nft.run(`add element inet t told { ${Array.from({ length: 5000 }, (_, i) => `9 . ${i}`).join(', ')} }`);
    expect(listElements(netlink, 't', 'told')).toHaveLength(5001);
    expect(() => listElements(netlink, 't', 'nowhere')).toThrow(/ENOENT/);
  });
});
