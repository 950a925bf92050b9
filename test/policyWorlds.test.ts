import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { endpointGroup } from '../src/model/endpointGroup.ts';
import { network } from '../src/model/network.ts';
import { judge } from '../src/model/verdict.ts';
import { type PolicyWorld, packetsOf, worldOf, worlds } from './policyWorlds.ts';
import { worldOf as modelOf } from './world.ts';

describe('worlds of policy', () => {
  it('are ones that the model takes', () => {
    fc.assert(
      fc.property(worlds, (world) => {
        const others = modelOf({
          network: world.networks,
          endpointGroup: world.groups,
          policy: world.policies,
        });
        for (const n of world.networks) expect(network.check?.(n, others, undefined)).toBeUndefined();
        for (const g of world.groups) expect(endpointGroup.check?.(g, others, undefined)).toBeUndefined();
        const addresses = world.endpoints.flatMap((endpoint) => endpoint.ipAddress);
        expect(new Set(addresses).size).toBe(addresses.length);
      }),
    );
  });

  it('are the same for the same seed, and small for small seeds', () => {
    fc.assert(
      fc.property(fc.nat(), fc.nat(), (seed, other) => {
        const world = worldOf(seed);
        expect(worldOf(seed)).toEqual(world);
        expect(packetsOf(world, other)).toEqual(packetsOf(world, other));
      }),
    );
    const size = (world: PolicyWorld): number => world.rules.length + world.endpoints.length;
    for (const seed of [0, 1, 2]) expect(size(worldOf(seed))).toBeLessThan(8);
  });

  it('and their packets reach what they are for', () => {
    const seen = new Map<string, number>();
    const see = (what: string, holds: boolean): void => {
      if (holds) seen.set(what, (seen.get(what) ?? 0) + 1);
    };
    for (let i = 0; i < 1000; i++) {
      const seed = 1_000_000 + i * 7919;
      const world = worldOf(seed);
      const priority = (key: string): number =>
        world.rules.find((rule) => key.endsWith(`:${rule.ruleId}`))?.priority || 1;
      const action = (key: string): string | undefined =>
        world.rules.find((rule) => key.endsWith(`:${rule.ruleId}`))?.action;
      for (const packet of packetsOf(world, seed)) {
        const judgement = judge(world, packet);
        see('IPv6', packet.from.includes(':'));
        see('an end outside', !world.endpoints.some((e) => e.ipAddress.includes(packet.from)));
        see('denied', judgement.verdict === 'deny');
        see('allowed by a rule', judgement.in.verdict === 'allow' && judgement.in.decides !== undefined);
        see('denied by both', judgement.out.verdict === 'deny' && judgement.in.verdict === 'deny');
        const deciding = [judgement.out, judgement.in].filter((side) => side.decides !== undefined);
        see('sides that disagree', new Set(deciding.map((side) => side.verdict)).size === 2);
        for (const side of [judgement.out, judgement.in]) {
          const [first, ...rest] = side.considered.filter((c) => c.matches).map((c) => c.rule);
          if (first === undefined) continue;
          const against = rest.filter((rule) => action(rule) !== action(first));
          see('an allow above a deny', action(first) === 'allow' && against.length > 0);
          see(
            'a deny above an allow',
            against.some((r) => action(r) === 'allow' && priority(r) < priority(first)),
          );
          see(
            'a tie',
            against.some((rule) => priority(rule) === priority(first)),
          );
          const decider = world.rules.find((rule) => first.endsWith(`:${rule.ruleId}`));
          see('decided by group', Boolean(decider?.fromEndpointGroup || decider?.toEndpointGroup));
          see('decided by network', Boolean(decider?.fromNetwork || decider?.toNetwork));
          see('decided by address', Boolean(decider?.fromIpAddress || decider?.toIpAddress));
          see('decided by port', Boolean(decider?.port));
          see('decided by icmp for IPv6', decider?.protocol === 'icmp' && packet.protocol === 58);
        }
      }
    }
    const wanted = [
      'IPv6',
      'an end outside',
      'denied',
      'allowed by a rule',
      'denied by both',
      'sides that disagree',
      'an allow above a deny',
      'a deny above an allow',
      'a tie',
      'decided by group',
      'decided by network',
      'decided by address',
      'decided by port',
      'decided by icmp for IPv6',
    ];
    expect(wanted.filter((what) => (seen.get(what) ?? 0) < 50)).toEqual([]);
  });
});
