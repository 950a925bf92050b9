/**
 * Who answers for an orchestrator's service, of those that are behind it: as kube-proxy chooses (pkg/proxy/topology.go), since workloads are
 * written for it. Those that are ready, of these the ones that are meant for the asking host, or for its zone, where any are; where nobody
 * is ready, those that end and still answer. With policy `local` the host's own alone. What is on a host that is being drained counts as
 * what ends: it has no new connections while anybody else may take them.
 */
import type { Backend, ClusterService } from './clusterService.ts';

/** A zone that a host is in: whatever runs on it says so. */
export function zoneOf(host: string, services: readonly ClusterService[]): string | undefined {
  for (const { ports } of services)
    for (const { backends } of ports)
      for (const backend of backends) if (backend.host === host && backend.zone) return backend.zone;
  return undefined;
}

export interface Selection {
  /** For traffic that any backend may take. */
  readonly cluster: readonly Backend[];
  readonly local: readonly Backend[];
  /** How many of these are ready. */
  readonly localReady: number;
  /** Somebody answers somewhere. */
  readonly any: boolean;
  /** How those for any traffic were chosen, for people. */
  readonly why: string;
}

const isReady = (b: Backend): boolean => b.ready;
const isEnding = (b: Backend): boolean => b.serving && b.terminating;

/** As they are chosen on this host, which is in this zone. */
export function select(
  declared: readonly Backend[],
  host: string,
  zone: string | undefined,
  draining: ReadonlySet<string>,
): Selection {
  const drained = declared.filter((b) => b.host !== undefined && draining.has(b.host));
  const backends =
    drained.length === 0
      ? declared
      : declared.map((b) => (drained.includes(b) ? { ...b, ready: false, terminating: true } : b));
  const firstOf = (list: readonly Backend[]): readonly Backend[] => {
    const ready = list.filter(isReady);
    return ready.length > 0 ? ready : list.filter(isEnding);
  };
  const ready = backends.filter(isReady);
  const [cluster, why] =
    ready.length > 0
      ? near(ready, host, zone)
      : [backends.filter(isEnding), 'none is ready: those that end and still answer'];
  const here = backends.filter((b) => b.host === host);
  const hosts = [...new Set(drained.filter(isReady).map((b) => b.host))].sort();
  return {
    cluster,
    local: firstOf(here),
    localReady: new Set(here.filter(isReady).map((b) => b.address)).size,
    any: backends.some((b) => isReady(b) || isEnding(b)),
    why:
      hosts.length === 0
        ? why
        : `${why}; what is on ${hosts.join(', ')} counts as ending, as that is being drained`,
  };
}

/** Hints count where all have them, and somebody is meant for us. */
function near(
  ready: readonly Backend[],
  host: string,
  zone: string | undefined,
): [chosen: readonly Backend[], why: string] {
  const meant = (
    hints: (b: Backend) => readonly string[] | undefined,
    own: string | undefined,
  ): readonly Backend[] =>
    own === undefined || !ready.every((b) => (hints(b)?.length ?? 0) > 0)
      ? []
      : ready.filter((b) => hints(b)?.includes(own));
  const here = meant((b) => b.forHosts, host);
  if (here.length > 0) return [here, `those that are ready and meant for host ${host}`];
  const inZone = meant((b) => b.forZones, zone);
  if (inZone.length > 0) return [inZone, `those that are ready and meant for zone ${zone}`];
  return [ready, 'those that are ready'];
}
