/** A netmaster's parts in this process against simulated controllers: what is declared is in the fabric, whatever happens on the way. */

import { generateKeyPairSync } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { type ApicOptions, openApics, type Simulator } from '../../../test/apic/apic.ts';
import { RULE } from '../../../test/apic/declared.ts';
import { FabricError } from '../../../test/apic/fabric.ts';
import { closeCluster, openCluster } from '../../../test/cluster.ts';
import { temporaryFolder } from '../../../test/folder.ts';
import type { AciGw } from '../../model/aciGw.ts';
import { GLOBAL_DEFAULTS } from '../../model/settings.ts';
import { issuePair, makeAuthority } from '../../tls/certificates.ts';
import type { Duty } from '../duty.ts';
import { storeKey } from '../mirror.ts';
import { followFabric } from './follower.ts';
import { fabricOf } from './state.ts';

const MARK = 'orchestrator:contiv-contiv';
const PATH = 'topology/pod-1/paths-101/pathep-[eth1/14]';
const EPG = 'uni/tn-blue/ap-shop/epg-web';
/** Milliseconds: whatever else the machine does. */
const PATIENT = { timeout: 30_000, interval: 20 };
/** Milliseconds: no pass but those that something asks for. */
const NEVER = 3_600_000;

interface Options extends ApicOptions {
  readonly controllers?: number;
  readonly gateway?: Partial<AciGw>;
  readonly duty?: Duty;
  /** By name, beside the password's. */
  readonly files?: Readonly<Record<string, string>>;
  /** Before anything is followed. */
  prepare?(apics: Simulator): void;
  readonly interval?: number;
  readonly spacing?: number;
}

async function open(options: Options = {}) {
  const apics = await openApics(options.controllers ?? 1, options);
  const cluster = await openCluster();
  const folder = temporaryFolder();
  for (const [name, text] of Object.entries({ apic: 'secret\n', ...options.files }))
    fs.writeFileSync(path.join(folder, name), text);
  options.prepare?.(apics);
  const put = async (kind: string, key: string, value: unknown): Promise<void> => {
    const outcome = await cluster.store.transact([], [{ key: storeKey(kind, key), value }]);
    if (outcome.ok) await cluster.mirror.seen(outcome.revision);
  };
  const mode = (networkInfraType: string) =>
    put('global', 'global', { ...GLOBAL_DEFAULTS, networkInfraType });
  const gateway: AciGw = {
    name: 'aciGw',
    controllers: apics.controllers.map(({ url }) => url).join(','),
    userName: 'contiv',
    passwordFile: 'apic',
    physicalDomain: 'dom1',
    vmmDomains: 'VMware/dvs1, Redhat/kvm',
    pathBindings: PATH,
    ...options.gateway,
  };
  const network = (name: string, vni: number) =>
    put('network', `blue:${name}`, {
      tenantName: 'blue',
      networkName: name,
      encap: 'vlan',
      subnet: `10.0.${vni}.0/24`,
      gateway: `10.0.${vni}.254`,
      vni,
    });
  const group = (name: string, networkName: string, more: object = {}) =>
    put('endpointGroup', `blue:${name}`, { tenantName: 'blue', groupName: name, networkName, ...more });
  const profile = (...endpointGroups: string[]) =>
    put('appProfile', 'blue:shop', { tenantName: 'blue', appProfileName: 'shop', endpointGroups });
  await put('tenant', 'blue', { tenantName: 'blue' });
  await network('front', 101);
  await network('back', 102);
  await put('policy', 'blue:p', { tenantName: 'blue', policyName: 'p' });
  await put('rule', 'blue:p:1', RULE);
  await group('web', 'front');
  await group('db', 'back', { policies: ['p'] });
  await profile('web', 'db');
  await put('aciGw', 'aciGw', gateway);
  await mode('aci');
  const follower = followFabric({
    ...cluster,
    duty: options.duty ?? { isHeld: () => true, close: async () => {} },
    log: pino({ level: 'silent' }),
    folder,
    env: {},
    interval: options.interval ?? 100,
    spacing: options.spacing ?? 50,
  });
  onTestFinished(async () => {
    await follower.close();
    await closeCluster(cluster);
    await apics.close();
  });
  const state = () => fabricOf(cluster.mirror);
  const reached = () =>
    vi.waitFor(() => expect(state()).toMatchObject({ state: 'reached', problems: [] }), PATIENT);
  const has = (dn: string, attributes: object) =>
    vi.waitFor(() => expect(apics.fabric.get(dn)).toMatchObject(attributes), PATIENT);
  const gone = (dn: string) => vi.waitFor(() => expect(apics.fabric.get(dn)).toBeUndefined(), PATIENT);
  const problems = (...texts: string[]) =>
    vi.waitFor(
      () =>
        expect(state()?.problems.map(({ of, problem }) => `${of}: ${problem}`)).toEqual(
          texts.map((text) => expect.stringContaining(text)),
        ),
      PATIENT,
    );
  const events = () =>
    cluster.mirror.events
      .list({ kinds: new Set(['fabric']) })
      .map(({ action, text }) => `${action}: ${text}`);
  return {
    ...cluster,
    ...apics,
    gateway,
    folder,
    put,
    mode,
    group,
    profile,
    state,
    reached,
    has,
    gone,
    problems,
    events,
    follower,
  };
}

it('what is declared is in the fabric, with the mark of this cluster, and follows changes', async () => {
  const { fabric, put, group, profile, reached, has, gone, state, controllers, events } = await open();
  await reached();
  await has('uni/tn-blue', { annotation: MARK });
  await has('uni/tn-blue/ctx-blue-Vrf', { pcEnfPref: 'enforced', annotation: MARK });
  await has('uni/tn-blue/BD-front/rsctx', { tnFvCtxName: 'blue-Vrf', state: 'formed' });
  await has('uni/tn-blue/BD-front/subnet-[10.0.101.254/24]', { ip: '10.0.101.254/24' });
  await has(`${EPG}/rsbd`, { tnFvBDName: 'front', state: 'formed' });
  for (const domain of ['phys-dom1', 'vmmp-VMware/dom-dvs1', 'vmmp-Redhat/dom-kvm'])
    await has(`${EPG}/rsdomAtt-[uni/${domain}]`, { annotation: MARK });
  await has(`${EPG}/rspathAtt-[${PATH}]`, { encap: 'vlan-101', instrImedcy: 'immediate' });
  await has(`${EPG}/rscons-pFrmweb`, { state: 'formed' });
  await has('uni/tn-blue/ap-shop/epg-db/rsprov-pFrmweb', { state: 'formed' });
  await has('uni/tn-blue/brc-pFrmweb/subj-subj-pFrmweb/rssubjFiltAtt-filt-pFrmweb', { state: 'formed' });
  await has('uni/tn-blue/flt-filt-pFrmweb/e-tcp-80', { prot: 'tcp', dFromPort: 'http', dToPort: 'http' });
  expect(state()).toMatchObject({ controller: controllers[0]?.url });
  expect(events()).toEqual([`reached: the ACI fabric is followed: ${controllers[0]?.url}`]);
  await put('rule', 'blue:p:1', undefined);
  await gone('uni/tn-blue/brc-pFrmweb');
  await gone('uni/tn-blue/flt-filt-pFrmweb');
  await gone(`${EPG}/rscons-pFrmweb`);
  await profile('web');
  await gone('uni/tn-blue/ap-shop/epg-db');
  await gone('uni/tn-blue/BD-back');
  await group('web', 'back');
  await has(`${EPG}/rspathAtt-[${PATH}]`, { encap: 'vlan-102' });
  // Two of one network, each by its own VLAN.
  await group('web', 'back', { vlan: 7 });
  await group('db', 'back', { vlan: 8 });
  await profile('web', 'db');
  await has(`${EPG}/rspathAtt-[${PATH}]`, { encap: 'vlan-7' });
  await has(`uni/tn-blue/ap-shop/epg-db/rspathAtt-[${PATH}]`, { encap: 'vlan-8' });
  for (const epg of ['web', 'db'])
    await has(`uni/tn-blue/ap-shop/epg-${epg}/rsbd`, { tnFvBDName: 'back', state: 'formed' });
  await put('appProfile', 'blue:shop', undefined);
  await gone('uni/tn-blue');
  expect(fabric.get('uni/tn-common')).toBeDefined();
});

it('with another fabric mode nothing of ours is there any more', async () => {
  const { mode, reached, gone, state } = await open();
  await reached();
  await mode('default');
  await gone('uni/tn-blue');
  await vi.waitFor(() => expect(state()).toBeUndefined(), PATIENT);
});

it('writes nothing where nothing is another', async () => {
  const { reached, controllers } = await open({ interval: 20 });
  await reached();
  const [controller] = controllers;
  const posted = () => controller?.requests.filter((each) => each.startsWith('POST /api/mo')).length;
  const before = posted();
  const passes = () =>
    controller?.requests.filter((each) => each === 'GET /api/class/fvTenant.json').length ?? 0;
  const done = passes() + 3;
  await vi.waitFor(() => expect(passes()).toBeGreaterThan(done), PATIENT);
  expect(posted()).toBe(before);
  expect(controller?.requests.filter((each) => each === 'POST /api/aaaLogin.json')).toHaveLength(1);
});

it('puts right what is changed there by hand, and tells of it', async () => {
  const { fabric, reached, has, events } = await open();
  await reached();
  fabric.post(`${EPG}/rspathAtt-[${PATH}]`, { fvRsPathAtt: { attributes: { encap: 'vlan-7' } } });
  fabric.remove('uni/tn-blue/brc-pFrmweb');
  await has(`${EPG}/rspathAtt-[${PATH}]`, { encap: 'vlan-101' });
  await has('uni/tn-blue/brc-pFrmweb/subj-subj-pFrmweb', {});
  await vi.waitFor(() => {
    expect(events()).toContain(
      `repaired: fvRsPathAtt ${EPG}/rspathAtt-[${PATH}] was changed in the fabric (encap was vlan-7): put right`,
    );
    expect(events()).toContain(
      'repaired: vzBrCP uni/tn-blue/brc-pFrmweb had gone from the fabric: put right',
    );
  }, PATIENT);
});

it('is told by the fabric what is changed there, also where it was not told for a while', async () => {
  const { fabric, reached, has, controllers, forget, profile, gone, state } = await open({
    interval: NEVER,
  });
  await reached();
  const [controller] = controllers;
  const told = () => vi.waitFor(() => expect(controller?.subscriptions()).toBe(1), PATIENT);
  const at = `${EPG}/rspathAtt-[${PATH}]`;
  const drift = async (encap: string): Promise<void> => {
    await told();
    fabric.post(at, { fvRsPathAtt: { attributes: { encap } } });
    await has(at, { encap: 'vlan-101' });
  };
  await drift('vlan-7');
  await told();
  fabric.remove(EPG);
  await has(at, { encap: 'vlan-101' });
  controller?.hangUp();
  await drift('vlan-8');
  forget();
  await profile('web');
  await gone('uni/tn-blue/ap-shop/epg-db');
  await drift('vlan-9');
  await vi.waitFor(() => expect(state()).toMatchObject({ state: 'reached', subscribed: true }), PATIENT);
});

it('another controller tells it where one is lost', async () => {
  const { fabric, reached, has, controllers } = await open({ controllers: 2, interval: NEVER });
  await reached();
  await vi.waitFor(() => expect(controllers[0]?.subscriptions()).toBe(1), PATIENT);
  await controllers[0]?.stop();
  await vi.waitFor(() => expect(controllers[1]?.subscriptions()).toBe(1), PATIENT);
  const at = `${EPG}/rspathAtt-[${PATH}]`;
  fabric.post(at, { fvRsPathAtt: { attributes: { encap: 'vlan-7' } } });
  await has(at, { encap: 'vlan-101' });
});

it('finds what is changed by looking where nothing can be told', async () => {
  const { fabric, reached, has, controllers, state } = await open({ deaf: true });
  await reached();
  fabric.remove(EPG);
  await has(`${EPG}/rspathAtt-[${PATH}]`, { encap: 'vlan-101' });
  expect(controllers[0]?.subscriptions()).toBe(0);
  expect(state()).not.toHaveProperty('subscribed');
});

it('what somebody else has made there stays, is used where it can be, and is said where it cannot', async () => {
  const { fabric, reached, problems, put, gone, has } = await open({ interval: 50 });
  await reached();
  const theirs = { fvRsPathAtt: { attributes: { encap: 'vlan-900' } } };
  fabric.post(`${EPG}/rspathAtt-[topology/pod-1/paths-102/pathep-[eth1/1]]`, theirs);
  fabric.post('uni/tn-blue/out-wan', { l3extOut: { attributes: {} } });
  fabric.post('uni/tn-blue/brc-pExpose', { vzBrCP: { attributes: { descr: 'by hand' } } });
  await put('rule', 'blue:p:2', {
    tenantName: 'blue',
    policyName: 'p',
    ruleId: '2',
    direction: 'in',
    action: 'allow',
  });
  await problems('aci: uni/tn-blue/brc-pExpose is in the fabric already, made by somebody else');
  expect(fabric.get('uni/tn-blue/brc-pExpose')).toMatchObject({ descr: 'by hand', annotation: '' });
  expect(fabric.get(`${EPG}/rspathAtt-[topology/pod-1/paths-102/pathep-[eth1/1]]`)).toMatchObject({
    encap: 'vlan-900',
  });
  await put('appProfile', 'blue:shop', undefined);
  await gone('uni/tn-blue/ap-shop');
  await gone('uni/tn-blue/ctx-blue-Vrf');
  // Somebody has something in it: it goes with the last of that.
  await has('uni/tn-blue/out-wan', {});
  fabric.remove('uni/tn-blue/out-wan');
  fabric.remove('uni/tn-blue/brc-pExpose');
  await gone('uni/tn-blue');
});

it('a tenant and a bridge domain that are there are used, and stay', async () => {
  const { fabric, reached, has, gone, put } = await open({
    prepare({ fabric }) {
      fabric.post('uni/tn-blue', { fvTenant: { attributes: { descr: 'theirs' } } });
      fabric.post('uni/tn-blue/BD-front', { fvBD: { attributes: { arpFlood: 'yes' } } });
    },
  });
  await reached();
  await has(`${EPG}/rsbd`, { tnFvBDName: 'front', state: 'formed' });
  expect(fabric.get('uni/tn-blue/BD-front/rsctx')).toMatchObject({ tnFvCtxName: '' });
  expect(fabric.get('uni/tn-blue/BD-front/subnet-[10.0.101.254/24]')).toBeUndefined();
  await put('appProfile', 'blue:shop', undefined);
  await gone('uni/tn-blue/BD-back');
  await gone('uni/tn-blue/ap-shop');
  expect(fabric.get('uni/tn-blue')).toMatchObject({ descr: 'theirs', annotation: '' });
  expect(fabric.get('uni/tn-blue/BD-front')).toMatchObject({ arpFlood: 'yes', annotation: '' });
});

it("a bridge domain of the fabric's common tenant stands for one, where it is to", async () => {
  const { fabric, reached, has } = await open({
    gateway: { includeCommonTenant: 'yes' },
    prepare: ({ fabric }) => fabric.post('uni/tn-common/BD-front', { fvBD: { attributes: {} } }),
  });
  await reached();
  await has(`${EPG}/rsbd`, { tnFvBDName: 'front', tDn: 'uni/tn-common/BD-front' });
  expect(fabric.get('uni/tn-blue/BD-front')).toBeUndefined();
  expect(fabric.get('uni/tn-blue/BD-back')).toBeDefined();
});

it("clusters on one fabric do not touch what is the other one's", async () => {
  const first = await open();
  await first.reached();
  const second = await open({
    gateway: { controllers: first.gateway.controllers as string, clusterName: 'second' },
  });
  await vi.waitFor(() => expect(second.state()?.problems.length).toBeGreaterThan(0), PATIENT);
  await second.mode('default');
  await vi.waitFor(() => expect(second.state()).toBeUndefined(), PATIENT);
  expect(first.fabric.get(EPG)).toMatchObject({ annotation: MARK });
  await first.reached();
});

it('external contracts are led to by their DN, and one that the fabric has not is said', async () => {
  const { group, put, has, problems } = await open();
  const external = (contractsType: string, ...contracts: string[]) =>
    put('extContractsGroup', `blue:${contractsType}`, {
      tenantName: 'blue',
      contractsGroupName: contractsType,
      contractsType,
      contracts,
    });
  await external('consumed', 'uni/tn-common/brc-default');
  await external('provided', 'uni/tn-common/brc-none', 'uni/tn-red/brc-x');
  await group('web', 'front', { extContractsGrps: ['consumed', 'provided'] });
  await has(`${EPG}/rscons-default`, { tDn: 'uni/tn-common/brc-default', state: 'formed' });
  await problems(
    'extContractsGroup blue:provided: the fabric has no contract uni/tn-common/brc-none',
    "extContractsGroup blue:provided: 'uni/tn-red/brc-x' is no contract that a group of tenant blue can have",
  );
});

it('a contract that another tenant has exported is consumed by its interface, and none is taken for another one', async () => {
  const { fabric, group, put, has, problems } = await open({
    prepare({ fabric }) {
      fabric.post('uni/tn-blue', { fvTenant: { attributes: {} } });
      fabric.post('uni/tn-blue/cif-wan', { vzCPIf: { attributes: {} } });
      fabric.post('uni/tn-common/cif-dns', { vzCPIf: { attributes: {} } });
      fabric.post('uni/tn-common/brc-pFrmweb', { vzBrCP: { attributes: {} } });
    },
  });
  const external = (contractsType: string, ...contracts: string[]) =>
    put('extContractsGroup', `blue:${contractsType}`, {
      tenantName: 'blue',
      contractsGroupName: contractsType,
      contractsType,
      contracts,
    });
  await external('consumed', 'uni/tn-blue/cif-wan', 'uni/tn-common/cif-dns', 'uni/tn-blue/cif-none');
  await external('provided', 'uni/tn-blue/cif-wan', 'uni/tn-common/brc-pFrmweb');
  await group('web', 'front', { extContractsGrps: ['consumed', 'provided'] });
  await has(`${EPG}/rsconsIf-wan`, { tDn: 'uni/tn-blue/cif-wan', state: 'formed', annotation: MARK });
  await has(`${EPG}/rsconsIf-dns`, { tDn: 'uni/tn-common/cif-dns', state: 'formed' });
  await problems(
    'extContractsGroup blue:consumed: the fabric has no contract uni/tn-blue/cif-none',
    'extContractsGroup blue:provided: the fabric takes uni/tn-blue/brc-pFrmweb for uni/tn-common/brc-pFrmweb',
    "extContractsGroup blue:provided: 'uni/tn-blue/cif-wan' is an exported contract",
  );
  expect(fabric.get('uni/tn-blue/cif-wan')).toMatchObject({ annotation: '' });
  // Another one of that name, nearer.
  fabric.post('uni/tn-blue/cif-dns', { vzCPIf: { attributes: {} } });
  await external('consumed', 'uni/tn-common/cif-dns');
  await external('provided');
  await problems(
    'extContractsGroup blue:consumed: the fabric takes uni/tn-blue/cif-dns for uni/tn-common/cif-dns',
  );
});

it('policies that the fabric is not to enforce leave its VRF open', async () => {
  const { fabric, reached, has } = await open({ gateway: { enforcePolicies: 'no' } });
  await reached();
  await has('uni/tn-blue/ctx-blue-Vrf', { pcEnfPref: 'unenforced' });
  expect(fabric.dns().filter((dn) => dn.includes('/brc-'))).toEqual(['uni/tn-common/brc-default']);
});

it('goes on at another controller where one is lost, and says so where all are', async () => {
  const { controllers, group, has, state, reached, events, put } = await open({ controllers: 3 });
  await reached();
  await controllers[0]?.stop();
  await group('db', 'back');
  await vi.waitFor(() => expect(state()?.controller).toBe(controllers[1]?.url), PATIENT);
  await controllers[1]?.stop();
  await controllers[2]?.stop();
  await vi.waitFor(() => expect(state()).toMatchObject({ state: 'unreachable' }), PATIENT);
  for (const { url } of controllers) expect(state()?.problems[0]?.problem).toContain(url);
  await put('appProfile', 'blue:late', {
    tenantName: 'blue',
    appProfileName: 'late',
    endpointGroups: [],
  });
  await controllers[0]?.start();
  await has('uni/tn-blue/ap-late', { annotation: MARK });
  await reached();
  expect(events().map((each) => each.split(':')[0])).toEqual(['reached', 'unreachable', 'reached']);
});

it('logs in anew where it was forgotten, and renews its session before that ends', async () => {
  const { forget, profile, gone, controllers, reached } = await open({ life: 1, interval: 50 });
  await reached();
  const asked = (what: string) => controllers[0]?.requests.filter((each) => each.endsWith(what)).length ?? 0;
  await vi.waitFor(() => expect(asked('aaaRefresh.json')).toBeGreaterThan(1), PATIENT);
  const logins = asked('aaaLogin.json');
  forget();
  await profile('web');
  await gone('uni/tn-blue/ap-shop/epg-db');
  expect(asked('aaaLogin.json')).toBeGreaterThan(logins);
});

it.each<[string, Options, string, string]>([
  [
    'a wrong password',
    { password: 'other' },
    'refused',
    'refuses user contiv: Username or password is incorrect',
  ],
  ['a file that is missing', { gateway: { passwordFile: 'none' } }, 'unset', 'aciGw: passwordFile none: '],
  ['no password', { gateway: { passwordFile: '' } }, 'unset', 'CONTIV_ACI_PASSWORD in its environment'],
  ['no controllers', { gateway: { controllers: '' } }, 'unset', 'no controller is named'],
  [
    'no port at all',
    { gateway: { controllers: 'http://127.0.0.1:9' } },
    'unreachable',
    'refuses the connection',
  ],
])('says what is wrong with %s', async (_what, options, wanted, text) => {
  const { state, controllers } = await open(options);
  await vi.waitFor(() => expect(state()).toMatchObject({ state: wanted }), PATIENT);
  expect(state()?.problems[0]).toMatchObject({ of: 'aci', problem: expect.stringContaining(text) });
  expect(JSON.stringify(state())).not.toContain('secret');
  // Nobody is locked out by it.
  expect(controllers[0]?.requests.filter((each) => each.endsWith('aaaLogin.json')).length).toBeLessThan(2);
});

it('a password that is refused is not shown again because something is declared, but another one is', async () => {
  const { profile, put, reached, state, controllers, folder } = await open({
    password: 'other',
  });
  const refusal = /refuses user contiv/;
  await vi.waitFor(() => expect(state()?.problems[0]?.problem).toMatch(refusal), PATIENT);
  const logins = () => controllers[0]?.requests.filter((each) => each.endsWith('aaaLogin.json')).length;
  // What does not fit is told by the pass that follows it, and no more when it has gone.
  for (const round of [1, 2]) {
    await put('appProfile', 'blue:more', {
      tenantName: 'blue',
      appProfileName: 'more',
      endpointGroups: ['web'],
    });
    await vi.waitFor(() => expect(state()?.problems.length).toBeGreaterThan(1), PATIENT);
    await put('appProfile', 'blue:more', undefined);
    await vi.waitFor(() => expect(state()?.problems.length, `round ${round}`).toBe(1), PATIENT);
  }
  expect(state()?.problems[0]?.problem).toMatch(refusal);
  expect(logins()).toBe(1);
  fs.writeFileSync(path.join(folder, 'apic'), 'other\n');
  await profile('web');
  await reached();
  expect(logins()).toBe(2);
});

it('begins nothing any more when it is closed, whatever was asked for before', async () => {
  const { reached, controllers, follower } = await open({ interval: NEVER });
  await reached();
  const before = controllers[0]?.requests.length;
  follower.ask();
  await follower.close();
  expect(controllers[0]?.requests.length).toBe(before);
});

it('signs its requests by a key in place of a password', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const { reached, controllers, has } = await open({
    publicKeys: { contiv: publicKey.export({ type: 'spki', format: 'pem' }) as string },
    gateway: { passwordFile: '', keyFile: 'key.pem', certificateName: 'contiv' },
    files: { 'key.pem': privateKey.export({ type: 'pkcs8', format: 'pem' }) as string },
  });
  await reached();
  await has(EPG, { annotation: MARK });
  expect(controllers[0]?.requests).not.toContain('POST /api/aaaLogin.json');
  // It has no token to be told by.
  expect(controllers[0]?.subscriptions()).toBe(0);
});

it('believes no controller that nobody vouches for', async () => {
  const authority = await makeAuthority();
  const issued = (names: string[]) =>
    issuePair(authority, { role: 'netmaster', name: 'apic', names }, 86_400_000);
  const named = await issued(['127.0.0.1']);
  const other = await issued(['apic.example']);
  const tls = ({ certificate: cert, key }: typeof named) => ({ cert, key });
  const files = { 'ca.pem': authority.certificate, 'own.pem': other.certificate };
  const withCa = await open({ tls: tls(named), files, gateway: { caFile: 'ca.pem' } });
  await withCa.reached();
  await vi.waitFor(() => expect(withCa.controllers[0]?.subscriptions()).toBe(1), PATIENT);
  const without = await open({ tls: tls(named), files });
  const misnamed = await open({ tls: tls(other), files, gateway: { caFile: 'ca.pem' } });
  for (const { state, fabric } of [without, misnamed]) {
    await vi.waitFor(() => expect(state()).toMatchObject({ state: 'unreachable' }), PATIENT);
    expect(state()?.problems[0]?.problem).toMatch(/shows a certificate (that|of another name)/);
    expect(fabric.get('uni/tn-blue')).toBeUndefined();
  }
  // One that the file itself has is who it is, whatever it is called.
  const pinned = await open({
    tls: tls(other),
    files: { 'own.pem': `${other.certificate}${authority.certificate}` },
    gateway: { caFile: 'own.pem' },
  });
  await pinned.reached();
  await vi.waitFor(() => expect(pinned.controllers[0]?.subscriptions()).toBe(1), PATIENT);
});

it('one object that is refused keeps nothing else away', async () => {
  const { has, problems, before, fabric, put } = await open({
    gateway: {},
    prepare({ before }) {
      before((method, path, body) => {
        if (method === 'POST' && path.startsWith('/api/mo') && body.includes('"vlan-102"'))
          throw new FabricError('120', 'encap vlan-102 is not in a pool');
      });
    },
  });
  await has(`${EPG}/rspathAtt-[${PATH}]`, { encap: 'vlan-101' });
  await has('uni/tn-blue/ap-shop/epg-db', { annotation: MARK });
  await problems(
    `aci: the fabric refuses to create uni/tn-blue/ap-shop/epg-db/rspathAtt-[${PATH}]: encap vlan-102 is not in a pool`,
  );
  before(undefined);
  await put('policy', 'blue:other', { tenantName: 'blue', policyName: 'other' });
  await has(`uni/tn-blue/ap-shop/epg-db/rspathAtt-[${PATH}]`, { encap: 'vlan-102' });
  await problems();
  expect(fabric.get(EPG)).toBeDefined();
});

it('tries again where controllers are out of order, and reads page by page where there is much', async () => {
  let broken = 2;
  const { reached, has } = await open({
    limit: 10,
    prepare({ before }) {
      before((_method, path) => {
        if (path.startsWith('/api/class') && broken-- > 0) throw new FabricError('503', 'not ready', 503);
      });
    },
  });
  await has(EPG, { annotation: MARK });
  await reached();
});

it('does nothing where another netmaster has the duty', async () => {
  let held = false;
  const duty = { isHeld: () => held, close: async () => {} };
  const { state, reached, controllers, follower } = await open({ duty });
  await new Promise((done) => setTimeout(done, 300));
  expect(state()).toBeUndefined();
  expect(controllers[0]?.requests).toEqual([]);
  held = true;
  follower.ask();
  await reached();
});
