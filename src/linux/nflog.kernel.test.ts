import dgram from 'node:dgram';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../test/isolation.ts';
import { type LoggedPacket, openPacketLog, type PacketLog, readPacket } from './nflog.ts';
import { openNft } from './nftables.ts';

beforeAll(() => {
  isolate();
  sh('ip addr add 10.1.1.1/32 dev lo; ip addr add fd00::1/128 dev lo nodad');
  const nft = openNft();
  nft.run(`table inet t {
    chain c {
      type filter hook output priority 0;
      udp dport 1000-1999 meta mark set 0x80000007 log prefix "out" group 9 snaplen 96
      udp dport 2000 limit rate 5/second burst 5 packets log group 9
    }
  }`);
  nft.close();
});
const open: PacketLog[] = [];
afterEach(() => {
  for (const log of open.splice(0)) log.close();
});
function opened(): PacketLog {
  const log = openPacketLog(9);
  open.push(log);
  return log;
}

async function send(to: string, port: number, count = 1): Promise<void> {
  const socket = dgram.createSocket(to.includes(':') ? 'udp6' : 'udp4');
  for (let i = 0; i < count; i++) await new Promise((done) => socket.send('x', port, to, done));
  socket.close();
}

/** Reads until something came that answers `enough`. */
async function readUntil(log: PacketLog, enough: (all: LoggedPacket[]) => boolean): Promise<LoggedPacket[]> {
  const all: LoggedPacket[] = [];
  for (let i = 0; i < 1000 && !enough(all); i++) {
    all.push(...log.read(1000));
    await new Promise((done) => setTimeout(done, 10));
  }
  return all;
}

describe('a packet log', () => {
  it('gives addresses, protocol, port, mark and prefix of what is logged, in order, both families', async () => {
    const log = opened();
    await send('10.1.1.1', 1001);
    await send('fd00::1', 1002);
    const common = { protocol: 17, mark: 0x80000007, prefix: 'out', device: 0, mac: '' };
    expect(await readUntil(log, (all) => all.length >= 2)).toEqual([
      { ...common, from: '10.1.1.1', to: '10.1.1.1', port: 1001 },
      { ...common, from: 'fd00::1', to: 'fd00::1', port: 1002 },
    ]);
  });

  it('answers at once where there is nothing', () => {
    expect(opened().read(10)).toEqual([]);
  });

  it('says that another has bound the group, and binds when that one is gone', () => {
    const log = opened();
    expect(() => openPacketLog(9)).toThrow(/nflog group 9: bind: EPERM/);
    log.close();
    open.pop();
    opened();
  });

  it('loses packets that nobody reads, holds none up, and goes on when it is read again', async () => {
    const log = opened();
    await send('10.1.1.1', 1003, 20_000);
    const [first] = log.read(1_000_000);
    expect(first).toMatchObject({ port: 1003 });
    await send('10.1.1.1', 1004);
    const after = await readUntil(log, (all) => all.some((p) => p.port === 1004));
    expect(after.at(-1)).toMatchObject({ port: 1004 });
  });

  it('is spared by a limit in the rule', async () => {
    const log = opened();
    await send('10.1.1.1', 2000, 2000);
    await send('10.1.1.1', 1005);
    const all = await readUntil(log, (found) => found.some((p) => p.port === 1005));
    const limited = all.filter((p) => p.port === 2000).length;
    expect(limited).toBeGreaterThanOrEqual(5);
    expect(limited).toBeLessThan(1000);
  });
});

describe('readPacket', () => {
  const v6 = (next: number, ...rest: number[]): Buffer =>
    Buffer.concat([
      Buffer.from([0x60, 0, 0, 0, 0, 0, next, 64]),
      Buffer.from('fd000000000000000000000000000001', 'hex'),
      Buffer.from('fd000000000000000000000000000002', 'hex'),
      Buffer.from(rest),
    ]);

  it("finds IPv6's protocol and port behind extension headers", () => {
    const hopByHop = [60, 0, 0, 0, 0, 0, 0, 0];
    const options = [6, 1, ...Array.from({ length: 14 }, () => 0)];
    expect(readPacket(v6(0, ...hopByHop, ...options, 0x80, 0, 0, 80))).toEqual({
      from: 'fd00::1',
      to: 'fd00::2',
      protocol: 6,
      port: 80,
    });
  });

  it('takes no port from where there is none: ICMP, a later fragment, a packet that is cut off', () => {
    expect(readPacket(v6(58, 128, 0, 0, 0))).toEqual({ from: 'fd00::1', to: 'fd00::2', protocol: 58 });
    const v4 = Buffer.from('4500001c000000b940060000 0a010101 0a010102 00500051'.replaceAll(' ', ''), 'hex');
    expect(readPacket(v4)).toEqual({ from: '10.1.1.1', to: '10.1.1.2', protocol: 6 });
    v4.writeUInt16BE(0, 6);
    expect(readPacket(v4)).toMatchObject({ port: 0x51 });
    expect(readPacket(v4.subarray(0, 22))).toEqual({ from: '10.1.1.1', to: '10.1.1.2', protocol: 6 });
    expect(readPacket(v4.subarray(0, 19))).toBeUndefined();
    expect(readPacket(Buffer.alloc(0))).toBeUndefined();
  });
});
