import { Value } from '@sinclair/typebox/value';
import { expect, it } from 'vitest';
import { MAX_PROBLEMS } from '../model/host.ts';
import { ConditionSchema } from '../protocol/hosts.ts';
import { type ConditionSources, conditionOf } from './condition.ts';

const WELL: ConditionSources = {
  fastPath: () => true,
  underlay: { problem: '', now: { device: 'eth0' } },
  uplink: { problem: '', now: undefined },
  prefixes: { now: [] },
  networks: () => new Map(),
  gateways: { silent: [] },
  firewalls: { dropped: [] },
  paths: { narrow: [] },
  bgp: { problems: [], neighbors: undefined, announced: [] },
  docker: { problems: [] },
  keys: { problem: '' },
  kernel: { failed: [] },
};

const NETWORK = { tenantName: 'default', networkName: 'n', subnet: '20.1.1.0/24', ipv6Subnet: 'fd00:1::/64' };

it('of a host with nothing wrong has no problems', () => {
  expect(conditionOf(WELL)).toEqual({ fastPath: true, problems: [] });
  expect(conditionOf({ ...WELL, fastPath: () => undefined })).toEqual({ problems: [] });
});

it('says of VLAN networks what keeps them from acting here', () => {
  const about = (uplink: ConditionSources['uplink'], vlans: string[]): string[] => {
    const networks = () => new Map(vlans.map((key) => [key, { ...NETWORK, encap: 'vlan' }]));
    return conditionOf({ ...WELL, uplink, networks }).problems.map((p) => p.problem);
  };
  const now = { device: 'eth1', mtu: 1500 };
  expect(about({ problem: '', now }, ['default:v'])).toEqual([]);
  expect(about({ problem: '', now: undefined }, ['default:v', 'default:w'])).toEqual([
    'network default:v and 1 more of encapsulation vlan: no --uplink is given, so no container here is on it',
  ]);
  expect(about({ problem: '--uplink: interface eth1 is down', now }, ['default:v'])).toEqual([
    'network default:v of encapsulation vlan: --uplink: interface eth1 is down',
  ]);
});

it('says which direct network has addresses that mean something else here', () => {
  const about = (encap: string, now: string[]): string[] => {
    const networks = () => new Map([['default:n', { ...NETWORK, encap }]]);
    return conditionOf({ ...WELL, prefixes: { now }, networks }).problems.map((p) => p.problem);
  };
  expect(about('direct', ['20.1.2.0/24', '172.17.0.0/16'])).toEqual([]);
  expect(about('vxlan', ['20.1.0.0/16'])).toEqual([]);
  expect(about('direct', ['20.1.1.128/25', '20.1.0.0/16'])).toEqual([
    'network default:n of encapsulation direct: its subnet 20.1.1.0/24 overlaps 20.1.0.0/16, to which this host has a route',
  ]);
  expect(about('direct', ['fd00:1::/48'])).toEqual([
    'network default:n of encapsulation direct: its ipv6Subnet fd00:1::/64 overlaps fd00:1::/48, to which this host has a route',
  ]);
});

it('has all that is wrong, each with what mends it', () => {
  const { problems } = conditionOf({
    ...WELL,
    underlay: { ...WELL.underlay, problem: '--underlay: interface eth0 is down' },
    firewalls: {
      dropped: [{ way: 'tunnel', family: 'IPv4', table: 'ip filter', chain: 'INPUT', by: 'policy' }],
    },
    paths: { narrow: [{ host: 'node2', wanted: 1500, fits: 1400 }] },
    docker: { problems: [{ problem: 'taken', remedy: 'free it' }] },
    kernel: { failed: ['router contiv-default: no VXLAN'] },
  });
  expect(problems.map(({ problem }) => problem)).toEqual([
    '--underlay: interface eth0 is down: other hosts cannot reach this one',
    'another firewall drops what is ours: table ip filter, chain INPUT (its policy) drops what other hosts send to tunnels (UDP 4789), IPv4',
    'packets of 1500 bytes, the MTU of eth0, do not arrive at host node2: only up to 1400',
    'taken',
    'not established: router contiv-default: no VXLAN',
  ]);
  for (const { remedy } of problems) expect(remedy).toMatch(/^[^\n]{7,}$/);
});

it('is one that netmaster takes, however much is wrong and however it is worded', () => {
  const failed = Array.from({ length: 1000 }, (_, i) => `${i} ${'x\n'.repeat(2000)}`);
  const condition = conditionOf({ ...WELL, kernel: { failed } });
  expect(Value.Check(ConditionSchema, condition)).toBe(true);
  expect(condition.problems).toHaveLength(MAX_PROBLEMS);
  expect(condition.problems.at(-1)?.problem).toBe(`${1000 - MAX_PROBLEMS + 1} more problems`);
});

it('of a host that cannot keep its keys are told, with what comes of it', () => {
  const { problems } = conditionOf({
    ...WELL,
    keys: { problem: 'the keys of this host cannot be written to F: EROFS' },
  });
  expect(problems.map(({ problem }) => problem)).toEqual([
    'the keys of this host cannot be written to F: EROFS: what is to be encrypted does not leave',
  ]);
});
