import { pino } from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Attachment } from '../../intent/view.ts';
import { NO_INTERFACE } from './driver.ts';
import type { ContainerInspectInfo, Docker } from './engine.ts';
import { DRIVER } from './networks.ts';
import { openRemains, type Remains } from './remains.ts';

/** One container and as much of Docker's API as is used; `calls` is what was asked for that changes something. */
let settings: Record<string, { NetworkID: string; EndpointID: string }>;
let running: boolean;
let live: boolean;
/** Networks where Docker has an endpoint of the container. */
let connected: Set<string>;
let calls: unknown[];
let attachments: Map<string, Attachment>;
let bare: Set<string>;
/** Done when the container is inspected. */
let onInspect: () => void;
let remains: Remains;

const inspected = (): ContainerInspectInfo => {
  onInspect();
  return {
    Id: 'c1',
    State: { Running: running },
    NetworkSettings: { Networks: { ...settings } },
  } as unknown as ContainerInspectInfo;
};

beforeEach(() => {
  settings = { net1: { NetworkID: 'id-net1', EndpointID: 'ep1' } };
  attachments = new Map([['ep1', {} as Attachment]]);
  connected = new Set(['net1']);
  bare = new Set();
  running = true;
  live = true;
  calls = [];
  onInspect = () => {};
  const docker = {
    getContainer: () => ({ inspect: async () => inspected() }),
    getNetwork: (name: string) => ({
      inspect: async () => ({ Driver: name === 'bridge' ? 'bridge' : DRIVER }),
      async connect({ EndpointConfig }: { EndpointConfig: unknown }) {
        if (connected.has(name)) throw new Error(`endpoint already exists in network ${name}`);
        connected.add(name);
        calls.push(['connect', name, EndpointConfig]);
      },
      async disconnect() {
        if (!connected.delete(name)) throw new Error(`container is not connected to network ${name}`);
        delete settings[name];
        calls.push(['disconnect', name]);
      },
    }),
  };
  remains = openRemains({
    docker: docker as unknown as Docker,
    endpoints: { attachments, live: () => live },
    driver: {
      target: (id) => (id.startsWith('id-') ? { tenant: 'default', network: id, group: '' } : undefined),
      hasNoInterface: (endpoint) => bare.has(endpoint),
    },
    log: pino({ level: 'silent' }),
  });
});

const CLEARED = [
  ['connect', 'web.net1', { DriverOpts: { [NO_INTERFACE]: 'true' } }],
  ['disconnect', 'web.net1'],
];

describe('what Docker keeps of a connection that failed', () => {
  it('is cleared away, by a connection without an interface and its end', async () => {
    settings['web.net1'] = { NetworkID: 'id-web', EndpointID: 'ep2' };
    await remains.look(inspected());
    expect(calls).toEqual(CLEARED);
    expect(Object.keys(settings)).toEqual(['net1']);
    expect(remains.busy()).toBe(false);
  });

  it('is cleared away where Docker has given it no ids', async () => {
    settings['web.net1'] = { NetworkID: '', EndpointID: '' };
    settings.bridge = { NetworkID: '', EndpointID: '' };
    await remains.look(inspected());
    expect(calls).toEqual(CLEARED);
    expect(Object.keys(settings)).toEqual(['net1', 'bridge']);
  });

  it('stays while the container does not run, and while netmaster is away: it is the next start’s then', async () => {
    settings['web.net1'] = { NetworkID: 'id-web', EndpointID: 'ep2' };
    running = false;
    await remains.look(inspected());
    running = true;
    live = false;
    await remains.look(inspected());
    expect(calls).toEqual([]);
  });

  it('is not what others’ drivers have, nor what has come or gone since', async () => {
    settings.bridge = { NetworkID: 'other', EndpointID: 'ep9' };
    settings['web.net1'] = { NetworkID: 'id-web', EndpointID: 'ep2' };
    const before = inspected();
    settings['web.net1'] = { NetworkID: 'id-web', EndpointID: 'ep3' }; // disconnected, and connected anew
    await remains.look(before);
    expect(calls).toEqual([]);
  });

  it('is no endpoint that Docker has and we have forgotten: the container is connected by it', async () => {
    attachments.clear();
    await remains.look(inspected());
    expect([calls, [...connected]]).toEqual([[], ['net1']]);
  });

  it('is only disconnected where an agent that has ended had connected it', async () => {
    settings['web.net1'] = { NetworkID: 'id-web', EndpointID: 'ep2' };
    connected.add('web.net1');
    bare.add('ep2');
    await remains.look(inspected());
    expect(calls).toEqual([['disconnect', 'web.net1']]);
  });

  it('is cleared away once, however many looks there are meanwhile', async () => {
    settings['web.net1'] = { NetworkID: 'id-web', EndpointID: 'ep2' };
    const looks = [remains.look(inspected()), remains.look(inspected())];
    await Promise.all(looks);
    expect(calls).toEqual(CLEARED);
  });
});
