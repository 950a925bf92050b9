import { describe, expect, it } from 'vitest';
import type { Rule } from '../../model/rule.ts';
import { contractsOf, fabricName, type Member } from './contracts.ts';
import { entryOf, overlap, servicesOf, without } from './services.ts';

const rule = (ruleId: string, fields: Partial<Rule>): Rule => ({
  tenantName: 'blue',
  policyName: 'p',
  ruleId,
  direction: 'in',
  action: 'allow',
  ...fields,
});
const web = (port: number): Partial<Rule> => ({ protocol: 'tcp', port });
const MEMBERS: readonly Member[] = [
  { group: 'db', policies: ['p'] },
  { group: 'web', policies: [] },
];
const of = (...rules: Rule[]) => contractsOf(MEMBERS, (policy) => (policy === 'p' ? rules : []));
const tcp = (first: number, last = first) => ({ protocol: 6, ports: { first, last } });

describe('services', () => {
  it.each<[Partial<Rule>, readonly object[] | undefined]>([
    [{}, [{}]],
    [{ protocol: 'icmp' }, [{ protocol: 1 }, { protocol: 58 }]],
    [{ protocols: 'tcp,89' }, [{ protocol: 6 }, { protocol: 89 }]],
    [web(80), [tcp(80)]],
    [{ protocol: 'tcp', ports: '80,8000-8999' }, [tcp(80), tcp(8000, 8999)]],
    [{ port: 53 }, [tcp(53), { ...tcp(53), protocol: 17 }]],
    [{ protocol: '132', port: 7 }, undefined],
  ])('of %j', (fields, services) => {
    expect(servicesOf(rule('1', fields))).toEqual(services);
  });

  it('overlap by protocol and port', () => {
    expect(overlap({}, tcp(80))).toBe(true);
    expect(overlap(tcp(80, 90), tcp(90, 99))).toBe(true);
    expect(overlap(tcp(80), tcp(81))).toBe(false);
    expect(overlap({ protocol: 17 }, tcp(81))).toBe(false);
  });

  it('are cut by others', () => {
    expect(without({ protocol: 6 }, [tcp(80), tcp(443)])).toEqual([
      tcp(1, 79),
      tcp(81, 442),
      tcp(444, 65535),
    ]);
    expect(without(tcp(80, 90), [tcp(1, 85)])).toEqual([tcp(86, 90)]);
    expect(without(tcp(80), [{}])).toEqual([]);
    expect(without({}, [tcp(80)])).toBeUndefined();
  });

  it('are entries of a filter', () => {
    expect(entryOf({})).toEqual({ name: 'ip', attributes: { etherT: 'ip' } });
    expect(entryOf({ protocol: 58 })).toEqual({
      name: 'icmpv6',
      attributes: { etherT: 'ip', prot: 'icmpv6' },
    });
    expect(entryOf(tcp(80, 90))).toEqual({
      name: 'tcp-80-90',
      attributes: { etherT: 'ip', prot: 'tcp', dFromPort: '80', dToPort: '90' },
    });
  });
});

describe('what is allowed', () => {
  it.each<[Partial<Rule>, object]>([
    [{ fromEndpointGroup: 'web' }, { name: 'pFrmweb', providers: ['db'], consumers: ['web'] }],
    [{}, { name: 'pExpose', providers: ['db'], consumers: 'everybody' }],
    [
      { direction: 'out', toEndpointGroup: 'web' },
      { name: 'pToweb', providers: ['web'], consumers: ['db'] },
    ],
    [{ direction: 'out' }, { name: 'pOut', providers: 'everybody', consumers: ['db'] }],
    // A group that is in no application profile is not in the fabric.
    [{ fromEndpointGroup: 'far' }, { name: 'pFrmfar', providers: ['db'], consumers: [] }],
  ])('by %j', (fields, contract) => {
    expect(of(rule('1', { ...web(80), ...fields }))).toEqual({
      contracts: [{ ...contract, services: [tcp(80)] }],
      taboos: [],
      unfit: [],
    });
  });

  it('is one contract where it is of the same groups', () => {
    const { contracts } = of(rule('1', web(80)), rule('2', web(443)));
    expect(contracts).toMatchObject([{ name: 'pExpose', services: [tcp(80), tcp(443)] }]);
  });
});

describe('what is denied', () => {
  const deny = (fields: Partial<Rule> = {}) => rule('0', { action: 'deny', ...fields });

  it('is nothing where nothing allows it', () => {
    expect(of(deny(), rule('1', { ...web(80), priority: 10 }))).toMatchObject({ taboos: [], unfit: [] });
    expect(of(deny({ port: 22, protocol: 'tcp', priority: 9 }), rule('1', web(80)))).toMatchObject({
      taboos: [],
    });
  });

  it('to everybody is a taboo, less what is allowed above it', () => {
    const taboo = (...rules: Rule[]) => of(...rules).taboos;
    expect(taboo(deny({ ...web(22), priority: 5 }), rule('1', {}))).toEqual([
      { name: 'dbDeny', group: 'db', services: [tcp(22)] },
    ]);
    expect(
      taboo(
        deny({ protocol: 'tcp', priority: 5 }),
        rule('1', { protocol: 'tcp' }),
        rule('2', { ...web(80), priority: 6 }),
      ),
    ).toEqual([{ name: 'dbDeny', group: 'db', services: [tcp(1, 79), tcp(81, 65535)] }]);
  });

  it.each<[string, Rule[]]>([
    ['denied to all groups', [deny({ ...web(22), fromEndpointGroup: 'web', priority: 5 }), rule('1', {})]],
    ['denied to who receives', [deny({ direction: 'out', priority: 5 }), rule('1', { direction: 'out' })]],
    ['no filter', [deny({ priority: 5 }), rule('1', {}), rule('2', { ...web(80), priority: 6 })]],
    [
      'rule blue:p:2 is above it for one group alone',
      [
        deny({ ...web(80), priority: 5 }),
        rule('1', {}),
        rule('2', { ...web(80), fromEndpointGroup: 'web', priority: 6 }),
      ],
    ],
  ])('is refused where it cannot be said: %s', (why, rules) => {
    const { taboos, unfit } = of(...rules);
    expect(taboos).toEqual([]);
    expect(unfit).toMatchObject([
      { of: 'rule blue:p:0', field: 'action', problem: expect.stringContaining(why) },
    ]);
  });
});

it.each<[Partial<Rule>, string]>([
  [{ fromIpAddress: '10.0.0.1' }, 'fromIpAddress 10.0.0.1 is nothing that a contract'],
  [{ direction: 'out', toNetwork: 'back' }, 'toNetwork back is nothing that a contract'],
  [{ protocol: '132', ports: '7,8' }, 'ports of SCTP are nothing'],
])('a rule with %j is no contract, and it is said why', (fields, problem) => {
  expect(of(rule('1', fields))).toMatchObject({
    contracts: [],
    unfit: [{ of: 'rule blue:p:1', problem: expect.stringContaining(problem) }],
  });
});

it('names of more than 64 characters are cut, and stay apart', () => {
  const [a, b] = ['a', 'b'].map((end) => fabricName(`${'x'.repeat(100)}${end}`));
  expect(a).toHaveLength(64);
  expect(a).not.toBe(b);
  expect(fabricName('short')).toBe('short');
});
