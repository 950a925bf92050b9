import { describe, expect, it, vi } from 'vitest';
import { openMemory } from '../store/memory.ts';
import { trackAcknowledgements } from './acknowledgements.ts';
import { openMirror, storeKey } from './mirror.ts';

/** Hosts `h0`, `h1`, ... that have applied revision 1. */
async function tracking(hosts: number) {
  const store = openMemory();
  for (let i = 0; i < hosts; i++)
    await store.transact(
      [],
      [{ key: storeKey('host', `h${i}`), value: { name: `h${i}`, underlay: `u${i}` } }],
    );
  const mirror = await openMirror(store);
  const acknowledgements = trackAcknowledgements(mirror);
  for (let i = 0; i < hosts; i++) acknowledgements.applied(`h${i}`, 1);
  return { store, mirror, acknowledgements };
}

const remains = Symbol('waits');
/** What it resolved to by now. */
const now = (promise: Promise<string[]>): Promise<unknown> =>
  Promise.race([promise, new Promise((done) => setImmediate(done, remains))]);

describe('a write that waits', () => {
  it('is answered when the last host has applied it, or a later one', async () => {
    const { acknowledgements } = await tracking(3);
    const waiting = acknowledgements.wait(5, 60);
    acknowledgements.applied('h0', 5);
    acknowledgements.applied('h1', 4);
    acknowledgements.applied('h2', 9);
    expect(await now(waiting)).toBe(remains);
    acknowledgements.applied('h1', 5);
    expect(await waiting).toEqual([]);
  });

  it('does not wait for a host that goes', async () => {
    const { store, acknowledgements } = await tracking(2);
    const waiting = acknowledgements.wait(5, 60);
    acknowledgements.applied('h0', 5);
    await store.transact([], [{ key: storeKey('host', 'h1'), value: undefined }]);
    expect(await waiting).toEqual([]);
  });

  it('names a host that is away as long as it has containers, which go on by what was applied there last', async () => {
    const { store, mirror, acknowledgements } = await tracking(2);
    const write = async (kind: string, key: string, value?: object): Promise<void> => {
      const outcome = await store.transact([], [{ key: storeKey(kind, key), value }]);
      if (outcome.ok) await mirror.seen(outcome.revision);
    };
    await write('registration', 'h1', { underlay: 'u1' });
    await write('endpoint', 'e', { endpointID: 'e', homingHost: 'h1' });
    expect(acknowledgements.away(5)).toEqual([]);
    const waiting = acknowledgements.wait(5, 60);
    acknowledgements.applied('h0', 9);
    await write('host', 'h1');
    expect(await waiting).toEqual([]);
    expect(acknowledgements.away(5)).toEqual(['h1']);
    acknowledgements.applied('h1', 5);
    expect(acknowledgements.away(5)).toEqual([]);
    expect(acknowledgements.away(6)).toEqual(['h1']);
    await write('endpoint', 'e', { endpointID: 'e', homingHost: 'h1', ofHost: true });
    expect(acknowledgements.away(6)).toEqual([]);
  });

  it('names who is late, whom no other write waits for until it has caught up', async () => {
    const { acknowledgements } = await tracking(2);
    const patient = acknowledgements.wait(4, 60);
    const waiting = acknowledgements.wait(5, 0.01);
    acknowledgements.applied('h0', 5);
    expect(await waiting).toEqual(['h1']);
    expect(await patient).toEqual(['h1']);
    expect(await acknowledgements.wait(5, 60)).toEqual(['h1']);
    acknowledgements.applied('h1', 5);
    expect(await now(acknowledgements.wait(6, 60))).toBe(remains);
  });

  it('looks at each host twice, however many acknowledge it', async () => {
    const { mirror, acknowledgements } = await tracking(500);
    const listing = vi.spyOn(mirror, 'list');
    const waiting = acknowledgements.wait(5, 60);
    for (let i = 0; i < 500; i++) acknowledgements.applied(`h${i}`, 5);
    expect(await waiting).toEqual([]);
    expect(listing).toHaveBeenCalledTimes(2);
  });
});
