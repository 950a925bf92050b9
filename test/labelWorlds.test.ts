import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { networkPolicy } from '../src/model/networkPolicy.ts';
import { judge } from '../src/model/verdict.ts';
import { workload } from '../src/model/workload.ts';
import { labelPacketsOf, labelWorldOf, labelWorlds } from './labelWorlds.ts';
import { worldOf as modelOf } from './world.ts';

describe('worlds of workloads', () => {
  it('are ones that the model takes', () => {
    fc.assert(
      fc.property(labelWorlds, (world) => {
        const others = modelOf({ network: world.networks, endpointGroup: world.groups });
        for (const w of world.workloads) expect(workload.check?.(w, others, undefined)).toBeUndefined();
        for (const p of world.networkPolicies)
          expect(networkPolicy.check?.(p, others, undefined)).toBeUndefined();
      }),
    );
  });

  it('and their packets reach what they are for', () => {
    const seen = new Map<string, number>();
    const see = (what: string, holds: boolean): void => {
      if (holds) seen.set(what, (seen.get(what) ?? 0) + 1);
    };
    for (let i = 0; i < 1000; i++) {
      const seed = 1_000_000 + i * 7919;
      const world = labelWorldOf(seed);
      const ruleOf = (name: string) =>
        world.networkPolicies.flatMap((p) =>
          p.rules.filter(
            (_, place) =>
              name.endsWith(`${p.policyName} rule ${place + 1}`) ||
              name.endsWith(`${p.policyName} (baseline) rule ${place + 1}`),
          ),
        )[0];
      for (const packet of labelPacketsOf(world, seed)) {
        const judgement = judge(world, packet);
        for (const side of [judgement.out, judgement.in]) {
          const { decides = '', considered } = side;
          const decider = considered.find((c) => c.rule === decides);
          const rule = ruleOf(decides);
          see('decided by the admin tier', decider?.tier === 'admin');
          see('decided by a rule of NetworkPolicy', decider?.tier === 'namespace' && rule !== undefined);
          see('denied as isolated', decider?.tier === 'namespace' && rule === undefined);
          see('decided by the baseline tier', decider?.tier === 'baseline');
          see('denied as unknown', decides === 'unknown workload');
          const passed = considered.find(
            (c) => c.tier === 'admin' && c.matches && ruleOf(c.rule)?.action === 'pass',
          );
          see(
            'a pass, and a lower tier decides',
            passed !== undefined && decider !== undefined && decider.tier !== 'admin',
          );
          see('a pass, and nothing lower', passed !== undefined && decides === passed.rule);
          const groups = considered.filter((c) => c.tier === undefined);
          see(
            'our own deny above NetworkPolicies',
            decider !== undefined &&
              decider.tier === undefined &&
              side.verdict === 'deny' &&
              considered.some((c) => c.tier === 'namespace'),
          );
          see(
            'our own allow, then NetworkPolicies',
            groups.some((c) => c.matches) && decider?.tier === 'namespace',
          );
          const matching = (holds: (p: object) => boolean, list: readonly object[] | undefined): boolean =>
            list?.length === 1 && holds(list[0] as object);
          see(
            'by a prefix without others',
            matching((p) => ((p as { except?: [] }).except?.length ?? 0) > 0, rule?.peers),
          );
          see(
            'by labels',
            matching((p) => 'workloads' in p, rule?.peers),
          );
          see(
            'by namespace',
            matching((p) => 'namespaces' in p && !('workloads' in p), rule?.peers),
          );
          see(
            'at a range',
            matching((p) => 'endPort' in p, rule?.ports),
          );
          see(
            'at a named port of its own',
            rule?.direction === 'in' && matching((p) => 'name' in p, rule.ports),
          );
          see(
            'at a named port of the peer',
            rule?.direction === 'out' && matching((p) => 'name' in p, rule.ports),
          );
          see(
            'at any port',
            matching((p) => !('name' in p || 'port' in p), rule?.ports),
          );
        }
      }
    }
    expect(Object.fromEntries([...seen].filter(([, count]) => count < 20))).toEqual({});
    expect(seen.size).toBe(16);
  });
});
