/**
 * Which of several netkubes writes: the holder of a Lease (coordination.k8s.io), by the rules of the API's own leader election
 * (client-go, tools/leaderelection). Another's lease counts as left when it has not changed for its duration as this process saw it:
 * clocks of two machines are not compared. What is written twice in a handover does no harm, as both write what is so.
 */
import { setTimeout as after } from 'node:timers/promises';
import { type KubernetesApi, KubernetesError } from './api.ts';
import { microNow } from './time.ts';

export interface Leadership {
  /** This process holds it, and has renewed it lately. */
  leads(): boolean;
  /** Gives it back, so that another need not wait. */
  close(): Promise<void>;
}

export interface LeaseOptions {
  readonly namespace: string;
  readonly name: string;
  /** Different for each process. */
  readonly identity: string;
  changed(leads: boolean): void;
  failed(error: Error, first: boolean): void;
}

interface Lease {
  readonly metadata: { readonly resourceVersion?: string };
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

/** Seconds that a lease holds; milliseconds until it is not relied on any more, and between renewals. */
const DURATION = 15;
const RELIED_ON = 10_000;
const RENEWAL = 2000;

export function holdLease(
  api: KubernetesApi,
  { namespace, name, identity, changed, failed }: LeaseOptions,
): Leadership {
  const leases = `/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
  const stop = new AbortController();
  let renewedAt = Number.NEGATIVE_INFINITY;
  let led = false;
  /** The other's lease as it was seen last, and since when. */
  let seen = { version: '', at: 0 };
  const leads = (): boolean => performance.now() - renewedAt < RELIED_ON;

  async function renew(): Promise<boolean> {
    const at = performance.now();
    let lease: Lease | undefined;
    try {
      lease = await api.get<Lease>(`${leases}/${name}`);
    } catch (error) {
      if (!(error instanceof KubernetesError) || error.status !== 404) throw error;
    }
    const { holderIdentity, leaseDurationSeconds = DURATION, leaseTransitions = 0 } = lease?.spec ?? {};
    const mine = holderIdentity === identity;
    const version = lease?.metadata.resourceVersion ?? '';
    if (lease !== undefined && !mine && holderIdentity) {
      if (version !== seen.version) seen = { version, at };
      if (at - seen.at < leaseDurationSeconds * 1000) return false;
    }
    const time = microNow();
    const body = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { ...(lease?.metadata ?? {}), name, namespace },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: DURATION,
        acquireTime: mine ? (lease?.spec?.acquireTime ?? time) : time,
        renewTime: time,
        leaseTransitions: mine || lease === undefined ? leaseTransitions : leaseTransitions + 1,
      },
    };
    try {
      if (lease === undefined) await api.create(leases, body);
      else await api.replace(`${leases}/${name}`, body);
    } catch (error) {
      if (error instanceof KubernetesError && error.status === 409) return false; // another was quicker
      throw error;
    }
    renewedAt = at;
    return true;
  }

  const running = (async () => {
    let failures = 0;
    while (!stop.signal.aborted) {
      try {
        if (!(await renew())) renewedAt = Number.NEGATIVE_INFINITY;
        failures = 0;
      } catch (error) {
        failed(error as Error, failures++ === 0);
      }
      if (leads() !== led) {
        led = leads();
        changed(led);
      }
      await after(RENEWAL, undefined, { signal: stop.signal }).catch(() => {});
    }
  })();

  return {
    leads,
    async close() {
      stop.abort();
      await running;
      if (!leads()) return;
      renewedAt = Number.NEGATIVE_INFINITY;
      await api
        .patch(`${leases}/${name}`, 'merge', { spec: { holderIdentity: '', leaseDurationSeconds: 1 } })
        .catch(() => {}); // it ends by itself
    },
  };
}
