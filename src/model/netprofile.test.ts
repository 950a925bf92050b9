import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { type Netprofile, netprofile, parseBandwidth } from './netprofile.ts';

const PROFILE: Netprofile = { tenantName: 'blue', profileName: 'gold' };
const check = (fields: Partial<Netprofile>) =>
  netprofile.check?.({ ...PROFILE, ...fields }, worldOf({}), undefined);

describe('bandwidth', () => {
  it.each([
    ['10 mbps', 10e6],
    ['10mbps', 10e6],
    ['1gbps', 1e9],
    ['1 G', 1e9],
    ['500K', 500e3],
    ['500 Kbps', 500e3],
    ['64000bps', 64e3],
    ['5MB', 5e6],
    ['20 Mb', 20e6],
  ])('%s is %d bit/s', (text, bits) => {
    expect(parseBandwidth(text)).toBe(bits);
  });

  it.each([
    '',
    '10',
    '0mbps',
    '-1mbps',
    '1.5gbps',
    '20xbps',
    'mbps',
    '10 m bps',
    ' 10mbps',
    '10mbps ',
    '10  mbps',
    '10 mbit',
    '10 tbps',
    '9999999999999gbps',
  ])('%j is none', (text) => {
    expect(parseBandwidth(text)).toBeUndefined();
  });
});

describe('network profile', () => {
  it('may limit, mark, both or nothing', () => {
    for (const fields of [{}, { bandwidth: '10mbps', burst: 100 }, { DSCP: 46 }])
      expect(check(fields)).toBeUndefined();
  });

  it('is refused with a bandwidth that is none, and with a name that no key may have', () => {
    expect(check({ bandwidth: '20xbps' })).toEqual({
      field: 'bandwidth',
      status: 400,
      message:
        "netprofile blue:gold: bandwidth '20xbps' must be a whole number from 1 and a unit like 500 kbps, 10 mbps or 1 gbps",
    });
    expect(check({ profileName: 'a/b' })).toMatchObject({ field: 'profileName', status: 400 });
  });
});
