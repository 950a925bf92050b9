/** What happened, as its operator sees it: who changed what, and what happened on hosts, told by their agents. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Event } from '../src/protocol/events.ts';
import { addressOf, clear, differences, docker, lab, must, mustLab, netctl, on, run, until } from './lab.ts';

/**
 * Of those that the files before this one have left in the lab nothing is looked at. What is told here has names and addresses of its own: an
 * agent tells the same line once in ten minutes.
 */
let earlier = 0;

beforeAll(async () => {
  earlier = Math.max(0, ...(await events()).map(({ revision }) => revision));
  await netctl('net create told --subnet=10.61.0.0/24 --gateway=10.61.0.254');
  await run('node2', 'witness', 'told');
});
afterAll(clear);

const events = async (...flags: string[]): Promise<Event[]> =>
  (await netctl(['events --last 1000 -o json', ...flags].join(' ')))
    .split('\n')
    .flatMap((line) => (line === '' ? [] : [JSON.parse(line) as Event]))
    .filter(({ revision }) => revision > earlier);
/** The first of a kind whose line has this. */
const told = (kind: string, text: string): Promise<Event> =>
  until(`event '${text}'`, async () =>
    (await events(`--kind ${kind}`)).find((event) => JSON.stringify(event).includes(text)),
  );

it('who changed what, and from where, on whichever host netctl was called', async () => {
  await must('node2', 'netctl policy create p');
  await must('node2', 'netctl group create told g -policy=p');
  await must('node2', 'netctl group create told g');
  const [event] = (await events('--kind intent')).slice(-1);
  expect(event).toMatchObject({
    action: 'changed',
    object: 'endpointGroup',
    key: 'default:g',
    fields: { policies: { before: ['p'] } },
    by: expect.stringMatching(/^admin admin \(netctl root@/),
    from: expect.stringMatching(/^[\d.]+$/),
  });
  expect((await netctl('events --kind intent')).trimEnd().split('\n').at(-1)).toContain(
    'intent changed endpointGroup default:g: policies: p -> none (admin admin (netctl root@',
  );
});

it('containers that come and go', async () => {
  const by = 'host node2 (netplugin node2)';
  // Docker says whose it is a moment later.
  const named = await told('endpoint', 'container witness on node2');
  expect(named).toMatchObject({ host: 'node2', by, fields: { containerName: { after: 'witness' } } });
  expect(await told('endpoint', named.key as string)).toMatchObject({
    action: 'attached',
    host: 'node2',
    by,
  });
  await run('node1', 'short', 'told');
  await docker('node1', 'rm -f short');
  await until('detached', async () =>
    (await events('--kind endpoint')).some((e) => e.action === 'detached' && e.text?.includes('short')),
  );
});

it('a container that is not attached: why', async () => {
  const taken = await addressOf('node2', 'witness');
  const { status } = await on('node1', `docker run --rm --net told --ip ${taken} contiv/lab true`);
  expect(status).not.toBe(0);
  expect(await told('denial', taken)).toMatchObject({ host: 'node1', action: 'told' });
});

it('a name that Docker has already, and that it is offered when that one is gone', async () => {
  await docker('node2', 'network create seized');
  await netctl('net create seized --subnet=10.62.0.0/24');
  expect(await told('name', 'seized is not offered')).toMatchObject({ host: 'node2' });
  await docker('node2', 'network rm seized');
  expect(await told('name', 'seized is offered')).toMatchObject({ host: 'node2' });
});

it('what somebody took out of the kernel, and its agent put back', async () => {
  const before = (await events('--kind repair')).length;
  const target = await addressOf('node2', 'witness');
  await must('node2', `ip -n contiv-default route del ${target}`);
  await expect
    .poll(async () =>
      (await events('--kind repair'))
        .slice(before)
        .map(({ text }) => text)
        .join('\n'),
    )
    .toContain(target);
});

it('a host that falls silent has left, and has joined when it is back; netmaster logs each as a line of JSON', async () => {
  await mustLab('kill netplugin node2');
  await until('left', async () => (await events('--kind host')).at(-1)?.action === 'left');
  await mustLab('start netplugin node2');
  const joined = await until('joined', async () => {
    const event = (await events('--kind host')).at(-1);
    return event?.action === 'joined' ? event : undefined;
  });
  const logged = async (): Promise<(Event | undefined)[]> =>
    (await lab('logs netmaster')).out.split('\n').flatMap((line) => {
      try {
        return [JSON.parse(line).event as Event | undefined];
      } catch {
        return [];
      }
    });
  await expect.poll(logged).toContainEqual(joined);
});

it('and all is as declared', async () => {
  expect(await differences()).toBe('');
});
