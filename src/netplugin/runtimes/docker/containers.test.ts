import { expect, it } from 'vitest';
import { type Event, reactionsTo, statusOf } from './containers.ts';

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
