import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { state } from '../../../test/states.ts';
import type { StoredExternalEndpoint } from '../../model/externalEndpoint.ts';
import type { CheckedReport } from '../../protocol/messages.ts';
import { type MutableView, openView } from '../intent/view.ts';
import { CHECK_INTERVAL } from '../intervals.ts';
import { type Ask, askerOf, FALL, followChecks, hostsFor, RISE } from './checks.ts';

const PRINTER: StoredExternalEndpoint = {
  tenantName: 'default',
  endpointName: 'printer',
  groupName: 'office',
  ipAddress: ['192.0.2.7'],
  healthCheck: 'tcp:631',
};
const endpoint = (host: string, more: object = {}) => ({
  kind: 'endpoint',
  key: `of ${host} ${JSON.stringify(more)}`,
  object: { tenantName: 'default', networkName: 'net1', homingHost: host, ipAddress: [], ...more },
});

function viewOf(
  hosts: readonly string[],
  externals: readonly StoredExternalEndpoint[] = [PRINTER],
): MutableView {
  return openView([
    {
      kind: 'network',
      key: 'default:net1',
      object: { tenantName: 'default', networkName: 'net1', subnet: '20.1.1.0/24', vni: 1 },
    },
    {
      kind: 'network',
      key: 'default:lan',
      object: {
        tenantName: 'default',
        networkName: 'lan',
        encap: 'vlan',
        subnet: '10.100.0.10-10.100.0.20/24',
        vni: 100,
      },
    },
    ...hosts.map((name) => ({ kind: 'host', key: name, object: { name, underlay: '192.0.2.1' } })),
    ...hosts.map((name) => endpoint(name)),
    ...externals.map((e) => ({ kind: 'externalEndpoint', key: `default:${e.endpointName}`, object: e })),
  ]);
}

describe('who asks', () => {
  const names = Array.from({ length: 100 }, (_, i) => `node${i}`);
  const machines = Array.from({ length: 1000 }, (_, i) => ({ tenantName: 'default', endpointName: `m${i}` }));

  it('is one host, the same whatever the order, and each has its share', () => {
    const shares = Map.groupBy(machines, (m) => askerOf(m, names));
    expect(machines.every((m) => askerOf(m, names) === askerOf(m, names.toReversed()))).toBe(true);
    expect(shares.size).toBe(100);
    expect(Math.max(...[...shares.values()].map((list) => list.length))).toBeLessThan(40);
  });

  it('changes for those alone that the host which went asked', () => {
    const rest = names.slice(1);
    const moved = machines.filter((m) => askerOf(m, names) !== askerOf(m, rest));
    expect(moved.length).toBeGreaterThan(0);
    expect(moved.every((m) => askerOf(m, names) === 'node0')).toBe(true);
    expect(askerOf(PRINTER, [])).toBeUndefined();
  });

  it('lives and has something of the tenant; in a VLAN it has an address there', () => {
    const view = viewOf(['node1', 'node2']);
    view.put(endpoint('dead'));
    view.put(endpoint('node2', { networkName: 'lan', ofHost: true }));
    expect(hostsFor(PRINTER, view)).toEqual(['node1', 'node2']);
    expect(hostsFor({ ...PRINTER, ipAddress: ['10.100.0.201'] }, view)).toEqual(['node2']);
  });
});

describe('health checks', () => {
  afterEach(() => void vi.useRealTimers());

  /** Rounds of checks, one after the other, and what is told of them. */
  function open(view: MutableView, host = 'node1', away = () => false) {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    const reports: CheckedReport[] = [];
    const asked: string[] = [];
    let problem: string | undefined;
    const ask: Ask = async (namespace, address, check) => {
      asked.push(`${namespace} ${address} ${check.port} ${check.path ?? ''}`);
      return problem;
    };
    const call = async (_name: string, _parameters: object, body: CheckedReport) => {
      if (away()) throw new Error('away');
      reports.push(body);
    };
    const client = { call } as unknown as Parameters<typeof followChecks>[0]['client'];
    const follower = followChecks({ host, view: () => view, client, log: pino({ level: 'silent' }), ask });
    const of = state({}, { tenant: 'default' });
    follower.changed({ type: 'kernel', state: of, report: {} as never, verified: false });
    return {
      reports,
      asked,
      async rounds(count: number, says?: string) {
        problem = says;
        for (let i = 0; i < count; i++) {
          await vi.advanceTimersByTimeAsync(CHECK_INTERVAL);
          await new Promise((done) => setImmediate(done));
        }
      },
      close: () => follower.close(),
    };
  }
  const failed = { ...PRINTER, failing: { host: 'node1', since: '', why: 'x' } };

  it('say that it fails after some in a row, and again until netmaster has it', async () => {
    const checks = open(viewOf(['node1']));
    await checks.rounds(1);
    await checks.rounds(FALL - 1, 'refused');
    await checks.rounds(1);
    await checks.rounds(FALL - 1, 'refused');
    expect(checks.reports).toEqual([]);
    await checks.rounds(2, 'refused');
    const report = { endpoint: 'default:printer', healthCheck: 'tcp:631', problem: 'refused' };
    expect(checks.reports).toEqual([report, report]);
    expect(new Set(checks.asked)).toEqual(new Set([`contiv-default 192.0.2.7 631 `]));
    await checks.close();
  });

  it('say that it is well after some in a row', async () => {
    const checks = open(viewOf(['node1'], [failed]));
    await checks.rounds(5, 'refused');
    await checks.rounds(RISE - 1);
    expect(checks.reports).toEqual([]);
    await checks.rounds(1);
    expect(checks.reports).toEqual([{ endpoint: 'default:printer', healthCheck: 'tcp:631' }]);
    await checks.close();
  });

  it('begin anew with another check, and go on where netmaster does not answer', async () => {
    const view = viewOf(['node1']);
    let away = true;
    const checks = open(view, 'node1', () => away);
    await checks.rounds(FALL - 1, 'refused');
    view.put({
      kind: 'externalEndpoint',
      key: 'default:printer',
      object: { ...PRINTER, healthCheck: 'http:80/x' },
    });
    await checks.rounds(FALL, 'refused');
    expect(checks.asked.at(-1)).toBe('contiv-default 192.0.2.7 80 /x');
    expect(checks.reports).toEqual([]);
    away = false;
    await checks.rounds(1, 'refused');
    expect(checks.reports).toEqual([
      { endpoint: 'default:printer', healthCheck: 'http:80/x', problem: 'refused' },
    ]);
    await checks.close();
  });

  it('are one host’s of several, and nobody’s where there is nothing to ask', async () => {
    const hosts = ['node1', 'node2', 'node3'];
    const asker = askerOf(PRINTER, hosts) as string;
    for (const host of hosts) {
      const checks = open(viewOf(hosts), host);
      await checks.rounds(2);
      expect([host, checks.asked.length]).toEqual([host, host === asker ? 2 : 0]);
      await checks.close();
    }
    const { healthCheck: _, ...without } = PRINTER;
    const checks = open(viewOf(['node1'], [without]));
    await checks.rounds(2);
    expect(checks.asked).toEqual([]);
    await checks.close();
  });
});
