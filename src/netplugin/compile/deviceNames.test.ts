import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  exitDevice,
  peerDevice,
  portDevice,
  routerNamespace,
  tagMac,
  tunnelDevice,
  vtepLinkLocal,
  vtepMac,
} from './deviceNames.ts';

/** IFNAMSIZ with its final zero (linux/if.h). */
const DEVICE_LENGTH = 15;
/** NAME_MAX (linux/limits.h). */
const FILE_LENGTH = 255;
const LONGEST_NAME = 63;

const device = /^[a-z][a-z0-9]*$/;

describe('device names', () => {
  it('fit into the kernel, whatever they stand for', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 128 }), (text) => {
        for (const name of [portDevice(text), peerDevice(text), exitDevice(text)]) {
          expect(name).toMatch(device);
          expect(name.length).toBeLessThanOrEqual(DEVICE_LENGTH);
        }
      }),
    );
    expect(tunnelDevice(16_777_215)).toBe('vx16777215');
  });

  it('are those that running containers have: they must not change', () => {
    expect(portDevice('ep1')).toBe('ctf56865fef7');
    expect(peerDevice('ep1')).toBe('ccf56865fef7');
    expect(exitDevice('default')).toBe('cx37a8eec1');
    expect(tunnelDevice(1001)).toBe('vx1001');
    expect(routerNamespace('blue')).toBe('contiv-blue');
  });

  it('differ for different things', () => {
    const many = Array.from({ length: 10_000 }, (_, i) => `endpoint${i}`);
    expect(new Set(many.map(portDevice)).size).toBe(many.length);
    expect(new Set(many.slice(0, 1000).map(exitDevice)).size).toBe(1000);
    expect(portDevice('x')).not.toBe(peerDevice('x'));
  });
});

it('a host has another MAC address in each VLAN, which two hosts have none of, and of which only two bytes differ', () => {
  expect(tagMac('192.0.2.1', 0x1f4)).toBe('1a:f4:c0:00:02:01');
  expect(tagMac('192.0.2.1', 7)).toBe('0a:07:c0:00:02:01');
  const all = Array.from({ length: 4094 }, (_, i) => tagMac('192.0.2.1', i + 1));
  expect(new Set([...all, vtepMac('192.0.2.1'), tagMac('192.0.2.2', 1)]).size).toBe(4096);
  for (const mac of [...all, tagMac('fd00::1', 4094)]) {
    // Locally administered, of one device; the rest is the host's.
    expect(Number.parseInt(mac.slice(0, 2), 16) & 3).toBe(2);
    expect([vtepMac('192.0.2.1').slice(5), vtepMac('fd00::1').slice(5)]).toContain(mac.slice(5));
  }
});

it('a namespace of the longest tenant is a file name', () => {
  expect(routerNamespace('t'.repeat(LONGEST_NAME)).length).toBeLessThanOrEqual(FILE_LENGTH);
});

describe('the link addresses of a host', () => {
  it('follow from its IPv4 VTEP', () => {
    expect(vtepMac('192.168.50.11')).toBe('02:ce:c0:a8:32:0b');
    expect(vtepLinkLocal('192.168.50.11')).toBe('fe80::2ce:c0a8:320b');
  });

  it('follow from its IPv6 VTEP', () => {
    expect(vtepMac('fd00::11')).toMatch(/^02:ce(:[0-9a-f]{2}){4}$/);
    expect(vtepMac('fd00::11')).toBe(vtepMac('fd00::11'));
    expect(vtepMac('fd00::11')).not.toBe(vtepMac('fd00::12'));
    expect(vtepLinkLocal('fd00::11')).toMatch(/^fe80::2ce:/);
  });

  it('are unicast, locally administered, and differ for all IPv4 hosts', () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.ipV4(), (a, b) => {
        expect(Number.parseInt(vtepMac(a).slice(0, 2), 16) & 3).toBe(2);
        expect(vtepMac(a) === vtepMac(b)).toBe(a === b);
        expect(vtepLinkLocal(a) === vtepLinkLocal(b)).toBe(a === b);
      }),
    );
  });
});
