import { describe, expect, it } from 'vitest';
import { addressesOf, type Given, resultOf } from './result.ts';

const GIVEN: Given = {
  endpoint: { macAddress: '02:02:14:01:01:02' },
  inside: {
    addresses: ['20.1.1.2/24', 'fd00:1::2/128'],
    routes: [
      { destination: '20.1.1.254/32' },
      { destination: '0.0.0.0/0', via: '20.1.1.254' },
      { destination: '::/0', via: 'fd00:1::1' },
    ],
    gateways: ['20.1.1.254', 'fd00:1::1'],
  },
  device: 'eth0',
  sandbox: '/run/netns/c1',
  mtu: 1450,
};

describe('a result', () => {
  it('of 1.1.0 has the interface with its size, addresses, routes and the nameserver', () => {
    expect(resultOf('1.1.0', GIVEN)).toEqual({
      cniVersion: '1.1.0',
      interfaces: [{ name: 'eth0', mac: '02:02:14:01:01:02', sandbox: '/run/netns/c1', mtu: 1450 }],
      ips: [
        { interface: 0, address: '20.1.1.2/24', gateway: '20.1.1.254' },
        { interface: 0, address: 'fd00:1::2/128', gateway: 'fd00:1::1' },
      ],
      routes: [
        { dst: '20.1.1.254/32' },
        { dst: '0.0.0.0/0', gw: '20.1.1.254' },
        { dst: '::/0', gw: 'fd00:1::1' },
      ],
      dns: { nameservers: ['20.1.1.254'] },
    });
  });

  it('before 1.0.0 tells the version of an address', () => {
    expect(resultOf('0.3.1', GIVEN)).toMatchObject({
      interfaces: [{ name: 'eth0' }],
      ips: [
        { version: '4', address: '20.1.1.2/24' },
        { version: '6', address: 'fd00:1::2/128' },
      ],
    });
    expect(resultOf('1.0.0', GIVEN).ips).not.toMatchObject([{ version: '4' }, {}]);
  });

  it('before 0.3.0 has an address of each family', () => {
    expect(resultOf('0.1.0', GIVEN)).toEqual({
      cniVersion: '0.1.0',
      ip4: {
        ip: '20.1.1.2/24',
        gateway: '20.1.1.254',
        routes: [{ dst: '20.1.1.254/32' }, { dst: '0.0.0.0/0', gw: '20.1.1.254' }],
      },
      ip6: { ip: 'fd00:1::2/128', gateway: 'fd00:1::1', routes: [{ dst: '::/0', gw: 'fd00:1::1' }] },
      dns: { nameservers: ['20.1.1.254'] },
    });
  });

  it('in a chain comes behind what was there, whose nameservers stay', () => {
    const before = {
      interfaces: [{ name: 'net0' }],
      ips: [{ interface: 0, address: '10.0.0.2/24' }],
      routes: [{ dst: '10.0.0.0/8' }],
      dns: { nameservers: ['10.0.0.1'], search: ['lan'] },
    };
    const result = resultOf('1.0.0', GIVEN, before);
    expect(result).toMatchObject({
      interfaces: [{ name: 'net0' }, { name: 'eth0' }],
      ips: [{ interface: 0 }, { interface: 1, address: '20.1.1.2/24' }, { interface: 1 }],
      dns: before.dns,
    });
    expect(addressesOf(result)).toEqual(['10.0.0.2', '20.1.1.2', 'fd00:1::2']);
  });

  it('in a network without gateway names the nameserver by its own address', () => {
    const inside = { ...GIVEN.inside, gateways: [], routes: [] };
    const result = resultOf('1.0.0', { ...GIVEN, inside });
    expect(result).toMatchObject({ dns: { nameservers: ['169.254.53.53'] } });
    expect(result.ips).toEqual([
      { interface: 0, address: '20.1.1.2/24' },
      { interface: 0, address: 'fd00:1::2/128' },
    ]);
    const six = { ...inside, addresses: ['fd00:1::2/128'] };
    expect(resultOf('1.0.0', { ...GIVEN, inside: six })).toMatchObject({
      dns: { nameservers: ['fd6f:6e74:6976:53::53'] },
    });
  });
});
