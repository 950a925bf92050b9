import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { temporaryFolder } from '../../../test/folder.ts';
import { NOTHING, REPORT } from '../../../test/hostState.ts';
import { ApiError } from '../../client/client.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { AddressAnswer } from '../../protocol/messages.ts';
import type { ApplyReport } from '../dataplane/index.ts';
import { openView } from '../intent/view.ts';
import type { HostState, Port, Router } from '../state.ts';
import { type Attachments, openAttachments } from './attachments.ts';
import { type LocalEndpoints, openEndpoints } from './endpoints.ts';

const endpoint = (id: string, homingHost = 'node1') => ({
  endpointID: id,
  tenantName: 'default',
  networkName: 'net1',
  ipAddress: ['20.1.1.1'],
  macAddress: '02:02:14:01:01:01',
  homingHost,
  status: 'running' as const,
});

const joining = (id: string) => ({
  endpoint: endpoint(id),
  sandbox: '/run/sandbox',
  publications: [],
  runtime: 'docker',
});

let attachments: Attachments;
let endpoints: LocalEndpoints;
/** What netmaster was asked for; what it says to the next call. */
let asked: string[];
let netmaster: () => Promise<void>;
let accepted: boolean;
/** To its heartbeats. */
let answers: boolean;
let reserve: () => Promise<AddressAnswer>;
let kernel: () => Promise<ApplyReport>;
let live: boolean;
/** How often what is known was to be on disk, and to be listed anew. */
let kept = 0;
let relisted = 0;
let admitted: () => Promise<void>;
let state: HostState;
const view = openView();
const assumed = new Map<string, Endpoint | null>();

/** An agent, of what is on disk. */
function open(): void {
  endpoints?.close();
  const ask = async (...call: string[]): Promise<void> => {
    asked.push(call.join(' '));
    await netmaster();
  };
  endpoints = openEndpoints({
    host: 'node1',
    replica: {
      view,
      store: 'store',
      get live() {
        return live;
      },
      get listed() {
        return live ? view : undefined;
      },
      assumed,
      assume(key, object) {
        if (!assumed.has(key)) assumed.set(key, view.endpoints.get(key) ?? null);
        view.put({ kind: 'endpoint', key, object });
      },
      keep: () => void kept++,
      relist: () => void relisted++,
    },
    attachments,
    intent: {
      answers: async () => answers,
      accepted: async () => accepted,
      reserve: () => reserve(),
      release: (network, address) => ask('release', network, address),
      swarmHas: async () => 0,
      register: async ({ endpointID }) => {
        await ask('register', endpointID);
        return { revision: 1, late: [] };
      },
      unregister: (id) => ask('unregister', id),
    },
    log: pino({ level: 'silent' }),
    kernel: {
      now: async () => ({ ...(await kernel()), state }),
      ready: () => true,
      get state() {
        return state;
      },
    },
    dataplane: { missing: async () => [] },
    admitted: () => admitted(),
  });
}

beforeEach(() => {
  attachments = openAttachments(temporaryFolder(), 16);
  asked = [];
  netmaster = async () => {};
  accepted = true;
  answers = true;
  live = true;
  assumed.clear();
  admitted = async () => {};
  state = NOTHING;
  reserve = async () => ({ address: '20.1.1.1', prefixLength: 24 });
  kernel = async () => REPORT;
  open();
});
afterEach(() => {
  endpoints.close();
  for (const { kind, key } of view.contents()) view.put({ kind, key, object: null });
});

/** The kernel has the port of an endpoint that is attached. */
const INSIDE = { addresses: ['20.1.1.1/24'], routes: [{ destination: '20.1.1.0/25' }], gateways: [] };
const established = (endpointID: string): void => {
  const port = { endpoint: endpointID, peer: 'cc1', inside: INSIDE } as unknown as Port;
  state = { ...NOTHING, routers: [{ ports: [port] } as unknown as Router] };
};

/** netmaster has told its list. */
const reconcile = () => endpoints.changed({ type: 'view', objects: [], listed: true });
const settled = () => new Promise((done) => setImmediate(done));
const attached = (id: string) =>
  attachments.put({ endpoint: endpoint(id), phase: 'joined', publications: [], runtime: 'docker' });

it('leaves nothing of an endpoint that cannot be attached, and says why it could not', async () => {
  kernel = async () => ({
    ...REPORT,
    failed: [{ code: 'ENOSPC', endpoint: 'ep1', message: 'no room in the kernel' }],
  });
  await expect(endpoints.attach(joining('ep1'))).rejects.toThrow('no room');
  expect(attachments.all.size).toBe(0);
  expect(asked).toEqual(['register ep1', 'unregister ep1']);
});

it('says why an endpoint could not be attached also where it cannot be taken back', async () => {
  let passes = 0;
  kernel = async () => {
    throw new Error(passes++ === 0 ? 'the first' : 'the second');
  };
  await expect(endpoints.attach(joining('ep1'))).rejects.toThrow('the first');
  expect(passes).toBe(2);
  expect(attachments.all.size).toBe(0);
});

it('makes the first router of what is declared now, not of an old copy; more of them at once', async () => {
  live = false;
  let passes = 0;
  kernel = async () => {
    passes++;
    throw new Error('reached');
  };
  const first = endpoints.attach(joining('ep1'));
  await settled();
  expect([passes, attachments.all.size]).toEqual([0, 0]);
  live = true;
  await expect(first).rejects.toThrow('reached');
  await attached('runs');
  live = false;
  await expect(endpoints.attach(joining('ep2'))).rejects.toThrow('reached');
});

it('says that a port is not published where the host’s part was not done', async () => {
  await attached('ep1');
  kernel = async () => ({
    ...REPORT,
    complete: false,
    failed: [{ code: 'ENOSPC', endpoint: 'ep1', message: 'host: no room' }],
  });
  await expect(endpoints.publish('ep1', [])).rejects.toThrow('host: no room');
});

it('tells whoever holds something for an endpoint that it is detached', async () => {
  const told: string[] = [];
  endpoints.onDetach((id) => told.push(id));
  await attached('ep1');
  await endpoints.detach('ep1');
  await endpoints.detach('never attached');
  expect(told).toEqual(['ep1', 'never attached']);
});

it('tells netmaster what it does not know, and takes back what is not here', async () => {
  await attached('here');
  view.put({ kind: 'endpoint', key: 'gone', object: endpoint('gone') });
  view.put({ kind: 'endpoint', key: 'elsewhere', object: endpoint('elsewhere', 'node2') });
  reconcile();
  await settled();
  expect(asked).toEqual(['unregister gone', 'register here']);
});

it('tells nothing to a netmaster that knows another host of its name', async () => {
  accepted = false;
  await attached('here');
  view.put({ kind: 'endpoint', key: 'of the other', object: endpoint('of the other') });
  reconcile();
  await settled();
  expect(asked).toEqual([]);
});

it('gives an address to a container again whose end netmaster has not heard of', async () => {
  view.put({ kind: 'endpoint', key: 'ended', object: endpoint('ended') });
  let held = true;
  reserve = async () => {
    if (held) throw new ApiError(409, 'conflict', 'address 20.1.1.1 is in use');
    return { address: '20.1.1.1', prefixLength: 24 };
  };
  netmaster = async () => {
    held = false;
  };
  const request = { tenantName: 'default', networkName: 'net1', family: 4, address: '20.1.1.1' } as const;
  expect(await endpoints.reserve(request)).toMatchObject({ address: '20.1.1.1' });
  expect(asked).toEqual(['unregister ended', 'release default:net1 20.1.1.1']);
  held = true;
  netmaster = async () => {};
  await expect(endpoints.reserve(request)).rejects.toThrow('in use');
});

it('takes an address that is reserved for a container that its runtime, killed meanwhile, was starting; not an attached one’s', async () => {
  reserve = async () => {
    if (!asked.includes('release default:net1 20.1.1.7'))
      throw new ApiError(409, 'conflict', 'address 20.1.1.7 is in use by a container that starts on node1');
    return { address: '20.1.1.7', prefixLength: 24 };
  };
  const request = { tenantName: 'default', networkName: 'net1', family: 4 } as const;
  expect(await endpoints.reserve({ ...request, address: '20.1.1.7' })).toMatchObject({ address: '20.1.1.7' });
  asked.length = 0;
  await attached('ep1');
  const [own = ''] = endpoint('ep1').ipAddress;
  await expect(endpoints.reserve({ ...request, address: own })).rejects.toThrow('in use');
  expect(asked).toEqual([]);
});

it('gives an address back later that it gave up asking for: netmaster may have reserved it', async () => {
  reserve = () => Promise.reject(new Error('gave up waiting: netmaster cannot be reached'));
  const request = { tenantName: 'default', networkName: 'net1', family: 4 } as const;
  await expect(endpoints.reserve({ ...request, address: '20.1.1.7' })).rejects.toThrow('gave up waiting');
  await expect(endpoints.reserve(request)).rejects.toThrow('gave up waiting');
  reconcile();
  await settled();
  expect(asked).toEqual(['release default:net1 20.1.1.7']);
});

it('compares with a netmaster that is slow once at a time, however often it is asked to', async () => {
  const slow = Promise.withResolvers<void>();
  netmaster = () => slow.promise;
  await attached('ep1');
  for (let i = 0; i < 5; i++) reconcile();
  await settled();
  expect(asked).toEqual(['register ep1']);
  // Those that came while it ran are one more.
  for (let i = 0; i < 5; i++) reconcile();
  slow.resolve();
  await settled();
  await settled();
  expect(asked).toEqual(['register ep1', 'register ep1']);
});

it('releases an address later that netmaster did not take back, unless it is given out again', async () => {
  netmaster = () => Promise.reject(new Error('away'));
  await endpoints.release('default:net1', '20.1.1.1');
  await endpoints.release('default:net1', '20.1.1.9');
  netmaster = async () => {};
  await endpoints.reserve({ tenantName: 'default', networkName: 'net1', family: 4 });
  asked.length = 0;
  reconcile();
  await settled();
  reconcile();
  await settled();
  expect(asked).toEqual(['release default:net1 20.1.1.9']);
});

it('has settled when what runs here has been told to a netmaster that has listed; changes do not concern it', async () => {
  const slow = Promise.withResolvers<void>();
  netmaster = () => slow.promise;
  await attached('ep1');
  expect(endpoints.changed({ type: 'view', objects: [], listed: false })).toBe(false);
  let done = false;
  const wait = async (): Promise<void> => {
    await endpoints.settled();
    done = true;
  };
  await wait();
  expect([done, reconcile()]).toEqual([true, true]);
  done = false;
  void wait();
  await settled();
  expect([done, asked]).toEqual([false, ['register ep1']]);
  slow.resolve();
  await expect.poll(() => done, { timeout: 20_000 }).toBe(true);
});

it('detaches what the kernel has lost without a word from its runtime', async () => {
  await attached('lost');
  await attached('here');
  endpoints.changed({
    type: 'kernel',
    state: NOTHING,
    report: { ...REPORT, lost: ['lost'] },
    verified: false,
  });
  await expect.poll(() => asked, { timeout: 20_000 }).toEqual(['unregister lost']);
  expect([...attachments.all.keys()]).toEqual(['here']);
});

it('has a container wait until its way out is open', async () => {
  const open = Promise.withResolvers<void>();
  admitted = () => open.promise;
  established('ep1');
  let device = '';
  void endpoints.attach(joining('ep1')).then((answer) => {
    device = answer.peer;
  });
  await settled();
  await settled();
  expect(device).toBe('');
  open.resolve();
  await expect.poll(() => device, { timeout: 20_000 }).toBe('cc1');
});

it('writes an endpoint to disk once while it is attached, and takes it for joined when its runtime has the answer', async () => {
  const folder = temporaryFolder();
  attachments = openAttachments(folder, 16);
  open();
  let writes = 0;
  const put = attachments.put;
  attachments.put = (attachment) => {
    writes++;
    return put(attachment);
  };
  const phases: (string | undefined)[] = [];
  kernel = async () => {
    phases.push(attachments.all.get('ep1')?.phase);
    // Whoever kills the agent now leaves it on disk.
    expect([...openAttachments(folder, 16).all.keys()]).toEqual(['ep1']);
    established('ep1');
    return REPORT;
  };
  const answer = await endpoints.attach(joining('ep1'));
  expect(answer).toMatchObject({ peer: 'cc1', inside: INSIDE });
  phases.push(attachments.all.get('ep1')?.phase);
  expect([phases, writes]).toEqual([['joining', 'joined'], 1]);
});

it('asks netmaster before the kernel takes the agent for a pass', async () => {
  kernel = async () => {
    asked.push('pass');
    established('ep1');
    return REPORT;
  };
  await endpoints.attach(joining('ep1'));
  expect(asked).toEqual(['register ep1', 'pass']);
});

it('takes what an earlier agent was attaching for joined: its runtime has heard that it failed', async () => {
  await attachments.put({ endpoint: endpoint('ep1'), phase: 'joining', publications: [], runtime: 'docker' });
  open();
  expect(attachments.all.get('ep1')?.phase).toBe('joined');
});

it('attaches to a tenant that is here as a whole; of which it has outlines it lists anew, and has it on disk before it goes on', async () => {
  established('ep1');
  const put = (object: object): void => view.put({ kind: 'network', key: 'late:net1', object });
  put({ tenantName: 'late', networkName: 'net1' });
  [kept, relisted] = [0, 0];
  const { endpoint, ...rest } = joining('ep1');
  const attached = endpoints.attach({ ...rest, endpoint: { ...endpoint, tenantName: 'late' } });
  await expect.poll(() => relisted, { timeout: 20_000 }).toBe(1);
  expect([attachments.all.size, asked, kept]).toEqual([0, [], 0]);
  put({ tenantName: 'late', networkName: 'net1', vni: 7 });
  await attached;
  expect([attachments.all.size, asked, kept, relisted]).toEqual([1, ['register ep1'], 1, 1]);
}, 30_000);

/** As the client says it where nothing listens, and where what was asked may have arrived. */
const REFUSED = new ApiError(0, 'unreachable', 'nothing listens there', undefined, undefined, true);
const SILENT = new ApiError(0, 'unreachable', 'no answer in 4 s');
const NET1 = { tenantName: 'default', networkName: 'net1', subnet: '20.1.1.0/24', vni: 1 };
const REQUEST = { tenantName: 'default', networkName: 'net1', family: 4 } as const;
const ADDRESS = '20.1.1.1';

/** One that runs here, as netmaster has told too. */
async function runs(id: string, more: object = {}): Promise<void> {
  view.put({ kind: 'network', key: 'default:net1', object: NET1 });
  const whole = { ...endpoint(id), ...more };
  view.put({ kind: 'endpoint', key: id, object: whole });
  await attachments.put({ endpoint: whole, phase: 'joined', publications: [], runtime: 'docker' });
}
function attachAt(id: string, address: string, more: object = {}) {
  const { endpoint: of, ...rest } = joining(id);
  return endpoints.attach({ ...rest, endpoint: { ...of, ...more, ipAddress: [address] } });
}
/** netmaster is away: as its heartbeats have shown, or nobody has noticed yet. */
function silence(isKnown: boolean, error: ApiError = REFUSED): void {
  [answers, live] = [!isKnown, false];
  netmaster = () => Promise.reject(error);
  reserve = () => Promise.reject(error);
}
async function ends(id: string): Promise<void> {
  await endpoints.detach(id);
  await endpoints.release('default:net1', ADDRESS);
}

it.each([true, false])(
  'while netmaster is silent (known: %s) what ends may start again with its address at once, and netmaster is told of both when it answers',
  async (isKnown) => {
    await runs('before');
    silence(isKnown);
    await ends('before');
    expect(await endpoints.reserve({ ...REQUEST, address: ADDRESS }, 'if free')).toEqual({
      address: ADDRESS,
      prefixLength: 24,
    });
    established('after');
    await endpoints.attach(joining('after'));
    expect([...attachments.all.keys()]).toEqual(['after']);
    if (isKnown) expect(asked, 'nothing waits for an answer').toEqual([]);
    [answers, live, netmaster, asked] = [true, true, async () => {}, []];
    reconcile();
    await expect
      .poll(() => [...new Set(asked)], { timeout: 20_000 })
      .toEqual(['unregister before', 'register after']);
  },
);

it('what ended while netmaster was silent is told when it answers, and its address is given back', async () => {
  await runs('before');
  silence(true);
  await ends('before');
  expect([...attachments.held.values()]).toMatchObject([{ endpointID: 'before', address: ADDRESS }]);
  [answers, live, netmaster] = [true, true, async () => {}];
  reconcile();
  await expect
    .poll(() => [...new Set(asked)], { timeout: 20_000 })
    .toEqual(['unregister before', `release default:net1 ${ADDRESS}`]);
  expect(attachments.held.size).toBe(0);
});

it('an address is nobody’s again that netmaster may give to others: it may have heard of the end, did not know the endpoint, or knows it as Swarm’s', async () => {
  const asksAgain = () => endpoints.reserve({ ...REQUEST, address: ADDRESS }, 'if free');
  await runs('unsure');
  silence(false, SILENT);
  await ends('unsure');
  expect(attachments.held.size).toBe(0);
  await expect(asksAgain()).rejects.toThrow('no answer');
  silence(true);
  await attached('never registered');
  view.put({ kind: 'endpoint', key: 'unsure', object: null });
  await ends('never registered');
  await expect(asksAgain()).rejects.toThrow('nothing listens');
  await runs('task', { labels: { 'com.docker.swarm.task.id': 't' } });
  await ends('task');
  await expect(asksAgain()).rejects.toThrow('nothing listens');
});

it('an address stays what it is known as: another group’s container does not get it, nor one on a host that is being drained', async () => {
  await runs('before', { groupName: 'web' });
  silence(true);
  await ends('before');
  const request = { ...REQUEST, address: ADDRESS };
  await expect(endpoints.reserve(request)).rejects.toThrow('nothing listens');
  await expect(endpoints.reserve({ ...request, groupName: 'db' })).rejects.toThrow('nothing listens');
  view.put({ kind: 'draining', key: 'node1', object: { since: 0 } });
  await expect(endpoints.reserve({ ...request, groupName: 'web' })).rejects.toThrow('nothing listens');
  view.put({ kind: 'draining', key: 'node1', object: null });
  expect(await endpoints.reserve({ ...request, groupName: 'web' })).toMatchObject({ address: ADDRESS });
});

it('who is not told which stopped container starts may give it what any of them had, once each; a new one waits', async () => {
  await runs('one');
  await runs('two', { ipAddress: ['20.1.1.2'] });
  silence(true);
  await endpoints.detach('two');
  await ends('one');
  // Docker has not given back the other one's.
  const any = () => endpoints.reserve(REQUEST, 'of a stopped one');
  await expect(endpoints.reserve(REQUEST)).rejects.toThrow('nothing listens');
  expect((await any()).address).toBe('20.1.1.1');
  await expect(any()).rejects.toThrow('nothing listens');
  await endpoints.release('default:net1', '20.1.1.2');
  expect((await any()).address).toBe('20.1.1.2');
  // Its start failed.
  await endpoints.release('default:net1', '20.1.1.2');
  expect((await any()).address).toBe('20.1.1.2');
});

it('the last container of a host starts again without netmaster, which counts on this host as long as it knows that one', async () => {
  await runs('last');
  silence(true);
  await ends('last');
  expect(attachments.all.size).toBe(0);
  await endpoints.reserve({ ...REQUEST, address: ADDRESS });
  established('again');
  expect(await endpoints.attach(joining('again'))).toMatchObject({ peer: 'cc1' });
});

it('a start that fails leaves the address to be had again', async () => {
  await runs('before');
  silence(true);
  await ends('before');
  await endpoints.reserve({ ...REQUEST, address: ADDRESS });
  kernel = async () => {
    throw new Error('no room');
  };
  await expect(endpoints.attach(joining('fails'))).rejects.toThrow('no room');
  await endpoints.release('default:net1', ADDRESS);
  expect(await endpoints.reserve({ ...REQUEST, address: ADDRESS })).toMatchObject({ address: ADDRESS });
});

it('a netmaster that is back before what ended has been told refuses nobody for that', async () => {
  await runs('before');
  silence(true);
  await ends('before');
  await endpoints.reserve({ ...REQUEST, address: ADDRESS });
  answers = true;
  let knows = true;
  netmaster = async () => {
    const call = asked.at(-1) ?? '';
    if (call.startsWith('unregister')) knows = false;
    if (call.startsWith('register') && knows)
      throw new ApiError(409, 'conflict', 'address 20.1.1.1 belongs to endpoint before');
  };
  established('after');
  await endpoints.attach(joining('after'));
  expect(asked).toEqual(['register after', 'unregister before', 'register after']);
});

/** What netmaster has in reserve for a host. */
const reserves = (host: string, ...addresses: { address: string; groupName?: string }[]): void =>
  view.put({
    kind: 'reserve',
    key: `${host}/default:net1`,
    object: addresses.length === 0 ? null : { network: 'default:net1', addresses },
  });

it('a new container has one that is in reserve for this host while netmaster is silent, of its group’s pool; one that is used up waits', async () => {
  await runs('one');
  view.put({
    kind: 'endpointGroup',
    key: 'default:pooled',
    object: {
      tenantName: 'default',
      groupName: 'pooled',
      networkName: 'net1',
      ipPool: '20.1.1.100-20.1.1.109',
    },
  });
  reserves('node1', { address: '20.1.1.250' }, { address: '20.1.1.109', groupName: 'pooled' });
  reserves('node2', { address: '20.1.1.249' });
  silence(true);
  const web = { ...REQUEST, groupName: 'web' };
  expect(await endpoints.reserve(web)).toEqual({ address: '20.1.1.250', prefixLength: 24 });
  await expect(endpoints.reserve(REQUEST)).rejects.toThrow('nothing listens');
  expect((await endpoints.reserve({ ...REQUEST, groupName: 'pooled' })).address).toBe('20.1.1.109');
  // Its start failed.
  await endpoints.release('default:net1', '20.1.1.250');
  expect((await endpoints.reserve(web)).address).toBe('20.1.1.250');
  expect((await endpoints.reserve({ ...REQUEST, address: '20.1.1.250' })).address, 'by name').toBe(
    '20.1.1.250',
  );
  established('new');
  await attachAt('new', '20.1.1.250', { groupName: 'web' });
  await expect(endpoints.reserve({ ...REQUEST, address: '20.1.1.250' })).rejects.toThrow('nothing listens');
  // From then on it is what it was.
  await endpoints.detach('new');
  await endpoints.release('default:net1', '20.1.1.250');
  await expect(endpoints.reserve(REQUEST)).rejects.toThrow('nothing listens');
  expect((await endpoints.reserve({ ...web, address: '20.1.1.250' })).address).toBe('20.1.1.250');
  expect(asked).toEqual([]);
});

it('of two that were given one address of the host’s own, the second to attach is refused', async () => {
  await runs('one');
  reserves('node1', { address: '20.1.1.250' });
  silence(true);
  const named = { ...REQUEST, address: '20.1.1.250' };
  expect([await endpoints.reserve(named), await endpoints.reserve(named)]).toHaveLength(2);
  established('first');
  const both = await Promise.allSettled([attachAt('first', '20.1.1.250'), attachAt('second', '20.1.1.250')]);
  expect(both.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
  expect((both[1] as PromiseRejectedResult).reason.message).toMatch(/^address 20\.1\.1\.250 is another/);
  expect([...attachments.all.keys()]).toEqual(['one', 'first']);
});

it('an address that netmaster was never told of is not kept as this host’s, whatever is shown in its place', async () => {
  await runs('one');
  silence(true);
  const { promise: gaveUp, reject } = Promise.withResolvers<void>();
  netmaster = () => gaveUp;
  established('new');
  // It was reserved, and nobody answers when it is to be registered.
  const started = attachAt('new', '20.1.1.7');
  await expect.poll(() => asked, { timeout: 20_000 }).toEqual(['register new']);
  await endpoints.describe('new', { containerName: 'shown' });
  expect(view.endpoints.has('new')).toBe(true);
  reject(REFUSED);
  await expect(started).rejects.toThrow('nothing listens');
  expect([...attachments.held.keys()]).toEqual([]);
});

it('netmaster does not hear that this host goes by what it has as long as it refuses one that has an address of the host’s own', async () => {
  await runs('one');
  reserves('node1', { address: '20.1.1.250' });
  silence(true);
  established('new');
  await attachAt('new', '20.1.1.250');
  [answers, live] = [true, true];
  netmaster = async () => Promise.reject(new ApiError(404, 'group', 'group default:web does not exist'));
  reserves('node1');
  reconcile();
  let said = false;
  const saying = endpoints.settled().then(() => {
    said = true;
  });
  await expect.poll(() => asked, { timeout: 20_000 }).toContain('register new');
  await settled();
  expect(said).toBe(false);
  // Its container is ended, as the log says.
  netmaster = async () => {};
  await endpoints.detach('new');
  await saying;
}, 30_000);

it('nothing in reserve is used on a host that netmaster does not count on, or that is being drained', async () => {
  view.put({ kind: 'network', key: 'default:net1', object: NET1 });
  reserves('node1', { address: '20.1.1.250' });
  silence(true);
  await expect(endpoints.reserve(REQUEST)).rejects.toThrow('nothing listens');
  await runs('one');
  view.put({ kind: 'draining', key: 'node1', object: { since: 0 } });
  await expect(endpoints.reserve(REQUEST)).rejects.toThrow('nothing listens');
});

it('what has one that is in reserve is told before this host says that it goes by what netmaster has', async () => {
  await runs('one');
  reserves('node1', { address: '20.1.1.250' });
  silence(true);
  established('new');
  await attachAt('new', '20.1.1.250');
  // netmaster is followed again, and does not take registrations yet.
  [answers, live] = [true, true];
  reserves('node1');
  reconcile();
  let said = false;
  const saying = endpoints.settled().then(() => {
    said = true;
  });
  await expect.poll(() => asked, { timeout: 20_000 }).toContain('register new');
  await settled();
  expect(said).toBe(false);
  netmaster = async () => {};
  await saying;
  expect(asked.slice(1)).toContain('register new');
}, 30_000);
