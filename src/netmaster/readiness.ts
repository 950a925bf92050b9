/** What keeps this netmaster from what it is there for, with what mends it: of its store, its disk, and how far it follows the store. */
import type { Problem } from '../protocol/hosts.ts';
import type { Store } from '../store/store.ts';
import { type Mirror, storeKey } from './mirror.ts';

/** Bytes on the store's disk: a set of objects may take most of it at once. */
const LOW = 32 << 20;
/** Milliseconds that the store has to answer, and its watch to tell of what it answered. */
const PATIENCE = 2000;

/** None: it is ready. */
export async function readiness(store: Store, mirror: Mirror): Promise<Problem[]> {
  const [problem, behind, space] = await Promise.all([
    within(store.problem(), 'it does not answer'),
    lagging(store, mirror),
    lackOfSpace(store),
  ]);
  const unwritable: Problem[] =
    problem === undefined
      ? []
      : [
          {
            problem: `the store cannot be written: ${problem}`,
            remedy:
              'what runs goes on, and nothing can be changed: mend the store; netmaster finds out by itself',
          },
        ];
  return [...unwritable, ...space, ...behind];
}

/** `otherwise` when it takes too long. */
async function within<T, U>(answer: Promise<T>, otherwise: U): Promise<T | U> {
  const { promise, resolve } = Promise.withResolvers<U>();
  const timer = setTimeout(resolve, PATIENCE, otherwise);
  try {
    return await Promise.race([answer, promise]);
  } finally {
    clearTimeout(timer);
  }
}

async function lackOfSpace(store: Store): Promise<Problem[]> {
  try {
    const { place, free } = (await within(store.describe(), undefined)) ?? {};
    if (free === undefined || free >= LOW) return [];
    return [
      {
        problem: `the disk of the store ${place} has ${Math.floor(free / 1024)} KB left`,
        remedy: 'free some: without space nothing can be changed',
      },
    ];
  } catch {
    return []; // the file is gone: the store has said so
  }
}

async function lagging(store: Store, mirror: Mirror): Promise<Problem[]> {
  try {
    const revision = await within(
      store.list(storeKey('none', '')).then((list) => list.revision),
      undefined,
    );
    if (revision === undefined)
      return [
        {
          problem: 'the store does not answer',
          remedy: 'see that etcd has a leader (etcdctl endpoint status)',
        },
      ];
    if (
      await within(
        mirror.seen(revision).then(() => true),
        false,
      )
    )
      return [];
    return [
      {
        problem: `this netmaster is ${revision - mirror.revision} revisions behind its store`,
        remedy: 'it catches up by itself; where it does not, restart it',
      },
    ];
  } catch {
    return []; // the store has said why
  }
}
