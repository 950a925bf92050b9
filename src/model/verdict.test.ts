import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type PolicyWorld as Generated, packetsOf, worlds } from '../../test/policyWorlds.ts';
import {
  type Action,
  type JudgedRule,
  type Judgement,
  judge,
  type Packet,
  type PolicyWorld,
  type Side,
} from './verdict.ts';

const TCP = 6;
const UDP = 17;
const SCTP = 132;
const ICMP = 1;
const ICMPV6 = 58;
const GRE = 47;

const WEB = '20.1.1.2';
const WEB6 = 'fd00:1::2';
const DB = '20.1.1.3';
const CACHE = '20.1.2.10';
const LOOSE = '20.1.1.9';
const OUTSIDE = '192.0.2.1';

/** web carries p, everybody else nothing; cache is in net2, a range; the endpoint at LOOSE is in no group. */
const WORLD: PolicyWorld = {
  networks: [
    { tenantName: 'blue', networkName: 'net1', subnet: '20.1.1.0/24', ipv6Subnet: 'fd00:1::/64' },
    { tenantName: 'blue', networkName: 'net2', subnet: '20.1.2.10-20.1.2.20/24' },
  ],
  groups: [
    { tenantName: 'blue', groupName: 'web', networkName: 'net1', policies: ['p'] },
    { tenantName: 'blue', groupName: 'db', networkName: 'net1' },
    { tenantName: 'blue', groupName: 'cache', networkName: 'net2', policies: [] },
  ],
  rules: [],
  endpoints: [
    { groupName: 'web', networkName: 'net1', ipAddress: [WEB, WEB6] },
    { groupName: 'db', networkName: 'net1', ipAddress: [DB, 'FD00:1:0::3'] },
    { groupName: 'cache', networkName: 'net2', ipAddress: [CACHE] },
    { networkName: 'net1', ipAddress: [LOOSE] },
  ],
};

type Fields = Partial<JudgedRule>;

/** Rules of policy p, numbered from 1: `in` and `deny` where they do not say otherwise. */
function worldWith(...rules: Fields[]): PolicyWorld {
  const complete = rules.map(
    (rule, i): JudgedRule => ({
      tenantName: 'blue',
      policyName: 'p',
      ruleId: `${i + 1}`,
      direction: 'in',
      action: 'deny',
      ...rule,
    }),
  );
  return { ...WORLD, rules: complete };
}

const tcp = (from: string, to: string, port = 80): Packet => ({ from, to, protocol: TCP, port });

/** What becomes of a packet when web has this one `deny` rule, or these rules. */
const verdict = (rules: Fields | Fields[], packet: Packet): Action =>
  judge(worldWith(...[rules].flat()), packet).verdict;

describe('the prod_web of the quick start', () => {
  const rules: Fields[] = [
    { protocol: 'tcp', action: 'deny', priority: 1 },
    { protocol: 'tcp', port: 80, action: 'allow', priority: 10 },
    { protocol: 'tcp', port: 443, action: 'allow', priority: 10 },
  ];

  it.each([
    ['allow', TCP, 80],
    ['allow', TCP, 443],
    ['deny', TCP, 22],
    ['deny', TCP, 8080],
    ['allow', UDP, 22],
    ['allow', ICMP, undefined],
  ] as const)('says %s to protocol %i, port %s', (expected, protocol, port) => {
    expect(verdict(rules, { from: DB, to: WEB, protocol, port })).toBe(expected);
  });

  it('says nothing about what the group sends', () => {
    expect(verdict(rules, tcp(WEB, DB, 22))).toBe('allow');
  });

  it('is explained, rule by rule, in the order in which they are considered', () => {
    const named = rules.map((rule) => ({ ...rule, policyName: 'prod_web' }));
    const web = { tenantName: 'blue', groupName: 'web', networkName: 'net1', policies: ['prod_web'] };
    const world = { ...worldWith(...named), groups: [web] };
    expect(judge(world, tcp(DB, WEB, 443))).toEqual<Judgement>({
      verdict: 'allow',
      out: { considered: [], verdict: 'allow', why: '20.1.1.3 is in no group' },
      in: {
        group: 'blue:web',
        considered: [
          { rule: 'blue:prod_web:2', matches: false, why: 'port is 443, not 80' },
          { rule: 'blue:prod_web:3', matches: true, why: 'protocol is tcp; port is 443' },
          {
            rule: 'blue:prod_web:1',
            matches: true,
            why: 'protocol is tcp',
            loses: 'its priority 1 is lower than 10 of blue:prod_web:3',
          },
        ],
        decides: 'blue:prod_web:3',
        verdict: 'allow',
        why: 'rule blue:prod_web:3 of priority 10 says allow',
      },
    });
  });
});

describe('a side', () => {
  it('that no rule speaks about lets everything pass', () => {
    expect(judge(WORLD, tcp(OUTSIDE, WEB))).toEqual<Judgement>({
      verdict: 'allow',
      out: { considered: [], verdict: 'allow', why: '192.0.2.1 belongs to no endpoint' },
      in: {
        group: 'blue:web',
        considered: [],
        verdict: 'allow',
        why: "no 'in' rule of group blue:web matches",
      },
    });
    expect(judge(WORLD, tcp(CACHE, LOOSE))).toMatchObject({
      out: { group: 'blue:cache', why: 'group blue:cache carries no policy' },
      in: { why: '20.1.1.9 is in no group' },
    });
  });

  it("is judged by 'in' rules where it receives and by 'out' rules where it sends", () => {
    expect(verdict({ direction: 'in' }, tcp(DB, WEB))).toBe('deny');
    expect(verdict({ direction: 'in' }, tcp(WEB, DB))).toBe('allow');
    expect(verdict({ direction: 'out' }, tcp(WEB, DB))).toBe('deny');
    expect(verdict({ direction: 'out' }, tcp(DB, WEB))).toBe('allow');
  });

  it('is judged only by policies that its own group carries', () => {
    expect(verdict({}, tcp(WEB, DB))).toBe('allow');
    expect(verdict({}, tcp(OUTSIDE, LOOSE))).toBe('allow');
    expect(verdict({ policyName: 'other' }, tcp(DB, WEB))).toBe('allow');
    expect(verdict({ direction: 'out' }, tcp(OUTSIDE, DB))).toBe('allow');
  });

  it('needs the other one: a packet passes when both let it', () => {
    const both: PolicyWorld = {
      ...worldWith(
        { policyName: 'sends', direction: 'out', protocol: 'tcp', port: 1 },
        { policyName: 'gets', direction: 'in', protocol: 'tcp', port: 2 },
      ),
      groups: [
        { tenantName: 'blue', groupName: 'web', networkName: 'net1', policies: ['sends'] },
        { tenantName: 'blue', groupName: 'db', networkName: 'net1', policies: ['gets'] },
      ],
    };
    const sides = (port: number): Action[] => {
      const judgement = judge(both, tcp(WEB, DB, port));
      return [judgement.out.verdict, judgement.in.verdict, judgement.verdict];
    };
    expect(sides(1)).toEqual(['deny', 'allow', 'deny']);
    expect(sides(2)).toEqual(['allow', 'deny', 'deny']);
    expect(sides(3)).toEqual(['allow', 'allow', 'allow']);
  });

  it('judges also between two endpoints of one group', () => {
    const world = worldWith({ fromEndpointGroup: 'web' });
    const second = { groupName: 'web', networkName: 'net1', ipAddress: ['20.1.1.4'] };
    const two = { ...world, endpoints: [...world.endpoints, second] };
    expect(judge(two, tcp('20.1.1.4', WEB)).verdict).toBe('deny');
  });
});

describe('of several rules that match', () => {
  const allow = (priority?: number): Fields => ({ action: 'allow', priority });
  const deny = (priority?: number): Fields => ({ action: 'deny', priority });

  it.each<[string, Action, Fields[]]>([
    ['the highest priority number decides', 'allow', [deny(1), allow(10)]],
    ['the highest priority number decides, also for a deny', 'deny', [allow(9), deny(10)]],
    ['numbers are not compared as text', 'allow', [deny(9), allow(10)]],
    ['deny beats allow at equal priority', 'deny', [allow(5), deny(5), allow(5)]],
    ['none means priority 1', 'deny', [allow(), deny(1)]],
    ['0 means priority 1', 'deny', [allow(1), deny(0)]],
    ['priority 2 is above none', 'allow', [allow(2), deny()]],
  ])('%s', (_, expected, rules) => {
    expect(verdict(rules, tcp(DB, WEB))).toBe(expected);
    expect(verdict(rules.toReversed(), tcp(DB, WEB))).toBe(expected);
  });

  it('those that do not match do not count, whatever their priority', () => {
    expect(verdict([deny(1), { ...allow(100), protocol: 'udp' }], tcp(DB, WEB))).toBe('deny');
  });

  it('each that loses says to which, and why', () => {
    const world = worldWith(
      { action: 'allow', priority: 5 },
      { action: 'allow', priority: 5 },
      { action: 'deny', priority: 5, protocol: 'tcp' },
      { action: 'deny', priority: 2 },
      { action: 'deny', protocol: 'udp', priority: 9 },
    );
    const losing = (protocol: number) =>
      judge(world, { from: DB, to: WEB, protocol, port: 80 }).in.considered.map(({ rule, loses }) => [
        rule,
        loses,
      ]);
    expect(losing(TCP)).toEqual([
      ['blue:p:5', undefined],
      ['blue:p:3', undefined],
      ['blue:p:1', 'at priority 5 deny goes first, and blue:p:3 denies'],
      ['blue:p:2', 'at priority 5 deny goes first, and blue:p:3 denies'],
      ['blue:p:4', 'its priority 2 is lower than 5 of blue:p:3'],
    ]);
    expect(losing(SCTP).slice(2)).toEqual([
      ['blue:p:1', undefined],
      ['blue:p:2', 'blue:p:1 says allow at priority 5 too, and its name comes first'],
      ['blue:p:4', 'its priority 2 is lower than 5 of blue:p:1'],
    ]);
  });

  it('all policies of the group count together', () => {
    const rules: Fields[] = [
      { policyName: 'p', ...deny(5) },
      { policyName: 'q', ...allow(6) },
    ];
    const carrying = (...policies: string[]): PolicyWorld => ({
      ...worldWith(...rules),
      groups: [{ tenantName: 'blue', groupName: 'web', networkName: 'net1', policies }],
    });
    expect(judge(carrying('p'), tcp(DB, WEB)).verdict).toBe('deny');
    expect(judge(carrying('p', 'q'), tcp(DB, WEB)).verdict).toBe('allow');
    expect(judge(carrying('q', 'p'), tcp(DB, WEB)).verdict).toBe('allow');
  });
});

describe('a rule', () => {
  it('that asks for nothing matches everything', () => {
    for (const protocol of [TCP, UDP, SCTP, ICMP, ICMPV6, GRE, 0, 255])
      expect(verdict({}, { from: OUTSIDE, to: WEB, protocol })).toBe('deny');
    expect(verdict({}, { from: '2001:db8::1', to: WEB6, protocol: TCP })).toBe('deny');
  });

  it("with '' and 0 asks for nothing, as in the REST API", () => {
    const empty = { fromEndpointGroup: '', fromNetwork: '', fromIpAddress: '', protocol: '', port: 0 };
    expect(verdict(empty, { from: OUTSIDE, to: WEB, protocol: GRE })).toBe('deny');
  });

  it.each<[string, Fields, Packet, Action]>([
    ['a member', { fromEndpointGroup: 'db' }, tcp(DB, WEB), 'deny'],
    ['its IPv6 address, however it is written', { fromEndpointGroup: 'db' }, tcp('fd00:1::3', WEB6), 'deny'],
    ['a member of another group', { fromEndpointGroup: 'db' }, tcp(CACHE, WEB), 'allow'],
    ['an endpoint in no group', { fromEndpointGroup: 'db' }, tcp(LOOSE, WEB), 'allow'],
    ['an address of no endpoint', { fromEndpointGroup: 'db' }, tcp('20.1.1.77', WEB), 'allow'],
    ['a member that receives', { direction: 'out', toEndpointGroup: 'db' }, tcp(WEB, DB), 'deny'],
    ['another that receives', { direction: 'out', toEndpointGroup: 'db' }, tcp(WEB, CACHE), 'allow'],
  ])('for a group means the endpoints that are in it now: %s', (_, rule, packet, expected) => {
    expect(verdict(rule, packet)).toBe(expected);
  });

  it.each<[string, Action]>([
    ['20.1.1.0', 'deny'],
    [LOOSE, 'deny'],
    ['20.1.1.255', 'deny'],
    ['20.1.0.255', 'allow'],
    ['20.1.2.0', 'allow'],
    ['fd00:1::', 'deny'],
    ['FD00:1:0:0:ffff:ffff:ffff:ffff', 'deny'],
    ['fd00:1:0:1::', 'allow'],
    ['fd00::1', 'allow'],
  ])('for a network means its whole prefixes, endpoint or not: %s', (peer, expected) => {
    const own = peer.includes(':') ? WEB6 : WEB;
    expect(verdict({ fromNetwork: 'net1' }, tcp(peer, own))).toBe(expected);
    expect(verdict({ direction: 'out', toNetwork: 'net1' }, tcp(own, peer))).toBe(expected);
  });

  it('for a network with a range means the whole prefix too', () => {
    for (const peer of ['20.1.2.0', '20.1.2.9', '20.1.2.15', '20.1.2.21', '20.1.2.255'])
      expect(verdict({ fromNetwork: 'net2' }, tcp(peer, WEB)), peer).toBe('deny');
    for (const peer of ['20.1.1.255', '20.1.3.0'])
      expect(verdict({ fromNetwork: 'net2' }, tcp(peer, WEB)), peer).toBe('allow');
    expect(verdict({ fromNetwork: 'net3' }, tcp(CACHE, WEB))).toBe('allow');
  });

  it.each<[string, string, Action]>([
    [DB, DB, 'deny'],
    [DB, '20.1.1.30', 'allow'],
    ['192.0.2.0/25', '192.0.2.0', 'deny'],
    ['192.0.2.0/25', '192.0.2.127', 'deny'],
    ['192.0.2.0/25', '192.0.2.128', 'allow'],
    ['192.0.2.77/25', '192.0.2.1', 'deny'],
    ['192.0.2.1/32', '192.0.2.1', 'deny'],
    ['192.0.2.1/32', '192.0.2.0', 'allow'],
    ['20.1.0.0/23', '20.1.1.255', 'deny'],
    ['0.0.0.0/0', '255.255.255.255', 'deny'],
    ['0.0.0.0/0', '2001:db8::1', 'allow'],
    ['::/0', '2001:db8::1', 'deny'],
    ['::/0', OUTSIDE, 'allow'],
    ['2001:DB8:0::1', '2001:db8::1', 'deny'],
    ['2001:db8::/33', '2001:db8:7fff::1', 'deny'],
    ['2001:db8::/33', '2001:db8:8000::1', 'allow'],
  ])('for %s says of %s: %s', (address, peer, expected) => {
    const own = peer.includes(':') ? WEB6 : WEB;
    expect(verdict({ fromIpAddress: address }, tcp(peer, own))).toBe(expected);
    expect(verdict({ direction: 'out', toIpAddress: address }, tcp(own, peer))).toBe(expected);
  });

  it('for a group and a network needs both', () => {
    const rule = (fromEndpointGroup: string, fromNetwork: string): Fields => ({
      fromEndpointGroup,
      fromNetwork,
    });
    expect(verdict(rule('db', 'net1'), tcp(DB, WEB))).toBe('deny');
    expect(verdict(rule('db', 'net2'), tcp(DB, WEB))).toBe('allow');
    expect(verdict(rule('db', 'net1'), tcp(LOOSE, WEB))).toBe('allow');
  });

  it.each<[string, number[]]>([
    ['tcp', [TCP]],
    ['udp', [UDP]],
    ['icmp', [ICMP, ICMPV6]],
    ['6', [TCP]],
    ['1', [ICMP]],
    ['58', [ICMPV6]],
    ['132', [SCTP]],
    ['47', [GRE]],
  ])('for protocol %s matches %j', (protocol, matching) => {
    const denied = [TCP, UDP, SCTP, ICMP, ICMPV6, GRE].filter(
      (number) => verdict({ protocol }, { from: DB, to: WEB, protocol: number, port: 80 }) === 'deny',
    );
    expect(denied.sort()).toEqual(matching.sort());
  });

  it('for a port means the destination port of TCP, UDP and SCTP, any of them where it names no protocol', () => {
    const denied = (rule: Fields, port?: number): number[] =>
      [TCP, UDP, SCTP, ICMP, ICMPV6, GRE].filter(
        (protocol) => verdict(rule, { from: DB, to: WEB, protocol, port }) === 'deny',
      );
    expect(denied({ port: 80 }, 80)).toEqual([TCP, UDP, SCTP]);
    expect(denied({ port: 80 }, 81)).toEqual([]);
    expect(denied({ port: 80 })).toEqual([]);
    expect(denied({ port: 80, protocol: 'udp' }, 80)).toEqual([UDP]);
    expect(denied({ port: 80, protocol: '132' }, 80)).toEqual([SCTP]);
    expect(denied({ port: 80, protocol: 'icmp' }, 80)).toEqual([]);
  });

  it.each<[Fields, Packet, string]>([
    [{}, tcp(DB, WEB), 'it asks for nothing: everything matches'],
    [{ protocol: 'tcp' }, { from: DB, to: WEB, protocol: UDP }, 'protocol is udp, not tcp'],
    [{ protocol: 'icmp' }, { from: DB, to: WEB6, protocol: ICMPV6 }, 'protocol is icmpv6'],
    [{ port: 80 }, { from: DB, to: WEB, protocol: ICMP }, 'icmp has no ports, so not port 80'],
    [{ port: 80 }, { from: DB, to: WEB, protocol: TCP }, 'port is not known, not 80'],
    [{ fromEndpointGroup: 'db' }, tcp(DB, WEB), '20.1.1.3 is in group db'],
    [{ fromEndpointGroup: 'db' }, tcp(CACHE, WEB), '20.1.2.10 is in group cache, not in group db'],
    [{ fromEndpointGroup: 'db' }, tcp(LOOSE, WEB), '20.1.1.9 is in no group, not in group db'],
    [{ fromEndpointGroup: 'db' }, tcp(OUTSIDE, WEB), '192.0.2.1 belongs to no endpoint, so not to group db'],
    [{ fromNetwork: 'net1' }, tcp(CACHE, WEB), '20.1.2.10 is not in network net1'],
    [{ fromIpAddress: '20.1.0.0/16' }, tcp(DB, WEB), '20.1.1.3 is in 20.1.0.0/16'],
    [{ fromIpAddress: '20.1.1.4' }, tcp(DB, WEB), '20.1.1.3 is not 20.1.1.4'],
    [
      { fromNetwork: 'net1', protocol: 'tcp', port: 22 },
      tcp(CACHE, WEB),
      '20.1.2.10 is not in network net1; port is 80, not 22',
    ],
  ])('says why: %j', (rule, packet, why) => {
    expect(judge(worldWith(rule), packet).in.considered).toMatchObject([{ why }]);
  });
});

it.each([
  [{ ports: '80,443,8000-8999' }, [80, 443, 8000, 8500, 8999], [79, 81, 444, 7999, 9000]],
  [{ ports: '1-65535', protocol: 'tcp' }, [1, 65535], []],
  [{ ports: '', port: 80 }, [80], [81]],
])('a rule with %j is for ports %j and not for %j', (fields, within, beside) => {
  const world = worldWith(fields);
  const denied = (port: number) =>
    judge(world, { from: DB, to: WEB, protocol: TCP, port }).verdict === 'deny';
  expect(within.filter((port) => !denied(port))).toEqual([]);
  expect(beside.filter(denied)).toEqual([]);
});

it('a rule for several protocols is for each of them, and says which the packet has', () => {
  const world = worldWith({ protocols: 'tcp,udp', ports: '53,100-200' });
  const judged = (protocol: number, port?: number) =>
    judge(world, { from: DB, to: WEB, protocol, port }).in.considered[0];
  expect(judged(TCP, 53)).toMatchObject({ matches: true, why: 'protocol is tcp; port is 53' });
  expect(judged(UDP, 150)).toMatchObject({ matches: true, why: 'protocol is udp; port is 150, in 100-200' });
  expect(judged(UDP, 54)).toMatchObject({ matches: false, why: 'port is 54, not 53,100-200' });
  expect(judged(SCTP, 53)).toMatchObject({ matches: false, why: 'protocol is sctp, not tcp,udp' });
  expect(judged(ICMP)?.why).toBe('protocol is icmp, not tcp,udp; icmp has no ports, so not port 53,100-200');
});

describe('whatever the world', () => {
  /** Each generated world with each of its packets. */
  const always = (check: (world: Generated, packet: Packet, seed: number) => void): void =>
    fc.assert(
      fc.property(worlds, fc.nat(), (world, seed) => {
        for (const packet of packetsOf(world, seed)) check(world, packet, seed);
      }),
      { numRuns: 300 },
    );

  /** The same world, where every group also carries a policy with these rules, which ask for nothing. */
  function adding(
    world: Generated,
    ...rules: Pick<JudgedRule, 'direction' | 'priority' | 'action'>[]
  ): Generated {
    return {
      ...world,
      groups: world.groups.map((group) => ({ ...group, policies: [...(group.policies ?? []), 'added'] })),
      rules: [
        ...world.rules,
        ...rules.map((rule, i) => ({ tenantName: 'blue', policyName: 'added', ruleId: `${i}`, ...rule })),
      ],
    };
  }

  it('an allow of everything at priority 100 lets all pass but what a deny of priority 100 matches', () => {
    always((world, packet) => {
      const open = adding(
        world,
        { direction: 'in', priority: 100, action: 'allow' },
        { direction: 'out', priority: 100, action: 'allow' },
      );
      const denies = world.rules.filter((rule) => rule.priority === 100 && rule.action === 'deny');
      expect(judge(open, packet).verdict).toBe(judge({ ...world, rules: denies }, packet).verdict);
    });
  });

  it('everything passes where no group carries a policy', () => {
    always((world, packet) => {
      const bare = { ...world, groups: world.groups.map((group) => ({ ...group, policies: [] })) };
      expect(judge(bare, packet).verdict).toBe('allow');
    });
  });

  it('everything passes without a deny', () => {
    always((world, packet) => {
      const allows = world.rules.filter((rule) => rule.action === 'allow');
      expect(judge({ ...world, rules: allows }, packet).verdict).toBe('allow');
    });
  });

  it('the order of rules, policies, groups, networks, endpoints and addresses does not matter', () => {
    always((world, packet, seed) => {
      const mixed = <T>(values: readonly T[]): T[] =>
        values
          .map((value, i) => ({ value, rank: Math.imul(seed + 1, 2 * i + 1) % 101 }))
          .sort((a, b) => a.rank - b.rank)
          .map(({ value }) => value);
      const other: PolicyWorld = {
        networks: mixed(world.networks),
        groups: mixed(world.groups.map((group) => ({ ...group, policies: mixed(group.policies ?? []) }))),
        rules: mixed(world.rules),
        endpoints: mixed(world.endpoints.map((e) => ({ ...e, ipAddress: mixed(e.ipAddress) }))),
      };
      expect(judge(other, packet)).toEqual(judge(world, packet));
    });
  });

  it('a rule of the highest priority that says what holds already changes nothing', () => {
    always((world, packet) => {
      const before = judge(world, packet);
      for (const direction of ['in', 'out'] as const) {
        const { verdict: action, group } = before[direction];
        const after = judge(adding(world, { direction, priority: 100, action }), packet);
        expect([after.out.verdict, after.in.verdict]).toEqual([before.out.verdict, before.in.verdict]);
        if (group !== undefined) expect(after[direction].decides).toBeDefined();
      }
    });
  });

  it('a side denies where a deny matches and no matching allow has a higher priority', () => {
    always((world, packet) => {
      const judgement = judge(world, packet);
      const denies = (side: Side): boolean => {
        const matching = world.rules.filter((rule) =>
          side.considered.some(
            (c) => c.matches && c.rule === `${rule.tenantName}:${rule.policyName}:${rule.ruleId}`,
          ),
        );
        const highest = (action: Action): number =>
          matching.reduce((most, r) => (r.action === action ? Math.max(most, r.priority || 1) : most), 0);
        return highest('deny') > 0 && highest('deny') >= highest('allow');
      };
      expect(judgement.out.verdict === 'deny').toBe(denies(judgement.out));
      expect(judgement.in.verdict === 'deny').toBe(denies(judgement.in));
      expect(judgement.verdict === 'deny').toBe(denies(judgement.out) || denies(judgement.in));
    });
  });

  it('groups, networks, icmp and ports mean what they mean written out as addresses and numbers', () => {
    always((world, packet) => {
      const written = world.rules.flatMap((rule) => writtenOut(rule, world));
      expect(judge({ ...world, rules: written }, packet).verdict).toBe(judge(world, packet).verdict);
    });
  });
});

/** Rules of addresses, prefixes and protocol numbers only that together match what the rule matches. */
function writtenOut(rule: JudgedRule, world: Generated): JudgedRule[] {
  const { fromEndpointGroup, toEndpointGroup, fromNetwork, toNetwork, fromIpAddress, toIpAddress, ...rest } =
    rule;
  const group = fromEndpointGroup || toEndpointGroup;
  const network = world.networks.find((n) => n.networkName === (fromNetwork || toNetwork));
  const prefixes = [network?.subnet, network?.ipv6Subnet].flatMap((subnet) =>
    subnet ? [subnet.replace(/-[^/]*/, '')] : [],
  );
  const members = world.endpoints
    .filter((e) => e.groupName === group && (network === undefined || e.networkName === network.networkName))
    .flatMap((e) => e.ipAddress);
  const addresses = group ? members : network ? prefixes : [fromIpAddress || toIpAddress];
  const numbers = { tcp: ['6'], udp: ['17'], icmp: ['1', '58'] }[rule.protocol ?? ''];
  const protocols =
    numbers ?? (rule.protocol ? [rule.protocol] : rule.port ? ['6', '17', '132'] : [undefined]);
  return addresses.flatMap((address, i) =>
    protocols.map((protocol, j) => ({
      ...rest,
      ruleId: `${rule.ruleId}-${i}-${j}`,
      [rule.direction === 'in' ? 'fromIpAddress' : 'toIpAddress']: address,
      protocol,
    })),
  );
}
