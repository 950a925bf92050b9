import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { type Backend, type ClusterService, clusterService } from './clusterService.ts';
import type { Problem } from './kind.ts';

const BACKEND: Backend = {
  address: '20.1.1.2',
  port: 8080,
  ready: true,
  serving: true,
  terminating: false,
} as Backend;
const port = (more: object = {}): ClusterService['ports'][number] =>
  ({ protocol: 6, port: 80, backends: [BACKEND], ...more }) as ClusterService['ports'][number];
const SERVICE: ClusterService = {
  namespaceName: 'shop',
  serviceName: 'web',
  tenantName: 'blue',
  addresses: ['10.96.0.10'],
  ports: [port()],
};
const OTHER: ClusterService = {
  ...SERVICE,
  serviceName: 'other',
  addresses: ['10.96.0.20'],
  externalAddresses: ['198.51.100.1'],
  ports: [port({ nodePort: 30_080 })],
  healthCheckNodePort: 31_000,
};
const WORLD = worldOf({
  network: [{ tenantName: 'blue', networkName: 'net1', subnet: '20.1.1.0/24', ipv6Subnet: 'fd00:1::/64' }],
  clusterService: [SERVICE, OTHER],
});
const check = (fields: Partial<ClusterService>): Problem | undefined =>
  clusterService.check?.({ ...SERVICE, ...fields }, WORLD, undefined);

describe('a service of an orchestrator', () => {
  it.each<Partial<ClusterService>>([
    {},
    { addresses: ['10.96.0.10', 'fd00:96::10'] },
    { ports: [port(), port({ protocol: 17 }), port({ port: 81, nodePort: 30_081 })] },
    { ports: [port({ backends: [] })] },
    { externalAddresses: ['198.51.100.1'], ports: [port({ port: 81 })] },
    { sourceRanges: ['10.0.0.0/8', 'fd00::/8'] },
    { tenantName: 'green', addresses: ['10.96.0.20'] },
  ])('may be %j', (fields) => {
    expect(check(fields)).toBeUndefined();
  });

  it.each<[Partial<ClusterService>, keyof ClusterService, string]>([
    [{ addresses: ['10.96.0'] }, 'addresses', "'10.96.0' is not an IPv4 or IPv6 address"],
    [{ addresses: ['10.96.0.1', '10.96.0.1'] }, 'addresses', 'has 10.96.0.1 twice'],
    [{ addresses: ['20.1.1.9'] }, 'addresses', '20.1.1.9 is in 20.1.1.0/24 of network net1'],
    [{ addresses: ['10.96.0.20'] }, 'addresses', '10.96.0.20 is an address of clusterService shop:other'],
    [
      { externalAddresses: ['10.96.0.10'] },
      'externalAddresses',
      'has 10.96.0.10, which is among its addresses',
    ],
    [
      { externalAddresses: ['198.51.100.1'] },
      'externalAddresses',
      '198.51.100.1 leads to clusterService shop:other at port 80 of protocol 6',
    ],
    [{ sourceRanges: ['10.0.0.0'] }, 'sourceRanges', "'10.0.0.0' is not a prefix like 10.0.0.0/8"],
    [{ ports: [port(), port()] }, 'ports', 'has 80 of protocol 6 twice'],
    [
      { ports: [port({ nodePort: 30_080 })] },
      'ports',
      'nodePort 30080 of protocol 6 is one of clusterService shop:other',
    ],
    [
      { ports: [port({ nodePort: 31_000 })] },
      'ports',
      'nodePort 31000 of protocol 6 is one of clusterService shop:other',
    ],
    [
      { ports: [port({ nodePort: 1 }), port({ port: 81, nodePort: 1 })] },
      'ports',
      'has nodePort 1 of protocol 6 twice',
    ],
    [
      { ports: [port({ nodePort: 31_001 })], healthCheckNodePort: 31_001 },
      'healthCheckNodePort',
      '31001 is the nodePort of one of its ports',
    ],
    [
      { ports: [port({ backends: [{ ...BACKEND, address: 'x' }] })] },
      'ports',
      "backend 'x' is not an IPv4 or IPv6 address",
    ],
    [{ ports: [port({ backends: [BACKEND, BACKEND] })] }, 'ports', 'has backend 20.1.1.2 port 8080 twice'],
  ])('is refused with %j, naming %s', (fields, field, text) => {
    const problem = check(fields);
    expect(problem?.field).toBe(field);
    expect(problem?.message).toContain(`clusterService shop:web: ${field} `);
    expect(problem?.message).toContain(text);
  });

  it('has its addresses as everybody writes them', () => {
    const written = { ...SERVICE, addresses: ['FD00:96:0::10'], externalAddresses: ['2001:DB8::0:1'] };
    expect(clusterService.normalize?.(written)).toMatchObject({
      addresses: ['fd00:96::10'],
      externalAddresses: ['2001:db8::1'],
    });
  });
});
