import { PassThrough } from 'node:stream';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { GAVE_UP } from '../../constants.ts';
import { type Event, followContainers, reactionsTo, statusOf } from './containers.ts';
import { pluginServer } from './plugin.ts';

const TASK = { 'com.docker.swarm.task.id': 't' };

const event = (Type: string, Action: string, ID: string, Attributes: Record<string, string> = {}): Event => ({
  Type,
  Action,
  Actor: { ID, Attributes },
});
const attached = (container: string): boolean => container === 'here';

it.each<[string, Event, ReturnType<typeof reactionsTo>]>([
  [
    'a container that is connected',
    event('network', 'connect', 'net', { container: 'c' }),
    [
      { do: 'describe network', network: 'net' },
      { do: 'describe if it runs', container: 'c' },
    ],
  ],
  [
    'a connection that names no container',
    event('network', 'connect', 'net'),
    [{ do: 'describe network', network: 'net' }],
  ],
  [
    'one that is still attached',
    event('network', 'disconnect', 'net', { container: 'here' }),
    [{ do: 'compare' }],
  ],
  ['one that has left in order', event('network', 'disconnect', 'net', { container: 'gone' }), []],
  [
    'a network that is removed',
    event('network', 'destroy', 'net', { name: 'web' }),
    [{ do: 'offer anew', network: 'net', name: 'web' }],
  ],
  ['a container that starts', event('container', 'start', 'c'), [{ do: 'describe', container: 'c' }]],
  [
    'one whose health has changed',
    event('container', 'health_status: unhealthy', 'c'),
    [{ do: 'describe', container: 'c' }],
  ],
  ['one that is removed', event('container', 'destroy', 'c'), [{ do: 'forget', container: 'c' }]],
  [
    'a task that Swarm ends',
    event('container', 'kill', 'c', { signal: '15', 'com.docker.swarm.task.id': 't' }),
    [{ do: 'end', container: 'c' }],
  ],
  [
    'a task that is told to read its files anew',
    event('container', 'kill', 'c', { signal: '1', 'com.docker.swarm.task.id': 't' }),
    [],
  ],
  ['another container that is ended', event('container', 'kill', 'c', { signal: '15' }), []],
  ['a command in a container', event('container', 'exec_start: sh', 'c'), []],
  ['an image', event('image', 'pull', 'i'), []],
])('an event of %s asks for what is to be done', (_, told, reactions) => {
  expect(reactionsTo(told, attached)).toEqual(reactions);
});

it.each<[string, object, object, boolean, string]>([
  ['of a container runs', {}, {}, false, 'running'],
  [
    'of a container runs whatever its first checks say',
    { Health: { Status: 'starting' } },
    {},
    false,
    'running',
  ],
  ['of a task waits for its first check', { Health: { Status: 'starting' } }, TASK, false, 'created'],
  ['of a task runs with it', { Health: { Status: 'healthy' } }, TASK, false, 'running'],
  ['of a task that failed it is unhealthy', { Health: { Status: 'unhealthy' } }, TASK, false, 'unhealthy'],
  ['of a task that is being ended answers no more', {}, TASK, true, 'paused'],
])('the endpoint %s', (_, State, Labels, ends, status) => {
  expect(statusOf({ State, Config: { Labels } } as never, ends)).toBe(status);
});

it('an event that says nothing asks for nothing', () => {
  expect(reactionsTo({}, attached)).toEqual([]);
});

/** What an agent says to a call that Docker repeats, as it does without the contents. */
async function saidToRepeated(call: string): Promise<string> {
  const server = pluginServer(new Map([[call, () => ({})]]), () => {});
  const { promise, resolve } = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', resolve);
  await promise;
  const { port } = server.address() as { port: number };
  const answer = await (await fetch(`http://127.0.0.1:${port}/${call}`, { method: 'POST' })).json();
  server.close();
  return (answer as { Err: string }).Err;
}

it('what is to run, and did not start as an agent ended or netmaster was away, is started; what Docker says of others is not ours', async () => {
  const errors: Record<string, string> = {
    'nobody-answered':
      'failed: Post "http://%2Frun%2Fdocker%2Fplugins%2Fnetplugin.sock/NetworkDriver.Join": EOF',
    'netmaster-away': `remote: ${GAVE_UP}: netmaster cannot be reached`,
    repeated: `driver failed: remote: ${await saidToRepeated('NetworkDriver.ProgramExternalConnectivity')}`,
    'own-address':
      'remote: network default:net: address 10.1.1.1 is in use by own-address on node1; choose a free one of 10.1.0.0/16',
    'taken-address':
      'remote: network default:net: address 10.1.1.2 is in use by other on node1; choose a free one of 10.1.0.0/16',
    port: 'remote: cannot publish tcp 0.0.0.0:80: port 80 is taken on this host',
    'on-demand': 'netplugin.sock',
    fine: '',
  };
  const started: string[] = [];
  const docker = {
    listContainers: async ({ all } = { all: false }) =>
      all
        ? Object.keys(errors)
            .filter((name) => !started.includes(name))
            .map((Id) => ({ Id }))
        : [],
    getContainer: (Name: string) => ({
      inspect: async () => ({
        Name,
        HostConfig: { RestartPolicy: { Name: Name === 'on-demand' ? 'no' : 'always' } },
        State: { Error: errors[Name] },
      }),
      start: async () => void started.push(Name),
    }),
    getEvents: async () => new PassThrough(),
  };
  const containers = followContainers({
    docker,
    endpoints: { attachments: new Map(), live: () => true },
    offer: { renewed() {}, removed() {} },
    remains: { busy: () => false },
    stopped: { forget() {}, named() {} },
    swarmChanged() {},
    pluginSocket: 'netplugin.sock',
    log: pino({ level: 'silent' }),
  } as unknown as Parameters<typeof followContainers>[0]);
  onTestFinished(() => containers.close());
  const limit = { timeout: 30_000 };
  const ours = ['nobody-answered', 'netmaster-away', 'repeated', 'own-address'];
  await vi.waitFor(() => expect(started).toEqual(ours), limit);

  // And where Docker is told so while it is followed.
  errors.later = errors.repeated as string;
  containers.refused(errors.later.replace(/^.*remote: /, ''));
  await vi.waitFor(() => expect(started).toEqual([...ours, 'later']), limit);
  errors.last = (errors['own-address'] as string).replace('by own-address', 'by last');
  containers.refused(errors.last.replace(/^.*remote: /, ''));
  await vi.waitFor(() => expect(started).toEqual([...ours, 'later', 'last']), limit);
});
