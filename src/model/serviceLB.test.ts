import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import type { Problem } from './kind.ts';
import { parseSelector, parseServicePort, type ServiceLB, selects, serviceLB } from './serviceLB.ts';

const SERVICE: ServiceLB = {
  tenantName: 'blue',
  serviceName: 'lb',
  networkName: 'net1',
  selectors: ['app=web'],
  ports: ['80:8080:TCP'],
};
const WORLD = worldOf({
  network: [
    { tenantName: 'blue', networkName: 'net1', subnet: '20.1.1.0/24' },
    { tenantName: 'blue', networkName: 'six', ipv6Subnet: 'fd00:6::/64' },
  ],
});

const check = (fields: Partial<ServiceLB>, before?: ServiceLB): Problem | undefined =>
  serviceLB.check?.({ ...SERVICE, ...fields }, WORLD, before);

describe('service', () => {
  it.each<Partial<ServiceLB>>([
    {},
    { ipAddress: '20.1.1.50' },
    { networkName: 'six', ipAddress: 'fd00:6::50' },
    { selectors: ['app=web', 'tier=', 'io.contiv.x=a=b'] },
    { ports: ['80:8080:TCP', '80:8080:udp', '443:8443:tcp'] },
  ])('may be %j', (fields) => {
    expect(check(fields)).toBeUndefined();
  });

  it.each<[Partial<ServiceLB>, keyof ServiceLB, string]>([
    [{ ipAddress: '30.1.1.50' }, 'ipAddress', "'30.1.1.50' must lie in 20.1.1.0/24 of network net1"],
    [{ ipAddress: 'fd00::1' }, 'ipAddress', "'fd00::1' is not an IPv4 address"],
    [{ networkName: 'six', ipAddress: '20.1.1.50' }, 'ipAddress', "'20.1.1.50' is not an IPv6 address"],
    [
      { networkName: 'six', ipAddress: 'fd00:7::1' },
      'ipAddress',
      "'fd00:7::1' must lie in fd00:6::/64 of network six",
    ],
    [{ selectors: ['app'] }, 'selectors', "'app' must be key=value"],
    [{ selectors: ['=web'] }, 'selectors', "'=web' must be key=value"],
    [{ selectors: ['app=web', 'app=db'] }, 'selectors', 'has two values for app'],
    [{ ports: ['80:8080'] }, 'ports', "'80:8080' must be service:provider:protocol like 80:8080:TCP"],
    [{ ports: ['80:8080:TCP', '80:9090:tcp'] }, 'ports', 'has 80/tcp twice'],
  ])('is refused with %j, naming %s', (fields, field, text) => {
    const problem = check(fields);
    expect(problem).toMatchObject({ field, status: 400 });
    expect(problem?.message).toContain(`service blue:lb: ${field} `);
    expect(problem?.message).toContain(text);
  });

  it('is refused with a name that is no DNS label', () => {
    expect(check({ serviceName: 'a_b' })).toMatchObject({ field: 'serviceName', status: 400 });
  });

  it('stays in its network', () => {
    expect(check({ ports: ['81:8080:TCP'] }, SERVICE)).toBeUndefined();
    expect(check({}, { ...SERVICE, networkName: 'net0' })).toMatchObject({
      field: 'networkName',
      status: 409,
      message: expect.stringContaining('is net0 and cannot change'),
    });
  });

  it('has ports service:provider:protocol', () => {
    expect(parseServicePort('80:8080:TCP')).toEqual({ port: 80, providerPort: 8080, protocol: 'tcp' });
    expect(parseServicePort('53:53:udp')).toEqual({ port: 53, providerPort: 53, protocol: 'udp' });
    for (const text of [
      '',
      '80',
      '80:80:icmp',
      '0:80:TCP',
      '80:0:TCP',
      '65536:80:TCP',
      '80:65536:TCP',
      ':80:TCP',
    ])
      expect(parseServicePort(text), text).toBeUndefined();
  });

  it('selects what carries all its labels', () => {
    const both = { ...SERVICE, selectors: ['app=web', 'tier=front'] };
    expect(selects(both, { app: 'web', tier: 'front', more: '1' })).toBe(true);
    expect(selects(both, { app: 'web' })).toBe(false);
    expect(selects(both, { app: 'web', tier: 'back' })).toBe(false);
    expect(selects(both, undefined)).toBe(false);
    expect(parseSelector('a=b=c')).toEqual(['a', 'b=c']);
  });
});
