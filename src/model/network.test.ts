import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { overlap, parseSubnet, type Subnet } from './address.ts';
import type { Problem } from './kind.ts';
import { type Network, network } from './network.ts';
import { GLOBAL_DEFAULTS } from './settings.ts';

const NET: Network = {
  tenantName: 'blue',
  networkName: 'net1',
  encap: 'vxlan',
  subnet: '20.1.1.0/24',
  gateway: '20.1.1.254',
};

function check(fields: Partial<Network>, others: Parameters<typeof worldOf>[0] = {}): Problem | undefined {
  return network.check?.({ ...NET, ...fields }, worldOf({ global: [GLOBAL_DEFAULTS], ...others }), undefined);
}

describe('a network that the hosts reach', () => {
  const other = { ...NET, tenantName: 'green', networkName: 'net2', hostAccess: true };

  it.each<[string, Partial<Network>, Network]>([
    ['same addresses in another tenant', {}, other],
    ['addresses around those', { subnet: '20.0.0.0/8' }, other],
    [
      'IPv6 in common',
      { ipv6Subnet: 'fd00:1::/64' },
      { ...other, subnet: '20.9.0.0/24', gateway: '', ipv6Subnet: 'fd00:1::/60' },
    ],
  ])('is refused with %s, of a network that they reach too', (_, fields, taken) => {
    expect(check({ hostAccess: true, ...fields }, { network: [taken] })).toMatchObject({
      field: 'hostAccess',
      status: 409,
      message:
        'network blue:net1: hostAccess must not be set: its subnet overlaps that of network green:net2, which the hosts reach already',
      elsewhere: {
        tenant: 'green',
        message:
          'network blue:net1: hostAccess must not be set: its subnet overlaps what the hosts reach already',
      },
    });
    expect(check(fields, { network: [taken] })).toBeUndefined();
    expect(
      check({ hostAccess: true, ...fields }, { network: [{ ...taken, hostAccess: false }] }),
    ).toBeUndefined();
  });

  it('is each one of a tenant with an infra network, which is reached itself', () => {
    const infra = network.normalize?.({ ...NET, nwType: 'infra' }) as Network;
    expect(infra.hostAccess).toBe(true);
    const entered = { ...infra, networkName: 'hosts', subnet: '20.7.0.0/24', gateway: '' };
    expect(check({ nwType: 'infra', hostAccess: true }, { network: [other] })).toMatchObject({
      field: 'nwType',
      status: 409,
      message:
        'network blue:net1: nwType must be data: its subnet, or another of its tenant, overlaps that of network green:net2, which the hosts reach already',
    });
    expect(check({}, { network: [other, entered] })?.message).toBe(
      'network blue:net1: subnet overlaps that of network green:net2, which the hosts reach already, and they reach this tenant by its infra network',
    );
    // The other way round: an infra network elsewhere, and what is in its tenant.
    const theirs = { ...entered, tenantName: 'green' };
    expect(check({ hostAccess: true }, { network: [{ ...other, hostAccess: false }, theirs] })).toMatchObject(
      {
        field: 'hostAccess',
      },
    );
    expect(check({}, { network: [other, theirs] })).toBeUndefined();
    expect(network.normalize?.({ ...NET, nwType: 'infra', encap: 'vlan' })).toMatchObject({
      hostAccess: true,
    });
    expect(check({ nwType: 'infra', hostAccess: true, encap: 'vlan' })).toBeUndefined();
  });

  it('is no VLAN, and one that says that it is none is as one that says nothing', () => {
    expect(check({ hostAccess: true, encap: 'vlan' })).toMatchObject({ field: 'hostAccess', status: 400 });
    expect(network.normalize?.({ ...NET, hostAccess: false })).not.toHaveProperty('hostAccess');
  });
});

describe('a network that is announced to the fabric', () => {
  it('has addresses that no other tenant’s has, of those that hosts have routes to', () => {
    const other = { ...NET, tenantName: 'green', networkName: 'net2' };
    expect(check({ advertise: true }, { network: [other] })).toBeUndefined();
    expect(check({}, { network: [{ ...other, advertise: true }] })).toBeUndefined();
    for (const theirs of [{ advertise: true }, { hostAccess: true }])
      expect(check({ advertise: true }, { network: [{ ...other, ...theirs }] })).toMatchObject({
        field: 'advertise',
        status: 409,
        message:
          'network blue:net1: advertise must not be set: its subnet overlaps that of network green:net2, which the hosts reach already',
      });
    expect(check({ hostAccess: true }, { network: [{ ...other, advertise: true }] })).toMatchObject({
      field: 'hostAccess',
    });
  });

  it('has a gateway, by which its containers answer', () => {
    expect(check({ advertise: true, gateway: '' })).toMatchObject({ field: 'advertise', status: 422 });
    expect(network.normalize?.({ ...NET, advertise: false })).not.toHaveProperty('advertise');
  });
});

describe('a network whose gateway is a router of the fabric', () => {
  const fields = { externalGateway: true, encap: 'vlan' } as const;

  it('is a VLAN with a gateway, which its router alone leads outside', () => {
    expect(check(fields)).toBeUndefined();
    expect(check({ externalGateway: true })).toMatchObject({ field: 'externalGateway', status: 422 });
    expect(check({ ...fields, gateway: '' })).toMatchObject({ field: 'externalGateway', status: 422 });
    expect(check({ ...fields, advertise: true })).toMatchObject({ field: 'advertise', status: 422 });
    expect(network.normalize?.({ ...NET, externalGateway: false })).not.toHaveProperty('externalGateway');
  });
});

describe('a network of IPv6 alone', () => {
  const { subnet: _, gateway: _gateway, ...none } = NET;
  const alone: Network = { ...none, ipv6Subnet: 'fd00:1::/64' };

  it('has no subnet, also where an empty one is said, and who makes it is told whom it is not for', () => {
    for (const n of [alone, { ...alone, subnet: '' }])
      expect(network.normalize?.(n)).toEqual({ ...alone, nwType: 'data', encap: 'vxlan' });
    expect(network.remarks?.(alone)).toEqual([
      expect.stringMatching(/^has no IPv4 subnet: Docker before 28, and Swarm, are not offered it/),
    ]);
    // Those of type infra it is not offered at all.
    for (const n of [NET, { ...alone, nwType: 'infra' as const }]) expect(network.remarks?.(n)).toEqual([]);
  });

  it('overlaps others by what it has', () => {
    const world = (other: Partial<Network>) =>
      worldOf({ global: [GLOBAL_DEFAULTS], network: [{ ...NET, networkName: 'net2', ...other }] });
    const six = { ipv6Subnet: 'fd00:1::/60' };
    expect(network.check?.(alone, world(six), undefined)).toMatchObject({ field: 'ipv6Subnet', status: 409 });
    expect(network.check?.(alone, world({}), undefined)).toBeUndefined();
    expect(network.check?.(NET, worldOf({ global: [GLOBAL_DEFAULTS], network: [alone] }), undefined)).toBe(
      undefined,
    );
  });

  it('has the gateway of a fabric by IPv6', () => {
    const vlan: Network = { ...alone, encap: 'vlan', externalGateway: true };
    const world = worldOf({ global: [GLOBAL_DEFAULTS] });
    expect(network.check?.(vlan, world, undefined)).toMatchObject({
      field: 'externalGateway',
      message: expect.stringContaining('needs an ipv6Gateway'),
    });
    expect(network.check?.({ ...vlan, ipv6Gateway: 'fd00:1::1' }, world, undefined)).toBeUndefined();
  });
});

/** Fields, then field, status and text of the refusal. */
type Refused = [Partial<Network>, keyof Network, number, string];

describe('network', () => {
  it.each<Partial<Network>>([
    {},
    { gateway: '' },
    { gateway: '20.1.1.1' },
    { subnet: '20.1.1.10-20.1.1.20/24' },
    { subnet: '20.1.1.252/30', gateway: '20.1.1.253' },
    { subnet: '20.0.0.0/8' },
    { ipv6Subnet: 'fd00:1::/64' },
    { ipv6Subnet: 'fd00:1::/64', ipv6Gateway: 'fd00:1::1' },
    { ipv6Subnet: 'fd00:1::/126', ipv6Gateway: 'fd00:1::3' },
    { pktTag: 10000 },
    { encap: 'vlan', pktTag: 4094 },
    { hostAccess: true },
    { subnet: '', gateway: '', ipv6Subnet: 'fd00:1::/64' },
    { subnet: '', gateway: '', ipv6Subnet: 'fd00:1::/64', ipv6Gateway: 'fd00:1::1', advertise: true },
    { subnet: '', gateway: '', ipv6Subnet: 'fd00:1::/64', encap: 'direct' },
  ])('may be %j', (fields) => {
    expect(check(fields)).toBeUndefined();
  });

  it.each<Refused>([
    [
      { subnet: '' },
      'subnet',
      400,
      'is missing: give a subnet like 20.1.1.0/24, or an ipv6Subnet like fd00:1::/64',
    ],
    [{ subnet: '', ipv6Subnet: 'fd00:1::/64' }, 'gateway', 400, 'needs a subnet'],
    [
      { subnet: '', gateway: '', ipv6Subnet: 'fd00:1::/64', advertise: true },
      'advertise',
      422,
      'needs an ipv6Gateway',
    ],
    [{ subnet: '20.1.1.0' }, 'subnet', 400, "'20.1.1.0' is not a subnet: write it as 20.1.1.0/24"],
    [{ subnet: '20.1.1.09/24' }, 'subnet', 400, "'20.1.1.09/24' is not a subnet: write it as 20.1.1.0/24"],
    [{ subnet: 'fd00::/64' }, 'subnet', 400, "'fd00::/64' is not a subnet: write it as 20.1.1.0/24"],
    [{ subnet: '20.1.1.20-20.1.1.10/24' }, 'subnet', 400, 'or 20.1.1.10-20.1.1.20/24'],
    [{ subnet: '20.1.1.0/31' }, 'subnet', 400, 'must have a prefix length from 8 to 30'],
    [{ subnet: '20.0.0.0/7' }, 'subnet', 400, 'must have a prefix length from 8 to 30'],
    [{ subnet: '127.0.0.0/8' }, 'subnet', 400, "'127.0.0.0/8' overlaps 127.0.0.0/8, which is reserved"],
    [{ subnet: '169.254.7.0/24' }, 'subnet', 400, 'overlaps 169.254.0.0/16, which is reserved'],
    [{ subnet: '224.0.0.0/24' }, 'subnet', 400, 'overlaps 224.0.0.0/3, which is reserved'],
    [{ subnet: '255.255.255.0/24' }, 'subnet', 400, 'overlaps 224.0.0.0/3, which is reserved'],
    [{ subnet: '0.1.0.0/16' }, 'subnet', 400, 'overlaps 0.0.0.0/8, which is reserved'],
    [{ gateway: 'gw' }, 'gateway', 400, "'gw' is not an IPv4 address"],
    [{ gateway: '20.1.1.01' }, 'gateway', 400, "'20.1.1.01' is not an IPv4 address"],
    [{ gateway: '20.1.2.1' }, 'gateway', 400, "'20.1.2.1' must be a host address in 20.1.1.0/24"],
    [{ gateway: '20.1.1.0' }, 'gateway', 400, "'20.1.1.0' must be a host address in 20.1.1.0/24"],
    [{ gateway: '20.1.1.255' }, 'gateway', 400, "'20.1.1.255' must be a host address in 20.1.1.0/24"],
    [{ gateway: 'fd00::1' }, 'gateway', 400, "'fd00::1' is not an IPv4 address"],
    [{ ipv6Gateway: 'fd00::1' }, 'ipv6Gateway', 400, 'needs an ipv6Subnet'],
    [{ ipv6Subnet: '20.1.1.0/24' }, 'ipv6Subnet', 400, 'is not a subnet: write it as fd00:1::/64'],
    [{ ipv6Subnet: 'fd00::/127' }, 'ipv6Subnet', 400, 'must have a prefix length from 8 to 126'],
    [{ ipv6Subnet: 'fe80::/64' }, 'ipv6Subnet', 400, 'overlaps fe80::/10, which is reserved'],
    [{ ipv6Subnet: '::/64' }, 'ipv6Subnet', 400, 'overlaps ::/16, which is reserved'],
    [
      { ipv6Subnet: 'fd00::/64', ipv6Gateway: 'fd00::' },
      'ipv6Gateway',
      400,
      'must be a host address in fd00::/64',
    ],
    [
      { ipv6Subnet: 'fd00::/64', ipv6Gateway: 'fd01::1' },
      'ipv6Gateway',
      400,
      'must be a host address in fd00::/64',
    ],
    [{ pktTag: 10001 }, 'pktTag', 422, '10001 is outside of the global vxlan range 1-10000'],
    [{ encap: 'vlan', pktTag: 4095 }, 'pktTag', 400, '4095 must be a VLAN id from 1 to 4094'],
  ])('is refused with %j, naming %s', (fields, field, status, text) => {
    const problem = check(fields);
    expect(problem).toMatchObject({ field, status });
    expect(problem?.message).toContain(`network blue:net1: ${field} `);
    expect(problem?.message).toContain(text);
    expect(problem?.message).not.toMatch(/\n/);
  });

  it('has no name that Docker has itself, where Docker has it by that name alone', () => {
    const message =
      "network 'host': networkName must not be bridge, host, none, default: to docker run --net they";
    expect(check({ tenantName: 'default', networkName: 'host' })?.message).toContain(message);
    expect(check({ networkName: 'host' })).toBeUndefined();
  });

  it('is refused with a name that is no DNS label', () => {
    expect(check({ networkName: 'net_1' })).toMatchObject({
      field: 'networkName',
      status: 400,
      message: expect.stringContaining("network 'net_1': networkName must be a DNS label"),
    });
  });

  it('keeps to the tag range that the cluster has', () => {
    const world = { global: [{ ...GLOBAL_DEFAULTS, vxlans: '500-600', vlans: '20-30' }] };
    expect(check({ pktTag: 500 }, world)).toBeUndefined();
    expect(check({ pktTag: 601 }, world)?.message).toContain('outside of the global vxlan range 500-600');
    expect(check({ encap: 'vlan', pktTag: 31 }, world)?.message).toContain(
      'outside of the global vlan range 20-30',
    );
  });

  it.each<Refused>([
    [{ subnet: '20.1.2.128/25' }, 'subnet', 409, 'overlaps 20.1.2.0/24 of network net2 of the same tenant'],
    [
      { subnet: '20.1.2.5-20.1.2.6/24' },
      'subnet',
      409,
      "overlaps 20.1.2.0/24 of network net2 of the same tenant: a subnet is one network's as a whole, whatever range of it is given out; make one network, and a group with an ipPool for each range",
    ],
    [{ ipv6Subnet: 'fd00:2::/32' }, 'ipv6Subnet', 409, 'overlaps fd00:2::/64 of network net2'],
  ])('whose addresses another one of its tenant has is refused: %j', (fields, field, status, text) => {
    const others = {
      network: [{ ...NET, networkName: 'net2', subnet: '20.1.2.0/24', ipv6Subnet: 'fd00:2::/64' }],
    };
    const problem = check({ gateway: '', ...fields }, others);
    expect(problem).toMatchObject({ field, status });
    expect(problem?.message).toContain(text);
    expect(problem?.message).toMatch(/^network blue:\w+: /);
  });

  it('may have the addresses of any other tenant', () => {
    expect(check({}, { network: [{ ...NET, tenantName: 'red' }] })).toBeUndefined();
  });

  it('of VLAN says where it acts', () => {
    expect(network.note?.({ ...NET, encap: 'vlan' })).toContain('acts on hosts whose netplugin has --uplink');
    expect(network.note?.(NET)).toBeUndefined();
  });

  it('collides with exactly those networks whose addresses overlap its own', () => {
    const subnet = fc
      .tuple(fc.constantFrom('20.1', '20.2'), fc.nat(255), fc.nat(255), fc.integer({ min: 8, max: 30 }))
      .map(([high, c, d, length]) => `${high}.${c}.${d}/${length}`);
    const ipv6Subnet = fc
      .tuple(
        fc.constantFrom('fd00', 'fd00:0:0:1'),
        fc.integer({ min: 0, max: 0xffff }),
        fc.integer({ min: 8, max: 126 }),
      )
      .map(([high, low, length]) => `${high}::${low.toString(16)}/${length}`);
    const overlaps = (a: string | undefined, b: string | undefined): boolean =>
      a !== undefined && b !== undefined && overlap(parseSubnet(a) as Subnet, parseSubnet(b) as Subnet);
    const subnets = fc.record({ subnet, ipv6Subnet }, { requiredKeys: ['subnet'] });
    fc.assert(
      fc.property(subnets, fc.array(subnets, { maxLength: 5 }), (own, taken) => {
        const others = taken.map((fields, i) => ({ ...NET, ...fields, networkName: `other${i}` }));
        const expected = others.some(
          (o) => overlaps(own.subnet, o.subnet) || overlaps(own.ipv6Subnet, o.ipv6Subnet),
        );
        const problem = check({ gateway: '', ...own }, { network: others });
        expect(problem?.status === 409).toBe(expected);
      }),
      { numRuns: 2000 },
    );
  });

  it('is VXLAN for data where nothing else is said', () => {
    const { encap: _, ...plain } = NET;
    expect(network.normalize?.(plain)).toEqual({ ...NET, nwType: 'data', encap: 'vxlan' });
  });
});
