import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { global } from './global.ts';
import type { Problem } from './kind.ts';
import { GLOBAL_DEFAULTS, type Global, parseRange } from './settings.ts';

const NETWORKS = [
  { tenantName: 'blue', networkName: 'net1', encap: 'vxlan', vni: 700, subnet: '20.1.1.0/24' },
  { tenantName: 'blue', networkName: 'net2', encap: 'vlan', vni: 70, subnet: '20.1.2.0/24' },
];

const check = (
  fields: Partial<Global>,
  networks: readonly object[] = [],
  before?: Global,
): Problem | undefined =>
  global.check?.({ ...GLOBAL_DEFAULTS, ...fields }, worldOf({ network: networks }), before);

describe('global settings', () => {
  it('may be the defaults, and ranges that hold every network', () => {
    expect(check({})).toBeUndefined();
    expect(check({ vxlans: '700-700', vlans: '70-4094' }, NETWORKS)).toBeUndefined();
    expect(check({ fwdMode: 'bridge', pvtSubnet: '10.1.0.0/16' })).toBeUndefined();
  });

  it.each<[Partial<Global>, keyof Global, number, string]>([
    [{ vlans: '1-4095' }, 'vlans', 400, "'1-4095' must be a range like 1-4094, within 1 to 4094"],
    [{ vlans: '0-10' }, 'vlans', 400, 'must be a range like 1-4094'],
    [{ vlans: '10-1' }, 'vlans', 400, 'must be a range like 1-4094'],
    [{ vxlans: 'many' }, 'vxlans', 400, "'many' must be a range like 1-16777215, within 1 to 16777215"],
    [{ vxlans: '1-16777216' }, 'vxlans', 400, 'must be a range like 1-16777215'],
    [{ vxlans: '1-699' }, 'vxlans', 409, "'1-699' leaves out tag 700 of network blue:net1"],
    [{ vlans: '71-80' }, 'vlans', 409, "'71-80' leaves out tag 70 of network blue:net2"],
    [
      { pvtSubnet: '172.19.0.0/24' },
      'pvtSubnet',
      400,
      "'172.19.0.0/24' must be an IPv4 /16 like 172.19.0.0/16",
    ],
    [{ pvtSubnet: 'fd00::/16' }, 'pvtSubnet', 400, 'must be an IPv4 /16'],
    [{ pvtSubnet: '10.0.0.1-10.0.0.2/16' }, 'pvtSubnet', 400, 'must be an IPv4 /16'],
    [{ pvtSubnet: '20.1.0.0/16' }, 'pvtSubnet', 409, 'overlaps 20.1.1.0/24 of network net1'],
  ])('are refused with %j, naming %s', (fields, field, status, text) => {
    const problem = check(fields, NETWORKS);
    expect(problem).toMatchObject({ field, status });
    expect(problem?.message).toContain(`global: ${field} `);
    expect(problem?.message).toContain(text);
  });

  it('of the fabric stay while groups have VLANs of their own by it, which the range holds', () => {
    const world = worldOf({
      endpointGroup: [
        { tenantName: 'blue', groupName: 'old', networkName: 'net2' },
        { tenantName: 'blue', groupName: 'web', networkName: 'net2', vlan: 7 },
      ],
    });
    const aci = { ...GLOBAL_DEFAULTS, networkInfraType: 'aci' as const };
    const problem = (fields: Partial<Global>) => global.check?.({ ...aci, ...fields }, world, aci);
    expect(problem({})).toBeUndefined();
    expect(problem({ networkInfraType: 'default' })).toMatchObject({
      field: 'networkInfraType',
      status: 409,
      message:
        'global: networkInfraType is aci and cannot change to default while a group has a VLAN of its own by it, as group blue:web has 7: delete it first',
    });
    expect(problem({ vlans: '8-100' })).toMatchObject({
      field: 'vlans',
      status: 409,
      message: "global: vlans '8-100' leaves out tag 7 of group blue:web",
    });
  });

  it('of forwarding and private subnet stay while there are networks', () => {
    expect(check({ fwdMode: 'bridge' }, NETWORKS, GLOBAL_DEFAULTS)).toMatchObject({
      field: 'fwdMode',
      status: 409,
      message: 'global: fwdMode cannot change while there are networks: delete 2 first',
    });
    expect(check({ pvtSubnet: '10.1.0.0/16' }, NETWORKS, GLOBAL_DEFAULTS)).toMatchObject({
      field: 'pvtSubnet',
      status: 409,
      message: 'global: pvtSubnet cannot change while there are networks',
    });
    expect(check({ arpMode: 'flood' }, NETWORKS, GLOBAL_DEFAULTS)).toBeUndefined();
  });

  it('cannot be deleted', () => {
    expect(global.checkRemoval?.(GLOBAL_DEFAULTS, worldOf({}))).toMatchObject({ status: 409 });
  });

  it('have ranges of two whole numbers', () => {
    expect(parseRange('1-4094')).toEqual([1, 4094]);
    expect(parseRange('7-7')).toEqual([7, 7]);
    for (const text of ['', ' 1-7', '7', '1-', '-1', '1-2-3', '1.5-2', '1e1-20', '-1-5', '1-999999999'])
      expect(parseRange(text), text).toBeUndefined();
  });
});
