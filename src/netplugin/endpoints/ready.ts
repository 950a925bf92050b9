/** Which endpoints answer for something that several may answer for: a name, a service. */
import type { Endpoint } from '../../model/endpoint.ts';

type Status = Pick<Endpoint, 'status'>;

/** Its container runs and is not stopped or paused. */
export const answers = ({ status }: Status): boolean => status === 'running' || status === 'unhealthy';

/** Of those that answer, on hosts that are alive: the healthy ones; where none is, all. */
export function ready<T extends Status>(answering: readonly T[]): readonly T[] {
  const healthy = answering.filter((e) => e.status === 'running');
  return healthy.length > 0 ? healthy : answering;
}
