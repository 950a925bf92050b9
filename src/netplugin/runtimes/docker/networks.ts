/**
 * Offers networks and groups to Docker: one Docker network for each name that a user may pass to
 * `docker run --net`, created and removed on this host as intent changes.
 *
 *   contiv-net            network of tenant default        contiv-net/blue       of tenant blue
 *   web.contiv-net        group in it                      web.contiv-net/blue
 *   web                   the group by its 1.x name        web/blue
 *
 * What is wanted is a pure function of the view; Docker's list says what is there. Docker networks that carry no
 * label of ours are not touched.
 */
import type { Logger } from 'pino';
import { isV6, subnetPrefix } from '../../../model/address.ts';
import { familiesOf, gatewayOf, subnetOf } from '../../../model/families.ts';
import type { Problem } from '../../../protocol/hosts.ts';
import { inTurn } from '../../../turns.ts';
import type { Follower } from '../../follower.ts';
import type { KnownNetwork, View } from '../../intent/view.ts';
import { OFFER_INTERVAL } from '../../intervals.ts';
import type { Target } from '../network.ts';
import type { Endpoints } from '../runtime.ts';
import type { Driver } from './driver.ts';
import type { Docker, NetworkInspectInfo } from './engine.ts';
import { SWARM_DRIVER, type Swarm } from './swarm.ts';
import { dockerName } from './target.ts';

export const DRIVER = 'netplugin';
export const LABEL = 'io.contiv.network';

export interface WantedNetwork extends Target {
  readonly name: string;
  readonly config: readonly { Subnet: string; Gateway?: string }[];
}

/** Of a host's own Docker. */
const namesHere = (target: Target): string[] => {
  const { tenant, group } = target;
  return [dockerName(target), ...(group === '' ? [] : [dockerName({ tenant, network: group, group: '' })])];
};

/** What of declared networks this host's Docker can have. */
export interface Able {
  /** Those of encapsulation vlan act here; else a container on one would reach nobody. */
  readonly vlans: boolean;
  /** Those without an IPv4 subnet: Docker 28 and newer. */
  readonly ipv6Alone: boolean;
}

/** Networks of type infra are the hosts' own. */
const isForDocker = ({ encap, nwType }: KnownNetwork, vlans: boolean): boolean =>
  nwType !== 'infra' && (encap !== 'vlan' || vlans);

export function wantedNetworks(
  view: View,
  { vlans, ipv6Alone }: Able,
  namesOf: (target: Target) => string[] = namesHere,
): Map<string, WantedNetwork> {
  const wanted = new Map<string, WantedNetwork>();
  const add = (name: string, target: Target): void => {
    const { tenant, network } = target;
    const spec = view.networks.get(`${tenant}:${network}`);
    if (spec === undefined || !isForDocker(spec, vlans) || !(spec.subnet || ipv6Alone)) return;
    const config = familiesOf(spec).map((family) => {
      const gateway = gatewayOf(spec, family);
      const Subnet = subnetPrefix(subnetOf(spec, family) as string);
      return gateway === undefined ? { Subnet } : { Subnet, Gateway: gateway };
    });
    if (!wanted.has(name)) wanted.set(name, { ...target, name, config });
  };
  const offer = (tenant: string, network: string, group: string): void => {
    const target = { tenant, network, group };
    for (const name of namesOf(target)) add(name, target);
  };
  for (const n of view.networks.values()) offer(n.tenantName, n.networkName, '');
  for (const g of view.groups.values()) offer(g.tenantName, g.networkName, g.groupName);
  return wanted;
}

/** As Docker's API has it: `EnableIPv4` from 28 on, and a Docker that does not know it has IPv4 in each network. */
export const versionsOf = ({ config }: WantedNetwork): { EnableIPv4?: false; EnableIPv6: boolean } => ({
  ...(config.every(({ Subnet }) => isV6(Subnet)) && { EnableIPv4: false }),
  EnableIPv6: config.some(({ Subnet }) => isV6(Subnet)),
});

/** Of its API, that of Docker 28: `EnableIPv4` is read from there on (moby, api/server/router/network, postNetworkCreate). */
const IPV6_ALONE = [1, 48] as const;

/** `version`: of Docker's API, `1.41`. */
export function takesIpv6Alone(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > IPV6_ALONE[0] || (major === IPV6_ALONE[0] && minor >= IPV6_ALONE[1]);
}

/** Keys of networks that a Docker which gives each network IPv4 is not offered, and else would be. */
export const withoutIpv4 = (view: View, vlans: boolean): string[] =>
  [...view.networks].flatMap(([key, n]) => (!n.subnet && isForDocker(n, vlans) ? [key] : [])).sort();

/** Text that is equal for equal Docker networks. */
export const fingerprint = (n: WantedNetwork): string =>
  JSON.stringify([n.tenant, n.network, n.group, n.config]);

/** What a Docker network was made for; undefined: not by us. */
export function targetOf(network: Pick<NetworkInspectInfo, 'Driver' | 'Labels'>): Target | undefined {
  const label = network.Labels?.[LABEL];
  if (network.Driver !== DRIVER || label === undefined) return undefined;
  try {
    const [tenant, name, group] = JSON.parse(label) as [string, string, string];
    return { tenant, network: name, group };
  } catch {
    return undefined; // somebody's own
  }
}

/** What Docker has, by name: networks of ours, and names that others use. */
export interface Present {
  readonly ours: Map<string, { readonly id: string; readonly fingerprint: string | undefined }>;
  readonly others: Set<string>;
}

export function presentNetworks(listed: readonly NetworkInspectInfo[], driver = DRIVER): Present {
  const isOurs = (n: NetworkInspectInfo): boolean => n.Driver === driver && n.Labels?.[LABEL] !== undefined;
  return {
    ours: new Map(listed.filter(isOurs).map((n) => [n.Name, { id: n.Id, fingerprint: n.Labels?.[LABEL] }])),
    others: new Set(listed.filter((n) => !isOurs(n)).map((n) => n.Name)),
  };
}

/** What makes what is present what is wanted, in this order. */
export interface Plan {
  readonly remove: readonly { readonly name: string; readonly id: string }[];
  /** Where Docker keeps one that was to be removed, as containers hold it, that name has to wait. */
  readonly create: readonly WantedNetwork[];
  /** Wanted, and the name is another network's. */
  readonly shadowed: readonly string[];
}

/** `live`: what is wanted is what netmaster says now. Else nothing is removed: a container that is stopped could not start again on a network that was made anew. */
export function planNetworks(
  { ours, others }: Present,
  wanted: ReadonlyMap<string, WantedNetwork>,
  live: boolean,
): Plan {
  const remove: { name: string; id: string }[] = [];
  for (const [name, { id, fingerprint: has }] of live ? ours : []) {
    const want = wanted.get(name);
    if (want === undefined || has !== fingerprint(want)) remove.push({ name, id });
  }
  const freed = new Set(remove.map(({ name }) => name));
  const lacking = [...wanted.values()].filter(({ name }) => !ours.has(name) || freed.has(name));
  return {
    remove,
    create: lacking.filter(({ name }) => !others.has(name)),
    shadowed: lacking.filter(({ name }) => others.has(name)).map(({ name }) => name),
  };
}

export interface Offer {
  /** Intent changed: Docker is brought up to it soon. */
  changed(): void;
  /** Docker has removed a network, whoever asked for it: `docker network prune` takes idle ones. Ours is offered anew at once. */
  removed(id: string, name: string): void;
  /** Docker was away, and may have another list. */
  renewed(): void;
  /** What Docker did not take, as of the last time. */
  readonly problems: readonly Problem[];
  /** When all that was known at the call is offered, or Docker cannot be reached. */
  settled(): Promise<void>;
  close(): void;
}

/**
 * Docker is asked for its list at the start and every OFFER_INTERVAL; in between a change costs the networks that it
 * is about, and Docker's events say which ones it has lost. Whoever waits for a change does not wait for that list.
 */
export function startOffer(
  docker: Docker,
  { view, live }: Pick<Endpoints, 'view' | 'live'>,
  log: Logger,
  learn: Driver['learn'],
  tell: (line: string) => void,
  vlans: boolean,
): Offer {
  /** undefined: not known. */
  let present: Present | undefined;
  let stale = true;
  let reachable = true;
  let answered = false;
  let problems: readonly Problem[] = [];
  let version = { Version: '', ApiVersion: '' };
  /** Names that were complained of. */
  const shadowed = new Set<string>();
  /** Networks that were, as this Docker cannot have them. */
  let beyond: readonly string[] = [];

  /** Nobody else would tell: containers with this name get Docker's network. */
  function complain(name: string): void {
    if (shadowed.has(name)) return;
    log.warn({ network: name }, 'not offered: Docker has another network of this name; remove that one');
    tell(
      `${name} is not offered to Docker, which has another network of this name: containers with it get that one, without policy; remove it (docker network rm)`,
    );
    shadowed.add(name);
  }

  async function create(network: WantedNetwork): Promise<string> {
    const options = { tenant: network.tenant, network: network.network, group: network.group };
    const { id } = await docker.createNetwork({
      Name: network.name,
      Driver: DRIVER,
      CheckDuplicate: true,
      ...versionsOf(network),
      IPAM: { Driver: DRIVER, Options: options, Config: [...network.config] },
      Options: options,
      Labels: { [LABEL]: fingerprint(network) },
    });
    log.info({ network: network.name }, 'offered to Docker');
    return id;
  }

  async function list(): Promise<Present> {
    version = await docker.version();
    const networks = await docker.listNetworks();
    reachable = true;
    answered = true;
    for (const n of networks) if ([DRIVER, SWARM_DRIVER].includes(n.Driver)) learn(n.Id, n.Options ?? {});
    return presentNetworks(networks);
  }

  /** False: Docker keeps it. */
  async function remove(name: string, id: string): Promise<boolean> {
    try {
      await docker.getNetwork(id).remove();
      log.info({ network: name }, 'withdrawn from Docker');
    } catch (error) {
      if ((error as { statusCode?: number }).statusCode !== 404) {
        // 403: containers that are still there hold it; a later sync finds it free
        log.debug({ err: error, network: name }, 'Docker keeps the network');
        return false;
      }
    }
    return true;
  }

  async function sync(): Promise<void> {
    present ??= await list(); // a dockerd that is starting answers late
    const { ours } = present;
    const ipv6Alone = takesIpv6Alone(version.ApiVersion);
    const plan = planNetworks(present, wantedNetworks(view, { vlans, ipv6Alone }), live());
    for (const { name, id } of plan.remove) if (await remove(name, id)) ours.delete(name);
    const untaken: Problem[] = plan.shadowed.map((name) => ({
      problem: `Docker has another network named ${name}: containers with --net ${name} get that one, without address and policy of contiv's`,
      remedy: `docker network rm ${name} on this host, or give contiv's another name`,
    }));
    for (const name of plan.shadowed) complain(name);
    // No problem of this host's: nothing here may want it, and who asks Docker for it is refused with what to do.
    const lacking = ipv6Alone ? [] : withoutIpv4(view, vlans);
    for (const key of lacking)
      if (!beyond.includes(key))
        tell(
          `network ${key} is not offered to Docker: it has no IPv4 subnet, and Docker ${version.Version} gives each network IPv4; for containers of Docker's have 28 or newer on this host, or make the network anew with --subnet`,
        );
    beyond = lacking;
    for (const network of plan.create) {
      if (ours.has(network.name)) continue;
      try {
        ours.set(network.name, { id: await create(network), fingerprint: fingerprint(network) });
        if (shadowed.delete(network.name)) tell(`${network.name} is offered to Docker now`);
      } catch (error) {
        if ((error as { statusCode?: number }).statusCode !== 409)
          log.error({ err: error, network: network.name }, 'Docker refuses the network');
        untaken.push({
          problem: `Docker refuses network ${network.name}: ${(error as Error).message}`,
          remedy: 'mend what Docker names; it is offered again within seconds',
        });
      }
    }
    for (const name of shadowed) if (!plan.shadowed.includes(name)) shadowed.delete(name);
    problems = untaken;
  }

  const syncs = inTurn(
    async () => {
      if (stale) present = undefined;
      stale = false;
      try {
        await sync();
      } catch (error) {
        if (reachable)
          log.warn({ err: error }, 'Docker cannot be reached: networks are offered when it answers');
        reachable = false;
        // Where there is no Docker, none is missed.
        if (answered)
          problems = [
            {
              problem: `Docker does not answer: ${(error as Error).message}`,
              remedy: 'start it (systemctl start docker): networks are offered to it when it answers',
            },
          ];
      }
    },
    {
      every: OFFER_INTERVAL,
      due() {
        stale = true;
        return true;
      },
    },
  );
  syncs.ask();

  return {
    changed: () => syncs.ask(),
    removed(id, name) {
      // A list that is on its way may still have it.
      if (present === undefined) stale = true;
      else if (present.ours.get(name)?.id === id) present.ours.delete(name);
      else if (!present.others.delete(name)) return;
      syncs.ask();
    },
    renewed() {
      stale = true;
      syncs.begin();
    },
    settled: () => syncs.settled(),
    get problems() {
      return problems;
    },
    close: () => void syncs.close(),
  };
}

/** Kinds of objects that the offer follows from. */
const OFFERED = new Set(['network', 'endpointGroup']);

/** Waited for while a network is new, as `docker run` would not find it; but a Docker that hangs holds nothing up for long. */
export const followOffer = (offer: Offer, swarm: Pick<Swarm, 'changed' | 'idle'>): Follower => ({
  name: "Docker's networks",
  awaited: 'briefly',
  changed(news) {
    const concerned = news.type === 'view' && news.objects.some(({ kind }) => OFFERED.has(kind));
    if (concerned) {
      offer.changed();
      swarm.changed();
    }
    return concerned;
  },
  settled: async () => void (await Promise.all([offer.settled(), swarm.idle()])),
  close: offer.close,
});
