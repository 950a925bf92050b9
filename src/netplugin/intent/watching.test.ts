import { expect, it } from 'vitest';
import type { WatchedObject, WatchMessage } from '../../protocol/messages.ts';
import { missingFrom } from '../endpoints/attachments.ts';
import type { Attachment, View } from './view.ts';
import { type Effect, openWatching, type Watching, type WatchingOptions } from './watching.ts';

const tenant = (key: string, more: object = {}): WatchedObject => ({
  kind: 'tenant',
  key,
  object: { ...more },
});
const network = (name: string): WatchedObject => ({
  kind: 'network',
  key: `default:${name}`,
  object: { tenantName: 'default', networkName: name },
});
const endpoint = (key: string, homingHost: string, address: string): WatchedObject => ({
  kind: 'endpoint',
  key,
  object: { endpointID: key, tenantName: 'default', networkName: 'net1', ipAddress: [address], homingHost },
});
const gone = ({ kind, key }: WatchedObject): WatchedObject => ({ kind, key, object: null });
const change = (revision: number, ...changes: WatchedObject[]): WatchMessage => ({
  type: 'change',
  revision,
  changes,
});
const ping: WatchMessage = { type: 'ping', revision: 0 };

const open = (options: Partial<WatchingOptions> = {}): Watching =>
  openWatching({ store: '', revision: 0, objects: [], host: 'here', ...options });
const take = (watching: Watching, ...messages: WatchMessage[]): Effect[] =>
  messages.flatMap((message) => watching.take(message));
/** A whole list of store `s1`. */
const list = (watching: Watching, revision: number, objects: WatchedObject[], store = 's1'): Effect[] =>
  take(watching, ...objects.map((object): WatchMessage => ({ type: 'object', ...object })), {
    type: 'synced',
    store,
    revision,
  });
/** Kinds and keys of what is known. */
const known = (watching: Watching): string[] =>
  watching.view
    .contents()
    .map(({ kind, key }) => `${kind} ${key}`)
    .sort();
/** As the effects say: what changed, `-` where it is gone, other effects by their type. */
const told = (effects: Effect[]): string[] =>
  effects.flatMap((e) =>
    e.type === 'changed' ? e.objects.map(({ key, object }) => (object === null ? `-${key}` : key)) : [e.type],
  );

it('asks for a list first, and then for what comes after it', () => {
  const watching = open();
  expect(watching.begin()).toEqual({});
  expect(list(watching, 5, [tenant('a')])).toEqual([
    { type: 'changed', objects: [expect.objectContaining({ key: 'a' })], listed: true },
  ]);
  expect([watching.live, watching.store, watching.revision]).toEqual([true, 's1', 5]);
  watching.end(false);
  expect([watching.live, watching.begin()]).toEqual([false, { store: 's1', after: 5 }]);
  expect(take(watching, { type: 'synced', store: 's1', revision: 5 })).toEqual([{ type: 'resumed' }]);
  expect(watching.live).toBe(true);
});

it('has nothing of a list that breaks off, and lists anew where the history is gone', () => {
  const watching = open({ store: 's1', revision: 3, objects: [tenant('a')] });
  expect(watching.begin()).toEqual({ store: 's1', after: 3 });
  watching.end(true);
  expect(watching.begin()).toEqual({});
  expect(take(watching, { type: 'object', ...tenant('b') })).toEqual([]);
  watching.end(false);
  expect([known(watching), watching.begin()]).toEqual([['tenant a'], {}]);
  expect(told(list(watching, 9, [tenant('c')]))).toEqual(['-a', 'c']);
  expect(known(watching)).toEqual(['tenant c']);
});

it('goes by the name that its store has from some change on, and takes a list by the other one for another store', () => {
  const watching = open({ store: 's1.a', revision: 3, objects: [tenant('a'), network('net1')] });
  watching.begin();
  take(watching, { type: 'synced', store: 's1.a', revision: 3 });
  take(watching, { type: 'change', revision: 4, changes: [], store: 's1.b' }, change(5, tenant('b')));
  watching.end(false);
  expect(watching.begin()).toEqual({ store: 's1.b', after: 5 });
  expect(known(watching)).toContain('tenant b');
});

it('takes changes as they come, and passes on what it is asked', () => {
  const watching = open({ store: 's1', revision: 3, objects: [tenant('a')] });
  watching.begin();
  const question = { tenant: 'default' } as never;
  const effects = take(
    watching,
    change(4, tenant('b')),
    { type: 'ask', id: 'q', question },
    change(6, gone(tenant('a'))),
    { type: 'novelty' } as never,
  );
  expect(effects).toEqual([
    { type: 'changed', objects: [tenant('b')], listed: false },
    { type: 'asked', id: 'q', question },
    { type: 'changed', objects: [gone(tenant('a'))], listed: false },
  ]);
  expect([known(watching), watching.revision]).toEqual([['tenant b'], 6]);
});

it('a list that lacks what runs here is not in force, until its changes or time bring it', () => {
  let lacks = 'network default:net1';
  const watching = open({
    ...{ store: 's1', revision: 7, objects: [network('net1')] },
    missing: (of) => (of.networks.has('default:net1') ? '' : lacks),
  });
  watching.begin();
  watching.end(true);
  watching.begin();
  expect(list(watching, 2, [], 's2')).toEqual([{ type: 'lacks', store: 's2', what: lacks }]);
  expect(told(take(watching, change(3, tenant('x')), ping))).toEqual(['lacks', 'lacks']);
  expect([watching.live, watching.store, watching.revision, known(watching)]).toEqual([
    false,
    's1',
    7,
    ['network default:net1'],
  ]);
  expect(told(take(watching, change(4, network('net1')))).sort()).toEqual(['default:net1', 'x']);
  expect([watching.live, watching.store, watching.revision]).toEqual([true, 's2', 4]);
  // The containers are gone.
  watching.end(true);
  watching.begin();
  expect(told(list(watching, 1, [], 's3'))).toEqual(['lacks']);
  lacks = '';
  take(watching, ping);
  expect([watching.store, known(watching)]).toEqual(['s3', []]);
});

it('endpoints of other hosts that another store does not know stay, until they are told, replaced or late', () => {
  const objects = [
    network('net1'),
    endpoint('mine', 'here', '20.1.1.1'),
    endpoint('told', 'there', '20.1.1.2'),
    endpoint('replaced', 'there', '20.1.1.3'),
    endpoint('late', 'there', '20.1.1.4'),
  ];
  const watching = open({ store: 's1', revision: 7, objects });
  watching.end(true);
  watching.begin();
  const effects = list(watching, 2, [network('net1')], 's2');
  expect(told(effects)).toEqual(['-mine', 'default:net1', 'lingering']);
  expect(effects.at(-1)).toEqual({ type: 'lingering', keys: ['told', 'replaced', 'late'] });
  expect(told(take(watching, change(3, endpoint('told', 'there', '20.1.1.2'))))).toEqual(['told']);
  expect(told(take(watching, change(4, endpoint('new', 'there', '20.1.1.3'))))).toEqual(['new', '-replaced']);
  expect([...watching.lingering.keys()]).toEqual(['late']);
  expect(told(watching.drop(['told', 'replaced', 'late']))).toEqual(['-late']);
  expect(watching.drop(['late'])).toEqual([]);
  expect(known(watching)).toEqual(['endpoint new', 'endpoint told', 'network default:net1']);
});

it('a list of the same store takes at its word: what it lacks is gone', () => {
  const objects = [network('net1'), endpoint('e', 'there', '20.1.1.2')];
  const watching = open({ store: 's1', revision: 7, objects });
  watching.end(true);
  watching.begin();
  expect(told(list(watching, 8, [network('net1')]))).toEqual(['-e', 'default:net1']);
  // But where it is older than what is known, it was restored from a copy.
  const restored = open({ store: 's1', revision: 7, objects });
  restored.end(true);
  restored.begin();
  expect(told(list(restored, 6, [network('net1')]))).toEqual(['default:net1', 'lingering']);
});

it('keeps a tenant of which netmaster has lost this host’s addresses, until it has been told of what runs here', () => {
  const whole = (name: string): WatchedObject => ({
    kind: 'network',
    key: `${name}:net`,
    object: { tenantName: name, networkName: 'net', vni: 7 },
  });
  const outline = (name: string): WatchedObject => ({
    kind: 'network',
    key: `${name}:net`,
    object: { tenantName: name, networkName: 'net' },
  });
  const attached = [{ endpoint: { tenantName: 'blue', networkName: 'net' } }] as unknown as Attachment[];
  const missing = (listed: View): string => missingFrom(listed, attached);
  const watching = open({ missing });
  const mine = { ...endpoint('e1', 'here', '20.1.1.1'), object: { tenantName: 'blue', homingHost: 'here' } };
  watching.begin();
  list(watching, 5, [whole('blue'), tenant('blue'), mine, outline('red')]);
  expect(watching.live).toBe(true);

  // While it is followed: somebody has removed this host.
  const lost = change(6, gone(tenant('blue')), outline('blue'), gone(mine));
  expect(take(watching, lost)).toEqual([{ type: 'lacks', store: 's1', what: 'addresses in tenant blue' }]);
  expect([watching.live, watching.revision, known(watching)]).toEqual([
    false,
    5,
    ['endpoint e1', 'network blue:net', 'network red:net', 'tenant blue'],
  ]);
  expect([...(watching.listed?.endpoints.keys() ?? [])]).toEqual([]);
  // Another tenant's business goes on beside, and is in force with the rest.
  expect(told(take(watching, change(7, outline('green'))))).toEqual(['lacks']);
  take(watching, change(8, whole('blue'), tenant('blue'), mine));
  expect([watching.live, watching.revision]).toEqual([true, 8]);
  expect(known(watching)).toContain('network green:net');

  // It is away before it has heard of it: what is known is asked for again from where it was.
  take(watching, change(9, gone(tenant('blue')), outline('blue'), gone(mine)));
  watching.end(false);
  expect(watching.listed).toBeUndefined();
  expect(watching.begin()).toEqual({ store: 's1', after: 8 });

  // A store that was lost lists outlines.
  watching.end(true);
  watching.begin();
  expect(told(list(watching, 3, [outline('blue')], 's2'))).toEqual(['lacks']);
  expect(watching.view.networks.get('blue:net')).toMatchObject({ vni: 7 });
  take(watching, change(4, whole('blue'), tenant('blue'), mine));
  expect([watching.live, watching.store]).toEqual([true, 's2']);
});
