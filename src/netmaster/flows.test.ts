import { describe, expect, it } from 'vitest';
import { openTestMirror } from '../../test/mirror.ts';
import type { DeniedFlow, FlowReport } from '../protocol/messages.ts';
import { networkPolicyFlows, policyFlows } from './api/explain.ts';
import { trackFlows } from './flows.ts';

const RULE = { tenantName: 'default', policyName: 'p', ruleId: '1', direction: 'in', action: 'deny' };
const WORLD = {
  tenant: [{ tenantName: 'default' }, { tenantName: 'blue' }],
  network: [{ tenantName: 'default', networkName: 'net1', subnet: '20.1.1.0/24' }],
  endpointGroup: [{ tenantName: 'default', groupName: 'web', networkName: 'net1', policies: ['p'] }],
  policy: [{ tenantName: 'default', policyName: 'p' }],
  rule: [RULE, { ...RULE, ruleId: '2' }],
  endpoint: [
    {
      endpointID: 'e1',
      tenantName: 'default',
      networkName: 'net1',
      groupName: 'web',
      ipAddress: ['20.1.1.2'],
      homingHost: 'node1',
      containerName: 'server',
    },
  ],
};
const FLOW: DeniedFlow = {
  tenant: 'default',
  direction: 'in',
  from: '20.1.1.9',
  to: '20.1.1.2',
  protocol: 6,
  port: 22,
  rule: 'default:p:1',
  count: 1,
  last: 1000,
};
let sequence = 0;
const report = (hits: [rule: string, packets: number][], denied: readonly DeniedFlow[] = []): FlowReport => ({
  reporter: 'r',
  sequence: ++sequence,
  hits: hits.map(([rule, packets]) => ({ rule, packets, bytes: packets * 60 })),
  denied: [...denied],
});

describe('hits and denied flows of network policies', () => {
  const DENY = 'NetworkPolicy shop/deny-all';
  const POLICY = {
    tier: 'namespace' as const,
    namespaceName: 'shop',
    policyName: 'deny-all',
    subject: {},
    isolates: ['in' as const],
    rules: [{ direction: 'in' as const, action: 'accept' as const }],
  };
  it('go by their names and those of their rules, and go with them', async () => {
    const server = { ...WORLD.endpoint[0], workload: 'shop:web-1', workloadUid: 'u' };
    const { mirror, remove } = await openTestMirror({
      ...WORLD,
      networkPolicy: [POLICY],
      endpoint: [server],
    });
    const flows = trackFlows(mirror);
    const hits: [string, number][] = [
      [DENY, 2],
      [`${DENY} rule 1`, 3],
      ['NetworkPolicy shop/gone rule 1', 4],
    ];
    flows.report('node1', report(hits, [{ ...FLOW, rule: DENY }]));
    expect(await networkPolicyFlows(POLICY, { mirror, counts: async () => flows })).toMatchObject({
      hits: [
        { rule: DENY, packets: 2 },
        { rule: `${DENY} rule 1`, packets: 3 },
      ],
      denied: [{ rule: DENY, toWorkload: 'shop/web-1', toContainer: 'server' }],
    });
    expect(flows.hits('NetworkPolicy shop/gone rule 1')).toBeUndefined();
    await remove('networkPolicy', 'namespace:shop:deny-all');
    expect(flows.hits(DENY)).toBeUndefined();
  });
});

describe('hits', () => {
  it('are summed over hosts and runs of their agents; a report that comes again, or late, counts once', async () => {
    const { mirror } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    expect(flows.hits('default:p:1')).toBeUndefined();
    const first = report([['default:p:1', 3]]);
    const second = report([['default:p:1', 4]]);
    flows.report('node1', first);
    flows.report('node1', second);
    flows.report('node1', second);
    flows.report('node1', first);
    flows.report('node2', first);
    flows.report('node1', { ...first, reporter: 'anew' });
    expect(flows.hits('default:p:1')).toEqual({ packets: 10, bytes: 600 });
    expect(flows.hits('default:p:2')).toBeUndefined();
  });

  it('that several netmasters keep are those of the newest report of each run', async () => {
    const { mirror } = await openTestMirror(WORLD);
    const [a, b] = [trackFlows(mirror), trackFlows(mirror)];
    const [first, second] = [report([['default:p:1', 3]], [FLOW]), report([['default:p:1', 5]], [FLOW])];
    a.report('node1', first);
    b.report('node1', second);
    b.report('node2', first);
    for (const both of [a.including(b.kept()), b.including(a.kept()), b.including(b.kept())]) {
      expect(both.hits('default:p:1')).toEqual({ packets: 8, bytes: 480 });
      expect(both.denied('default').map(({ host, count }) => [host, count])).toEqual([
        ['node1', 1],
        ['node2', 1],
      ]);
    }
    expect(a.hits('default:p:1')).toEqual({ packets: 3, bytes: 180 });
  });

  it('of runs that are long over are forgotten', async () => {
    const { mirror } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    for (let i = 0; i < 40; i++)
      flows.report('node1', { ...report([['default:p:1', 1]]), reporter: `r${i}` });
    flows.report('node2', report([['default:p:1', 1]]));
    expect(flows.hits('default:p:1')).toEqual({ packets: 33, bytes: 1980 });
  });

  it('go with their rule, and a report that comes late brings none back', async () => {
    const { mirror, put, remove } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    flows.report('node1', report([['default:p:1', 3]]));
    await remove('rule', 'default:p:1');
    expect(flows.hits('default:p:1')).toBeUndefined();
    flows.report('node1', report([['default:p:1', 3]]));
    await put({ rule: [RULE] });
    expect(flows.hits('default:p:1')).toBeUndefined();
  });
});

describe('flows that rules which log allowed', () => {
  it('are kept beside the denied ones, by name, also by other netmasters, and go with their tenant', async () => {
    const { mirror, remove } = await openTestMirror(WORLD);
    const [a, b] = [trackFlows(mirror), trackFlows(mirror)];
    const allowed = [
      { ...FLOW, port: 80, rule: 'default:p:2' },
      { ...FLOW, tenant: 'blue' },
    ];
    a.report('node1', { ...report([], [FLOW]), allowed });
    for (const counts of [a, b.including(a.kept())]) {
      expect(counts.allowed('default')).toMatchObject([
        { port: 80, rule: 'default:p:2', toContainer: 'server', host: 'node1' },
      ]);
      expect(counts.denied('default')).toMatchObject([{ port: 22 }]);
      expect(counts.allowed('blue')).toHaveLength(1);
    }
    await remove('tenant', 'blue');
    expect(a.allowed('blue')).toEqual([]);
  });
});

describe('denied flows', () => {
  it('have the names of their endpoints, and are one where they are the same, the newest last', async () => {
    const { mirror } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    const other = { ...FLOW, port: 23, last: 2000 };
    flows.report('node1', report([], [FLOW, other]));
    flows.report('node1', report([], [other, { ...FLOW, count: 4, last: 50_000 }]));
    flows.report('node1', { ...report([], [{ ...FLOW, last: 61_000 }]), reporter: 'anew' });
    const named = { host: 'node1', toContainer: 'server', toGroup: 'web' };
    expect(flows.denied('default')).toEqual([
      { ...FLOW, ...named, port: 23, last: 2000, time: '1970-01-01T00:00:02.000Z' },
      { ...FLOW, ...named, count: 5, last: 61_000, time: '1970-01-01T00:01:01.000Z' },
    ]);
    expect(flows.denied('blue')).toEqual([]);
  });

  it('keep the names that they had when they were reported first', async () => {
    const { mirror, remove } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    flows.report('node1', report([], [FLOW]));
    await remove('endpoint', 'e1');
    flows.report('node1', report([['default:p:1', 1]], [FLOW]));
    expect(flows.denied('default')).toMatchObject([{ toContainer: 'server' }]);
    flows.report('node1', report([], [{ ...FLOW, count: 2 }]));
    expect(flows.denied('default')[0]).not.toHaveProperty('toContainer');
  });

  it('are the last 1000 of a tenant, and go with the tenant; those of an unknown tenant are not kept', async () => {
    const { mirror, remove } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    const many = Array.from({ length: 1200 }, (_, i) => ({ ...FLOW, port: i + 1, last: i }));
    flows.report('node1', report([], many));
    flows.report(
      'node2',
      report(
        [],
        [
          { ...FLOW, tenant: 'blue' },
          { ...FLOW, tenant: 'nobody' },
        ],
      ),
    );
    expect(flows.denied('default').map((f) => f.port)).toEqual(many.slice(200).map((f) => f.port));
    expect(flows.denied('blue')).toHaveLength(1);
    expect(flows.denied('nobody')).toEqual([]);
    await remove('tenant', 'blue');
    expect(flows.denied('blue')).toEqual([]);
  });
});

describe('inspect of a policy', () => {
  it('shows the rules that decided something and the last ten that it denied; nothing where nothing happened', async () => {
    const { mirror } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    const explaining = { mirror, counts: async () => flows };
    expect(await policyFlows('default:p', explaining)).toEqual({});
    const many = Array.from({ length: 12 }, (_, i) => ({ ...FLOW, port: i + 1, last: i }));
    flows.report(
      'node1',
      report([['default:p:2', 3]], [...many, { ...FLOW, rule: 'default:pp:1', last: 99 }]),
    );
    const { hits, denied } = await policyFlows('default:p', explaining);
    expect(hits).toEqual([{ ruleId: '2', action: 'deny', packets: 3, bytes: 180 }]);
    expect((denied as DeniedFlow[]).map((f) => f.port)).toEqual([3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
  });
});

describe('denied flows beyond what is kept', () => {
  it('are those of the sender that has the most: a flood hides nobody else', async () => {
    const { mirror } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    flows.report('node2', report([], [{ ...FLOW, from: '20.1.1.7' }]));
    const many = Array.from({ length: 3000 }, (_, i) => ({ ...FLOW, port: i + 1, last: 2000 + i }));
    flows.report('node1', report([], many));
    const kept = flows.denied('default');
    expect(kept).toHaveLength(1000);
    expect(kept[0]).toMatchObject({ from: '20.1.1.7' });
    expect(kept.at(-1)?.port).toBe(3000);
  });
});

describe('what containers send in vain', () => {
  it('is summed by endpoint and reason, with the newest sender, until the endpoint goes', async () => {
    const { mirror, remove } = await openTestMirror(WORLD);
    const flows = trackFlows(mirror);
    const refused = { endpoint: 'e1', reason: 'source', packets: 3, last: 1000 } as const;
    const sender = { address: '20.1.1.77', mac: '02:00:00:00:00:77' };
    flows.report('node1', {
      ...report([]),
      refused: [
        { ...refused, ...sender },
        { ...refused, endpoint: 'e2' },
      ],
    });
    flows.report('node1', { ...report([]), reporter: 'anew', refused: [{ ...refused, last: 2000 }] });
    expect(flows.dropped('e1')).toEqual([
      { reason: 'source', packets: 6, time: '1970-01-01T00:00:02.000Z', ...sender },
    ]);
    expect(flows.dropped('e2')).toEqual([]);
    await remove('endpoint', 'e1');
    expect(flows.dropped('e1')).toEqual([]);
  });
});
