import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import type { Problem } from './kind.ts';
import { protocolNumber, type Rule, rule } from './rule.ts';

const RULE: Rule = { tenantName: 'blue', policyName: 'p', ruleId: '1', direction: 'in', action: 'allow' };
const OUT = { direction: 'out' } as const;
const WORLD = worldOf({
  endpointGroup: [{ tenantName: 'blue', groupName: 'web', networkName: 'net1' }],
});

const check = (fields: Partial<Rule>): Problem | undefined =>
  rule.check?.({ ...RULE, ...fields }, WORLD, undefined);

describe('rule', () => {
  it.each<Partial<Rule>>([
    {},
    { ruleId: 'allow_http.v2' },
    { fromEndpointGroup: 'web' },
    { fromNetwork: 'net1' },
    { fromEndpointGroup: 'web', fromNetwork: 'net1' },
    { ...OUT, toEndpointGroup: 'web', toNetwork: 'net1' },
    { fromIpAddress: '20.1.1.0/28' },
    { fromIpAddress: '0.0.0.0/0' },
    { fromIpAddress: '20.1.1.5/32' },
    { fromIpAddress: '20.1.1.5/28' },
    { fromIpAddress: 'fd00:1::5/64' },
    { ...OUT, toIpAddress: '8.8.8.8' },
    { ...OUT, toIpAddress: 'fd00:1::/64' },
    { ...OUT, toIpAddress: '2016:0430::7' },
    { protocol: 'tcp', port: 80 },
    { protocol: 'icmp' },
    { protocol: '47' },
    { protocol: '6', port: 80 },
    { protocol: '132', port: 5000 },
    { port: 80 },
    { ports: '80,443,8000-8999' },
    { ports: '1-65535', protocol: 'tcp' },
    { ports: '80' },
    { ports: '', protocols: '', protocol: 'tcp', port: 80 },
    { protocols: 'tcp,udp', port: 53 },
    { protocols: 'tcp,17,132', ports: '53,5000-5001' },
    { protocols: 'icmp,47' },
  ])('may be %j', (fields) => {
    expect(check(fields)).toBeUndefined();
  });

  it.each<[Partial<Rule>, keyof Rule, string]>([
    [{ toEndpointGroup: 'web' }, 'toEndpointGroup', 'direction in, which takes fromEndpointGroup'],
    [{ toNetwork: 'net1' }, 'toNetwork', 'direction in, which takes fromNetwork'],
    [{ toIpAddress: '8.8.8.8' }, 'toIpAddress', 'direction in, which takes fromIpAddress'],
    [{ ...OUT, fromEndpointGroup: 'web' }, 'fromEndpointGroup', 'direction out, which takes toEndpointGroup'],
    [{ ...OUT, fromNetwork: 'net1' }, 'fromNetwork', 'direction out, which takes toNetwork'],
    [{ ...OUT, fromIpAddress: '8.8.8.8' }, 'fromIpAddress', 'direction out, which takes toIpAddress'],
    [
      { fromNetwork: 'net1', fromIpAddress: '10.0.0.1' },
      'fromIpAddress',
      'does not go with fromNetwork: give one of them',
    ],
    [
      { ...OUT, toEndpointGroup: 'web', toIpAddress: '10.0.0.1' },
      'toIpAddress',
      'does not go with toEndpointGroup: give one of them',
    ],
    [
      { fromEndpointGroup: 'web', fromNetwork: 'net2' },
      'fromNetwork',
      'is net2, but group web is in network net1',
    ],
    [{ fromIpAddress: '20.1.1.0/33' }, 'fromIpAddress', 'must be an address or a prefix like 20.1.1.0/28'],
    [{ fromIpAddress: '20.1.1.010' }, 'fromIpAddress', 'must be an address or a prefix'],
    [{ fromIpAddress: '20.1.1' }, 'fromIpAddress', 'must be an address or a prefix'],
    [{ fromIpAddress: '20.1.1.1-20.1.1.5/24' }, 'fromIpAddress', 'must be an address or a prefix'],
    [{ fromIpAddress: '20.1.1.0/24/8' }, 'fromIpAddress', 'must be an address or a prefix'],
    [{ fromIpAddress: 'fe80::1%eth0' }, 'fromIpAddress', 'must be an address or a prefix'],
    [{ protocol: 'bogus' }, 'protocol', "'bogus' must be tcp, udp, icmp or a number from 0 to 255"],
    [{ protocol: '256' }, 'protocol', 'must be tcp, udp, icmp or a number from 0 to 255'],
    [{ protocol: '06' }, 'protocol', 'must be tcp, udp, icmp or a number from 0 to 255'],
    [{ protocol: 'constructor' }, 'protocol', 'must be tcp, udp, icmp or a number from 0 to 255'],
    [{ protocol: 'icmp', port: 80 }, 'port', 'does not go with protocol icmp, which has no ports'],
    [{ protocol: '1', port: 80 }, 'port', 'does not go with protocol 1, which has no ports'],
    [{ protocol: '0', port: 80 }, 'port', 'does not go with protocol 0, which has no ports'],
    ...[
      '80,',
      '80, 443',
      '0',
      '80-',
      '-80',
      '90-80',
      '65536',
      '080',
      '1-65536',
      'http',
      '80,,81',
      '1-2-3',
    ].map((ports): [Partial<Rule>, keyof Rule, string] => [
      { ports },
      'ports',
      `'${ports}' must be ports from 1 to 65535 and ranges of them, like 80,443,8000-8999`,
    ]),
    ...['tcp,', 'tcp,bogus', 'tcp udp', 'tcp,tcp', 'tcp,6', '256'].map(
      (protocols): [Partial<Rule>, keyof Rule, string] => [
        { protocols },
        'protocols',
        `'${protocols}' must be tcp, udp, icmp or numbers from 0 to 255, each once, like tcp,udp`,
      ],
    ),
    [{ port: 80, ports: '80,81' }, 'ports', 'does not go with port: give one of them'],
    [{ protocol: 'tcp', protocols: 'tcp,udp' }, 'protocols', 'does not go with protocol: give one of them'],
    [
      { protocols: 'tcp,icmp', ports: '80-81' },
      'ports',
      'does not go with protocol icmp, which has no ports',
    ],
    [{ protocols: 'udp,47', port: 80 }, 'port', 'does not go with protocol 47, which has no ports'],
  ])('is refused with %j, naming %s', (fields, field, text) => {
    const problem = check(fields);
    expect(problem).toMatchObject({ field, status: 400 });
    expect(problem?.message).toContain(`rule blue:p:1: ${field} `);
    expect(problem?.message).toContain(text);
  });

  it('has a name without a colon, which parts the key', () => {
    expect(check({ ruleId: '1:2' })).toMatchObject({ field: 'ruleId', status: 400 });
  });

  it('has priority 1 where none is given', () => {
    expect(rule.normalize?.(RULE)).toMatchObject({ priority: 1 });
    expect(rule.normalize?.({ ...RULE, priority: 7 })).toMatchObject({ priority: 7 });
  });

  it('names protocols by their numbers', () => {
    expect(['tcp', 'udp', 'icmp', '0', '255'].map(protocolNumber)).toEqual([6, 17, 1, 0, 255]);
    for (const text of ['', 'TCP', '-1', '1.0', '1e2', ' 6', '300', 'toString'])
      expect(protocolNumber(text), text).toBeUndefined();
  });
});
