/** External endpoints in a netmaster: whose addresses are, what hosts say of them, what a trace says. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Api, openApi } from '../../test/apiServer.ts';
import type { StoredExternalEndpoint } from '../model/externalEndpoint.ts';
import { storeKey } from './mirror.ts';
import { trace } from './trace.ts';

let api: Api;
beforeEach(async () => {
  api = await openApi();
  const objects = [
    { kind: 'tenant', tenantName: 'default' },
    {
      kind: 'network',
      networkName: 'lan',
      encap: 'vlan',
      pktTag: 100,
      subnet: '10.100.0.10-10.100.0.12/24',
      gateway: '10.100.0.254',
    },
    { kind: 'network', networkName: 'over', subnet: '20.1.1.0/24', gateway: '20.1.1.254' },
    { kind: 'policy', policyName: 'p' },
    { kind: 'rule', policyName: 'p', ruleId: '1', direction: 'in', protocol: 'tcp', action: 'deny' },
    {
      kind: 'rule',
      policyName: 'p',
      ruleId: '2',
      direction: 'in',
      fromEndpointGroup: 'office',
      protocol: 'tcp',
      port: 80,
      action: 'allow',
      priority: 10,
    },
    { kind: 'endpointGroup', groupName: 'office', networkName: 'lan' },
    { kind: 'endpointGroup', groupName: 'web', networkName: 'lan', policies: ['p'] },
    { kind: 'endpointGroup', groupName: 'far', networkName: 'over' },
  ];
  await done('POST', '/api/v1/apply', { objects });
  const hosts = ['node1', 'node2'].map((name) => ({
    key: storeKey('host', name),
    value: { name, underlay: '10.0.0.1' },
  }));
  await api.store.transact([], hosts);
});
afterEach(() => api.close());

const send = (method: string, path: string, body?: unknown) => api.send(method, path, body);
async function done(method: string, path: string, body?: unknown): Promise<unknown> {
  const { status, message, text } = await send(method, path, body);
  expect({ status: status < 300, message }).toEqual({ status: true, message: '' });
  return text === '' ? undefined : JSON.parse(text);
}
const add = (name: string, ip: string, more: object = {}) =>
  send('POST', `/api/v1/externalEndpoints/default:${name}`, {
    groupName: 'office',
    ipAddress: [ip],
    ...more,
  });
const reserve = (address?: string) =>
  send('POST', '/api/v1/addresses', {
    tenantName: 'default',
    networkName: 'lan',
    family: 4,
    host: 'node1',
    ...(address && { address }),
  });
const attach = (id: string, address: string, more: object = {}) =>
  send('PUT', `/api/v1/endpoints/${id}?wait=0`, {
    endpointID: id,
    tenantName: 'default',
    networkName: 'lan',
    ipAddress: [address],
    macAddress: '02:02:0a:64:00:0a',
    homingHost: 'node1',
    containerName: id,
    status: 'running',
    ...more,
  });
const stored = (name: string) =>
  api.mirror.get<StoredExternalEndpoint>('externalEndpoint', `default:${name}`);

describe('an address in the subnet of the group’s network', () => {
  it('is given to nobody else, until the external endpoint goes', async () => {
    expect(await add('printer', '10.100.0.11')).toMatchObject({ status: 200 });
    const given = [await reserve(), await reserve()].map(({ text }) => JSON.parse(text).address);
    expect(given).toEqual(['10.100.0.10', '10.100.0.12']);
    expect(await reserve()).toMatchObject({ status: 409, message: expect.stringContaining('are taken') });
    const taken = {
      status: 409,
      message: expect.stringContaining('in use by external endpoint default:printer'),
    };
    expect(await reserve('10.100.0.11')).toMatchObject(taken);
    expect(await attach('web', '10.100.0.11')).toMatchObject({
      status: 409,
      message: expect.stringContaining('belongs to external endpoint default:printer'),
    });
    await done('DELETE', '/api/v1/externalEndpoints/default:printer');
    expect(api.mirror.addresses('default:lan').has('10.100.0.11')).toBe(false);
  });

  it('is refused where it is given already, is the gateway, or in the pool of another group', async () => {
    await reserve('10.100.0.11');
    expect(await add('printer', '10.100.0.11')).toMatchObject({
      status: 409,
      field: 'ipAddress',
      message: expect.stringContaining('10.100.0.11 is in use by a container that starts on node1'),
    });
    expect(await add('printer', '10.100.0.254')).toMatchObject({
      status: 409,
      message: expect.stringContaining('is the gateway'),
    });
    // Beside the range that is given out.
    expect(await add('printer', '10.100.0.201')).toMatchObject({ status: 200 });
  });
});

describe('an address outside', () => {
  it('is one external endpoint’s in a tenant, and in no network that is made at the same time', async () => {
    const member = { groupName: 'office', ipAddress: ['192.0.2.7'] };
    const outcomes = await Promise.all(
      Object.entries({
        'externalEndpoints/default:a': member,
        'externalEndpoints/default:b': member,
        'networks/default:later': { subnet: '192.0.2.0/24' },
      }).map(([path, payload]) => api.server.inject({ method: 'POST', url: `/api/v1/${path}`, payload })),
    );
    expect(outcomes.map(({ statusCode }) => statusCode).sort()).toEqual([200, 409, 409]);
  });

  it('is counted as no network’s', async () => {
    await done('POST', '/api/v1/externalEndpoints/default:a', {
      groupName: 'office',
      ipAddress: ['192.0.2.7'],
    });
    expect([...api.mirror.addresses('default:lan').keys()]).toEqual([]);
  });
});

describe('an external endpoint', () => {
  it('has a name that no group, network or service of the tenant has, in either order', async () => {
    expect(await add('WEB', '192.0.2.7')).toMatchObject({
      status: 409,
      message: expect.stringContaining('is the name of endpointGroup default:web already'),
    });
    expect(await add('printer', '192.0.2.7')).toMatchObject({ status: 200 });
    expect(
      await send('POST', '/api/v1/endpointGroups/default:printer', { networkName: 'lan' }),
    ).toMatchObject({
      status: 409,
      message: expect.stringContaining('is the name of externalEndpoint default:printer already'),
    });
  });

  it('keeps its group from being deleted, and is shown in it and among endpoints', async () => {
    await add('printer', '192.0.2.7', { labels: { app: 'print' } });
    expect(await send('DELETE', '/api/v1/endpointGroups/default:office')).toMatchObject({
      status: 409,
      message: expect.stringContaining('externalEndpoint default:printer'),
    });
    expect(await done('GET', '/api/v1/inspect/endpointGroups/default:office/')).toMatchObject({
      Oper: {
        externalEndpoints: [{ containerName: 'printer', ipAddress: ['192.0.2.7'], status: 'running' }],
      },
    });
    expect(await done('GET', '/api/v1/endpoints/')).toEqual([
      expect.objectContaining({
        external: true,
        containerName: 'printer',
        networkName: 'lan',
        groupName: 'office',
      }),
    ]);
    for (const path of [
      'endpoints/printer',
      'endpoints/default:printer',
      'externalEndpoints/default:printer',
    ])
      expect(await done('GET', `/api/v1/inspect/${path}/`)).toMatchObject({
        Oper: { containerName: 'printer', network: 'lan.default', status: 'running' },
      });
  });
});

describe('what hosts find by its health check', () => {
  const checked = (host: string, more: object = {}) =>
    send('POST', `/api/v1/hosts/${host}/checked`, {
      endpoint: 'default:printer',
      healthCheck: 'tcp:631',
      ...more,
    });
  beforeEach(async () => {
    await add('printer', '192.0.2.7', { healthCheck: 'tcp:631', labels: { app: 'print' } });
    await reserve('10.100.0.10');
    expect(await attach('c1', '10.100.0.10')).toMatchObject({ status: 200 });
  });

  it('is written where it is another than before, and told once', async () => {
    await checked('node1');
    expect(stored('printer')?.failing).toBeUndefined();
    await checked('node1', { problem: 'connection refused' });
    expect(stored('printer')?.failing).toEqual({
      host: 'node1',
      since: expect.stringMatching(/^2\d{3}-/),
      why: 'connection refused',
    });
    const { revision } = api.mirror;
    await checked('node1', { problem: 'no answer' });
    expect(api.mirror.revision).toBe(revision);
    expect(await done('GET', '/api/v1/inspect/endpoints/printer/')).toMatchObject({
      Oper: { status: 'unhealthy', failing: { why: 'connection refused' } },
    });
    expect((await done('GET', '/api/v1/status')) as object).toMatchObject({
      problems: [
        {
          of: 'external endpoint default:printer',
          problem: expect.stringMatching(
            /^fails its health check tcp:631 since .*, as host node1 says: connection refused$/,
          ),
        },
      ],
    });
    await checked('node1');
    expect(stored('printer')?.failing).toBeUndefined();
    const events = (await done('GET', '/api/v1/events?kind=endpoint')) as { action: string; text: string }[];
    expect(events.filter(({ action }) => action !== 'attached').map(({ text }) => text)).toEqual([
      'tcp:631 fails: connection refused',
      'tcp:631 is answered again',
    ]);
  });

  it('is nothing where it was asked by another check, or is gone; a host without that tenant’s containers is refused', async () => {
    await checked('node1', { healthCheck: 'tcp:9', problem: 'x' });
    await checked('node1', { endpoint: 'default:gone', problem: 'x' });
    expect(stored('printer')?.failing).toBeUndefined();
    expect(await checked('node2', { problem: 'x' })).toMatchObject({
      status: 403,
      message: 'host node2 has no endpoint of tenant default, and does not ask its external endpoints',
    });
  });

  it('stays with a change of labels, and goes with another check', async () => {
    await checked('node1', { problem: 'x' });
    await add('printer', '192.0.2.7', { healthCheck: 'tcp:631' });
    expect(stored('printer')).toMatchObject({ failing: { why: 'x' } });
    await add('printer', '192.0.2.7', { healthCheck: 'tcp:22' });
    expect(stored('printer')?.failing).toBeUndefined();
  });

  it('leaves it out of a service as long as another answers', async () => {
    await done('POST', '/api/v1/serviceLBs/default:lb', {
      networkName: 'over',
      selectors: ['app=print'],
      ports: ['80:80:TCP'],
    });
    await add('second', '192.0.2.8', { labels: { app: 'print' } });
    await checked('node1', { problem: 'x' });
    const { Oper } = (await done('GET', '/api/v1/inspect/serviceLBs/default:lb/')) as {
      Oper: { providers: { containerName: string; leftOut?: string }[] };
    };
    expect(Object.fromEntries(Oper.providers.map((p) => [p.containerName, p.leftOut]))).toEqual({
      printer: 'it fails its health check',
      second: undefined,
    });
  });
});

describe('a trace', () => {
  const traced = (from: string, to: string, port = 80) =>
    trace(api.mirror, { tenant: 'default', from, to, protocol: 'tcp', port });
  beforeEach(async () => {
    await add('printer', '10.100.0.201');
    await add('outside', '192.0.2.7');
    await add('other', '198.51.100.1', { groupName: 'far' });
    await reserve('10.100.0.10');
    await attach('web', '10.100.0.10', { containerName: 'shop', groupName: 'web' });
  });

  it.each([
    ['printer', 80, 'allow'],
    ['printer', 443, 'deny'],
    ['10.100.0.201', 80, 'allow'],
    ['outside', 80, 'allow'],
    ['other', 80, 'deny'],
    // A machine that is no member, on the wire and outside.
    ['10.100.0.202', 80, 'deny'],
    ['203.0.113.9', 80, 'deny'],
  ])('from %s to port %s of a container: %s, by the group of who asks', (from, port, verdict) => {
    expect(traced(from, 'shop', port)).toMatchObject({ verdict, out: { considered: [] } });
  });

  it('judges what a container sends by its own side alone, and says by which way it goes', () => {
    expect(traced('shop', 'printer')).toMatchObject({
      verdict: 'allow',
      to: { name: 'external endpoint printer', group: 'office', network: 'lan', external: true },
      in: { why: "10.100.0.201 is of an external endpoint: rules hold at the containers' side" },
      notes: ['10.100.0.201 is on the wire of network lan'],
    });
    expect(traced('shop', 'outside').notes).toEqual([
      '192.0.2.7 is outside the tenant: by way of the host, with its address',
    ]);
  });

  it('says that nothing of a VXLAN network is on a wire, and that a wire leads to its own network alone', async () => {
    await add('astray', '20.1.1.9', { groupName: 'far' });
    expect(traced('shop', 'astray')).toMatchObject({
      verdict: 'unreachable',
      notes: [expect.stringContaining('which is a vxlan network: no machine is on its wire')],
    });
    await send('POST', '/api/v1/addresses', {
      tenantName: 'default',
      networkName: 'over',
      family: 4,
      host: 'node1',
      address: '20.1.1.5',
    });
    await attach('app', '20.1.1.5', { networkName: 'over' });
    expect(traced('printer', 'app')).toMatchObject({
      verdict: 'unreachable',
      notes: [
        expect.stringContaining(
          'is on the wire of network lan: from there containers of that network are reached',
        ),
      ],
    });
  });
});
