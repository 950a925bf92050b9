import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../../../test/isolation.ts';
import { setOption } from '../../../linux/libc.ts';
import { bindPort, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { type Nft, openNft } from '../../../linux/nftables.ts';
import { DSCP_MAPS, dscpChains, dscpElement, dscpRules } from './dscp.ts';

/** A container at 10.0.0.2 and fd00::2, with more addresses; another at 10.0.1.2 and fd00:1::2. */
let nft: Nft;

beforeAll(() => {
  isolate();
  sh(`
    for n in router one two; do ip netns add $n; done
    ip -n router link add ct0000000001 type veth peer name eth0 netns one
    ip -n router link add ct0000000002 type veth peer name eth0 netns two
    for n in 1 2; do
      ip -n router addr add 10.0.$((n-1)).1/24 dev ct000000000$n
      ip -n router addr add fd00:$((n-1))::1/64 dev ct000000000$n nodad
      ip -n router link set ct000000000$n up
    done
    ip -n one addr add 10.0.0.2/24 dev eth0; ip -n one addr add 10.0.0.3/24 dev eth0
    ip -n one addr add fd00:0::2/64 dev eth0 nodad; ip -n one addr add fd00:0::3/64 dev eth0 nodad
    ip -n two addr add 10.0.1.2/24 dev eth0; ip -n two addr add fd00:1::2/64 dev eth0 nodad
    for n in one two; do ip -n $n link set eth0 up; done
    ip -n one route add default via 10.0.0.1; ip -n one route add default via fd00:0::1
    ip -n two route add default via 10.0.1.1; ip -n two route add default via fd00:1::1
    ip netns exec router sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1`);
  nft = inNamespace(namespacePath('router'), openNft);
  nft.run(`table inet shown { ${dscpChains()}
    chain classes { type filter hook prerouting priority -150; ${dscpRules().join('; ')}; }
    chain marked { type filter hook forward priority 0; meta mark != 0 counter; }
  }`);
});
afterAll(() => nft.close());

const SOL_IP = 0;
const IP_TOS = 1;
const SOL_IPV6 = 41;
const IPV6_TCLASS = 67;

/** The byte of DSCP and ECN of `count` packets from this address with that byte, as the other container receives them. */
async function received(from: string, sent: number, count = 1): Promise<number[]> {
  const v6 = from.includes(':');
  const capture = spawn('ip', ['netns', 'exec', 'two', 'tcpdump', '-Z', 'root', '-lnvi', 'eth0', 'udp']);
  const seen: number[] = [];
  let listening: () => void;
  const ready = new Promise<void>((resolve) => {
    listening = resolve;
  });
  let enough: () => void;
  const done = new Promise<void>((resolve) => {
    enough = resolve;
  });
  capture.stderr.on('data', (text) => String(text).includes('listening on') && listening());
  capture.stdout.on('data', (text) => {
    // tcpdump -v: `IP (tos 0xb8, ttl …` and `IP6 (class 0xb8, flowlabel …`, without class where that is 0.
    for (const [, ip, byte] of String(text).matchAll(/\b(IP6?) \((?:tos|class)? ?(0x[0-9a-f]+)?/g))
      seen.push(ip === 'IP6' && byte === undefined ? 0 : Number(byte));
    if (seen.length >= count) enough();
  });
  await ready;
  const fd = inNamespace(namespacePath('one'), () => bindPort('udp', from, 0));
  setOption(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_TCLASS : IP_TOS, sent);
  const socket = dgram.createSocket(v6 ? 'udp6' : 'udp4');
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  for (let i = 0; i < count; i++) socket.send('x', 9, v6 ? 'fd00:1::2' : '10.0.1.2');
  await done;
  socket.close();
  capture.kill();
  return seen;
}

const EF = 46;
const ECT0 = 2;

describe.each([
  [4, '10.0.0.2', '10.0.0.3'],
  [6, 'fd00::2', 'fd00::3'],
] as const)('the class of IPv%i packets', (version, address, other) => {
  const element = (verb: string, text: string): void =>
    nft.run(`${verb} element inet shown ${DSCP_MAPS[version]} { ${text} }`);

  it('is the one of the source address, in every packet, and leaves the ECN bits alone', async () => {
    expect(await received(address, ECT0)).toEqual([ECT0]);
    element('add', dscpElement(address, EF));
    expect(await received(address, 0, 5)).toEqual(Array(5).fill(EF << 2));
    expect(await received(address, (8 << 2) | ECT0)).toEqual([(EF << 2) | ECT0]);
    expect(await received(address, 3)).toEqual([(EF << 2) | 3]);
    expect(await received(other, 8 << 2)).toEqual([8 << 2]);
    element('delete', address);
    expect(await received(address, 8 << 2)).toEqual([8 << 2]);
  });

  it.each([0, 1, 63])('may be %i', async (dscp) => {
    element('add', dscpElement(address, dscp));
    expect(await received(address, (8 << 2) | ECT0)).toEqual([(dscp << 2) | ECT0]);
    element('delete', address);
  });

  it('is listed as it was set', () => {
    element('add', dscpElement(address, EF));
    expect(JSON.stringify(nft.list(`list map inet shown ${DSCP_MAPS[version]}`))).toContain(
      `"elem":[["${address}","0:2e"]]`,
    );
    element('delete', address);
  });
});

it('leaves no mark behind', () => {
  expect(JSON.stringify(nft.list('list chain inet shown marked'))).toContain('"packets":0');
});
