import net from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addressNumber,
  contains,
  halves,
  isIpv4,
  isIpv6,
  numberAddress,
  overlap,
  parseSubnet,
  type Subnet,
  subnetPrefix,
} from './address.ts';

const subnet = (text: string): Subnet => {
  const parsed = parseSubnet(text);
  if (parsed === undefined) throw new Error(`${text} is no subnet`);
  return parsed;
};

/** Text that is nearly an address. */
const almost = fc.oneof(
  fc
    .array(fc.constantFrom('0', '1', '9', '25', '255', '256', '01', '', 'x', '-1'), { maxLength: 6 })
    .map((p) => p.join('.')),
  fc
    .array(fc.constantFrom('0', '1', 'fd00', 'FFFF', '12345', '', '', 'g', '1.2.3.4'), { maxLength: 10 })
    .map((p) => p.join(':')),
  fc.ipV4(),
  fc.ipV6(),
);

describe('addresses', () => {
  it('are numbers and back, IPv4', () => {
    expect(addressNumber('20.1.1.1')).toBe(0x14010101n);
    fc.assert(
      fc.property(fc.ipV4(), (text) => {
        expect(numberAddress(addressNumber(text), 4)).toBe(text);
      }),
    );
  });

  it('are numbers and back, IPv6, in one way of writing', () => {
    expect(addressNumber('fd00::1')).toBe((0xfd00n << 112n) | 1n);
    expect(numberAddress(addressNumber('FD00:0:0:0::0001'), 6)).toBe('fd00::1');
    fc.assert(
      fc.property(fc.bigInt(0n, (1n << 128n) - 1n), (number) => {
        expect(addressNumber(numberAddress(number, 6))).toBe(number);
      }),
    );
  });

  it('are IPv4 where every system reads them the same: no octal, no short forms', () => {
    for (const text of ['0.0.0.0', '10.0.0.1', '255.255.255.255']) expect(isIpv4(text), text).toBe(true);
    for (const text of [
      '',
      '1.2.3',
      '1.2.3.4.5',
      '256.1.1.1',
      '01.2.3.4',
      '1.2.3.09',
      '1.2.3.4 ',
      '0x1.2.3.4',
      '1.2.3.-4',
    ])
      expect(isIpv4(text), text).toBe(false);
  });

  it('are what the platform takes for IPv4 and IPv6, without zones', () => {
    fc.assert(
      fc.property(almost, (text) => {
        expect(isIpv4(text)).toBe(net.isIPv4(text));
        expect(isIpv6(text)).toBe(net.isIPv6(text));
      }),
      { numRuns: 2000 },
    );
    expect(isIpv6('fe80::1%eth0')).toBe(false);
  });
});

describe('subnets', () => {
  it('are read with their first and last address', () => {
    expect(subnet('20.1.1.0/24')).toEqual({
      family: 4,
      network: 0x14010100n,
      length: 24,
      first: 0x14010100n,
      last: 0x140101ffn,
      ranged: false,
    });
    expect(subnet('fd00:1::/64').last).toBe(addressNumber('fd00:1::ffff:ffff:ffff:ffff'));
  });

  it('ignore host bits', () => {
    expect(subnet('20.1.1.77/24')).toEqual(subnet('20.1.1.0/24'));
    expect(subnet('0.0.0.0/0').network).toBe(0n);
  });

  it('may be ranges, ends included', () => {
    const range = subnet('20.1.1.10-20.1.1.20/24');
    expect(range).toMatchObject({
      network: 0x14010100n,
      first: 0x1401010an,
      last: 0x14010114n,
      ranged: true,
    });
    expect(subnet('20.1.1.10-20.1.1.10/24')).toMatchObject({ first: 0x1401010an, last: 0x1401010an });
    expect(subnet('fd00::10-fd00::20/64')).toMatchObject({ family: 6, ranged: true });
  });

  it('are refused where they are something else', () => {
    for (const text of [
      '',
      '20.1.1.0',
      '20.1.1.0/',
      '20.1.1.0/33',
      '20.1.1.0/-1',
      '20.1.1.0/2 4',
      '20.1.1.0/24/24',
      '/24',
      '20.1.1/24',
      '20.1.1.256/24',
      '20.1.1.010/24',
      '20.1.1.09/24',
      'fd00::/129',
      'fd00::1::/64',
      'fe80::1%eth0/64',
      '20.1.1.20-20.1.1.10/24',
      '20.1.1.10-20.1.2.20/24',
      '20.1.1.10-/24',
      '-20.1.1.10/24',
      '20.1.1.10-20.1.1.20-20.1.1.30/24',
      '20.1.1.10-fd00::1/24',
      '20.1.1.0/24\n',
      'net1',
    ])
      expect(parseSubnet(text), JSON.stringify(text)).toBeUndefined();
  });

  it('of any text are read or refused, never an exception', () => {
    fc.assert(
      fc.property(almost, almost, fc.string({ maxLength: 4 }), (from, to, length) => {
        for (const text of [`${from}/${length}`, `${from}-${to}/24`, `${from}/24`]) {
          const parsed = parseSubnet(text);
          if (parsed !== undefined) expect(parsed.first).toBeLessThanOrEqual(parsed.last);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('have one prefix, whatever the range', () => {
    expect(subnetPrefix('20.1.1.10-20.1.1.20/24')).toBe('20.1.1.0/24');
    expect(subnetPrefix('FD00:0::5/64')).toBe('fd00::/64');
    expect(() => subnetPrefix('net1')).toThrow("'net1' is not a subnet like 20.1.1.0/24");
  });

  it('contain their own addresses only, also outside of the range', () => {
    const range = subnet('20.1.1.10-20.1.1.20/24');
    for (const address of ['20.1.1.0', '20.1.1.5', '20.1.1.255']) expect(contains(range, address)).toBe(true);
    for (const address of ['20.1.0.255', '20.1.2.0', 'fd00::1']) expect(contains(range, address)).toBe(false);
    expect(contains(subnet('fd00::/64'), 'fd00::ffff')).toBe(true);
    expect(contains(subnet('fd00::/64'), 'fd00:0:0:1::')).toBe(false);
  });

  it('overlap where an address is in both', () => {
    expect(overlap(subnet('20.1.0.0/16'), subnet('20.1.1.0/24'))).toBe(true);
    expect(overlap(subnet('20.1.1.0/24'), subnet('20.1.2.0/24'))).toBe(false);
    expect(overlap(subnet('0.0.0.0/0'), subnet('::/0'))).toBe(false);
    const any = fc
      .tuple(fc.nat(0xffff), fc.integer({ min: 24, max: 32 }))
      .map(([low, length]) => subnet(`10.0.${low >> 8}.${low & 255}/${length}`));
    fc.assert(
      fc.property(any, any, (a, b) => {
        const shared =
          [a.first, a.last].some((n) => n >= b.first && n <= b.last) ||
          (b.first >= a.first && b.first <= a.last);
        expect(overlap(a, b)).toBe(shared);
        expect(overlap(b, a)).toBe(shared);
      }),
    );
  });
});

describe('halves', () => {
  it.each([
    ['20.1.1.0/24', '20.1.1.0/25', '20.1.1.128/25'],
    ['20.1.1.10-20.1.1.20/24', '20.1.1.0/25', '20.1.1.128/25'],
    ['10.0.0.0/8', '10.0.0.0/9', '10.128.0.0/9'],
    ['fd00::/64', 'fd00::/65', 'fd00::8000:0:0:0/65'],
  ])('of %s are %s and %s', (whole, first, second) => {
    expect(halves(whole)).toEqual([first, second]);
  });
});
