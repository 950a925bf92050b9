/** Which endpoints answer for something that several may answer for: a name, a service. */
import type { Endpoint } from './endpoint.ts';

type Status = Pick<Endpoint, 'status'>;
type Standing = Pick<Endpoint, 'status' | 'homingHost'>;

/** Its container runs and is not stopped or paused. */
export const answers = ({ status }: Status): boolean => status === 'running' || status === 'unhealthy';

/**
 * Of those that answer, on hosts that are alive: who takes new connections. The healthy ones on hosts that stay; where none is, those on hosts
 * that are drained, as an orchestrator's that end and still serve (backends.ts); where nobody is healthy, whoever is left, in the same order.
 */
export function ready<T extends Standing>(
  answering: readonly T[],
  draining: Pick<ReadonlySet<string>, 'has'>,
): readonly T[] {
  const healthy = answering.filter((e) => e.status === 'running');
  const best = healthy.length > 0 ? healthy : answering;
  const staying = best.filter((e) => !draining.has(e.homingHost));
  return staying.length > 0 ? staying : best;
}
