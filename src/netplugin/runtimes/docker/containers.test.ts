import { expect, it } from 'vitest';
import { type Event, reactionsTo } from './containers.ts';

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
  ['a command in a container', event('container', 'exec_start: sh', 'c'), []],
  ['an image', event('image', 'pull', 'i'), []],
])('an event of %s asks for what is to be done', (_, told, reactions) => {
  expect(reactionsTo(told, attached)).toEqual(reactions);
});

it('an event that says nothing asks for nothing', () => {
  expect(reactionsTo({}, attached)).toEqual([]);
});
