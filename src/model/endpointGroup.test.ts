import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { type EndpointGroup, endpointGroup, parsePool } from './endpointGroup.ts';
import type { Problem } from './kind.ts';

const GROUP: EndpointGroup = { tenantName: 'blue', groupName: 'web', networkName: 'net1' };
const WORLD = worldOf({
  network: [
    { tenantName: 'blue', networkName: 'net1', subnet: '20.1.1.0/24' },
    { tenantName: 'blue', networkName: 'pooled', subnet: '20.1.2.0/24' },
    { tenantName: 'blue', networkName: 'six', ipv6Subnet: 'fd00:6::/64' },
    { tenantName: 'red', networkName: 'other', subnet: '20.1.1.0/24' },
    { tenantName: 'blue', networkName: 'lan', encap: 'vlan', subnet: '20.1.3.0/24' },
  ],
  endpointGroup: [
    { ...GROUP, groupName: 'db' },
    { ...GROUP, groupName: 'first', networkName: 'pooled', ipPool: '20.1.2.10-20.1.2.20' },
    { ...GROUP, tenantName: 'red', groupName: 'cache' },
  ],
});

const check = (fields: Partial<EndpointGroup>, before?: EndpointGroup): Problem | undefined =>
  endpointGroup.check?.({ ...GROUP, ...fields }, WORLD, before);

describe('endpoint group', () => {
  it.each<Partial<EndpointGroup>>([
    {},
    { ipPool: '20.1.1.10-20.1.1.20' },
    { ipPool: '20.1.1.10-20.1.1.10' },
    { ipPool: '20.1.1.1-20.1.1.254' },
    { groupName: 'cache' },
    { groupName: 'other' },
    { networkName: 'six' },
  ])('may be %j', (fields) => {
    expect(check(fields)).toBeUndefined();
  });

  it.each<[Partial<EndpointGroup>, keyof EndpointGroup, number, string]>([
    [
      { networkName: 'six', ipPool: '20.1.1.10-20.1.1.20' },
      'ipPool',
      400,
      "'20.1.1.10-20.1.1.20' needs an IPv4 subnet, which network six does not have",
    ],
    [{ ipPool: '20.1.1.10' }, 'ipPool', 400, "'20.1.1.10' is not a range like 20.1.1.10-20.1.1.20"],
    [{ ipPool: '20.1.1.20-20.1.1.10' }, 'ipPool', 400, 'is not a range like 20.1.1.10-20.1.1.20'],
    [{ ipPool: '20.1.1.10-20.1.1.020' }, 'ipPool', 400, 'is not a range like 20.1.1.10-20.1.1.20'],
    [{ ipPool: 'fd00::1-fd00::2' }, 'ipPool', 400, 'is not a range like 20.1.1.10-20.1.1.20'],
    [{ ipPool: '20.1.1.10-20.1.2.20' }, 'ipPool', 400, 'must lie in 20.1.1.0/24 of network net1'],
    [
      { ipPool: '20.1.1.0-20.1.1.20' },
      'ipPool',
      400,
      'must lie within 20.1.1.1-20.1.1.254: no container has',
    ],
    [{ ipPool: '20.1.1.9-20.1.1.255' }, 'ipPool', 400, 'must lie within 20.1.1.1-20.1.1.254'],
    [
      { networkName: 'pooled', ipPool: '20.1.2.5-20.1.2.10' },
      'ipPool',
      409,
      "'20.1.2.5-20.1.2.10' overlaps 20.1.2.10-20.1.2.20 of group first",
    ],
    [{ networkName: 'pooled', ipPool: '20.1.2.20-20.1.2.30' }, 'ipPool', 409, 'overlaps 20.1.2.10-20.1.2.20'],
    [{ networkName: 'pooled', ipPool: '20.1.2.1-20.1.2.50' }, 'ipPool', 409, 'overlaps 20.1.2.10-20.1.2.20'],
    [{ ipPool: '30.1.1.10-30.1.1.20' }, 'ipPool', 400, 'must lie in 20.1.1.0/24 of network net1'],
  ])('is refused with %j, naming %s', (fields, field, status, text) => {
    const problem = check(fields);
    expect(problem).toMatchObject({ field, status });
    expect(problem?.message).toContain(`group blue:${fields.groupName ?? 'web'}: ${field} `);
    expect(problem?.message).toContain(text);
  });

  it('is refused with a name that is no DNS label', () => {
    expect(check({ groupName: 'a.b' })).toMatchObject({
      field: 'groupName',
      status: 400,
      message: expect.stringContaining("group 'a.b': groupName must be a DNS label"),
    });
  });

  it('stays in its network', () => {
    expect(check({}, GROUP)).toBeUndefined();
    expect(check({}, { ...GROUP, networkName: 'net0' })).toMatchObject({
      field: 'networkName',
      status: 409,
      message: 'group blue:web: networkName is net0 and cannot change: delete the group and create it anew',
    });
  });

  it('keeps its pool while containers have their addresses by it', () => {
    const pooled = { ...GROUP, networkName: 'pooled', ipPool: '20.1.2.30-20.1.2.40' };
    const endpoint = { tenantName: 'blue', networkName: 'pooled', groupName: 'web', endpointID: 'c1' };
    const change = (to: object, endpoints: readonly object[]): Problem | undefined =>
      endpointGroup.check?.(
        { ...pooled, ...to },
        worldOf({ network: [{ ...endpoint, subnet: '20.1.2.0/24' }], endpoint: endpoints }),
        pooled,
      );
    expect(change({}, [endpoint])).toBeUndefined();
    expect(change({ ipPool: '20.1.2.30-20.1.2.50' }, [])).toBeUndefined();
    expect(change({ ipPool: '20.1.2.30-20.1.2.50' }, [endpoint])).toEqual({
      field: 'ipPool',
      status: 409,
      message:
        'group blue:web: ipPool is 20.1.2.30-20.1.2.40 and cannot change to 20.1.2.30-20.1.2.50 while a container has its address by it: remove it first',
    });
    expect(change({ ipPool: undefined }, [endpoint, endpoint])?.message).toContain(
      'cannot change to unset while 2 containers have their addresses by it: remove them first',
    );
  });

  it('has a pool of two addresses in order', () => {
    expect(parsePool('20.1.1.10-20.1.1.20')).toEqual({ first: '20.1.1.10', last: '20.1.1.20' });
    for (const text of ['', '-', '20.1.1.10-', '20.1.1.10-20.1.1.20-20.1.1.30', '20.1.1.10-x'])
      expect(parsePool(text), text).toBeUndefined();
  });
});

it('a VLAN of a group’s own is one of the range, in an ACI fabric and a network of encap vlan, and stays', () => {
  const world = (networkInfraType: string) =>
    worldOf({
      global: [{ name: 'global', networkInfraType, vlans: '10-20' }],
      network: [
        { tenantName: 'blue', networkName: 'net1', encap: 'vxlan', subnet: '20.1.1.0/24' },
        { tenantName: 'blue', networkName: 'lan', encap: 'vlan', subnet: '20.1.3.0/24' },
      ],
    });
  const problem = (fields: Partial<EndpointGroup>, mode = 'aci', before?: object) =>
    endpointGroup.check?.({ ...GROUP, networkName: 'lan', ...fields }, world(mode), before as never)?.message;
  expect(problem({})).toBeUndefined();
  expect(problem({ pktTag: 15 })).toBeUndefined();
  expect(problem({ pktTag: 21 })).toBe(
    'group blue:web: pktTag 21 is outside of the global vlan range 10-20: choose one in it, or change the range',
  );
  expect(problem({ pktTag: 15, networkName: 'net1' })).toBe(
    'group blue:web: pktTag 15 needs a network of encap vlan, and network net1 has encap vxlan: leave it out',
  );
  expect(problem({ pktTag: 15 }, 'default')).toBe(
    'group blue:web: pktTag 15 needs the fabric mode aci (netctl global set --fabric-mode aci): in others the VLAN is that of network lan',
  );
  const before = { ...GROUP, networkName: 'lan', vlan: 12 };
  expect(problem({}, 'aci', before)).toBeUndefined();
  expect(problem({ pktTag: 12 }, 'aci', before)).toBeUndefined();
  expect(problem({ pktTag: 13 }, 'aci', before)).toBe(
    'group blue:web: pktTag is 12 and cannot change to 13: delete the group and create it anew',
  );
});
