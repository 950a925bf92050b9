/**
 * Pods as netmaster has them. A runtime starts a pod's sandbox as soon as its kubelet knows the pod, which may be before its workload
 * has come by netkube and netmaster: so an ADD waits for it, and the pod is in its network and under its policy from the first packet.
 */
import type { Workload } from '../../../model/workload.ts';
import type { News } from '../../follower.ts';
import type { Endpoints } from '../runtime.ts';
import type { Pod } from './asked.ts';
import { CniError, CODES } from './errors.ts';

/** Milliseconds; a kubelet asks again. */
const KNOWN_WITHIN = 20_000;

export interface Workloads {
  /** Throws a CniError where it does not come in time, or nobody waits any more. */
  await(pod: Pod, gone: AbortSignal): Promise<Workload>;
  changed(news: News): void;
}

export function openWorkloads(
  { view }: Pick<Endpoints, 'view'>,
  { within = KNOWN_WITHIN }: { readonly within?: number } = {},
): Workloads {
  const waiting = new Set<() => void>();

  /** A pod of the same name that comes later has another id. */
  function find({ namespace, name, uid }: Pod): Workload | undefined {
    const workload = view.workloads.get(`${namespace}:${name}`);
    return uid === '' || workload?.uid === uid ? workload : undefined;
  }

  return {
    changed(news) {
      if (news.type === 'view') for (const look of waiting) look();
    },
    await(pod, gone) {
      const known = find(pod);
      if (known !== undefined) return Promise.resolve(known);
      return new Promise((resolve, reject) => {
        const end = (settle: () => void): void => {
          waiting.delete(look);
          clearTimeout(timer);
          gone.removeEventListener('abort', giveUp);
          settle();
        };
        const look = (): void => {
          const workload = find(pod);
          if (workload !== undefined) end(() => resolve(workload));
        };
        const giveUp = (): void =>
          end(() =>
            reject(
              new CniError(
                CODES.tryAgainLater,
                `pod ${pod.namespace}/${pod.name} is not known to netmaster yet: is netkube running?`,
              ),
            ),
          );
        const timer = setTimeout(giveUp, within);
        waiting.add(look);
        gone.addEventListener('abort', giveUp);
        if (gone.aborted) giveUp();
      });
    },
  };
}
