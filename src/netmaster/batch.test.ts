import fc from 'fast-check';
import { describe, expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster, type Parts } from '../../test/cluster.ts';
import { clusters, type Plain } from '../../test/clusters.ts';
import { KINDS } from '../model/kinds.ts';
import type { ObjectOutcome } from '../protocol/declared.ts';
import { decideApply, exportSet, ORDER, readSet } from './batch.ts';
import { Refusal } from './problem.ts';

async function cluster(): Promise<Parts> {
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  return parts;
}

async function apply({ mirror, writer }: Parts, objects: readonly Plain[]): Promise<string[]> {
  const set = readSet({ objects });
  const { answer } = await writer.write(() => decideApply(set, mirror));
  return answer.map((o) => `${o.kind} ${o.key} ${o.result}`);
}

const outcome = (parts: Parts, objects: readonly Plain[]): ObjectOutcome | undefined =>
  decideApply(readSet({ objects }), parts.mirror).answer[0];

async function refusal(parts: Parts, objects: readonly Plain[]): Promise<Refusal> {
  const error = await apply(parts, objects).then(
    () => new Error('was not refused'),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(Refusal);
  return error as Refusal;
}

/** Everything in the store but its revisions, and how it came there. */
async function contents({ store }: Parts): Promise<unknown> {
  const { entries } = await store.list('');
  return entries.flatMap(({ key, value }) => (key.startsWith('/contiv/event/') ? [] : [[key, value]]));
}

/** Tags and addresses that objects of the kind have, as agents see them. */
const given = ({ mirror }: Parts, kind: string): unknown[] =>
  [...mirror.entries<Plain>(kind)].map(([key, { object }]) => [key, object.vni, object.vip]).sort();

const TENANT = { kind: 'tenant', tenantName: 'blue' };
const NETWORK = { kind: 'network', tenantName: 'blue', networkName: 'net1', subnet: '20.1.1.0/24' };
const POLICY = { kind: 'policy', tenantName: 'blue', policyName: 'p1' };
const GROUP = {
  kind: 'endpointGroup',
  tenantName: 'blue',
  groupName: 'web',
  networkName: 'net1',
  policies: ['p1'],
};
const RULE = {
  kind: 'rule',
  tenantName: 'blue',
  policyName: 'p1',
  ruleId: '1',
  direction: 'in',
  fromEndpointGroup: 'web',
  action: 'allow',
};
const SERVICE = {
  kind: 'serviceLB',
  tenantName: 'blue',
  serviceName: 'lb',
  networkName: 'net1',
  selectors: ['app=web'],
  ports: ['80:8080:TCP'],
};
const SET = [GROUP, NETWORK, POLICY, TENANT];

describe('apply', () => {
  it('makes the same of a set in any order: each object sees those that it refers to', async () => {
    const objects: Plain[] = [
      ...SET,
      { ...NETWORK, networkName: 'net2', subnet: '20.1.2.0/24' },
      { ...NETWORK, networkName: 'net3', subnet: '20.1.3.0/24', pktTag: 1 },
      { kind: 'global', vxlans: '1-10', vlans: '1-4094' },
      RULE,
      {
        ...RULE,
        policyName: 'p1',
        ruleId: '2',
        direction: 'out',
        toEndpointGroup: 'web',
        fromEndpointGroup: '',
      },
      SERVICE,
      { ...SERVICE, serviceName: 'lb2', ipAddress: '20.1.1.2' },
    ];
    const first = await cluster();
    await apply(first, objects);
    const made = await contents(first);
    await fc.assert(
      fc.asyncProperty(fc.shuffledSubarray(objects, { minLength: objects.length }), async (shuffled) => {
        const parts = await openCluster();
        await apply(parts, shuffled);
        expect(await contents(parts)).toEqual(made);
        await closeCluster(parts);
      }),
      { numRuns: 50 },
    );
  });

  it('answers in the order of the set', async () => {
    expect(await apply(await cluster(), SET)).toEqual([
      'endpointGroup blue:web created',
      'network blue:net1 created',
      'policy blue:p1 created',
      'tenant blue created',
    ]);
  });

  it('is one transaction', async () => {
    const parts = await cluster();
    const before = parts.mirror.revision;
    await apply(parts, SET);
    expect(parts.mirror.revision).toBe(before + 1);
  });

  it('writes nothing the second time', async () => {
    const parts = await cluster();
    await apply(parts, SET);
    const before = parts.mirror.revision;
    const again = await apply(parts, SET);
    expect(again.every((line) => line.endsWith(' unchanged'))).toBe(true);
    expect(parts.mirror.revision).toBe(before);
    expect(await apply(parts, [{ kind: 'tenant', tenantName: 'default' }])).toEqual([
      'tenant default unchanged',
    ]);
  });

  it('writes only what differs, and names the fields before and after', async () => {
    const parts = await cluster();
    await apply(parts, SET);
    const set = readSet({ objects: [{ ...GROUP, policies: [], ipPool: '20.1.1.10-20.1.1.20' }, NETWORK] });
    const { answer, writes } = decideApply(set, parts.mirror);
    expect(answer).toEqual([
      {
        kind: 'endpointGroup',
        key: 'blue:web',
        result: 'changed',
        fields: { policies: { before: ['p1'] }, ipPool: { after: '20.1.1.10-20.1.1.20' } },
      },
      { kind: 'network', key: 'blue:net1', result: 'unchanged' },
    ]);
    // Whose pools and subnets are in order, too.
    expect(writes.map((w) => w.key)).toEqual(['/contiv/subnets/blue', '/contiv/endpointGroup/blue:web']);
  });

  it.each<[string, Plain[], number, string]>([
    [
      'what an object refers to is missing',
      [TENANT, NETWORK, GROUP],
      3,
      'object 3: endpointGroup blue:web: policies names policy blue:p1, which does not exist',
    ],
    [
      'two objects of the set collide',
      [...SET, { ...NETWORK, networkName: 'net2', subnet: '20.1.0.0/16' }],
      5,
      'object 5: network blue:net2: subnet overlaps 20.1.1.0/24 of network net1 of the same tenant',
    ],
    [
      'a name is used twice in the set',
      [...SET, { ...GROUP, groupName: 'NET1' }],
      5,
      'endpointGroup blue:NET1: groupName is the name of network blue:net1 already',
    ],
    [
      'a tag is asked for twice',
      [TENANT, { ...NETWORK, pktTag: 7 }, { ...NETWORK, networkName: 'b', subnet: '30.1.1.0/24', pktTag: 7 }],
      2,
      'object 2: network blue:net1: pktTag 7 is taken by network blue:b',
    ],
    ['a field is unknown', [TENANT, { ...NETWORK, subnett: 'x' }], 2, "'subnett' is not a field"],
    ['a field is malformed', [TENANT, { ...NETWORK, subnet: '20.1.1.0/33' }], 2, 'network blue:net1: subnet'],
    [
      'a name is missing',
      [TENANT, { kind: 'network' }],
      2,
      'object 2 (network): networkName is missing: it must',
    ],
    ['a name is a number', [{ ...RULE, ruleId: 1 }], 1, "object 1 (rule): ruleId 1 must be text without ':'"],
    [
      'a name has a colon',
      [{ ...POLICY, policyName: 'a:b' }],
      1,
      "object 1 (policy): policyName 'a:b' must be",
    ],
    [
      'a name is malformed',
      [{ kind: 'tenant', tenantName: 'a_b' }],
      1,
      "object 1 (tenant a_b): tenant 'a_b': tenantName must",
    ],
    ['an object comes twice', [TENANT, POLICY, TENANT], 3, 'object 3: tenant blue is object 1 already'],
    ['a kind is unknown', [TENANT, { kind: 'net' }], 2, "object 2: kind 'net' must be one of tenant,"],
    ['a kind is missing', [TENANT, { tenantName: 'x' }], 2, 'object 2: kind is missing: it must be one of'],
    ['an object is none', [TENANT, 7 as unknown as Plain], 2, 'object 2: kind is missing'],
  ])('writes nothing where %s, and names the object', async (_why, objects, position, text) => {
    const parts = await cluster();
    const before = await contents(parts);
    const reason = await refusal(parts, objects);
    expect(reason.position).toBe(position);
    expect(reason.message).toContain(text);
    expect(reason.message).toContain(`object ${position}`);
    expect(reason.message).not.toContain('\n');
    expect(await contents(parts)).toEqual(before);
  });

  it('refuses what a network cannot change, naming field and way out', async () => {
    const parts = await cluster();
    await apply(parts, SET);
    expect(await refusal(parts, [{ ...NETWORK, gateway: '20.1.1.254' }])).toMatchObject({
      status: 409,
      field: 'gateway',
      message:
        'object 1: network blue:net1: gateway is unset and cannot change to "20.1.1.254": delete the network and create it anew',
    });
    expect((await refusal(parts, [{ ...NETWORK, pktTag: 9 }])).message).toContain('pktTag is 1 and cannot');
  });

  it('takes a given tag and one that netmaster gave as the same', async () => {
    const parts = await cluster();
    await apply(parts, [TENANT, NETWORK]);
    expect(outcome(parts, [{ ...NETWORK, pktTag: 1 }])?.result).toBe('unchanged');
  });

  it('gives tags that no object of the set asks for', async () => {
    const parts = await cluster();
    await apply(parts, [
      { kind: 'network', networkName: 'a', subnet: '20.1.1.0/24' },
      { kind: 'network', networkName: 'b', subnet: '20.1.2.0/24', pktTag: 1 },
      { kind: 'network', networkName: 'c', subnet: '20.1.3.0/24', encap: 'vlan' },
    ]);
    const tags = Object.fromEntries(exportSet(parts.mirror, 'network').map((n) => [n.networkName, n.pktTag]));
    expect(tags).toEqual({ a: 2, b: 1, c: 1 });
  });

  it('gives VLANs in an ACI fabric that no object of the set asks for, groups’ neither, and the export has them all', async () => {
    const objects = [
      { kind: 'global', name: 'global', networkInfraType: 'aci', vlans: '1-9' },
      TENANT,
      { ...NETWORK, encap: 'vlan' },
      ...['a', 'b', 'c'].map((groupName) => ({
        kind: 'endpointGroup',
        tenantName: 'blue',
        groupName,
        networkName: 'net1',
        // What comes first would have been given these.
        ...(groupName !== 'b' && { pktTag: groupName === 'a' ? 1 : 3 }),
      })),
    ];
    const vlans = ({ mirror }: Parts): unknown =>
      Object.fromEntries([
        ...mirror.list<Plain>('network').map((n) => [n.networkName, n.vni]),
        ...mirror.list<Plain>('endpointGroup').map((g) => [g.groupName, g.vlan]),
      ]);
    const given = { net1: 2, a: 1, b: 4, c: 3 };
    const first = await cluster();
    await apply(first, objects);
    expect(vlans(first)).toEqual(given);
    expect((await apply(first, objects)).every((line) => line.endsWith(' unchanged'))).toBe(true);
    const exported = exportSet(first.mirror);
    const second = await cluster();
    await apply(second, exported);
    expect(vlans(second)).toEqual(given);
    expect((await apply(second, exported)).every((line) => line.endsWith(' unchanged'))).toBe(true);
    // Of one whose VLAN is another by then nothing is changed.
    const [a] = exported.filter((o) => o.groupName === 'a');
    expect((await refusal(second, [{ ...a, pktTag: 7 }])).message).toContain(
      'group blue:a: pktTag is 1 and cannot change to 7: delete the group and create it anew',
    );
  });

  it('gives addresses of services that no object of the set asks for, and keeps them', async () => {
    const parts = await cluster();
    const other = { ...SERVICE, serviceName: 'lb2', ipAddress: '20.1.1.2' };
    await apply(parts, [...SET, SERVICE, other]);
    const vip = (): unknown => parts.mirror.get<Plain>('serviceLB', 'blue:lb')?.vip;
    expect(vip()).toBe('20.1.1.3');
    expect(outcome(parts, [SERVICE])?.result).toBe('unchanged');
    expect(outcome(parts, [{ ...SERVICE, ipAddress: '20.1.1.3' }])?.result).toBe('unchanged');
    expect(await apply(parts, [{ ...SERVICE, ports: ['81:8080:TCP'] }])).toEqual([
      'serviceLB blue:lb changed',
    ]);
    expect(vip()).toBe('20.1.1.3');
    expect(await apply(parts, [{ ...SERVICE, ipAddress: '20.1.1.9' }])).toEqual([
      'serviceLB blue:lb changed',
    ]);
    expect(vip()).toBe('20.1.1.9');
    expect([...parts.mirror.addresses('blue:net1').keys()].sort()).toEqual(['20.1.1.2', '20.1.1.9']);
  });

  it('replaces a rule that differs, in one step and checked as a new one', async () => {
    const parts = await cluster();
    await apply(parts, [...SET, RULE]);
    const revision = parts.mirror.revision;
    const denied = { ...RULE, action: 'deny', priority: 7 };
    expect(outcome(parts, [denied])?.fields).toEqual({
      action: { before: 'allow', after: 'deny' },
      priority: { before: 1, after: 7 },
    });
    const seen: unknown[] = [];
    parts.mirror.onChange((batch) => seen.push(...batch.changes));
    expect(await apply(parts, [denied])).toEqual(['rule blue:p1:1 changed']);
    const { kind: _, ...object } = denied;
    expect(seen).toEqual([{ kind: 'rule', key: 'blue:p1:1', object }]);
    expect(parts.mirror.revision).toBe(revision + 1);
    expect((await refusal(parts, [{ ...denied, port: 99999 }])).message).toContain('rule blue:p1:1: port');
    expect((await refusal(parts, [{ ...denied, fromEndpointGroup: 'no' }])).message).toContain(
      'does not exist',
    );
    expect(parts.mirror.get('rule', 'blue:p1:1')).toEqual(object);
  });

  it('keeps what an orchestrator says as it says it: empty lists, zeros, and policies of no namespace', async () => {
    const parts = await cluster();
    const policy = {
      kind: 'networkPolicy',
      tier: 'admin',
      policyName: 'all',
      priority: 0,
      subject: {},
      rules: [],
    };
    expect(await apply(parts, [policy])).toEqual(['networkPolicy admin::all created']);
    expect(parts.mirror.get('networkPolicy', 'admin::all')).toEqual({
      tier: 'admin',
      namespaceName: '',
      policyName: 'all',
      priority: 0,
      subject: {},
      rules: [],
    });
    expect(await apply(parts, [policy])).toEqual(['networkPolicy admin::all unchanged']);
    expect(await apply(parts, exportSet(parts.mirror, 'networkPolicy'))).toEqual([
      'networkPolicy admin::all unchanged',
    ]);
  });

  it('leaves alone what the set does not name', async () => {
    const parts = await cluster();
    await apply(parts, SET);
    const before = await contents(parts);
    await apply(parts, [TENANT]);
    expect(await contents(parts)).toEqual(before);
  });

  it('is decided again where another wrote in between', async () => {
    const parts = await cluster();
    const set = readSet({ objects: SET });
    let decided = 0;
    const { answer } = await parts.writer.write(() => {
      const decision = decideApply(set, parts.mirror);
      // Another replica's write; the embedded store takes it at once, the mirror sees it later.
      if (++decided === 1)
        void parts.store.transact([], [{ key: '/contiv/tenant/blue', value: { tenantName: 'blue' } }]);
      return decision;
    });
    expect(decided).toBe(2);
    expect(answer.map((o) => o.result)).toEqual(['created', 'created', 'created', 'unchanged']);
  });

  it('rebuilds any cluster from its export, and finds it unchanged in itself', async () => {
    await fc.assert(
      fc.asyncProperty(clusters, async (objects) => {
        const [first, second] = [await openCluster(), await openCluster()];
        try {
          await apply(first, objects);
          const exported = exportSet(first.mirror);
          for (const line of await apply(first, exported)) expect(line).toMatch(/ unchanged$/);
          for (const line of await apply(first, objects)) expect(line).toMatch(/ unchanged$/);
          await apply(second, exported);
          expect(exportSet(second.mirror)).toEqual(exported);
          for (const kind of KINDS.filter(({ orchestrated }) => !orchestrated))
            expect(given(second, kind.name)).toEqual(given(first, kind.name));
        } finally {
          await closeCluster(first);
          await closeCluster(second);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('decides on 10,000 networks with the number of look-ups that ten times 1,000 take', async () => {
    const lookups = async (count: number): Promise<number> => {
      const parts = await cluster();
      let asked = 0;
      const counted = <F extends (...args: never[]) => unknown>(f: F): F =>
        ((...args: never[]) => {
          const answer = f(...args);
          asked += Array.isArray(answer) ? answer.length : 1;
          return answer;
        }) as F;
      const overlay = parts.mirror.overlay();
      const { where, users, list, stored, get } = overlay;
      const counting = {
        ...overlay,
        where: counted(where),
        users: counted(users),
        list: counted(list),
        stored: counted(stored),
        get: counted(get),
      };
      const objects = Array.from({ length: count }, (_, i) => ({
        kind: 'network',
        networkName: `n${i}`,
        subnet: `10.${i >> 8}.${i & 255}.0/24`,
      }));
      decideApply(readSet({ objects }), { ...parts.mirror, overlay: () => counting });
      return asked;
    };
    expect(await lookups(10_000)).toBeLessThan(15 * (await lookups(1000)));
  });

  it('orders kinds so that each comes after those it refers to', () => {
    expect(new Set(ORDER)).toEqual(new Set(KINDS));
    for (const [i, kind] of ORDER.entries())
      for (const reference of kind.references) {
        const target = ORDER.findIndex((k) => k.name === reference.kind);
        if (target >= 0) expect(target, `${kind.name} refers to ${reference.kind}`).toBeLessThan(i);
      }
  });
});
