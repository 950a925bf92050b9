import { expect, it } from 'vitest';
import { type Netlink, NetlinkError, type Request } from '../../linux/netlink.ts';
import { establish, type Kind, track } from './difference.ts';
import { combine, failureOf, located, send } from './outcome.ts';
import { writeRequests } from './requests.ts';

const request = (text: string): Request => ({ type: 0, flags: 0, body: Buffer.alloc(0), text });

/** Refuses these, by their texts; `sent` are the batches, without empty ones. */
function socket(refused: Readonly<Record<string, number>> = {}): { netlink: Netlink; sent: string[][] } {
  const sent: string[][] = [];
  const netlink = {
    batch(requests: readonly Request[]) {
      if (requests.length > 0) sent.push(requests.map(({ text }) => text));
      return requests.map(({ text }) => {
        const errno = refused[text];
        return errno === undefined ? undefined : new NetlinkError(text, errno, '');
      });
    },
  } as Netlink;
  return { netlink, sent };
}

interface Thing {
  readonly name: string;
  readonly device: string;
}
const THINGS: Kind<Thing> = { text: (t) => `${t.name} dev ${t.device}`, place: (t) => t.name };
const [ENOENT, EBUSY, EEXIST] = [2, 16, 17];

it('outcomes add up to a report, in which what none mentions is in order', () => {
  expect(combine([])).toEqual({
    writes: 0,
    reads: 0,
    repaired: [],
    lost: [],
    created: [],
    failed: [],
    complete: true,
    awaited: false,
  });
  const failure = { code: 'EBUSY', message: 'busy' };
  expect(
    combine([
      { writes: 2, repaired: ['a'] },
      { writes: 1, reads: 1, complete: false, failed: [failure] },
      { repaired: ['b'], awaited: true, complete: true },
    ]),
  ).toMatchObject({
    writes: 3,
    reads: 1,
    repaired: ['a', 'b'],
    failed: [failure],
    complete: false,
    awaited: true,
  });
});

it('what has failed in something is not complete, unless it says that nothing of it was declared', () => {
  const failed = [{ code: 'EBUSY', message: 'busy' }];
  expect(combine([{ writes: 1 }, { failed }]).complete).toBe(false);
  expect(combine([combine([{ failed }]), { writes: 1 }]).complete).toBe(false);
  expect(combine([{ failed, complete: true }, { writes: 1 }])).toMatchObject({ failed, complete: true });
});

it('its lines say where they come from', () => {
  const given = {
    repaired: ['restored x'],
    failed: [{ code: 'EBUSY', endpoint: 'e', message: 'x' }],
    writes: 3,
  };
  expect(located('host', given)).toEqual({
    repaired: ['host: restored x'],
    failed: [{ code: 'EBUSY', endpoint: 'e', message: 'host: x' }],
    writes: 3,
  });
});

it('a failure has the name of the kernel’s error, and whose container it concerns', () => {
  expect(failureOf(new NetlinkError('route add', EEXIST, ''), 'e1')).toEqual({
    code: 'EEXIST',
    endpoint: 'e1',
    message: 'route add: EEXIST',
  });
  expect(failureOf(new Error('no room'))).toEqual({ code: 'failed', message: 'no room' });
});

it('what is refused is answered, unless it is fine, and the rest is sent', () => {
  const { netlink, sent } = socket({ a: ENOENT, b: EBUSY });
  expect(send(netlink, ['a', 'b', 'c'].map(request), ['ENOENT'])).toEqual({
    writes: 3,
    failed: [{ code: 'EBUSY', message: 'b: EBUSY' }],
  });
  expect(sent).toEqual([['a', 'b', 'c']]);
});

it('entries are added, then removed, each in one batch; what could not be added is not known to be there', () => {
  const tracker = track(THINGS);
  const { netlink, sent } = socket({ 'add b': EBUSY, 'remove old': ENOENT });
  tracker.assume(new Map([[{}, [{ name: 'old', device: 'd' }]]]));
  const wanted = new Map([
    [{}, ['a', 'b'].map((name) => ({ name, device: 'd' }))],
    [{}, [{ name: 'later', device: 'not there' }]],
  ]);
  const { outcome, deferred } = establish(tracker, {
    wanted,
    write: (change) =>
      writeRequests(
        netlink,
        {
          add: ({ name, device }) => (device === 'd' ? [request(`add ${name}`)] : undefined),
          remove: ({ name }) => [request(`remove ${name}`)],
          gone: ['ENOENT'],
        },
        change,
      ),
  });
  expect(sent).toEqual([['add a', 'add b'], ['remove old']]);
  expect(outcome).toMatchObject({ writes: 3, failed: [{ code: 'EBUSY', message: 'add b: EBUSY' }] });
  expect(deferred, 'its device is to come').toBe(true);
  expect([...tracker.held()].map(({ name }) => name)).toEqual(['a']);
});
