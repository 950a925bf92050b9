import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import type { Host } from './host.ts';
import type { Problem } from './kind.ts';
import { type Network, network } from './network.ts';
import { GLOBAL_DEFAULTS } from './settings.ts';

const DIRECT: Network = {
  tenantName: 'blue',
  networkName: 'net1',
  encap: 'direct',
  subnet: '20.1.1.0/24',
  ipv6Subnet: 'fd00:1::/64',
};
const NODE: Host = {
  name: 'node1',
  underlay: '192.0.2.1',
  prefixes: ['172.17.0.0/16', '192.0.2.0/24', 'fd00:9::/64'],
};

const check = (fields: Partial<Network>, others: Parameters<typeof worldOf>[0] = {}): Problem | undefined =>
  network.check?.({ ...DIRECT, ...fields }, worldOf({ global: [GLOBAL_DEFAULTS], ...others }), undefined);

describe('a network of encapsulation direct', () => {
  it('has a tag among those of VXLAN, by which it goes to hosts that share no link', () => {
    const world = { global: [{ ...GLOBAL_DEFAULTS, vxlans: '500-600', vlans: '20-30' }] };
    expect(check({ pktTag: 500 }, world)).toBeUndefined();
    expect(check({ pktTag: 20 }, world)?.message).toContain('outside of the global vxlan range 500-600');
    expect(network.note?.(DIRECT)).toContain('hosts that share a link');
  });

  it.each<[string, Partial<Network>, string]>([
    ['20.1.1.0/24', {}, 'subnet overlaps 20.1.1.0/24'],
    ['20.0.0.0/8', {}, 'subnet overlaps 20.0.0.0/8'],
    ['20.1.1.128/25', {}, 'subnet overlaps 20.1.1.128/25'],
    ['20.1.1.5-20.1.1.9/28', {}, 'subnet overlaps 20.1.1.0/28'],
    ['20.9.1.0/24', { ipv6Subnet: 'fd00:1::/60' }, 'ipv6Subnet overlaps fd00:1::/60'],
  ])("is refused where another tenant's network has %s", (subnet, more, text) => {
    for (const encap of ['vxlan', 'vlan', 'direct'] as const) {
      const taken = { tenantName: 'green', networkName: 'net2', encap, subnet, ...more };
      expect(check({}, { network: [taken] })).toMatchObject({
        status: 409,
        message: `network blue:net1: ${text} of network green:net2: with encap direct it must overlap no other tenant's; choose another one, or encap vxlan`,
      });
    }
  });

  it('keeps others from its addresses, of whichever encapsulation they are', () => {
    const world = { network: [{ ...DIRECT, tenantName: 'green', networkName: 'net2' }] };
    const { encap: _, ...plain } = DIRECT;
    for (const encap of ['vxlan', 'vlan', undefined] as const)
      expect(
        network.check?.(
          { ...plain, ...(encap && { encap }) },
          worldOf({ global: [GLOBAL_DEFAULTS], ...world }),
          undefined,
        ),
      ).toMatchObject({
        field: 'subnet',
        status: 409,
        message:
          'network blue:net1: subnet overlaps 20.1.1.0/24 of network green:net2, whose encap is direct, so that no other tenant may have its addresses; choose another one',
      });
    expect(
      check({ encap: 'vxlan', subnet: '20.1.2.0/24', ipv6Subnet: 'fd00:2::/64' }, world),
    ).toBeUndefined();
  });

  it.each<[Partial<Network>, 'subnet' | 'ipv6Subnet', string]>([
    [{ subnet: '172.17.5.0/24' }, 'subnet', '172.17.0.0/16'],
    [{ subnet: '172.16.0.0/12' }, 'subnet', '172.17.0.0/16'],
    [{ subnet: '192.0.2.128/25' }, 'subnet', '192.0.2.0/24'],
    [{ ipv6Subnet: 'fd00:9::/80' }, 'ipv6Subnet', 'fd00:9::/64'],
  ])('is refused where a host has a route to its addresses: %j', (fields, field, prefix) => {
    expect(check(fields, { host: [NODE] })).toMatchObject({
      field,
      status: 409,
      message: `network blue:net1: ${field} overlaps ${prefix}, to which host node1 has a route: with encap direct its addresses must mean nothing else on any host; choose another one, or encap vxlan`,
    });
    expect(check({ ...fields, encap: 'vxlan' }, { host: [NODE] })).toBeUndefined();
    expect(check({}, { host: [NODE] })).toBeUndefined();
  });

  it('is refused where a host has one of its addresses on the underlay, whatever else it says', () => {
    const { prefixes: _, ...silent } = NODE;
    expect(check({ subnet: '192.0.2.0/24' }, { host: [silent] })?.message).toContain(
      'subnet overlaps 192.0.2.1/32, to which host node1 has a route',
    );
  });
});
