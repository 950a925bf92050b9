/**
 * Docker's remote network and IPAM driver: the calls that dockerd makes on the plugin socket, as functions
 * from request to answer. Protocol: moby, libnetwork/docs/remote.md and ipam.md.
 *
 * A container's start calls RequestAddress (each family), CreateEndpoint, Join, ProgramExternalConnectivity; its
 * stop RevokeExternalConnectivity, Leave, DeleteEndpoint, ReleaseAddress. In Swarm mode (swarm.ts) the same driver is asked for networks of
 * the whole cluster: the leading manager reserves each task's address in a space of its own, for nobody in particular, and gives it back there;
 * the node that the task is started on asks for that very address in its own space, and gives it back too. Docker's own API must not be waited for
 * within a call: it blocks on the very container that is being started (stopped.ts tells by that which one it is).
 *
 * What newer Dockers offer is used where they do: from 28 on the driver says whether a network has a gateway at all (GwAllocCheck, ahead of
 * RequestPool), from 29 on RequestAddress says for which container, whose name is known by that before it starts.
 */
import path from 'node:path';
import type { Logger } from 'pino';
import { isV6, macOf, subnetPrefix } from '../../../model/address.ts';
import type { Endpoint } from '../../../model/endpoint.ts';
import { gatewayOf, mainFamily, subnetOf } from '../../../model/families.ts';
import type { AddressAnswer, AddressRequest } from '../../../protocol/messages.ts';
import { inTurn } from '../../../turns.ts';
import { DUMMY_GATEWAY, DUMMY_GATEWAY6 } from '../../constants.ts';
import { readJson, writeJson } from '../../file.ts';
import type { Attachment, KnownNetwork, View } from '../../intent/view.ts';
import type { Inside, Publication } from '../../state.ts';
import { networkOf as networkIn, sharedSubnets, type Target } from '../network.ts';
import { askedText, type PortMapping, type Publications, readPortMap } from '../publish.ts';
import type { Endpoints } from '../runtime.ts';
import type { Call } from './plugin.ts';
import { type StoppedContainers, UNTOLD } from './stopped.ts';
import { SWARM_DRIVER, SWARM_SPACE } from './swarm.ts';
import { dockerName } from './target.ts';

type Json = Record<string, unknown>;

/** Option of a connection (`--driver-opt`) that gives the container nothing: it only brings Docker to an end of it. */
export const NO_INTERFACE = 'io.contiv.no-interface';

/** As moby has them in libnetwork/netlabel: a pool's gateway, the type of an address that is to be one, and whose an address will be. */
const GATEWAY = 'com.docker.network.gateway';
const ENDPOINT_NAME = 'com.docker.network.endpoint.name';

/** An endpoint between CreateEndpoint and Join; without an interface, to its end. */
interface Created {
  readonly network: string;
  readonly addresses: readonly string[];
  readonly mac: string;
  readonly noInterface?: true;
  readonly notPublished?: readonly string[];
  readonly containerName?: string;
}

interface Saved {
  /** Docker's network id to what it stands for. */
  networks: [id: string, target: Target][];
  created: [endpoint: string, Created][];
}

export interface DriverOptions {
  readonly endpoints: Endpoints;
  readonly publications: Publications;
  readonly stopped: Pick<StoppedContainers, 'keep' | 'addressIn'>;
  readonly folder: string;
  readonly log: Logger;
  /** Id of the Swarm that this host is in, '' where it is not known. */
  swarmId(): string;
  /** Swarm has a network, by its id, that stands for nothing that is declared. */
  refusedOfSwarm(network: string, why: string): void;
}

export interface Driver {
  /** Call by its path, e.g. `NetworkDriver.Join`. Throws an Error whose message is for the user of docker. */
  readonly calls: ReadonlyMap<string, Call>;
  /** What a Docker network of ours stands for. */
  target(dockerNetwork: string): Target | undefined;
  /** An endpoint that was made with NO_INTERFACE, and has not been deleted. */
  hasNoInterface(endpoint: string): boolean;
  /** A network that Docker has, with the options it was made with: known since its creation, unless our file was lost. */
  learn(dockerNetwork: string, options: Record<string, string>): void;
  /** When what there was to write is on disk, or has failed. */
  close(): Promise<void>;
}

/** What Docker asks of a driver before anything else. */
export const ABOUT: Readonly<Record<string, Call>> = {
  'Plugin.Activate': () => ({ Implements: ['NetworkDriver', 'IpamDriver'] }),
  'IpamDriver.GetCapabilities': () => ({ RequiresMACAddress: false, RequiresRequestReplay: false }),
  'IpamDriver.GetDefaultAddressSpaces': () => ({
    LocalDefaultAddressSpace: 'contiv',
    GlobalDefaultAddressSpace: 'contiv-global',
  }),
  'NetworkDriver.GetCapabilities': () => ({
    Scope: 'local',
    ConnectivityScope: 'global',
    GwAllocChecker: true, // heeded from Docker 28 on
  }),
};

export function createDriver({
  endpoints,
  publications,
  stopped,
  folder,
  log,
  swarmId,
  refusedOfSwarm,
}: DriverOptions): Driver {
  const file = path.join(folder, 'docker.json');
  const saved = readJson<Saved>(file, 'Docker is asked for what is in it');
  const targets = new Map(saved?.networks);
  const created = new Map(saved?.created);
  /** Of addresses that are asked for and not yet an endpoint's: whose they will be, by network and address. */
  const askedFor = new Map<string, string>();
  // What is asked for at once is written once, while the agent goes on.
  const writes = inTurn(() =>
    writeJson(file, { networks: [...targets], created: [...created] } satisfies Saved),
  );
  /** When it is on disk as it is now, or later. */
  const save = (): Promise<void> => writes.next();

  const networkOf = (target: Target): KnownNetwork => networkIn(endpoints.view, target);

  /**
   * Of two networks with one subnet a container could reach only one, and Docker refuses the second when all is made already,
   * with words about routes. This is the first call that tells which container it is about.
   */
  function refuseOverlap({ endpoint }: Attachment, target: Target): void {
    const { tenantName, networkName, groupName = '', containerName = 'NAME' } = endpoint;
    const has = { tenant: tenantName, network: networkName, group: groupName };
    const most = mostOf(endpoints.view, has, target);
    if (most === undefined) return;
    throw new Error(
      `the container is on ${dockerName(has)} already, and can be on ${most} only: to have it on ${dockerName(target)}, first docker network disconnect ${dockerName(has)} ${containerName}, or of a service docker service update --network-rm`,
    );
  }

  /** What the container that starts had before, unless it had nothing, or it is another's by now. */
  async function reserveAgain(
    { tenant, network, group, family }: Pool,
    wanted: Omit<AddressRequest, 'host'>,
    containerName: string | undefined,
  ): Promise<AddressAnswer> {
    const before = await stopped.addressIn({ tenant, network, group }, family, containerName);
    if (before === UNTOLD) return endpoints.reserve(wanted, 'of a stopped one');
    if (before === undefined) return endpoints.reserve(wanted);
    try {
      return await endpoints.reserve({ ...wanted, address: before }, 'if free');
    } catch (error) {
      log.debug({ err: error }, 'the container gets another address than it had');
      // One that could not be told has it, whose own is left.
      return endpoints.reserve(wanted, 'of a stopped one');
    }
  }

  const calls: Record<string, Call> = {
    ...ABOUT,
    // Swarm hands to its nodes what is answered here, and not what the user gave.
    'NetworkDriver.AllocateNetwork': (request: {
      NetworkID: string;
      Options?: Record<string, string>;
      IPv4Data?: readonly { Pool?: string }[] | null;
    }) => {
      const why = undeclared(endpoints.view, request.Options);
      if (why !== undefined && endpoints.live()) refusedOfSwarm(request.NetworkID, why);
      if (why !== undefined) throw new Error(why);
      const target = readTarget(request.Options);
      const subnet = subnetPrefix(networkOf(target).subnet as string);
      const [pool] = request.IPv4Data ?? [];
      if (pool?.Pool !== subnet)
        throw new Error(
          `the addresses of network ${target.tenant}:${target.network} are of ${subnet}, not of ${pool?.Pool}: give --ipam-driver ${SWARM_DRIVER} with --ipam-opt of the same network`,
        );
      return { Options: { ...target } };
    },
    'NetworkDriver.FreeNetwork': () => ({}),
    'IpamDriver.RequestPool': (request: {
      AddressSpace?: string;
      Options?: Record<string, string>;
      V6?: boolean;
    }) => {
      const ofSwarm = request.AddressSpace === SWARM_SPACE;
      const target = readTarget(request.Options);
      // Which network it is for is told by the next call only, that of the driver, where it is refused by its id.
      if (ofSwarm && endpoints.live() && undeclared(endpoints.view, request.Options) !== undefined)
        return { PoolID: poolId({ ...target, family: 4, ofSwarm }), ...NO_POOL };
      const network = networkOf(target);
      const family = request.V6 === true ? 6 : 4;
      const subnet = subnetOf(network, family);
      if (subnet === undefined)
        throw new Error(
          `network ${target.tenant}:${target.network} has no IPv${family} subnet${family === 4 ? ', and Docker asks for one where a network is not made with --ipv4=false --ipv6, as from 28 on it can be' : ''}`,
        );
      const prefix = subnetPrefix(subnet);
      const gateway = gatewayOf(network, family);
      return {
        PoolID: poolId({ ...target, family, ofSwarm }),
        Pool: prefix,
        Data: gateway ? { [GATEWAY]: `${gateway}/${prefix.split('/')[1]}` } : {},
      };
    },
    'IpamDriver.ReleasePool': () => ({}),
    'IpamDriver.RequestAddress': async (request: {
      PoolID: string;
      Address?: string;
      Options?: Record<string, string>;
    }) => {
      const pool = readPoolId(request.PoolID);
      const network = networkOf(pool);
      if (request.Options?.RequestAddressType === GATEWAY) {
        const { family } = pool;
        const dummy = family === 6 ? DUMMY_GATEWAY6 : DUMMY_GATEWAY;
        // Before Docker 28, and in Swarm mode, there has to be one: a network without it spends no address.
        return {
          Address: `${gatewayOf(network, family) || request.Address || dummy}/${subnetPrefix(subnetOf(network, family) ?? '').split('/')[1]}`,
          Data: {},
        };
      }
      const containerName = containerOf(request);
      const wanted = {
        tenantName: pool.tenant,
        networkName: pool.network,
        family: pool.family,
        ...(pool.group ? { groupName: pool.group } : {}),
        ...(pool.ofSwarm && { swarm: swarmId() }),
      };
      const { address, prefixLength } = request.Address
        ? await endpoints.reserve({ ...wanted, address: request.Address })
        : await (pool.ofSwarm ? endpoints.reserve(wanted) : reserveAgain(pool, wanted, containerName));
      if (containerName) askedFor.set(placeOf(pool, address), containerName);
      // IPv6 neighbours cannot be proxied for a whole subnet: the container sends everything to the gateway.
      return { Address: `${address}/${pool.family === 6 ? 128 : prefixLength}`, Data: {} };
    },
    'IpamDriver.ReleaseAddress': async (request: { PoolID: string; Address: string }) => {
      const pool = readPoolId(request.PoolID);
      const network = endpoints.view.networks.get(`${pool.tenant}:${pool.network}`);
      askedFor.delete(placeOf(pool, request.Address));
      const gateways = [network?.gateway, network?.ipv6Gateway, DUMMY_GATEWAY, DUMMY_GATEWAY6];
      const of = `${pool.tenant}:${pool.network}`;
      if (!gateways.includes(request.Address))
        await (pool.ofSwarm
          ? endpoints.releaseOfSwarm(of, request.Address)
          : endpoints.release(of, request.Address));
      return {};
    },

    'NetworkDriver.GwAllocCheck': (request: { Options?: Json }) => {
      const { gateway, ipv6Gateway } = networkOf(readTarget(optionsOf(request)));
      return { SkipIPv4: !gateway, SkipIPv6: !ipv6Gateway };
    },
    'NetworkDriver.CreateNetwork': async (request: { NetworkID: string; Options?: Json }) => {
      const target = readTarget(optionsOf(request));
      networkOf(target);
      targets.set(request.NetworkID, target);
      await save();
      return {};
    },
    'NetworkDriver.DeleteNetwork': async (request: { NetworkID: string }) => {
      targets.delete(request.NetworkID);
      await save();
      return {};
    },
    'NetworkDriver.CreateEndpoint': async (request: {
      NetworkID: string;
      EndpointID: string;
      Interface?: { Address?: string; AddressIPv6?: string; MacAddress?: string };
      Options?: Json;
    }) => {
      const target = targetOf(request.NetworkID);
      const network = networkOf(target);
      const given = request.Interface ?? {};
      const addresses = [given.Address, given.AddressIPv6]
        .filter((a) => a)
        .map((a) => (a as string).split('/')[0] as string);
      const [first] = addresses;
      const family = mainFamily(network);
      if (first === undefined || isV6(first) !== (family === 6))
        throw new Error(
          `endpoint ${request.EndpointID}: Docker gave no IPv${family} address; use the IPAM driver netplugin`,
        );
      const mac = given.MacAddress || macOf(first);
      const noInterface = request.Options?.[NO_INTERFACE] === 'true';
      // Docker asks for ports of what has a gateway only, and says nothing of the others.
      const asked = (request.Options?.['com.docker.network.portmap'] ?? []) as PortMapping[];
      const notPublished = gatewayOf(network, family) ? [] : askedText(asked);
      const places = addresses.map((address) => placeOf(target, address));
      const containerName = places.map((place) => askedFor.get(place)).find((name) => name !== undefined);
      for (const place of places) askedFor.delete(place);
      if (notPublished.length > 0)
        log.warn(
          { network: dockerName(target), ports: notPublished },
          'ports are not published: the network has no gateway',
        );
      created.set(request.EndpointID, {
        network: request.NetworkID,
        addresses,
        mac,
        ...(noInterface ? { noInterface } : {}),
        ...(notPublished.length > 0 ? { notPublished } : {}),
        ...(containerName === undefined ? {} : { containerName }),
      });
      try {
        await save();
      } catch (error) {
        created.delete(request.EndpointID);
        throw error;
      }
      return { Interface: given.MacAddress ? {} : { MacAddress: mac } };
    },
    'NetworkDriver.EndpointOperInfo': (request: { EndpointID: string }) => {
      const attachment = endpoints.attachments.get(request.EndpointID);
      return { Value: attachment === undefined ? {} : { 'io.contiv.host': attachment.endpoint.homingHost } };
    },
    'NetworkDriver.Join': async (request: { NetworkID: string; EndpointID: string; SandboxKey: string }) => {
      const waiting = created.get(request.EndpointID);
      if (waiting === undefined)
        throw new Error(`endpoint ${request.EndpointID} was not created on this host`);
      // Docker makes no interface where it is told no name of one (moby, libnetwork/sandbox.go, populateNetworkResources).
      if (waiting.noInterface) return { DisableGatewayService: true };
      const target = targetOf(request.NetworkID);
      networkOf(target);
      const siblings = [...endpoints.attachments.values()].filter(
        (a) => a.sandbox === request.SandboxKey && a.endpoint.endpointID !== request.EndpointID,
      );
      for (const sibling of siblings) refuseOverlap(sibling, target);
      const endpoint: Endpoint = {
        endpointID: request.EndpointID,
        tenantName: target.tenant,
        networkName: target.network,
        ...(target.group ? { groupName: target.group } : {}),
        ipAddress: [...waiting.addresses],
        macAddress: waiting.mac,
        homingHost: endpoints.host,
        status: 'running',
        ...(waiting.notPublished && { notPublished: [...waiting.notPublished] }),
        ...(waiting.containerName && { containerName: waiting.containerName }),
      };
      const { peer, inside } = await endpoints.attach({
        endpoint,
        sandbox: request.SandboxKey,
        publications: [],
        runtime: 'docker',
        stub: true,
      });
      const gateway = inside.gateways.find((g) => !isV6(g)) ?? '';
      return {
        InterfaceName: { SrcName: peer, DstPrefix: 'eth' },
        Gateway: gateway,
        GatewayIPv6: inside.gateways.find(isV6) ?? '',
        StaticRoutes: staticRoutes(inside),
        DisableGatewayService: gateway === '',
      };
    },
    'NetworkDriver.ProgramExternalConnectivity': async (request: { EndpointID: string; Options?: Json }) => {
      const attachment = endpoints.attachments.get(request.EndpointID);
      if (attachment === undefined)
        throw new Error(`endpoint ${request.EndpointID} has not joined on this host`);
      const mappings = (request.Options?.['com.docker.network.portmap'] ?? []) as PortMapping[];
      const wanted = readPortMap(mappings, attachment.endpoint.ipAddress);
      const published: readonly Publication[] = publications.claim(request.EndpointID, wanted);
      try {
        if (published.length > 0) await endpoints.publish(request.EndpointID, published);
      } catch (error) {
        publications.free(request.EndpointID);
        throw error;
      }
      return {};
    },
    'NetworkDriver.RevokeExternalConnectivity': async (request: { EndpointID: string }) => {
      publications.free(request.EndpointID);
      const attachment = endpoints.attachments.get(request.EndpointID);
      if (attachment !== undefined && attachment.publications.length > 0)
        await endpoints.publish(request.EndpointID, []);
      return {};
    },
    'NetworkDriver.Leave': () => ({}),
    'NetworkDriver.DeleteEndpoint': async (request: { EndpointID: string }) => {
      await endpoints.detach(request.EndpointID);
      return {};
    },
    // Docker tells all drivers about other hosts where it runs a cluster of its own; netmaster tells us.
    'NetworkDriver.DiscoverNew': () => ({}),
    'NetworkDriver.DiscoverDelete': () => ({}),
  };

  function remember(had: Attachment): void {
    try {
      stopped.keep(had);
    } catch (error) {
      log.error({ err: error }, 'what a stopped container had is not on disk');
    }
  }

  // Also where the container went without a word of Docker's.
  endpoints.onDetach((endpoint, had) => {
    if (had !== undefined) remember(had);
    if (!created.delete(endpoint)) return;
    save().catch((error: unknown) => {
      log.error({ err: error, endpoint }, 'endpoint removed, but not on disk'); // a full disk must not keep it alive
    });
  });

  function targetOf(dockerNetwork: string): Target {
    const target = targets.get(dockerNetwork);
    if (target === undefined)
      throw new Error(
        `Docker network ${dockerNetwork} is not known to netplugin: remove it with docker network rm`,
      );
    return target;
  }

  return {
    calls: new Map(Object.entries(calls)),
    target: (dockerNetwork) => targets.get(dockerNetwork),
    hasNoInterface: (endpoint) => created.get(endpoint)?.noInterface === true,
    learn(dockerNetwork, options) {
      if (targets.has(dockerNetwork) || !options.network) return;
      targets.set(dockerNetwork, readTarget(options));
      log.info({ network: dockerNetwork }, 'what the network stands for is learnt from Docker');
      save().catch((error: unknown) => {
        log.error({ err: error, network: dockerNetwork }, 'what the network stands for is not on disk');
      });
    },
    close: () => writes.close(),
  };
}

/** Of two that a container can not be on at once, what it can be on one of: `one group of network blue:net1`; undefined: it can. */
export function mostOf(view: View, a: Target, b: Target): string | undefined {
  const [one, other] = [a, b].map(({ tenant, network }) => view.networks.get(`${tenant}:${network}`));
  const shared = one && other && sharedSubnets(one, other);
  if (shared === undefined) return undefined;
  return one === other ? `one group of network ${a.tenant}:${a.network}` : `one network of subnet ${shared}`;
}

/** The container that a call says it is for: from Docker 29 on RequestAddress does. */
export const containerOf = (request: unknown): string | undefined =>
  (request as { Options?: Record<string, string> } | undefined)?.Options?.[ENDPOINT_NAME];

/** Of a network, as it was made with them. */
const optionsOf = ({ Options }: { Options?: Json }): Record<string, string> | undefined =>
  Options?.['com.docker.network.generic'] as Record<string, string> | undefined;

const placeOf = ({ tenant, network }: Target, address: string): string => `${tenant}:${network} ${address}`;

/** libnetwork's types: 1 goes to the device, 0 to a next hop. */
const staticRoutes = ({ routes }: Inside): Json[] =>
  routes.map(({ destination, via }) => ({
    // To the device, an address without its length.
    Destination: destination,
    RouteType: via === undefined ? 1 : 0,
    NextHop: via ?? '',
  }));

/** Of what stands for no network: nobody has an address in it (RFC 5737). */
const NO_POOL = { Pool: '192.0.2.0/24', Data: { [GATEWAY]: '192.0.2.1/24' } };

/** Of a network, why Swarm cannot have it, in any version, and what to do. */
export const NO_IPV4 =
  "it has no IPv4 subnet, and Docker's Swarm gives each of its networks IPv4: make it anew with netctl net create --subnet=... --subnetv6=..., or start containers on it with docker run";

/** Why a network of Docker's with these options stands for nothing, with what to do; undefined: it does. */
export function undeclared(view: View, options: Record<string, string> | undefined): string | undefined {
  try {
    const target = readTarget(options, SWARM_DRIVER);
    const { subnet } = networkIn(view, target);
    const { tenant, network, group } = target;
    if (!subnet) return `network ${tenant}:${network}: ${NO_IPV4}`;
    if (group === '' || view.groups.get(`${tenant}:${group}`)?.networkName === network) return undefined;
    return `group ${tenant}:${group} does not exist in network ${network}: create it with netctl group create -t ${tenant} ${network} ${group}`;
  } catch (error) {
    return (error as Error).message;
  }
}

export function readTarget(
  options: Record<string, string> | undefined,
  driver: string = 'netplugin',
): Target {
  const { tenant = 'default', network = '', group = '' } = options ?? {};
  if (network === '')
    throw new Error(
      `netplugin networks are declared with netctl net create, which offers them to Docker; or name one: --opt network=NAME --ipam-driver ${driver} --ipam-opt network=NAME`,
    );
  return { tenant, network, group };
}

interface Pool extends Target {
  readonly family: 4 | 6;
  /** Its addresses are Swarm's, on no host in particular. */
  readonly ofSwarm: boolean;
}

/** Stable over restarts and equal on every host: Docker keeps it and passes nothing else. */
function poolId({ tenant, network, group, family, ofSwarm }: Pool): string {
  return [tenant, network, group, family, ...(ofSwarm ? ['swarm'] : [])].join(':');
}

function readPoolId(id: string): Pool {
  const [tenant = '', network = '', group = '', family, space] = id.split(':');
  return { tenant, network, group, family: family === '6' ? 6 : 4, ofSwarm: space === 'swarm' };
}
