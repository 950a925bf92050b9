import { describe, expect, it } from 'vitest';
import { NOTHING, port, router } from '../../../test/hostState.ts';
import type { FlowReport } from '../../protocol/messages.ts';
import type { Hit, JudgedPacket, Observation } from '../dataplane/observe/observe.ts';
import type { Decision, HostState, RuleSet } from '../state.ts';
import { openTally } from './flows.ts';

const decision = (rule: number, key: string): Decision => ({ group: 0, rule, action: 'deny', key });
const ruleSet = (id: number, decisions: readonly Decision[], more: Partial<RuleSet> = {}): RuleSet => ({
  id,
  name: `set ${id}`,
  narrowed: [],
  decisions,
  ...more,
});
const WEB = ruleSet(7, [decision(1, 'default:web:1'), decision(2, 'default:web:2')]);
const of = (...ruleSets: RuleSet[]): HostState => ({
  ...NOTHING,
  routers: [router({ ports: [port(2, { judgedIn: 7 }), port(3, { judgedOut: 9 })], ruleSets })],
});
const hit = (ruleSetId: number, rule: number, packets: number): Hit => ({
  ruleSet: ruleSetId,
  rule,
  packets,
  bytes: packets * 60,
});
const seen = (hits: readonly Hit[], denied: readonly JudgedPacket[] = [], table = 'a'): Observation => ({
  namespace: 'contiv-default',
  table,
  hits,
  denied,
  allowed: [],
  refused: [],
  dropped: [],
  foreign: [],
});
/** What a report says, which is then taken. */
function told(tally: ReturnType<typeof openTally>): Pick<FlowReport, 'hits' | 'denied'> | undefined {
  const report = tally.report();
  if (report !== undefined) tally.taken(report);
  return report && { hits: report.hits, denied: report.denied };
}

describe('hits', () => {
  it('are totals by rule, told when one has changed', () => {
    const tally = openTally({ reporter: 'r' });
    tally.take(of(WEB), [seen([hit(7, 1, 3)])], 0);
    expect(told(tally)?.hits).toEqual([{ rule: 'default:web:1', packets: 3, bytes: 180 }]);
    tally.take(of(WEB), [seen([hit(7, 1, 3)])], 0);
    expect(tally.report()).toBeUndefined();
    tally.take(of(WEB), [seen([hit(7, 1, 5), hit(7, 2, 1)])], 0);
    expect(told(tally)?.hits).toEqual([
      { rule: 'default:web:1', packets: 5, bytes: 300 },
      { rule: 'default:web:2', packets: 1, bytes: 60 },
    ]);
  });

  it('of a rule that is gone are forgotten, and what the kernel still counts of it does not bring them back', () => {
    let isThere = true;
    const tally = openTally({ reporter: 'r', isRule: () => isThere });
    tally.take(of(WEB), [seen([hit(7, 1, 3)])], 0);
    expect(told(tally)?.hits).toHaveLength(1);
    isThere = false;
    tally.forget('default:web:1');
    tally.take(of(WEB), [seen([hit(7, 1, 5)])], 0);
    expect(told(tally)?.hits).toEqual([]);
    isThere = true;
    tally.take(of(WEB), [seen([hit(7, 1, 6)])], 0);
    expect(told(tally)?.hits).toEqual([{ rule: 'default:web:1', packets: 1, bytes: 60 }]);
  });

  it('sum up over the rule sets that a rule is in', () => {
    const tally = openTally({ reporter: 'r' });
    const other = ruleSet(8, [decision(1, 'default:web:1')]);
    tally.take(of(WEB, other), [seen([hit(7, 1, 3), hit(8, 1, 4)])], 0);
    expect(told(tally)?.hits).toEqual([{ rule: 'default:web:1', packets: 7, bytes: 420 }]);
  });

  it('count from 0 where the table was made anew, also with more than before, and where the set was emptied', () => {
    const tally = openTally({ reporter: 'r' });
    tally.take(of(WEB), [seen([hit(7, 1, 3)])], 0);
    told(tally);
    tally.take(of(WEB), [seen([hit(7, 1, 4)], [], 'b')], 0);
    expect(told(tally)?.hits).toEqual([{ rule: 'default:web:1', packets: 7, bytes: 420 }]);
    tally.take(of(WEB), [seen([hit(7, 1, 2)], [], 'b')], 0);
    expect(told(tally)?.hits).toEqual([{ rule: 'default:web:1', packets: 9, bytes: 540 }]);
    tally.take(of(WEB), [seen([], [], 'b')], 0);
    tally.take(of(WEB), [seen([hit(7, 1, 1)], [], 'b')], 0);
    expect(told(tally)?.hits).toEqual([{ rule: 'default:web:1', packets: 10, bytes: 600 }]);
  });

  it('of a rule set that has gone since are still known by name; those of an unknown one are left', () => {
    const tally = openTally({ reporter: 'r' });
    tally.take(of(WEB), [seen([hit(7, 1, 3)])], 0);
    told(tally);
    tally.take(of(), [seen([hit(7, 1, 5), hit(4, 1, 9)])], 0);
    expect(told(tally)?.hits).toEqual([{ rule: 'default:web:1', packets: 5, bytes: 300 }]);
  });
});

describe('denied flows', () => {
  const packet = (more: Partial<JudgedPacket> = {}): JudgedPacket => ({
    direction: 'in',
    rule: 1,
    from: '20.1.1.9',
    to: '20.1.1.2',
    protocol: 6,
    port: 22,
    ...more,
  });

  it('of one kind are one, with a count and the last time, and the rule by its key', () => {
    const tally = openTally({ reporter: 'r' });
    tally.take(of(WEB), [seen([], [packet(), packet(), packet({ port: 23 })])], 1000);
    tally.take(of(WEB), [seen([], [packet()])], 2000);
    const flow = { tenant: 'default', direction: 'in', from: '20.1.1.9', to: '20.1.1.2', protocol: 6 };
    expect(told(tally)?.denied).toEqual([
      { ...flow, port: 23, rule: 'default:web:1', count: 1, last: 1000 },
      { ...flow, port: 22, rule: 'default:web:1', count: 3, last: 2000 },
    ]);
  });

  it('are told with the rule that judges the own endpoint, also through a range, and not one of the same number', () => {
    const tally = openTally({ reporter: 'r' });
    const out = ruleSet(9, [], { narrowed: [{ range: 1, to: 11 }] });
    const narrow = ruleSet(11, [decision(1, 'default:out:1')]);
    const sent = packet({ direction: 'out', from: '20.1.1.3', to: '20.1.1.9' });
    tally.take(of(WEB, out, narrow), [seen([], [packet(), sent, packet({ rule: 99 })])], 0);
    expect(told(tally)?.denied.map((f) => f.rule)).toEqual(['default:web:1', 'default:out:1', '']);
  });

  it('and allowed ones of a rule that logs are told apart, and both to the log where their rule asks for it', () => {
    const told: object[] = [];
    const tally = openTally({ reporter: 'r', logged: (flow) => told.push(flow) });
    const logging = ruleSet(7, [
      decision(1, 'default:web:1'),
      { ...decision(2, 'default:web:2'), action: 'allow', log: true },
      { ...decision(3, 'default:web:3'), log: true },
    ]);
    const allowed = [packet({ rule: 2, port: 80 }), packet({ rule: 2, port: 80 })];
    const observed = { ...seen([], [packet(), packet({ rule: 3 })]), allowed };
    tally.take(of(logging), [observed], 1000);
    const report = tally.report();
    expect(report?.denied.map((f) => f.rule)).toEqual(['default:web:1', 'default:web:3']);
    expect(report?.allowed).toEqual([
      {
        tenant: 'default',
        direction: 'in',
        from: '20.1.1.9',
        to: '20.1.1.2',
        protocol: 6,
        port: 80,
        rule: 'default:web:2',
        count: 2,
        last: 1000,
      },
    ]);
    expect(told).toMatchObject([
      { rule: 'default:web:3', action: 'deny', port: 22, packets: 1 },
      { rule: 'default:web:2', action: 'allow', port: 80, packets: 2 },
    ]);
  });

  it('that netmaster does not take are dropped from the oldest on', () => {
    const tally = openTally({ reporter: 'r' });
    const ports = (from: number): JudgedPacket[] =>
      Array.from({ length: 800 }, (_, i) => packet({ port: from + i }));
    tally.take(of(WEB), [seen([], ports(1000))], 0);
    tally.take(of(WEB), [seen([], ports(5000))], 1);
    const flows = told(tally)?.denied ?? [];
    expect(flows).toHaveLength(1000);
    expect(flows.at(0)?.port).toBe(1600);
    expect(flows.at(-1)?.port).toBe(5799);
  });
});

describe('a report', () => {
  it('comes again until it has been taken, with what came meanwhile and a greater number, and to a netmaster that may have nothing', () => {
    const tally = openTally({ reporter: 'r' });
    tally.take(of(WEB), [seen([hit(7, 1, 3)])], 0);
    const first = tally.report() as FlowReport;
    expect(first).toMatchObject({ reporter: 'r', hits: [{ packets: 3 }] });
    tally.take(of(WEB), [seen([hit(7, 1, 4)])], 0);
    tally.taken(first);
    const second = tally.report() as FlowReport;
    expect(second).toMatchObject({ reporter: 'r', hits: [{ packets: 4 }] });
    expect(second.sequence).toBeGreaterThan(first.sequence);
    tally.taken(second);
    expect(tally.report()).toBeUndefined();
    tally.lost();
    expect(tally.report()).toEqual(second);
  });
});

describe('what containers send in vain', () => {
  const refusing = (packets: number, foreign: Observation['foreign'] = [], table = 'a'): Observation => ({
    ...seen([], [], table),
    refused: [
      { device: port(2).device, reason: 'source', packets },
      { device: 'cx00000000', reason: 'connections', packets: 5 },
    ],
    foreign,
  });
  const FOREIGN = { device: port(2).device, address: '20.1.1.77', mac: '02:00:00:00:00:77' };

  it('is told by endpoint, with the newest sender, until the endpoint is gone', () => {
    const counted: [string, string, number][] = [];
    const tally = openTally({ reporter: 'r', count: (...each) => counted.push(each) });
    tally.take(of(), [refusing(3, [{ ...FOREIGN, address: '20.1.1.78' }, FOREIGN])], 1000);
    const { address, mac } = FOREIGN;
    const first = { endpoint: 'ep2', reason: 'source', packets: 3, last: 1000, address, mac };
    expect(tally.report()?.refused).toEqual([first]);
    tally.taken(tally.report() as FlowReport);
    tally.take(of(), [refusing(3)], 2000);
    expect(tally.report()).toBeUndefined();
    tally.take(of(), [refusing(4)], 3000);
    expect(tally.report()?.refused).toEqual([{ ...first, packets: 4, last: 3000 }]);
    tally.taken(tally.report() as FlowReport);
    tally.take(of(), [refusing(2, [], 'b')], 4000);
    expect(tally.report()?.refused).toMatchObject([{ packets: 6 }]);
    tally.forget('ep2');
    expect(tally.report()?.refused).toBeUndefined();
    expect(counted).toEqual([
      ['default', 'source', 3],
      ['default', 'connections', 5],
      ['default', 'source', 1],
      ['default', 'source', 2],
      ['default', 'connections', 5],
    ]);
  });
});
