/** What happened is kept with what was changed: in the same transaction, so much of each kind, whoever writes. */
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Api, openApi } from '../../test/apiServer.ts';
import { temporaryFolder } from '../../test/folder.ts';
import { connect } from '../client/client.ts';
import type { Kind } from '../model/kind.ts';
import { kindByName } from '../model/kinds.ts';
import { eventLine } from '../netctl/events.ts';
import { netctl } from '../netctl/run.ts';
import type { Event } from '../protocol/events.ts';
import { openMemory } from '../store/memory.ts';
import { openSqlite } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import { decideApply, readSet } from './batch.ts';
import { AT_ONCE, BYTES, EVENTS } from './events.ts';
import { decideWrite, remove } from './intent.ts';
import { type Mirror, openMirror, storeKey } from './mirror.ts';
import { decideTold } from './occurrences.ts';
import { openWriter, type Writer } from './writer.ts';

interface Netmaster {
  readonly mirror: Mirror;
  readonly writer: Writer;
  put(kind: string, key: string, object: object): Promise<number>;
  rm(kind: string, key: string): Promise<number>;
  apply(objects: readonly object[]): Promise<number>;
}

/** One of several on a store. */
async function netmasterOn(store: Store): Promise<Netmaster> {
  const mirror = await openMirror(store);
  onTestFinished(() => mirror.close());
  const writer = openWriter(store, mirror);
  const kindOf = (name: string): Kind => kindByName.get(name) as Kind;
  return {
    mirror,
    writer,
    put: async (kind, key, object) =>
      (await writer.write(() => decideWrite(kindOf(kind), key, object as never, 'post', mirror))).revision,
    rm: async (kind, key) => (await remove(kindOf(kind), key, writer)).revision,
    apply: async (objects) => (await writer.write(() => decideApply(readSet({ objects }), mirror))).revision,
  };
}

/** Counts the writes of each transaction that happened. */
function counting(store: Store): { store: Store; written: string[][] } {
  const written: string[][] = [];
  return {
    written,
    store: {
      ...store,
      async transact(checks, writes) {
        const outcome = await store.transact(checks, writes);
        if (outcome.ok) written.push(writes.map(({ key }) => key.slice(storeKey('', '').length - 1)));
        return outcome;
      },
    },
  };
}

const TENANT = { tenantName: 'default' };
const NETWORK = { ...TENANT, networkName: 'n', subnet: '20.0.0.0/16', nwType: 'data', encap: 'vxlan' };
const group = (i: number, more = {}) => ({ ...TENANT, groupName: `g${i}`, networkName: 'n', ...more });
const said = (events: readonly Event[]): string[] =>
  events.map(({ kind, action, object = '', key = '' }) => `${kind} ${action} ${object} ${key}`);

describe('a change of intent', () => {
  it('costs no transaction more than it did, and one write; and is in the transaction of the change', async () => {
    const { store, written } = counting(openMemory());
    const { mirror, put, rm } = await netmasterOn(store);
    await put('tenant', 'default', TENANT);
    await put('network', 'default:n', NETWORK);
    written.length = 0;
    const revisions = [await put('endpointGroup', 'default:g1', group(1))];
    revisions.push(await put('endpointGroup', 'default:g1', group(1, { cfgdTag: 'x' })));
    expect(written.map((keys) => keys.filter((key) => key.startsWith('event/')).length)).toEqual([1, 1]);
    revisions.push(await rm('endpointGroup', 'default:g1'));
    // The guard, which says nothing, and the delete.
    expect(written.map((keys) => keys.filter((key) => key.startsWith('event/')).length)).toEqual([
      1, 1, 0, 1,
    ]);
    const events = mirror.events.list({}).slice(2);
    expect(said(events)).toEqual([
      'intent created endpointGroup default:g1',
      'intent changed endpointGroup default:g1',
      'intent deleted endpointGroup default:g1',
    ]);
    expect(events.map(({ revision }) => revision)).toEqual(revisions);
    expect(events.map(({ fields }) => fields)).toEqual([
      { tenantName: { after: 'default' }, groupName: { after: 'g1' }, networkName: { after: 'n' } },
      { cfgdTag: { after: 'x' } },
      expect.objectContaining({ cfgdTag: { before: 'x' } }),
    ]);
  });

  it('that is refused, or changes nothing, leaves none; a policy that goes has those of its rules', async () => {
    const { store, written } = counting(openMemory());
    const { mirror, put, rm, apply } = await netmasterOn(store);
    await put('tenant', 'default', TENANT);
    await apply([NETWORK, group(1)].map((o, i) => ({ kind: ['network', 'endpointGroup'][i], ...o })));
    const before = mirror.events.list({}).length;
    await expect(put('endpointGroup', 'default:g2', group(2, { policies: ['no'] }))).rejects.toThrow(
      'not exist',
    );
    await expect(rm('network', 'default:n')).rejects.toThrow('in use');
    await put('endpointGroup', 'default:g1', group(1));
    written.length = 0;
    await apply([{ kind: 'endpointGroup', ...group(1) }]);
    expect(written).toEqual([]);
    expect(mirror.events.list({})).toHaveLength(before);
    await put('policy', 'default:p', { ...TENANT, policyName: 'p' });
    const rule = { kind: 'rule', policyName: 'p', ruleId: '1', direction: 'in', action: 'deny' };
    await apply([rule]);
    await apply([{ ...rule, action: 'allow' }]);
    await rm('policy', 'default:p');
    const events = mirror.events.list({}).slice(before);
    expect(said(events)).toEqual([
      'intent created policy default:p',
      'intent created rule default:p:1',
      'intent changed rule default:p:1',
      'intent deleted policy default:p',
      'intent deleted rule default:p:1',
    ]);
    expect(events[2]?.fields).toEqual({ action: { before: 'deny', after: 'allow' } });
    expect(new Set(events.map(({ id }) => id)).size).toBe(events.length);
  });

  it('by two netmasters at once: each has all of both, once, in one order, at the revision of its change', async () => {
    const store = openMemory();
    const [one, two] = [await netmasterOn(store), await netmasterOn(store)];
    await one.put('tenant', 'default', TENANT);
    await one.put('network', 'default:n', NETWORK);
    await two.mirror.seen(one.mirror.revision);
    const numbers = Array.from({ length: 40 }, (_, i) => i);
    const revisions = await Promise.all(
      numbers.flatMap((i) =>
        [one, two].map((n) => n.put('endpointGroup', `default:g${i % 7}`, group(i % 7, { cfgdTag: `${i}` }))),
      ),
    );
    await Promise.all([one, two].map(({ mirror }) => mirror.seen(Math.max(...revisions))));
    const events = one.mirror.events.list({});
    expect(two.mirror.events.list({})).toEqual(events);
    // Each version of a group that there was follows from what the events say.
    const tags = new Map<string, unknown>();
    for (const { key = '', fields } of events.filter(({ object }) => object === 'endpointGroup')) {
      expect(tags.get(key), key).toEqual(fields?.cfgdTag?.before);
      tags.set(key, fields?.cfgdTag?.after);
    }
    for (const [key, tag] of tags)
      expect(one.mirror.get<{ cfgdTag: string }>('endpointGroup', key)?.cfgdTag).toBe(tag);
    expect(events.filter(({ revision }) => !revisions.includes(revision))).toHaveLength(2);
  });

  it('is there when the store is opened again', async () => {
    const file = join(temporaryFolder(), 'store.db');
    const first = openSqlite(file);
    const { mirror, put, apply } = await netmasterOn(first);
    await put('tenant', 'default', TENANT);
    await put('network', 'default:n', NETWORK);
    await apply(Array.from({ length: 300 }, (_, i) => ({ kind: 'endpointGroup', ...group(i) })));
    for (let i = 0; i < 20; i++) await put('endpointGroup', `default:g${i}`, group(i, { cfgdTag: 'x' }));
    const before = mirror.events.list({});
    expect(before).toHaveLength(322);
    await mirror.close();
    await first.close();
    const second = openSqlite(file);
    onTestFinished(() => second.close());
    expect((await netmasterOn(second)).mirror.events.list({})).toEqual(before);
  });
});

describe('what is kept', () => {
  it('is so much of each kind: the newest, and others take no place of it', async () => {
    const { store, written } = counting(openMemory());
    const { mirror, writer, put } = await netmasterOn(store);
    await put('tenant', 'default', TENANT);
    const occurrence = (i: number) => ({ kind: 'endpoint', action: 'attached', text: `${i}` }) as const;
    const write = (i: number) =>
      writer.write(() => ({ checks: [], writes: [], answer: undefined, events: [occurrence(i)] }));
    for (let i = 0; i < EVENTS + 500; i++) await write(i);
    const kept = mirror.events.list({ kinds: new Set(['endpoint']) });
    expect(kept).toHaveLength(EVENTS);
    expect([kept[0]?.text, kept.at(-1)?.text]).toEqual(['500', `${EVENTS + 499}`]);
    expect(mirror.events.list({ kinds: new Set(['intent']) })).toHaveLength(1);
    expect((await store.list(storeKey('event', ''))).entries).toHaveLength(EVENTS + 1);
    // One that comes and one that goes: no more than that, whatever there is.
    expect(written.at(-1)).toHaveLength(2);
  }, 60_000);

  it('is bounded in bytes; a value that is long is cut, in a set that is large the rest is counted', async () => {
    const { store, written } = counting(openMemory());
    const { mirror, writer, put, apply } = await netmasterOn(store);
    await put('tenant', 'default', TENANT);
    await put('network', 'default:n', NETWORK);
    const text = 'x'.repeat(30_000);
    for (let i = 0; i < 200; i++)
      await writer.write(() => ({
        checks: [],
        writes: [],
        answer: undefined,
        events: [{ kind: 'repair', action: 'told', text: `${i} ${text}` }],
      }));
    const { entries } = await store.list(storeKey('event', 'repair/'));
    const bytes = entries.reduce((sum, { value }) => sum + JSON.stringify(value).length, 0);
    expect(bytes).toBeGreaterThan(BYTES / 2);
    expect(bytes).toBeLessThanOrEqual(BYTES);
    expect(mirror.events.list({ kinds: new Set(['repair']) }).at(-1)?.text).toMatch(/^199 /);

    const long = {
      kind: 'intent',
      action: 'changed',
      fields: { a: { after: 'y'.repeat(5000) }, b: { after: 1 } },
    } as const;
    await writer.write(() => ({ checks: [], writes: [], answer: undefined, events: [long] }));
    const { fields } = mirror.events.list({}).at(-1) as Event;
    expect(fields?.b).toEqual({ after: 1 });
    expect(String(fields?.a?.after)).toMatch(/^"y{999}…$/);

    await apply(Array.from({ length: 3000 }, (_, i) => ({ kind: 'endpointGroup', ...group(i) })));
    const all = mirror.events.list({}).filter(({ revision }) => revision === mirror.revision);
    expect(all).toHaveLength(AT_ONCE);
    expect(all.at(-1)).toMatchObject({ action: 'created', text: '2001 more objects in the same step' });
    // Records, not one for each object.
    expect(written.at(-1)?.filter((key) => key.startsWith('event/')).length).toBeLessThan(20);
  }, 60_000);
});

describe('what has no write of its own', () => {
  it('what an agent tells twice, as the answer was lost, is kept once, whichever netmaster it comes to', async () => {
    const store = openMemory();
    const [one, two] = [await netmasterOn(store), await netmasterOn(store)];
    const told = [1, 2].map((number) => ({
      number,
      time: 1000,
      kind: 'repair' as const,
      text: `restored ${number}`,
    }));
    const tell = ({ mirror, writer }: Netmaster, some = told) =>
      writer.write(() => decideTold(mirror, 'node1', 'run', some), { by: 'netplugin node1' });
    await Promise.all([tell(one, told.slice(0, 1)), tell(two), tell(one)]);
    await tell(two);
    await one.mirror.seen(two.mirror.revision);
    expect(
      one.mirror.events
        .list({})
        .map(({ text, host, by, time }) => ({ text, host, by, time }))
        .sort((a, b) => ((a.text ?? '') < (b.text ?? '') ? -1 : 1)),
    ).toEqual(
      [1, 2].map((n) => ({
        text: `restored ${n}`,
        host: 'node1',
        by: 'netplugin node1',
        time: '1970-01-01T00:00:01.000Z',
      })),
    );
  });
});

describe('the API', () => {
  let api: Api;
  beforeEach(async () => {
    api = await openApi();
  });
  afterEach(() => api.close());
  const url = (): string => `http://127.0.0.1:${api.port}`;
  const run = async (line: string) => {
    const lines: string[] = [];
    const status = await netctl([`--netmaster=${url()}`, ...line.split(' ')], {
      env: { SUDO_USER: 'alice' },
      print: (text) => lines.push(text),
      printError: (text) => lines.push(text),
    });
    return { status, lines };
  };
  const list = async (query = ''): Promise<Event[]> =>
    JSON.parse((await api.send('GET', `/api/v1/events${query}`)).text);

  it('says who, from where, what, before and after; netctl shows it', async () => {
    for (const line of [
      'net create n --subnet=20.1.1.0/24',
      'policy create p',
      'group create n g -p p',
      'group create n g',
      'group rm g',
    ])
      expect(await run(line)).toMatchObject({ status: 0 });
    const events = await list('?kind=intent');
    expect(events).toHaveLength(5);
    for (const { by, from, time } of events) {
      expect(by).toMatch(/^netctl alice@\S+$/);
      expect(from).toBe('127.0.0.1');
      expect(Math.abs(Date.parse(time) - Date.now())).toBeLessThan(600_000);
    }
    const { lines } = await run('events');
    expect(lines).toHaveLength(5);
    expect(lines[3]).toMatch(
      /^\S+Z intent changed endpointGroup default:g: policies: p -> none \(netctl alice@\S+, 127\.0\.0\.1\)$/,
    );
    expect(lines.at(-1)).toContain(' intent deleted endpointGroup default:g (netctl');
    const json = (await run('events -o json --last 1')).lines.map((line) => JSON.parse(line));
    expect(json).toEqual(events.slice(-1));
    await api.server.inject({
      method: 'POST',
      url: '/api/v1/tenants/blue/',
      headers: { 'user-agent': 'curl/8' },
      payload: {},
    });
    expect((await list()).at(-1)).toMatchObject({ key: 'blue', by: 'curl/8' });
  });

  it('has hosts and endpoints: registered again they say nothing, nor what a container says of itself', async () => {
    await run('net create n --subnet=20.1.1.0/24');
    const client = connect({ urls: [url()], name: 'netplugin node1' });
    onTestFinished(() => client.close());
    const host = { name: 'node1', underlay: '10.0.0.1' };
    for (let i = 0; i < 3; i++) await client.call('register', { name: 'node1' }, host);
    await client.call('register', { name: 'node1' }, { ...host, mtu: 1400 });
    const { address } = (
      await client.call('reserve', {}, { tenantName: 'default', networkName: 'n', family: 4, host: 'node1' })
    ).body;
    const endpoint = {
      endpointID: 'e1',
      tenantName: 'default',
      networkName: 'n',
      ipAddress: [address],
      macAddress: '02:02:14:01:01:01',
      homingHost: 'node1',
      containerName: 'web',
      status: 'running',
    } as const;
    const attach = (more = {}) =>
      client.call('attach', { id: 'e1', host: 'node1', wait: '0' }, { ...endpoint, ...more });
    await attach();
    await attach();
    await attach({ status: 'unhealthy', labels: { a: 'b' } });
    await client.call('detach', { id: 'e1', host: 'node1', wait: '0' });
    await client.call('detach', { id: 'e1', host: 'node1', wait: '0' });
    const lines = (await list('?kind=host,endpoint'))
      .map(eventLine)
      .map((line) => line.slice(line.indexOf('Z ') + 2));
    expect(lines).toEqual([
      'host joined host node1 (netplugin node1, 127.0.0.1)',
      'host changed host node1: mtu: none -> 1400 (netplugin node1, 127.0.0.1)',
      'endpoint attached endpoint e1: container web on node1 (netplugin node1, 127.0.0.1)',
      'endpoint detached endpoint e1: container web on node1 (netplugin node1, 127.0.0.1)',
    ]);
  });

  it('a report of a host has what happened there, and twice is once', async () => {
    const client = connect({ urls: [url()], name: 'netplugin node1' });
    onTestFinished(() => client.close());
    await client.call('register', { name: 'node1' }, { name: 'node1', underlay: '10.0.0.1' });
    const report = {
      reporter: 'r',
      sequence: 1,
      hits: [],
      denied: [],
      events: [{ number: 1, time: 5, kind: 'denial' as const, text: 'container web:\nno' }],
    };
    for (let i = 0; i < 2; i++) await client.call('report', { name: 'node1' }, report);
    const denials = await list('?kind=denial');
    expect(denials.map(eventLine)).toEqual([
      '1970-01-01T00:00:00Z denial container web:\\nno (netplugin node1, 127.0.0.1)',
    ]);
    // With a certificate; as another host tells it.
    for (const [by, where] of [
      ['host node1 (netplugin node1)', ''],
      ['host node2 (netplugin node2)', 'on node1: '],
    ] as const)
      expect(denials.map((event) => eventLine({ ...event, by }))).toEqual([
        `1970-01-01T00:00:00Z denial ${where}container web:\\nno (${by}, 127.0.0.1)`,
      ]);
  });

  it('lists by kind, time, place and tenant, and refuses anything else in a line', async () => {
    for (const name of ['a', 'b', 'c']) await api.send('POST', `/api/v1/tenants/${name}`, {});
    await api.send('POST', '/api/v1/policys/b:p', {});
    const all = await list();
    expect(await list('?kind=host,repair')).toEqual([]);
    expect(await list('?limit=2')).toEqual(all.slice(-2));
    expect(await list(`?after=${all[1]?.id}`)).toEqual(all.slice(2));
    expect(await list(`?after=${all[1]?.revision}`)).toEqual(all.slice(2));
    expect(await list('?since=1999-01-01T00:00:00Z')).toEqual(all);
    expect(await list('?since=2999-01-01T00:00:00%2B01:00')).toEqual([]);
    expect(said(await list('?tenant=b'))).toEqual(['intent created tenant b', 'intent created policy b:p']);
    for (const [query, field] of [
      ['kind=nope', 'kind'],
      ['kind=', 'kind'],
      ['since=yesterday', 'since'],
      ['since=2026-11-28', 'since'],
      ['since=2026-13-28T00:00:00Z', 'since'],
      ['after=x', 'after'],
      ['after=1-', 'after'],
      ['limit=0', 'limit'],
      ['limit=1e3', 'limit'],
      ['tenant=nobody', 'tenant'],
      ['nope=1', 'nope'],
    ])
      for (const path of field === 'limit' ? ['events'] : ['events', 'events/watch'])
        expect(await api.send('GET', `/api/v1/${path}?${query}`), `${path}?${query}`).toMatchObject({
          field,
        });
    for (const line of ['events --since yesterday', 'events -o yaml', 'events --last 0', 'events x'])
      expect(await run(line)).toMatchObject({ status: 1, lines: [expect.stringMatching(/^netctl: /)] });
    expect(await run('events --since 1h --kind intent,host')).toMatchObject({
      status: 0,
      lines: { length: 4 },
    });
  });

  it('follows: what is there, then what comes; resumed behind the last, nothing is missed or told twice', async () => {
    const client = connect({ urls: [url()] });
    onTestFinished(() => client.close());
    const seen: Event[] = [];
    const follow = (after?: string): AbortController => {
      const stop = new AbortController();
      onTestFinished(() => stop.abort());
      void (async () => {
        for await (const message of client.lines(
          'followEvents',
          { kind: 'intent', ...(after && { after }) },
          stop.signal,
        ))
          if (message.type === 'event') seen.push(message.event);
      })();
      return stop;
    };
    await api.send('POST', '/api/v1/tenants/a', {});
    const stop = follow();
    await vi.waitUntil(() => seen.length === 1, 30_000);
    await api.send('POST', '/api/v1/tenants/b', {});
    await vi.waitUntil(() => seen.length === 2, 30_000);
    stop.abort();
    await api.send('POST', '/api/v1/tenants/c', {});
    follow(seen.at(-1)?.id);
    await vi.waitUntil(() => seen.length === 3, 30_000);
    await api.send('POST', '/api/v1/tenants/d', {});
    await vi.waitUntil(() => seen.length === 4, 30_000);
    expect(seen).toEqual(await list());
  });
});
