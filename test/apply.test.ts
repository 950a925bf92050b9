/** Files of objects, from bin/netctl through a netmaster process and back. */
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { KINDS } from '../src/model/kinds.ts';
import { command as apply } from '../src/netctl/apply.ts';
import { command as delete_ } from '../src/netctl/delete.ts';
import { command as diff } from '../src/netctl/diff.ts';
import { command as export_ } from '../src/netctl/export.ts';
import { command as get } from '../src/netctl/get.ts';
import type { ObjectOutcome } from '../src/protocol/declared.ts';
import { netctl, type Ran, shell } from './cluster.ts';
import { temporaryFolder } from './folder.ts';
import { startNetmaster } from './netmaster.ts';

/** All kinds, each before what it refers to. */
const FILE = `
kind: serviceLB
serviceName: lb
networkName: contiv-net
selectors: [app=web]
ports: ["80:8080:TCP"]
---
- kind: appProfile
  appProfileName: shop
  endpointGroups: [web, db]
- kind: rule
  policyName: prod_web
  ruleId: 1
  direction: in
  fromEndpointGroup: db
  protocol: tcp
  port: 80
  action: allow
- kind: endpointGroup
  groupName: web
  networkName: contiv-net
  policies: [prod_web]
  netProfile: gold
  extContractsGrps: [c1]
- {kind: externalEndpoint, endpointName: printer, groupName: db, ipAddress: [192.0.2.7], labels: {app: print}, healthCheck: 'tcp:631'}
- kind: endpointGroup
  groupName: db
  networkName: contiv-net
  ipPool: 20.1.1.10-20.1.1.20
- {kind: extContractsGroup, contractsGroupName: c1, contractsType: provided, contracts: [x]}
- {kind: netprofile, profileName: gold, bandwidth: 10 mbps, DSCP: 3}
- {kind: policy, policyName: prod_web}
---
kind: network
networkName: contiv-net
subnet: 20.1.1.0/24
gateway: 20.1.1.254
---
kind: network
tenantName: blue
networkName: contiv-net
subnet: 20.1.1.0/24
pktTag: 1
---
kind: tenant
tenantName: blue
---
kind: tenant
tenantName: default
---
kind: global
vxlans: 1-500
---
kind: Bgp
hostname: node1
routerip: 50.1.1.2/24
as: 65000
neighbor: 50.1.1.1
---
kind: aciGw
enforcePolicies: yes
`;

/** Of kinds that an orchestrator's controller writes; these are taken like others, and are in no export. */
const ORCHESTRATED = `
- kind: workload
  namespaceName: shop
  workloadName: web-1
  uid: u1
  tenantName: default
  networkName: contiv-net
  groupName: web
  labels: {app: web, 'shop.example/tier': front}
  ports: [{name: http, protocol: 6, port: 8080}]
- kind: networkPolicy
  tier: namespace
  namespaceName: shop
  policyName: web
  subject: {workloads: {matchLabels: {app: web}}}
  isolates: [in]
  rules:
    - direction: in
      action: accept
      peers: [{workloads: {}}, {prefix: 10.0.0.0/8, except: [10.1.0.0/16]}]
      ports: [{protocol: 6, port: 80, endPort: 90}]
- kind: clusterService
  namespaceName: shop
  serviceName: web
  tenantName: default
  addresses: [10.96.0.7]
  ports:
    - protocol: 6
      port: 80
      backends: [{address: 20.1.1.2, port: 8080, ready: true, serving: true, terminating: false}]
- kind: swarmService
  serviceID: s1
  swarmNetworkID: n1
  swarm: w1
  serviceName: web
  tenantName: default
  networkName: contiv-net
  groupName: web
  virtualAddress: 20.1.1.30
`;

/** Sends a file by name; what netctl says, and the store's revision after. */
async function openFiles(url: string) {
  const folder = temporaryFolder();
  const file = join(folder, 'cluster.yaml');
  return {
    async run(command: string, text: string, ...flags: string[]): Promise<Ran> {
      fs.writeFileSync(file, text);
      return netctl(url, [command, ...flags, '-f', file]);
    },
    async revision(): Promise<number> {
      return ((await (await fetch(`${url}/healthz`)).json()) as { revision: number }).revision;
    },
    file,
  };
}

const done = (out: string | RegExp): unknown => ({
  status: 0,
  err: '',
  out: out instanceof RegExp ? expect.stringMatching(out) : out,
});

/** What nothing acts on is said when it is set: the four such objects of FILE. */
const KEPT_ONLY = /^(?:netctl: warning: \S+(?: default:\S+| node1)?: .*kept only.*\n){2}$/;
const warned = (out: RegExp): unknown => ({
  status: 0,
  err: expect.stringMatching(KEPT_ONLY),
  out: expect.stringMatching(out),
});

describe.each(['memory', 'sqlite'])('with the %s store, netctl', (kind) => {
  const start = (): Promise<string> =>
    startNetmaster(kind === 'memory' ? 'memory' : `sqlite:${join(temporaryFolder(), 'store.db')}`);

  it('applies a file, finds it applied, and shows and applies what differs', async () => {
    const url = await start();
    const { run, revision } = await openFiles(url);
    const empty = await revision();

    const dry = await run('apply', FILE, '--dry-run');
    expect(dry).toEqual(warned(/^serviceLB default:lb created\nappProfile default:shop created\n/));
    expect(dry.out).toContain('\nglobal global changed\n  vxlans: 1-10000 -> 1-500\n');
    expect(dry.out).toContain('\nnetwork default:contiv-net created\n');
    expect(dry.out).toContain('\ndry run, nothing was written: 14 created, 1 changed, 1 unchanged\n');
    expect(await revision()).toBe(empty);

    const first = await run('apply', FILE);
    expect(first).toEqual(warned(/\n14 created, 1 changed, 1 unchanged\n$/));
    expect(first.out.split('\n').slice(0, -2)).toEqual(dry.out.split('\n').slice(0, -2));
    expect(await revision()).toBe(empty + 1);

    expect(await run('apply', FILE)).toEqual(done(/\nnothing to do: 0 created, 0 changed, 16 unchanged\n$/));
    expect(await revision()).toBe(empty + 1);
    expect(await run('diff', FILE, '--exit-code')).toEqual(done(''));

    const edited = FILE.replace('action: allow', 'action: deny').replace('[prod_web]', '[prod_web, p2]');
    const more = `${edited}---\nkind: policy\npolicyName: p2\n`;
    expect(await run('diff', more)).toEqual(
      done(
        [
          '  rule default:prod_web:1',
          '-   action: allow',
          '+   action: deny',
          '  endpointGroup default:web',
          '-   policies: ["prod_web"]',
          '+   policies: ["prod_web","p2"]',
          '+ policy default:p2',
          '+   tenantName: default',
          '+   policyName: p2',
          '',
        ].join('\n'),
      ),
    );
    expect(await run('diff', more, '--exit-code')).toMatchObject({ status: 2, err: '' });
    expect(await revision()).toBe(empty + 1);
    expect(await run('apply', more)).toEqual(done(/\n1 created, 2 changed, 14 unchanged\n$/));
    expect(await revision()).toBe(empty + 2);
    expect(await run('diff', more)).toEqual(done(''));
  });

  it('writes what it reads: get and export, and a cluster is rebuilt from its export', async () => {
    const url = await start();
    const { run, revision } = await openFiles(url);
    await run('apply', FILE);
    await run('apply', ORCHESTRATED);
    const applied = await revision();
    // Together: each is two processes that have to start.
    await Promise.all(
      KINDS.map(async ({ name }) => {
        const got = await netctl(url, ['get', name, '-a', '-o', kind === 'memory' ? 'yaml' : 'json']);
        expect(got).toMatchObject({ status: 0, err: '' });
        const again = await netctl(url, ['apply', '-f', '-'], got.out);
        expect(again).toEqual(done(/^(?:\S+ \S+ unchanged\n)+nothing to do: .*\n$/));
      }),
    );
    const exported = await netctl(url, ['export']);
    expect(await netctl(url, ['apply', '-f', '-'], exported.out)).toEqual(done(/\n.* 16 unchanged\n$/));
    expect(await revision()).toBe(applied);

    for (const format of ['yaml', 'json']) {
      const other = await start();
      const { out } = await netctl(url, ['export', '-o', format]);
      expect(await netctl(other, ['apply', '-f', '-'], out)).toEqual(
        warned(/\n14 created, 1 changed, 1 unch/),
      );
      expect(await netctl(other, ['export'])).toEqual(exported);
    }
    expect(exported.out).toMatch(
      /^kind: tenant\ntenantName: blue\n---\nkind: tenant\ntenantName: default\n---\nkind: gl/,
    );
    expect(exported.out).toContain('networkName: contiv-net\nnwType: data\nencap: vxlan\npktTag: 2\n');
    expect(exported.out).toContain('serviceName: lb\nnetworkName: contiv-net\nipAddress: 20.1.1.2\n');
  });

  it('refuses in one line that names file, line and object, and nothing is written', async () => {
    const url = await start();
    const { run, revision, file } = await openFiles(url);
    const empty = await revision();
    const refused = async (text: string, message: string, status: number): Promise<void> => {
      for (const command of ['apply', 'diff'])
        expect(await run(command, text)).toEqual({ status, out: '', err: `netctl: ${file}: ${message}\n` });
      expect(await revision()).toBe(empty);
    };
    await refused(
      FILE.replace('networkName: contiv-net\n  policies', 'networkName: gone\n  policies'),
      'line 19: object 4: endpointGroup default:web: networkName names network default:gone, which does not exist',
      3,
    );
    await refused(
      'kind: tenant\ntenantName: [',
      'line 2: flow sequence in block collection must be sufficiently indented and end with a ]',
      1,
    );
    await refused('# nothing\n', 'has no objects', 1);
  });
});

describe('a set', () => {
  const SHOP = `
kind: tenant
tenantName: shop
---
kind: network
tenantName: shop
networkName: net1
subnet: 20.1.1.0/24
---
kind: policy
tenantName: shop
policyName: p
---
kind: rule
tenantName: shop
policyName: p
ruleId: deny-all
direction: in
action: deny
---
kind: endpointGroup
tenantName: shop
groupName: web
networkName: net1
policies: [p]
`;
  const apply = async (url: string, text: string, ...more: string[]): Promise<Ran> =>
    netctl(url, ['apply', '-f', '-', ...more], text);

  it('apply --prune deletes what the same set made and the file has no more, in that step, and nothing else', async () => {
    const url = await startNetmaster('memory');
    const names = async (of: string) => (await netctl(url, ['get', of, '-a', '-o', 'name'])).out;
    const shop = ['--set=shop', '--prune'];
    // Made by hand, though the file has it: it stays.
    await netctl(url, ['tenant', 'create', 'shop']);
    await netctl(url, ['policy', 'create', '-t', 'shop', 'by-hand']);
    expect(await apply(url, SHOP, ...shop)).toEqual(
      done(/\n4 created, 0 changed, 1 unchanged, 0 deleted\n$/),
    );
    // The new network has the subnet of the old one; the group goes over to another policy.
    const next = SHOP.replaceAll('net1', 'net2')
      .replaceAll(/policyName: p$/gm, 'policyName: q')
      .replace('[p]', '[q]')
      .replace('groupName: web', 'groupName: shop');
    const dry = await apply(url, next, ...shop, '--dry-run');
    expect(dry.out).toMatch(
      /\ndry run, nothing was written: 4 created, 0 changed, 1 unchanged, 4 deleted\n$/,
    );
    expect(await names('network')).toBe('shop:net1\n');
    // Another set, or none, takes nothing away.
    expect(await apply(url, 'kind: policy\npolicyName: x\n', '--set=other', '--prune')).toEqual(
      done('policy default:x created\n1 created, 0 changed, 0 unchanged, 0 deleted\n'),
    );
    expect(await apply(url, next, ...shop)).toEqual(
      done(
        /^tenant shop unchanged\n.*\nrule shop:p:deny-all deleted\nendpointGroup shop:web deleted\npolicy shop:p deleted\nnetwork shop:net1 deleted\n4 created, 0 changed, 1 unchanged, 4 deleted\n$/s,
      ),
    );
    expect(await names('network')).toBe('shop:net2\n');
    expect(await names('policy')).toBe('default:x\nshop:by-hand\nshop:q\n');
    // A rule that was replaced is still the set's; what was deleted and made by hand since is not.
    await apply(url, next.replace('action: deny', 'action: allow'));
    await netctl(url, ['group', 'rm', '-t', 'shop', 'shop']);
    await netctl(url, ['group', 'create', '-t', 'shop', 'net2', 'shop']);
    const [tenant = ''] = SHOP.split('---');
    const refused = await apply(url, tenant, ...shop);
    expect(refused).toMatchObject({
      status: 3,
      err: 'netctl: network shop:net2 is in use by endpointGroup shop:shop: delete them first\n',
    });
    expect(await names('rule')).toBe('shop:q:deny-all\n');
    await netctl(url, ['group', 'rm', '-t', 'shop', 'shop']);
    expect(await apply(url, tenant, ...shop)).toEqual(
      done(/\n0 created, 0 changed, 1 unchanged, 3 deleted\n$/),
    );
    expect(await apply(url, tenant, ...shop)).toEqual(
      done(/\nnothing to do: 0 created, 0 changed, 1 unchanged, 0 deleted\n$/),
    );
    expect(await names('policy')).toBe('default:x\nshop:by-hand\n');
  });

  it('delete -f deletes what is there of a file, in one step, or says who uses it', async () => {
    const url = await startNetmaster('memory');
    const remove = (text: string, ...more: string[]) => netctl(url, ['delete', '-f', '-', ...more], text);
    await apply(url, SHOP);
    const withoutGroup = SHOP.replace(/---\nkind: endpointGroup.*$/s, '');
    expect(await remove(withoutGroup)).toEqual({
      status: 3,
      out: '',
      err: 'netctl: standard input: line 10: object 3: policy shop:p is in use by endpointGroup shop:web: delete them first\n',
    });
    expect(await remove(SHOP, '--dry-run')).toEqual(
      done(/\ndry run, nothing was written: 5 deleted, 0 absent\n$/),
    );
    // Kind and name are enough.
    const group = 'kind: endpointGroup\ntenantName: shop\ngroupName: web\n';
    expect(await remove(group)).toEqual(done('endpointGroup shop:web deleted\n1 deleted, 0 absent\n'));
    expect(await remove(SHOP)).toEqual(done(/endpointGroup shop:web absent\n4 deleted, 1 absent\n$/));
    expect(await remove(SHOP)).toEqual(done(/\nnothing to do: 0 deleted, 5 absent\n$/));
    expect((await netctl(url, ['tenant', 'ls', '-q'])).out).toBe('default\n');
  });
});

it('apply --prune says that it needs --set, and a name of a set is a word', async () => {
  const url = await startNetmaster('memory');
  const run = (...flags: string[]) =>
    netctl(url, ['apply', '-f', '-', ...flags], 'kind: tenant\ntenantName: a\n');
  expect(await run('--prune')).toMatchObject({
    status: 1,
    err: 'netctl: --prune needs --set=NAME: what was made by applies of that name may go\n',
  });
  expect(await run('--set=a/b')).toMatchObject({
    status: 3,
    err: expect.stringContaining("set 'a/b': --set must be"),
  });
});

describe('netctl get', () => {
  it('finds objects by kind and name as the other commands call them', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    const get = (...args: string[]): Promise<Ran> => netctl(url, ['get', ...args]);
    expect(await get('net', '-o', 'name')).toEqual(done('default:contiv-net\n'));
    expect(await get('networks', '-a', '-o', 'name')).toEqual(done('blue:contiv-net\ndefault:contiv-net\n'));
    expect(await get('network', 'contiv-net', '-t', 'blue', '-o', 'name')).toEqual(done('blue:contiv-net\n'));
    expect(await get('group', 'default:web', '-o', 'name')).toEqual(done('default:web\n'));
    expect(await get('rule', 'prod_web:1')).toEqual(done(/^kind: rule\n.*\nruleId: "1"\n/s));
    expect(await get('host')).toEqual(done(''));
    expect(await get('network', 'nope')).toEqual({
      status: 3,
      out: '',
      err: 'netctl: network default:nope does not exist\n',
    });
    expect(await get('netwrk')).toMatchObject({
      status: 1,
      err: "netctl: unknown kind 'netwrk': did you mean network?\n",
    });
    expect(await get('network', '-o', 'xml')).toMatchObject({ status: 1 });
    expect((await get('network', '-a', '-o', 'wide')).out).toMatch(
      /^tenantName +networkName +nwType .*\n[- ]+\nblue +contiv-net +data .*\ndefault +contiv-net +data .* 20\.1\.1\.254\n$/,
    );
    expect(await get('network', 'a', 'b')).toMatchObject({ status: 1 });
  });
});

describe('netctl get -w', () => {
  it('writes what there is, then what changes or goes, and not what is the same', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['policy', 'create', 'first']);
    const watching = spawn('bin/netctl', ['get', 'policy', '-w', '-o', 'json'], {
      env: { ...process.env, NETMASTER: url },
    });
    onTestFinished(() => void watching.kill());
    let out = '';
    watching.stdout.on('data', (data) => {
      out += data;
    });
    const line = (of: object): string => `${JSON.stringify({ kind: 'policy', ...of })}\n`;
    const policy = (policyName: string): string => line({ tenantName: 'default', policyName });
    await vi.waitFor(() => expect(out).toBe(policy('first')), 30_000);
    await netctl(url, ['policy', 'create', 'second']);
    await netctl(url, ['tenant', 'create', 'blue']);
    await netctl(url, ['policy', 'create', '-t', 'blue', 'other']);
    await netctl(url, ['policy', 'rm', 'first']);
    const expected = policy('first') + policy('second') + line({ key: 'default:first', deleted: true });
    await vi.waitFor(() => expect(out).toBe(expected), 30_000);
  });
});

describe('netctl edit', () => {
  /** An editor that is a line of sed. */
  const edit = (url: string, script: string, ...args: string[]): Promise<Ran> =>
    new Promise((done) => {
      const env = { ...process.env, NETMASTER: url, VISUAL: '', EDITOR: `sed -i '${script}'` };
      const child = execFile('bin/netctl', ['edit', ...args], { env }, (_error, out, err) =>
        done({ status: child.exitCode ?? -1, out, err }),
      );
    });

  it('applies an object as the editor leaves it, and nothing where it leaves it alone', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    expect(await edit(url, 's/nothing//', 'rule', 'prod_web:1')).toEqual(
      done('rule default:prod_web:1 unchanged\n'),
    );
    expect(await edit(url, 's/allow/deny/', 'rule', 'prod_web:1')).toEqual(
      done('rule default:prod_web:1 changed\n'),
    );
    expect((await netctl(url, ['get', 'rule', 'prod_web:1'])).out).toContain('action: deny');
    expect(await edit(url, 's/x/y/', 'policy', 'gone')).toMatchObject({
      status: 3,
      err: 'netctl: policy default:gone does not exist\n',
    });
    expect(await edit(url, 's/x/y/', 'endpoint', 'gone')).toMatchObject({ status: 1 });
  });

  it('keeps the text of what is refused, and says where', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    for (const [script, reason, status] of [
      ['s/port: 80/port: 0x50/', /rule default:prod_web:1: port .*; your text is in (\S+)\n/, 3],
      [
        's/ruleId: .*/ruleId: other/',
        /must be rule default:prod_web:1, and nothing else: .*; your text is in (\S+)\n/,
        1,
      ],
    ] as const) {
      const ran = await edit(url, script, 'rule', 'prod_web:1');
      expect(ran).toMatchObject({ status, out: '', err: expect.stringMatching(reason) });
      const kept = reason.exec(ran.err)?.[1] as string;
      expect(fs.readFileSync(kept, 'utf8')).toContain('policyName: prod_web');
      fs.rmSync(join(kept, '..'), { recursive: true });
    }
  });
});

describe('netctl', () => {
  it('lists in the format that is asked for', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    const out = async (...args: string[]) => (await netctl(url, args)).out;
    for (const list of [
      ['group', 'ls'],
      ['policy', 'rule-ls', 'prod_web'],
    ]) {
      expect(await out(...list, '-o', 'json')).toBe(await out(...list, '--json'));
      expect(await out(...list, '--output=name')).toBe(await out(...list, '-q'));
    }
    expect(await out('group', 'ls', '-o', 'yaml')).toMatch(/^key: default:db\n.*\n---\nkey: default:web\n/s);
    expect(await out('group', 'ls', '-o', 'wide')).toMatch(
      /^tenantName +groupName +networkName .*\n[- ]+\ndefault +db +contiv-net +.*20\.1\.1\.10-20\.1\.1\.20/,
    );
    expect(await netctl(url, ['group', 'ls', '-o', 'xml'])).toEqual({
      status: 1,
      out: '',
      err: "netctl: --output: 'xml' must be wide, name, json or yaml\n",
    });
  });

  it('lists tags and service addresses that were given out', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    expect((await netctl(url, ['net', 'ls', '-a'])).out).toMatch(/^default +contiv-net +data +vxlan +2 /m);
    expect((await netctl(url, ['service', 'ls'])).out).toMatch(/^default +lb +contiv-net +20\.1\.1\.\d+ /m);
  });

  it('says whether a create creates or changes, and that rules and networks do not change', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    const line = (text: string): Promise<Ran> => netctl(url, text.split(' '));
    expect(await line('group create contiv-net new')).toEqual(done('Creating group default:new\n'));
    expect(await line('group create contiv-net new')).toEqual(done('Changing group default:new\n'));
    expect(await line('policy rule-add prod_web 1 -protocol=udp')).toMatchObject({
      status: 3,
      err: "netctl: rule default:prod_web:1 exists already: --protocol is 'tcp' and cannot change to 'udp': delete it and create it anew\n",
    });
  });

  it('completes the names of the tenant on the line', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    await netctl(url, ['net', 'create', '-t', 'blue', 'other', '--subnet=10.1.1.0/24']);
    const words = async (...line: string[]) =>
      (await netctl(url, ['completion', 'words', '--', ...line])).out.split('\n').filter((word) => word);
    expect(await words('net', 'rm', '')).toEqual(['contiv-net']);
    expect(await words('net', 'rm', '-t', 'blue', '')).toEqual(['contiv-net', 'other']);
    expect(await words('net', 'rm', '--tenant=blue', 'o')).toEqual(['other']);
    expect(await words('tenant', 'inspect', '')).toEqual(expect.arrayContaining(['blue', 'default']));
    expect(await words('apply', '--d')).toEqual(['--dry-run']);
  });

  it('shows no endpoint where a name means several, and lists them', async () => {
    const url = await startNetmaster('memory');
    await netctl(url, ['apply', '-f', '-'], FILE);
    const send = async (method: string, path: string, body: unknown): Promise<void> => {
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${url}/api/v1/${path}`, { method, headers, body: JSON.stringify(body) });
      expect(response.status, await response.text()).toBe(200);
    };
    await send('PUT', 'hosts/node1', { name: 'node1', underlay: '192.168.1.1', version: '2.0.0' });
    for (const [tenantName, id] of [
      ['default', 'a'],
      ['blue', 'b'],
    ] as const) {
      const place = { tenantName, networkName: 'contiv-net' };
      await send('POST', 'addresses', { ...place, family: 4, host: 'node1', address: '20.1.1.7' });
      await send('PUT', `endpoints/${id}?wait=0`, {
        ...place,
        endpointID: id,
        ipAddress: ['20.1.1.7'],
        macAddress: '02:02:14:01:01:07',
        homingHost: 'node1',
        containerID: id.repeat(64),
        containerName: 'twin',
        status: 'running',
      });
    }
    expect(await netctl(url, ['endpoint', 'inspect', 'twin'])).toEqual({
      status: 3,
      out: '',
      err: 'netctl: twin is the name of several containers: say the id of one (aaaaaaaaaaaa on node1, bbbbbbbbbbbb on node1)\n',
    });
    expect((await netctl(url, ['endpoint', 'inspect', 'b'.repeat(12)])).out).toContain('"contiv-net.blue"');
    expect((await netctl(url, ['endpoint', 'ls', '-t', 'blue'])).out).toMatch(
      /^blue +twin +b{12} +node1 +contiv-net +20\.1\.1\.7 +running$/m,
    );

    expect(await netctl(url, ['endpoint', 'rm', 'a'])).toEqual({
      status: 3,
      out: '',
      err: 'netctl: endpoint a: host node1 is alive, and removes it when its container ends: end that one\n',
    });
    await send('PUT', 'endpoints/c?wait=0', {
      endpointID: 'c',
      tenantName: 'default',
      networkName: 'contiv-net',
      ipAddress: ['20.1.1.8'],
      macAddress: '02:02:14:01:01:08',
      homingHost: 'burnt',
      containerName: 'lost',
      status: 'running',
    });
    expect(await netctl(url, ['endpoint', 'rm', 'lost'])).toEqual({
      status: 0,
      out: 'Deleting endpoint lost\n',
      err: 'netctl: warning: not yet applied on node1\n',
    });
    expect((await netctl(url, ['endpoint', 'rm', 'lost'])).err).toContain('endpoint lost does not exist');
    expect((await netctl(url, ['endpoint', 'ls'])).out).not.toContain('lost');
  });
});

it('every example in the help of the commands for files works', async () => {
  const url = await startNetmaster('memory');
  const folder = temporaryFolder();
  fs.writeFileSync(join(folder, 'cluster.yaml'), FILE);
  fs.writeFileSync(join(folder, 'shop.yaml'), 'kind: policy\npolicyName: shop\n');
  const examples = [apply, diff, get, export_, delete_].flatMap((c) =>
    c.subcommands.flatMap((s) => s.examples),
  );
  for (const example of examples) {
    const exit = await shell(url, folder, example);
    const err = /^netctl apply(?! .*dry)/.test(example)
      ? expect.stringMatching(/^(?:netctl: warning: .*\n)*$/)
      : '';
    expect({ example, exit }).toEqual({ example, exit: { status: 0, err } });
  }
  expect(fs.readFileSync(join(folder, 'cluster.yaml'), 'utf8')).toMatch(/^kind: tenant\n/);
});

describe('POST /api/v1/apply', () => {
  const post = (url: string, body: string, query = ''): Promise<Response> =>
    fetch(`${url}/api/v1/apply${query}`, { method: 'POST', body });

  it('takes more than other routes do, and answers what was done', async () => {
    const url = await startNetmaster('memory');
    const objects = Array.from({ length: 10_000 }, (_, i) => ({
      kind: 'policy',
      policyName: `${'p'.repeat(50)}${i}`,
      'link-sets': { padding: 'x'.repeat(100) },
    }));
    const body = JSON.stringify({ objects });
    expect(body.length).toBeGreaterThan(1 << 20);
    const answer = (await (await post(url, body)).json()) as { objects: ObjectOutcome[] };
    expect(answer.objects).toHaveLength(10_000);
    expect(answer.objects.every((o) => o.result === 'created')).toBe(true);
    const large = await fetch(`${url}/api/v1/tenants/a`, { method: 'POST', body });
    expect(large.status).toBe(413);
    expect(await large.text()).toContain('the body is larger than 1048576 bytes');
  });

  it('refuses what is no set, and flags that it does not know', async () => {
    const url = await startNetmaster('memory');
    const tenant = '{"objects": [{"kind": "tenant", "tenantName": "a"}]}';
    for (const [body, query, error] of [
      [tenant.replace('"a"', '"a_b"'), '', { position: 1, field: 'tenantName' }],
      ['{"objects": {}}', '', { field: 'objects' }],
      ['{"objects": [], "x": 1}', '', { field: 'objects' }],
      ['[]', '', { field: 'objects' }],
      ['', '', { field: 'objects' }],
      ['{', '', { message: 'POST /api/v1/apply: the body is not JSON' }],
      [tenant, '?dryRun=1', { field: 'dryRun' }],
      [tenant, '?wait=x', { field: 'wait' }],
    ] as const) {
      const response = await post(url, body, query);
      expect(response.status, body + query).toBe(400);
      expect(((await response.json()) as { error: object }).error, body + query).toMatchObject(error);
    }
    expect((await fetch(`${url}/api/v1/tenants/a`)).status).toBe(404);
    const api = (await (await fetch(`${url}/openapi.json`)).json()) as { paths: Record<string, unknown> };
    expect(Object.keys(api.paths)).toEqual(expect.arrayContaining(['/api/v1/apply', '/api/v1/export']));
  });
});
