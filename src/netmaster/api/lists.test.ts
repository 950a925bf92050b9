import fc from 'fast-check';
import { expect, it, vi } from 'vitest';
import { openTestMirror } from '../../../test/mirror.ts';
import type { Kind } from '../../model/kind.ts';
import { kindByCollection, kindByName } from '../../model/kinds.ts';
import { openMemory } from '../../store/memory.ts';
import { present } from '../intent.ts';
import { openMirror, storeKey } from '../mirror.ts';
import { openTables } from '../tables.ts';
import { jsonOf, openLists } from './lists.ts';

const TENANTS = kindByCollection.get('tenants') as Kind;

it('is made once for all who ask for the same state, and anew when something has changed', async () => {
  const store = openMemory();
  const tenant = (name: string) => [{ key: storeKey('tenant', name), value: { tenantName: name } }];
  await store.transact([], tenant('default'));
  const mirror = await openMirror(store);
  const listing = vi.spyOn(mirror, 'list');
  const list = openLists(mirror);
  const first = list(TENANTS);
  const others = Array.from({ length: 20 }, () => list(TENANTS));
  expect(listing).toHaveBeenCalledTimes(1);
  for (const { json } of others) expect(json).toBe(first.json);
  expect(JSON.parse(first.json.toString())).toMatchObject([{ key: 'default', tenantName: 'default' }]);

  await store.transact([], tenant('blue'));
  await vi.waitUntil(() => mirror.get('tenant', 'blue') !== undefined, { timeout: 20_000 });
  const keys = JSON.parse(list(TENANTS).json.toString()).map(({ key }: { key: string }) => key);
  expect(keys.sort()).toEqual(['blue', 'default']);
  await mirror.close();
});

const NAMES = ['tenant', 'network', 'policy', 'rule', 'endpointGroup', 'appProfile'] as const;
const kindOf = (name: string): Kind => kindByName.get(name) as Kind;
const T = { tenantName: 'default' };
const group = (groupName: string, more: object = {}) => ({ ...T, groupName, networkName: 'n', ...more });

it('is never what an object or those that refer to it were before, whatever is written and deleted in whatever order', async () => {
  const name = fc.constantFrom('a', 'b', 'c');
  const step = fc.oneof(
    fc
      .record({ policies: fc.subarray(['p', 'q']), name })
      .map((g) => ({ endpointGroup: [group(g.name, g)] })),
    name.map((ruleId) => ({
      rule: [{ ...T, policyName: 'p', ruleId, direction: 'in', fromEndpointGroup: ruleId }],
    })),
    fc.record({ name, of: fc.subarray(['a', 'b']) }).map(({ name: appProfileName, of }) => ({
      appProfile: [{ ...T, appProfileName, endpointGroups: of }],
    })),
    fc
      .tuple(fc.constantFrom('endpointGroup', 'appProfile'), name)
      .map(([kind, key]) => ({ gone: [kind, `default:${key}`] as const })),
    name.map((key) => ({ gone: ['rule', `default:p:${key}`] as const })),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
      const { mirror, put, remove } = await openTestMirror({
        tenant: [T],
        network: [{ ...T, networkName: 'n', subnet: '10.0.0.0/8' }],
        policy: ['p', 'q'].map((policyName) => ({ ...T, policyName })),
      });
      const listOf = openLists(mirror);
      for (const each of steps) {
        if ('gone' in each) await remove(each.gone[0] as string, each.gone[1] as string);
        else await put(each);
        for (const kind of NAMES.map(kindOf)) {
          const fresh = mirror.list<Record<string, unknown>>(kind.name).map((o) => present(kind, o, mirror));
          expect(JSON.parse(listOf(kind).json.toString())).toEqual(fresh);
        }
      }
    }),
    { numRuns: 50 },
  );
});

it('costs what has changed: the object and those that it refers to are made again, and no other', async () => {
  const groups = Array.from({ length: 50 }, (_, i) => group(`g${i}`, { policies: ['p'] }));
  const { mirror, put } = await openTestMirror({
    tenant: [T],
    network: [{ ...T, networkName: 'n', subnet: '10.0.0.0/8' }],
    policy: ['p', 'q'].map((policyName) => ({ ...T, policyName })),
    endpointGroup: groups,
  });
  const made: string[] = [];
  const counted = {
    ...mirror,
    shown: {
      ...mirror.shown,
      of: (kind: string, key: string, make: () => string) =>
        mirror.shown.of(kind, key, () => {
          made.push(`${kind} ${key}`);
          return make();
        }),
    },
  };
  const listOf = openLists(counted);
  const lists = () => NAMES.map((name) => listOf(kindOf(name)).json);
  const first = lists();
  expect(made).toHaveLength(54);
  made.length = 0;
  expect(lists()).toEqual(first);
  for (const each of groups)
    expect(JSON.parse(jsonOf(kindOf('endpointGroup'), each, counted))).toMatchObject({
      groupName: each.groupName,
    });
  await put({ netprofile: [{ ...T, profileName: 'gold', DSCP: 1 }] });
  expect(lists()[4], 'groups are not concerned').toBe(first[4]);
  expect(made).toEqual(['tenant default']);
  made.length = 0;
  await put({ endpointGroup: [group('g7', { policies: ['q'] })] });
  lists();
  expect(made.sort()).toEqual([
    'endpointGroup default:g7',
    'network default:n',
    'policy default:p',
    'policy default:q',
    'tenant default',
  ]);
});

it('takes no more memory than it may', () => {
  const tables = openTables(undefined, 1000);
  let made = 0;
  const ask = (key: string, length = 100) =>
    tables.shown.of('rule', key, () => {
      made++;
      return key.padEnd(length);
    });
  for (let i = 0; i < 10; i++) ask(`${i}`);
  for (let i = 0; i < 10; i++) ask(`${i}`);
  expect(made, 'all ten are kept').toBe(10);
  ask('10');
  ask('0');
  expect(made, 'one more takes the place of all').toBe(12);
  ask('large', 2000);
  ask('large', 2000);
  expect(made, 'what is larger by itself is not kept').toBe(14);
});
