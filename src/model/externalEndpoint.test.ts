import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { type ExternalEndpoint, externalEndpoint, parseHealthCheck } from './externalEndpoint.ts';
import type { Problem } from './kind.ts';
import { network } from './network.ts';

const PRINTER: ExternalEndpoint = {
  tenantName: 'blue',
  endpointName: 'printer',
  groupName: 'office',
  ipAddress: ['10.100.0.201'],
};
const LAN = { tenantName: 'blue', networkName: 'lan', encap: 'vlan', subnet: '10.100.0.10-10.100.0.99/24' };
const WORLD = worldOf({
  network: [LAN, { tenantName: 'blue', networkName: 'over', subnet: '20.1.1.0/24' }],
  endpointGroup: [{ tenantName: 'blue', groupName: 'office', networkName: 'lan' }],
  externalEndpoint: [{ ...PRINTER, endpointName: 'scanner', ipAddress: ['192.0.2.7', '2001:db8::7'] }],
});

const check = (fields: Partial<ExternalEndpoint>, before?: ExternalEndpoint): Problem | undefined => {
  const whole = { ...PRINTER, ...fields };
  return externalEndpoint.check?.(externalEndpoint.normalize?.(whole) ?? whole, WORLD, before);
};

describe('an external endpoint', () => {
  it.each<Partial<ExternalEndpoint>>([
    {},
    { ipAddress: ['198.51.100.1'] },
    { ipAddress: ['198.51.100.1', '2001:DB8::1'] },
    { labels: { app: 'print' }, healthCheck: 'tcp:631' },
    { healthCheck: 'http:80' },
    { healthCheck: 'http:8080/healthz?full=1' },
  ])('may be %j', (fields) => {
    expect(check(fields)).toBeUndefined();
  });

  it.each<[Partial<ExternalEndpoint>, keyof ExternalEndpoint, string]>([
    [{ endpointName: 'a_b' }, 'endpointName', 'must be a DNS label'],
    [{ ipAddress: ['10.1'] }, 'ipAddress', "'10.1' is not an address"],
    [{ ipAddress: ['127.0.0.1'] }, 'ipAddress', '127.0.0.1 is reserved'],
    [{ ipAddress: ['fe80::1'] }, 'ipAddress', 'fe80::1 is reserved'],
    [{ ipAddress: ['198.51.100.1', '198.51.100.2'] }, 'ipAddress', 'one of IPv4 and one of IPv6 at most'],
    [{ healthCheck: 'udp:53' }, 'healthCheck', "'udp:53' must be tcp:PORT like tcp:22, or http:PORT/PATH"],
    [{ ipAddress: ['192.0.2.7'] }, 'ipAddress', '192.0.2.7 is that of external endpoint scanner already'],
    [{ ipAddress: ['2001:db8:0::7'] }, 'ipAddress', '2001:db8::7 is that of external endpoint scanner'],
    [
      { ipAddress: ['20.1.1.9'] },
      'ipAddress',
      '20.1.1.9 is in network over, and group office in network lan: name a group of over',
    ],
  ])('is refused with %j, naming %s', (fields, field, text) => {
    const problem = check(fields);
    expect(problem).toMatchObject({ field });
    expect(problem?.message).toContain(text);
  });

  it('keeps its group and its addresses, by which hosts know it', () => {
    expect(check({ labels: { app: 'x' } }, PRINTER)).toBeUndefined();
    for (const field of ['groupName', 'ipAddress'] as const)
      expect(
        check({}, { ...PRINTER, groupName: 'lab', ipAddress: ['198.51.100.9'], [field]: PRINTER[field] }),
      ).toMatchObject({
        field: field === 'groupName' ? 'ipAddress' : 'groupName',
        status: 409,
        message: expect.stringContaining(
          'and cannot change: delete the external endpoint and create it anew',
        ),
      });
  });

  it('is in no network that comes later', () => {
    const later = (subnet: string, ipv6Subnet?: string): Problem | undefined =>
      network.check?.(
        { tenantName: 'blue', networkName: 'later', subnet, ...(ipv6Subnet && { ipv6Subnet }) },
        WORLD,
        undefined,
      );
    expect(later('192.0.2.0/24')).toMatchObject({
      field: 'subnet',
      status: 409,
      message: expect.stringContaining('holds 192.0.2.7 of external endpoint scanner'),
    });
    expect(later('198.51.100.0/24', '2001:db8::/64')).toMatchObject({ field: 'ipv6Subnet', status: 409 });
    expect(later('198.51.100.0/24')).toBeUndefined();
  });
});

describe('a health check', () => {
  it.each([
    ['tcp:22', { port: 22 }],
    ['http:80', { port: 80, path: '/' }],
    ['http:8080/a?b=c', { port: 8080, path: '/a?b=c' }],
  ])('is written %s', (text, parsed) => {
    expect(parseHealthCheck(text)).toEqual(parsed);
  });

  it.each([
    '',
    'tcp',
    'tcp:0',
    'tcp:65536',
    'tcp:22/',
    'http:80/a b',
    'http:80/\r\nx',
    'http:80x',
    'TCP:22',
    'tcp:022',
  ])('is not written %j', (text) => {
    expect(parseHealthCheck(text)).toBeUndefined();
  });
});
