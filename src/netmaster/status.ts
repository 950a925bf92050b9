/** The whole cluster on a page: what is there, and what is wrong, with what mends it. */
import { isV6 } from '../model/address.ts';
import type { StoredExternalEndpoint } from '../model/externalEndpoint.ts';
import { mainFamily } from '../model/families.ts';
import type { Network } from '../model/network.ts';
import type { HostState, Problem, Status } from '../protocol/hosts.ts';
import type { Store } from '../store/store.ts';
import { type FabricState, fabricOf } from './aci/state.ts';
import { poolSize } from './allocator/addresses.ts';
import { poolOf } from './allocator/choose.ts';
import { encryptionProblems, encryptionStatus } from './keyEpochs.ts';
import { restoredText } from './lineage.ts';
import type { Mirror } from './mirror.ts';
import { readiness } from './readiness.ts';
import type { Roster } from './roster.ts';
import type { Security } from './security.ts';

export interface StatusSources {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly roster: Roster;
  readonly version: string;
  readonly security?: Security | undefined;
}

export async function clusterStatus({
  store,
  mirror,
  roster,
  version,
  security,
}: StatusSources): Promise<Status> {
  const [described, unready] = await Promise.all([describe(store), readiness(store, mirror)]);
  const hosts = roster.states();
  const count = (state: HostState['state']): number => hosts.filter((host) => host.state === state).length;
  const restored = restoredText(mirror);
  const networks = mirror.list<Network>('network').map((network) => useOf(network, mirror));
  const fabric = fabricOf(mirror);
  const encryption = encryptionStatus(mirror);
  return {
    netmaster: {
      version,
      security: security === undefined ? 'none' : 'certificates',
      ...described,
      revision: mirror.revision,
      ...(restored === undefined ? {} : { restored }),
      uptime: Math.floor(process.uptime()),
      netmasters: mirror.list<{ url: string }>('replica').map(({ url }) => url),
    },
    hosts: {
      ready: count('ready'),
      late: count('late'),
      away: count('away'),
      refused: count('refused'),
      draining: count('draining'),
    },
    ...(fabric === undefined ? {} : { fabric: shownFabric(fabric) }),
    ...(encryption === undefined ? {} : { encryption }),
    networks,
    pending: hosts
      .filter(({ state, lag }) => state !== 'away' && state !== 'refused' && lag > 0)
      .map(({ name, lag }) => ({ host: name, lag })),
    problems: [
      ...unready.map((problem) => ({ of: 'netmaster', ...problem })),
      ...hosts.flatMap((host) =>
        hostProblems(host).map((problem) => ({ of: `host ${host.name}`, ...problem })),
      ),
      ...encryptionProblems(mirror),
      ...networks.filter(({ used, size }) => used >= size).map(exhausted),
      ...mirror.list<StoredExternalEndpoint>('externalEndpoint').flatMap(failed),
      ...(fabric?.problems ?? []),
    ],
  };
}

const shownFabric = ({
  state,
  controller,
  since,
  objects,
  subscribed,
}: FabricState): NonNullable<Status['fabric']> => ({
  state,
  ...(controller === undefined ? {} : { controller }),
  since,
  objects,
  ...(subscribed && { subscribed }),
});

async function describe(store: Store): Promise<Pick<Status['netmaster'], 'store' | 'place' | 'bytes'>> {
  try {
    const { kind, place, bytes } = await store.describe();
    return {
      store: kind,
      ...(place === undefined ? {} : { place }),
      ...(bytes === undefined ? {} : { bytes }),
    };
  } catch {
    return { store: 'sqlite' }; // its file is gone, which is among the problems
  }
}

const LOGS = 'journalctl -u contiv-netplugin there says why';

function hostProblems({ name, state, reason = '', containers, problems }: HostState): Problem[] {
  switch (state) {
    case 'away':
      return [
        {
          problem: `away: ${reason}; ${containers} container${containers === 1 ? '' : 's'} there unreachable`,
          remedy: `start its agent (systemctl start contiv-netplugin there); where it is gone for good: netctl host rm ${name}`,
        },
      ];
    case 'refused':
      return [
        {
          problem: `refused: ${reason}`,
          remedy: 'give it a name and an address of its own, or end its agent',
        },
      ];
    case 'late':
      return [{ problem: `late: ${reason}`, remedy: `${LOGS}: it goes on trying` }, ...problems];
    case 'ready':
    case 'draining':
      return problems;
  }
}

function useOf(network: Network, mirror: Mirror): Status['networks'][number] {
  const key = `${network.tenantName}:${network.networkName}`;
  const family = mainFamily(network);
  const spec = poolOf(mirror, network, family, undefined);
  const taken = [...mirror.addresses(key)].filter(
    ([address]) => isV6(address) === (family === 6) && address !== spec.gateway,
  );
  const reserved = taken.filter(([, { object }]) => object.reserve !== undefined).length;
  return {
    network: key,
    subnet: spec.subnet,
    used: taken.length - reserved,
    reserved,
    size: poolSize({ ...spec, except: [] }),
  };
}

const failed = ({ tenantName, endpointName, healthCheck, failing }: StoredExternalEndpoint) =>
  failing === undefined
    ? []
    : [
        {
          of: `external endpoint ${tenantName}:${endpointName}`,
          problem: `fails its health check ${healthCheck} since ${failing.since}, as host ${failing.host} says: ${failing.why}`,
          remedy:
            "see to the machine, or to its health check; services and its group's name go without it meanwhile",
        },
      ];

const exhausted = ({ network, used, size }: Status['networks'][number]) => ({
  of: `network ${network}`,
  problem: `${used} of ${size} addresses are in use: nothing more starts there`,
  remedy: 'end what is not needed, or declare another network and start there',
});
