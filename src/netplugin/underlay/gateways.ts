/**
 * Whether the routers of the fabric answer that are gateways of VLAN networks (externalGateway). The kernel asks them over and over
 * (dataplane/entries.ts); what comes by them is let in once it is known where they are, which takes a pass.
 */

import { inTurn } from '../../turns.ts';
import type { Gateway } from '../dataplane/index.ts';
import { LISTEN_INTERVAL } from '../intervals.ts';

/** Milliseconds in which one may keep silent: the kernel asks three times, a second apart. */
const PATIENCE = 4000;

export interface FollowedGateways {
  /** Those that do not answer. */
  readonly silent: readonly Gateway[];
  close(): void;
}

export interface GatewaysOptions {
  readonly dataplane: { gateways(): Promise<readonly Gateway[]> };
  /** One answers by another MAC address than before, or does not any more. */
  moved(): void;
  /** One has fallen silent, or is back. */
  happened(line: string): void;
  clock?(): number;
}

interface Known {
  readonly gateway: Gateway;
  /** Since when it does not answer; undefined: it does. */
  readonly silent: number | undefined;
  /** That it is silent has been told. */
  readonly told: boolean;
}

/** In words. */
export const named = ({ address, vlan, tenant }: Gateway): string =>
  `gateway ${address} on VLAN ${vlan} of tenant ${tenant}`;

export function followGateways({
  dataplane,
  moved,
  happened,
  clock = () => performance.now(),
}: GatewaysOptions): FollowedGateways {
  let known = new Map<string, Known>();

  function see(gateway: Gateway, before: Known | undefined): Known {
    const { mac } = gateway;
    if (mac !== '') {
      if (before?.told) happened(`${named(gateway)} answers again`);
      return { gateway, silent: undefined, told: false };
    }
    const silent = before?.silent ?? clock();
    const tell = clock() - silent >= PATIENCE;
    if (tell && !before?.told) happened(`${named(gateway)} does not answer`);
    return { gateway, silent, told: tell };
  }

  async function look(): Promise<void> {
    const found = await dataplane.gateways();
    const before = known;
    const key = ({ tenant, vlan, address }: Gateway): string => `${tenant} ${vlan} ${address}`;
    known = new Map(found.map((gateway) => [key(gateway), see(gateway, before.get(key(gateway)))]));
    const macOf = (all: ReadonlyMap<string, Known>, at: string): string => all.get(at)?.gateway.mac ?? '';
    if ([...known.keys()].some((at) => macOf(known, at) !== macOf(before, at))) moved();
  }
  const looks = inTurn(look, { every: LISTEN_INTERVAL });
  return {
    get silent() {
      return [...known.values()].flatMap(({ gateway, told }) => (told ? [gateway] : []));
    },
    close: () => void looks.close(),
  };
}
