/**
 * Who answers for an orchestrator's service, of those that are behind it: as kube-proxy chooses (pkg/proxy/topology.go), since workloads are
 * written for it. Those that are ready, of these the ones that are meant for the asking host, or for its zone, where any are; where nobody
 * is ready, those that end and still answer. With policy `local` the host's own alone.
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
  /** Somebody answers somewhere. */
  readonly any: boolean;
  /** How those for any traffic were chosen, for people. */
  readonly why: string;
}

const isReady = (b: Backend): boolean => b.ready;
const isEnding = (b: Backend): boolean => b.serving && b.terminating;

/** As they are chosen on this host, which is in this zone. */
export function select(backends: readonly Backend[], host: string, zone: string | undefined): Selection {
  const firstOf = (list: readonly Backend[]): readonly Backend[] => {
    const ready = list.filter(isReady);
    return ready.length > 0 ? ready : list.filter(isEnding);
  };
  const ready = backends.filter(isReady);
  const [cluster, why] =
    ready.length > 0
      ? near(ready, host, zone)
      : [backends.filter(isEnding), 'none is ready: those that end and still answer'];
  return {
    cluster,
    local: firstOf(backends.filter((b) => b.host === host)),
    any: backends.some((b) => isReady(b) || isEnding(b)),
    why,
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
