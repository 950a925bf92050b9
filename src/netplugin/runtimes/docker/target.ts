/** What a Docker network stands for travels as driver and IPAM options, so both drivers can tell. */
import type { Target } from '../network.ts';

/** What a user calls it. */
export function dockerName({ tenant, network, group }: Target): string {
  const name = group === '' ? network : `${group}.${network}`;
  return tenant === 'default' ? name : `${name}/${tenant}`;
}
