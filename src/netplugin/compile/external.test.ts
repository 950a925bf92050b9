/** External endpoints on a host: members for rules, providers of services, names. */
import { describe, expect, it } from 'vitest';
import type { Endpoint } from '../../model/endpoint.ts';
import type { StoredExternalEndpoint } from '../../model/externalEndpoint.ts';
import { createNames, type NameAnswer } from '../dns/lookup.ts';
import { type LocalHost, openView, type View } from '../intent/view.ts';
import { compile, openCompiler } from './compile.ts';

const T = { tenantName: 'default' };
const CALLER: Endpoint = {
  endpointID: 'e1',
  containerID: 'c1',
  ...T,
  networkName: 'lan',
  groupName: 'web',
  ipAddress: ['10.100.0.10'],
  macAddress: '02:02:00:00:00:00',
  homingHost: 'node1',
  status: 'running',
};
const external = (more: Partial<StoredExternalEndpoint> = {}): StoredExternalEndpoint => ({
  ...T,
  endpointName: 'printer',
  groupName: 'office',
  ipAddress: ['10.100.0.201'],
  ...more,
});
const FAILING = { host: 'node1', since: '2026-11-28T09:00:00.000Z', why: 'connection refused' };

function view(externals: readonly StoredExternalEndpoint[], policies: readonly string[] = []): View {
  const of = (kind: string, key: string, object: object) => ({
    kind,
    key: `default:${key}`,
    object: { ...T, ...object },
  });
  return openView([
    of('network', 'lan', { networkName: 'lan', encap: 'vlan', subnet: '10.100.0.0/24', vni: 100 }),
    of('endpointGroup', 'web', { groupName: 'web', networkName: 'lan', policies }),
    of('endpointGroup', 'office', { groupName: 'office', networkName: 'lan' }),
    of('rule', 'p:1', {
      policyName: 'p',
      ruleId: '1',
      direction: 'out',
      toEndpointGroup: 'office',
      action: 'deny',
    }),
    of('serviceLB', 'lb', {
      serviceName: 'lb',
      networkName: 'lan',
      vip: '10.100.0.99',
      selectors: ['app=print'],
      ports: ['80:80:TCP'],
    }),
    ...externals.map((e) => of('externalEndpoint', e.endpointName, e)),
    { kind: 'endpoint', key: 'e1', object: CALLER },
    { kind: 'host', key: 'node1', object: { name: 'node1', underlay: '192.0.2.1' } },
  ]);
}

const LOCAL: LocalHost = {
  name: 'node1',
  underlay: '192.0.2.1',
  underlayMtu: 1500,
  lastUnderlays: new Map(),
  transit: '100.127.0.0/16',
  transit6: 'fd6f:6e74:6976::/64',
  guarded: [],
  attachments: new Map([['e1', { endpoint: CALLER, phase: 'joined', publications: [], runtime: 'docker' }]]),
  transitSlots: new Map(),
};
const router = (...externals: StoredExternalEndpoint[]) => compile(view(externals, ['p']), LOCAL).routers[0];

describe('addresses of external endpoints', () => {
  it('have the number of their group, by which rules know it', () => {
    const of = router(
      external({ ipAddress: ['192.0.2.7', '2001:db8::7'] }),
      external({ endpointName: 'x', groupName: 'web', ipAddress: ['10.100.0.202'] }),
    );
    const group = of?.ruleSets.flatMap((set) => set.decisions)[0]?.group;
    expect(group).toBeGreaterThan(0);
    expect(of?.externals).toEqual([
      { address: '10.100.0.202', group: of?.ports[0]?.group },
      { address: '192.0.2.7', group },
      { address: '2001:db8::7', group },
    ]);
  });

  it('are no part of a state without any, and the same part until they change', () => {
    expect(router()).not.toHaveProperty('externals');
    const compiler = openCompiler();
    const known = view([external()]);
    const [one, two] = [compiler.compile(known, LOCAL), compiler.compile(known, { ...LOCAL })];
    expect(two.routers[0]?.externals).toBe(one.routers[0]?.externals);
  });
});

describe('a service', () => {
  const providers = (...externals: StoredExternalEndpoint[]) => router(...externals)?.services[0]?.providers;
  const labels = { app: 'print' };

  it('leads to external endpoints by their labels', () => {
    expect(providers(external())).toEqual([]);
    expect(providers(external({ labels }))).toEqual(['10.100.0.201']);
  });

  it('leaves out those that fail, as long as another answers', () => {
    const bad = external({ labels, failing: FAILING });
    const good = external({ labels, endpointName: 'other', ipAddress: ['192.0.2.7'] });
    expect(providers(bad, good)).toEqual(['192.0.2.7']);
    expect(providers(bad)).toEqual(['10.100.0.201']);
  });
});

describe('a name', () => {
  function ask(externals: readonly StoredExternalEndpoint[], name: string, type = 'A'): NameAnswer {
    const names = createNames();
    names.update(view(externals), undefined);
    return names.answer('default', '10.100.0.10', { name, type });
  }
  const found = (...addresses: string[]): NameAnswer => ({ kind: 'addresses', addresses });

  it.each(['printer', 'PRINTER', 'printer.lan', 'printer.lan.default', 'office', 'office.lan'])(
    'of it or of its group is answered: %s',
    (name) => {
      expect(ask([external()], name)).toEqual(found('10.100.0.201'));
    },
  );

  it('has its other family too, and its address its name', () => {
    const both = external({ ipAddress: ['10.100.0.201', '2001:db8::7'] });
    expect(ask([both], 'printer', 'AAAA')).toEqual(found('2001:db8::7'));
    expect(ask([both], '201.0.100.10.in-addr.arpa', 'PTR')).toEqual({ kind: 'pointer', name: 'printer.lan' });
  });

  it('of its group is answered without those that fail, its own with it all the same', () => {
    const all = [
      external({ failing: FAILING }),
      external({ endpointName: 'other', ipAddress: ['192.0.2.7'] }),
    ];
    expect(ask(all, 'office')).toEqual(found('192.0.2.7'));
    expect(ask(all, 'printer')).toEqual(found('10.100.0.201'));
  });

  it('is made anew when it comes and goes', () => {
    const names = createNames();
    names.update(view([]), undefined);
    const asked = (): NameAnswer => names.answer('default', '10.100.0.10', { name: 'printer', type: 'A' });
    expect(asked()).toEqual({ kind: 'unknown' });
    const object = external();
    names.update(view([object]), [{ kind: 'externalEndpoint', key: 'default:printer', object }]);
    expect(asked()).toEqual(found('10.100.0.201'));
    names.update(view([]), [{ kind: 'externalEndpoint', key: 'default:printer', object: null }]);
    expect(asked()).toEqual({ kind: 'unknown' });
  });
});
