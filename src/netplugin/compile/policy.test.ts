import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { labelPacketsOf, labelWorldOf, labelWorlds } from '../../../test/labelWorlds.ts';
import {
  localHost,
  type PolicyWorld as SimulatedWorld,
  type Simulator,
  simulate,
  viewOf,
} from '../../../test/policySimulator.ts';
import { type PolicyWorld, packetsOf, worldOf, worlds } from '../../../test/policyWorlds.ts';
import { judge, type Packet } from '../../model/verdict.ts';
import type { HostState, RuleSet } from '../state.ts';
import { openCompiler } from './compile.ts';
import { numbered } from './identity.ts';

/** Worlds of 20 packets each, and of labels a fifth of them, of 30; more in a longer run: POLICY_WORLDS=50000 is a million cases. */
const WORLDS = Number(process.env.POLICY_WORLDS ?? 5000);

const oracleAgrees = (world: SimulatedWorld, packet: Packet, simulator: Simulator): void => {
  const wanted = judge(world, packet);
  const found = { packet, ...simulator.judge(packet) };
  const expected = {
    packet,
    verdict: wanted.verdict,
    out: wanted.out.decides ?? '',
    in: wanted.in.decides ?? '',
  };
  // Compared by hand first: a matcher costs more than the compiler.
  if (found.verdict !== expected.verdict || found.out !== expected.out || found.in !== expected.in)
    expect(found).toEqual(expected);
};

describe('compiled policy', () => {
  it(
    'judges every packet among workloads as their policies are defined, by the same rules',
    () => {
      fc.assert(
        fc.property(labelWorlds, fc.nat(), (world, seed) => {
          const simulator = simulate(world);
          for (const packet of labelPacketsOf(world, seed)) oracleAgrees(world, packet, simulator);
        }),
        { numRuns: WORLDS / 5 },
      );
    },
    300_000 + WORLDS * 20,
  );

  it(
    'judges every packet of generated worlds as the oracle does, by the same rules',
    () => {
      fc.assert(
        fc.property(worlds, fc.nat(), (world, seed) => {
          const simulator = simulate(world);
          for (const packet of packetsOf(world, seed)) oracleAgrees(world, packet, simulator);
        }),
        { numRuns: WORLDS },
      );
    },
    300_000 + WORLDS * 20,
  );
});

/** A tenant with one network and these groups, each with an endpoint on node1. */
function world(groups: Readonly<Record<string, string[]>>, rules: PolicyWorld['rules']): PolicyWorld {
  const names = Object.keys(groups);
  return {
    networks: [{ tenantName: 'default', networkName: 'net1', subnet: '20.1.0.0/16' }],
    groups: names.map((groupName) => ({
      tenantName: 'default',
      groupName,
      networkName: 'net1',
      policies: groups[groupName] as string[],
    })),
    policies: [],
    rules,
    endpoints: names.map((groupName, i) => ({
      endpointID: `ep${i}`,
      tenantName: 'default',
      networkName: 'net1',
      groupName,
      ipAddress: [`20.1.${i >> 8}.${i & 255}`],
      macAddress: '02:02:14:01:00:01',
      homingHost: 'node1',
      status: 'running',
    })),
  };
}

const rule = (policyName: string, ruleId: string, more: object = {}): PolicyWorld['rules'][number] => ({
  tenantName: 'default',
  policyName,
  ruleId,
  direction: 'in',
  action: 'deny',
  ...more,
});

const compiled = (of: PolicyWorld): HostState => openCompiler().compile(viewOf(of), localHost(of, 'node1'));
const setsOf = (state: HostState): readonly RuleSet[] => state.routers[0]?.ruleSets ?? [];

describe('rule sets', () => {
  const prodWeb = [
    rule('prod_web', '1', { protocol: 'tcp' }),
    rule('prod_web', '2', { protocol: 'tcp', port: 80, action: 'allow', priority: 10 }),
    rule('prod_web', '3', { protocol: 'tcp', port: 443, action: 'allow', priority: 10 }),
  ];

  it('hold one decision a rule, for ports and for the rest', () => {
    const [set, ...others] = setsOf(compiled(world({ web: ['prod_web'] }, prodWeb)));
    expect(others).toEqual([]);
    expect(set?.name).toBe('in default: prod_web');
    expect(set?.decisions.map(({ protocol, port, action, key }) => [protocol, port, action, key])).toEqual([
      [6, 80, 'allow', 'default:prod_web:2'],
      [6, 443, 'allow', 'default:prod_web:3'],
      [6, undefined, 'deny', 'default:prod_web:1'],
    ]);
  });

  it('say which of their decisions are logged, and whether that is more than what is denied', () => {
    const of = (...rules: PolicyWorld['rules']) =>
      setsOf(compiled(world({ web: ['p'] }, rules))).map(({ logs, decisions }) => [
        logs,
        decisions.map(({ key, log }) => [key, log]),
      ]);
    const deny = rule('p', '1', { log: true });
    const allow = rule('p', '2', {
      action: 'allow',
      priority: 9,
      ports: '80,90',
      protocol: 'tcp',
      log: true,
    });
    expect(of(deny)).toEqual([[undefined, [['default:p:1', true]]]]);
    expect(of({ ...deny, log: false } as typeof deny, allow)).toEqual([
      [
        true,
        [
          ['default:p:2', true],
          ['default:p:2', true],
          ['default:p:1', undefined],
        ],
      ],
    ]);
  });

  it('are shared by groups with the same policies, in whatever order they are named', () => {
    const state = compiled(
      world({ a: ['p', 'q'], b: ['q', 'p'], c: ['p'] }, [rule('p', '1'), rule('q', '1')]),
    );
    expect(setsOf(state)).toHaveLength(2);
    const [a, b, c] = state.routers[0]?.ports ?? [];
    expect(a?.judgedIn).toBe(b?.judgedIn);
    expect(a?.judgedIn).not.toBe(c?.judgedIn);
    expect(a?.judgedOut).toBe(0);
  });

  it('are there only for groups with endpoints here', () => {
    const of = world({ web: ['prod_web'], db: ['other'] }, [...prodWeb, rule('other', '1')]);
    const elsewhere = {
      ...of,
      endpoints: of.endpoints.map((e, i) => ({ ...e, homingHost: i === 1 ? 'node2' : 'node1' })),
    };
    expect(setsOf(compiled(elsewhere)).map((s) => s.name)).toEqual(['in default: prod_web']);
  });

  it('leave out what a rule before has decided already', () => {
    const [set] = setsOf(
      compiled(
        world({ web: ['p'] }, [
          rule('p', 'all', { priority: 50, action: 'allow' }),
          rule('p', 'tcp', { protocol: 'tcp' }),
          rule('p', 'port', { protocol: 'tcp', port: 80 }),
        ]),
      ),
    );
    expect(set?.decisions.map((d) => d.key)).toEqual(['default:p:all']);
  });
});

describe('a change', () => {
  /** So many groups, each with a policy of its own of 100 rules, all with an endpoint on node1. */
  function large(count: number): PolicyWorld {
    const names = Array.from({ length: count }, (_, i) => `g${i}`);
    return world(
      Object.fromEntries(names.map((name) => [name, [`p-${name}`]])),
      names.flatMap((name) =>
        Array.from({ length: 100 }, (_, i) =>
          rule(`p-${name}`, `r${i}`, { protocol: 'tcp', port: 1000 + i }),
        ),
      ),
    );
  }
  const partsOf = ({ routers }: HostState): object[] =>
    routers.flatMap((r) => [
      ...r.ports,
      ...r.hosts,
      ...r.tunnels,
      ...r.ruleSets,
      r.ranges,
      r.subnets,
      r.gateways,
      r.publications,
    ]);

  it.each([10, 200])(
    'of a rule makes one part anew, with one decision more, beside %i groups of 100 rules',
    (count) => {
      const of = large(count);
      const compiler = openCompiler();
      const view = viewOf(of) as ReturnType<typeof viewOf> & { put(o: object): void };
      const local = localHost(of, 'node1');
      const before = compiler.compile(view, local);
      view.put({
        kind: 'rule',
        key: 'default:p-g3:new',
        object: rule('p-g3', 'new', { protocol: 'udp', port: 53 }),
      });
      const after = compiler.compile(view, local);
      const known = new Set(partsOf(before));
      const fresh = partsOf(after).filter((part) => !known.has(part)) as RuleSet[];
      expect(fresh.map((set) => set.name)).toEqual(['in default: p-g3']);
      expect(fresh[0]?.decisions).toHaveLength(101);
    },
  );

  it('of labels, workloads and their policies too, one object at a time', () => {
    fc.assert(
      fc.property(fc.nat(), fc.array(fc.nat(), { minLength: 2, maxLength: 4 }), (first, others) => {
        const of = labelWorldOf(first);
        const compiler = openCompiler();
        const view = viewOf(of) as ReturnType<typeof viewOf> & { put(o: object): void };
        const now = {
          workloads: new Map(of.workloads.map((w) => [`${w.namespaceName}:${w.workloadName}`, w])),
          policies: new Map(
            of.networkPolicies.map((p) => [`${p.tier}:${p.namespaceName}:${p.policyName}`, p]),
          ),
        };
        const check = (): void => {
          const fresh = {
            ...of,
            workloads: [...now.workloads.values()],
            networkPolicies: [...now.policies.values()],
          };
          expect(compiler.compile(view, localHost(of, 'node1'))).toEqual(
            openCompiler().compile(viewOf(fresh), localHost(of, 'node1')),
          );
        };
        check();
        for (const seed of others) {
          const other = labelWorldOf(seed);
          for (const [key, { uid, labels: _, ...rest }] of [...now.workloads].slice(0, 3)) {
            const labels = other.workloads[0]?.labels ?? {};
            const changed = seed % 3 === 0 ? null : { ...rest, uid, labels };
            if (changed === null) now.workloads.delete(key);
            else now.workloads.set(key, changed);
            view.put({ kind: 'workload', key, object: changed });
            check();
          }
          for (const key of [...now.policies.keys()].slice(0, 1)) {
            now.policies.delete(key);
            view.put({ kind: 'networkPolicy', key, object: null });
            check();
          }
          for (const p of other.networkPolicies.slice(0, 2)) {
            const key = `${p.tier}:${p.namespaceName}:${p.policyName}`;
            now.policies.set(key, p);
            view.put({ kind: 'networkPolicy', key, object: p });
            check();
          }
        }
      }),
      { numRuns: 200 },
    );
  }, 120_000);

  it('of anything gives what a compiler that saw nothing before gives', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { minLength: 2, maxLength: 5 }), (seeds) => {
        const compiler = openCompiler();
        for (const seed of seeds) {
          const of = worldOf(seed);
          const [view, local] = [viewOf(of), localHost(of, 'node1')] as const;
          expect(compiler.compile(view, local)).toEqual(openCompiler().compile(view, local));
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('numbers', () => {
  it('are not 0, differ, and stay when others come', () => {
    const texts = Array.from({ length: 20_000 }, (_, i) => `rule ${i}`);
    const some = numbered(texts.slice(0, 100), 31);
    const all = numbered(texts, 31);
    expect(new Set(all.values()).size).toBe(texts.length);
    expect([...all.values()].every((n) => n > 0 && n < 2 ** 31)).toBe(true);
    expect([...some].filter(([text, number]) => all.get(text) !== number)).toEqual([]);
  });
});
