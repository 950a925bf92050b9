import { pino } from 'pino';
import { beforeEach, expect, it } from 'vitest';
import { temporaryFolder } from '../../../../test/folder.ts';
import type { Attachment } from '../../intent/view.ts';
import type { Docker } from './engine.ts';
import { openStopped, UNTOLD } from './stopped.ts';

/** Containers that do not run: their networks, and whether Docker holds them. */
let still: Map<string, { networks: string[]; starts: boolean }>;
let asked: string[];
let folder: string;
beforeEach(() => {
  still = new Map();
  asked = [];
  lists = 0;
  serves = true;
  folder = temporaryFolder();
});

const listed = () =>
  [...still].map(([Id, { networks }]) => ({
    Id,
    NetworkSettings: { Networks: Object.fromEntries(networks.map((n) => [n, {}])) },
  }));
let lists: number;
let serves: boolean;
const docker = {
  listContainers: () => {
    lists++;
    return serves ? Promise.resolve(listed()) : new Promise(() => {});
  },
  getContainer: (id: string) => ({
    inspect() {
      asked.push(id);
      return still.get(id)?.starts ? new Promise(() => {}) : Promise.resolve({});
    },
  }),
} as unknown as Pick<Docker, 'listContainers' | 'getContainer'>;

const attachment = (containerID: string | undefined, ipAddress: string[], more: object = {}): Attachment => ({
  endpoint: {
    endpointID: 'e',
    tenantName: 'default',
    networkName: 'net1',
    ipAddress,
    macAddress: '',
    homingHost: 'node1',
    status: 'running',
    ...(containerID && { containerID }),
    ...more,
  },
  phase: 'joined',
  publications: [],
  runtime: 'docker',
});
const log = pino({ level: 'silent' });
const NET1 = { tenant: 'default', network: 'net1', group: '' };
const WEB = { ...NET1, group: 'web' };

it('the container that Docker is silent of has the address again that it had in that network and group', async () => {
  const stopped = openStopped(docker, folder, log);
  stopped.keep(attachment('a', ['20.1.1.2', 'fd00::2']));
  stopped.keep(attachment('b', ['20.1.1.3']));
  stopped.keep(attachment('a', ['20.1.1.4'], { groupName: 'web' }));
  still.set('a', { networks: ['net1', 'web.net1'], starts: true });
  still.set('b', { networks: ['net1'], starts: false });
  still.set('elsewhere', { networks: ['bridge'], starts: true });
  expect(await stopped.addressIn(NET1, 4)).toBe('20.1.1.2');
  expect(await stopped.addressIn(NET1, 6)).toBe('fd00::2');
  expect(await stopped.addressIn(WEB, 4)).toBe('20.1.1.4');
  expect(asked).not.toContain('elsewhere');
  // The name of 1.x for the group.
  still.set('a', { networks: ['web'], starts: true });
  await expect.poll(() => openStopped(docker, folder, log).addressIn(WEB, 4)).toBe('20.1.1.4');
});

it('none has, where only one that is new starts, or nothing was kept there; where several start it cannot be told', async () => {
  const stopped = openStopped(docker, folder, log);
  still.set('a', { networks: ['net1'], starts: true });
  expect(await stopped.addressIn(NET1, 4)).toBeUndefined();
  expect(asked).toEqual([]);
  stopped.keep(attachment('a', ['20.1.1.2']));
  stopped.keep(attachment(undefined, ['20.1.1.9']));
  stopped.keep({ ...attachment('c', ['20.1.1.8']), runtime: 'cni' });
  still.set('new', { networks: ['net1'], starts: true });
  expect(await stopped.addressIn(NET1, 4)).toBe(UNTOLD);
  still.set('a', { networks: ['net1'], starts: false });
  asked = [];
  expect(await stopped.addressIn(NET1, 4)).toBeUndefined();
  expect(asked, 'nobody waits for the silence of one that is new').toEqual(['a']);
  still.delete('new');
  asked = [];
  for (let n = 0; n < 40; n++) still.set(`more${n}`, { networks: ['net1'], starts: false });
  expect(await stopped.addressIn(NET1, 4)).toBe(UNTOLD);
  expect(asked).toEqual([]);
  for (let n = 0; n < 40; n++) still.delete(`more${n}`);
  still.set('a', { networks: ['net1'], starts: true });
  expect(await stopped.addressIn(NET1, 4)).toBe('20.1.1.2');
  stopped.forget('a');
  await expect.poll(() => openStopped(docker, folder, log).addressIn(NET1, 4)).toBeUndefined();
});

it('cannot be told while Docker starts, which answers nobody and waits for us: it is asked once in a while', async () => {
  const stopped = openStopped(docker, folder, log);
  stopped.keep(attachment('a', ['20.1.1.2']));
  still.set('a', { networks: ['net1'], starts: true });
  serves = false;
  for (let n = 0; n < 20; n++) expect(await stopped.addressIn(NET1, 4)).toBe(UNTOLD);
  expect(lists).toBe(1);
});

it('where Docker says who starts, that one has it, however many start, and Docker is asked nothing', async () => {
  const stopped = openStopped(docker, folder, log);
  stopped.keep(attachment('a', ['20.1.1.2', 'fd00::2'], { containerName: 'web' }));
  stopped.keep(attachment('b', ['20.1.1.3'], { containerName: 'db' }));
  for (const id of ['a', 'b', 'new']) still.set(id, { networks: ['net1'], starts: true });
  expect(await stopped.addressIn(NET1, 4, 'web')).toBe('20.1.1.2');
  expect(await stopped.addressIn(NET1, 6, 'web')).toBe('fd00::2');
  expect(await stopped.addressIn(NET1, 4, 'db')).toBe('20.1.1.3');
  expect(await stopped.addressIn(NET1, 4, 'new')).toBeUndefined();
  expect([lists, asked]).toEqual([0, []]);
  stopped.named('b', 'store');
  expect(await stopped.addressIn(NET1, 4, 'db')).toBeUndefined();
  await expect.poll(() => openStopped(docker, folder, log).addressIn(NET1, 4, 'store')).toBe('20.1.1.3');
  // What an earlier agent kept has no name.
  stopped.keep(attachment('c', ['20.1.1.4']));
  for (const id of ['a', 'b', 'new']) still.set(id, { networks: ['net1'], starts: false });
  still.set('c', { networks: ['net1'], starts: true });
  expect(await stopped.addressIn(NET1, 4, 'cache')).toBe('20.1.1.4');
});
