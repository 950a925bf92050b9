/**
 * The CNI commands as they are carried out: from a request to its answer.
 *
 *   ADD    what is asked for (asked.ts) -> a workload, where one says it -> addresses -> endpoint -> result
 *   DEL    takes it all back; fine where nothing is left
 *   CHECK  compares what the container has with what it was given
 *   GC     DEL of all that the runtime does not name any more
 *
 * The commands of one interface come one after the other. An ADD that is asked for again answers the same as long as all of it holds,
 * so that a runtime, or contiv-cni after the agent's end, may ask once more; one that nobody waits for any more is undone.
 */
import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { isNamespace, namespaceId } from '../../../linux/netns.ts';
import { addressNumber, isV6, macOf, numberAddress } from '../../../model/address.ts';
import type { Endpoint } from '../../../model/endpoint.ts';
import { familiesOf } from '../../../model/families.ts';
import { GAVE_UP } from '../../constants.ts';
import type { Attachment } from '../../intent/view.ts';
import type { Publication } from '../../state.ts';
import { networkOf, sharedSubnets, type Target } from '../network.ts';
import { type Publications, readPortMap, type WantedPublication } from '../publish.ts';
import type { Endpoints } from '../runtime.ts';
import { type Asked, readAsked } from './asked.ts';
import { CniError, CODES } from './errors.ts';
import type { CniRequest, Json } from './request.ts';
import { addressesOf, resultOf } from './result.ts';
import type { Workloads } from './workloads.ts';

export const RUNTIME = 'cni';

export interface CommandsOptions {
  readonly endpoints: Endpoints;
  readonly publications: Publications;
  readonly workloads: Workloads;
  readonly log: Logger;
}

export interface Commands {
  /** The answer; undefined: none, as DEL has. Throws a CniError. `gone`: nobody waits for the answer any more. */
  run(request: CniRequest, gone: AbortSignal): Promise<Json | undefined>;
}

/** Of a container's interface, the same on every start. */
export const endpointId = (container: string, device: string): string =>
  createHash('sha256').update(`cni ${container} ${device}`).digest('hex');

export function openCommands({ endpoints, publications, workloads, log }: CommandsOptions): Commands {
  const turns = new Map<string, Promise<unknown>>();

  /** After those before it of the same endpoint, however they ended. */
  function inOrder<T>(id: string, command: () => Promise<T>): Promise<T> {
    const before = turns.get(id) ?? Promise.resolve();
    const turn = before.then(command, command);
    turns.set(id, turn);
    const end = (): void => {
      if (turns.get(id) === turn) turns.delete(id);
    };
    turn.then(end, end);
    return turn;
  }

  async function add(request: CniRequest, gone: AbortSignal): Promise<Json> {
    const { container, device, netns, version, configuration } = request;
    if (gone.aborted) throw new CniError(CODES.tryAgainLater, 'the runtime waits no longer');
    const asked = readAsked(request);
    refuseNamespace(netns);
    const id = endpointId(container, device);
    const { target, workload } = await placeOf(asked, gone);
    const before = endpoints.attachments.get(id);
    const port =
      before !== undefined && (await holds(before, netns, target)) ? endpoints.portOf(id) : undefined;
    const attached = port ?? (await attach({ request, asked, target, workload, id }));
    if (gone.aborted && port === undefined) {
      await endpoints.detach(id);
      throw new CniError(CODES.tryAgainLater, 'the runtime waits no longer: undone');
    }
    const { mac: macAddress, inside, mtu } = attached;
    const given = { endpoint: { macAddress }, inside, device, sandbox: netns, mtu };
    return resultOf(version, given, configuration.prevResult as Json | undefined);
  }

  /** An attachment is still what is asked for, with all that it was given. */
  async function holds({ endpoint, sandbox }: Attachment, netns: string, target: Target): Promise<boolean> {
    const { endpointID, tenantName, networkName, groupName = '' } = endpoint;
    return (
      sandbox === netns &&
      tenantName === target.tenant &&
      networkName === target.network &&
      groupName === target.group &&
      (await endpoints.missing(endpointID)).length === 0
    );
  }

  /** Where it belongs. A pod's workload says it, and is waited for, unless the configuration does. */
  async function placeOf(
    { target, pod }: Asked,
    gone: AbortSignal,
  ): Promise<{ target: Target; workload?: Pick<Endpoint, 'workload' | 'workloadUid'> }> {
    if (target !== undefined) return { target };
    if (pod === undefined) throw new Error('a configuration without network is refused before');
    const { namespaceName, workloadName, uid, tenantName, networkName, groupName } = await workloads.await(
      pod,
      gone,
    );
    return {
      target: { tenant: tenantName, network: networkName, group: groupName ?? '' },
      workload: { workload: `${namespaceName}:${workloadName}`, workloadUid: uid },
    };
  }

  interface Attaching {
    readonly request: CniRequest;
    readonly asked: Asked;
    readonly target: Target;
    readonly workload: Pick<Endpoint, 'workload' | 'workloadUid'> | undefined;
    readonly id: string;
  }

  async function attach({ request, asked, target, workload, id }: Attaching) {
    const { container, device, netns, name } = request;
    const network = networkOf(endpoints.view, target);
    for (const { endpoint, sandbox } of endpoints.attachments.values()) {
      const other = endpoints.view.networks.get(`${endpoint.tenantName}:${endpoint.networkName}`);
      const shared = other && sharedSubnets(other, network);
      if (sandbox === netns && endpoint.endpointID !== id && shared !== undefined)
        throw new CniError(
          CODES.configuration,
          `${netns} is on network ${endpoint.tenantName}:${endpoint.networkName} already, and can be on one network of subnet ${shared} only`,
        );
    }
    // What an earlier ADD has made is not what is asked for now.
    if (endpoints.attachments.has(id)) await endpoints.detach(id);
    const key = `${target.tenant}:${target.network}`;
    const addresses = await reserve(id, target, asked, familiesOf(network));
    const claimed = await claim(id, readPortMap(asked.ports, addresses), key, addresses);
    const [first = ''] = addresses;
    return endpoints.attach({
      endpoint: {
        endpointID: id,
        tenantName: target.tenant,
        networkName: target.network,
        ...(target.group ? { groupName: target.group } : {}),
        ipAddress: [...addresses],
        macAddress: asked.mac || macOf(first),
        homingHost: endpoints.host,
        containerID: container.slice(0, 128),
        ...(asked.name ? { containerName: asked.name } : {}),
        ...(asked.aliases.length > 0 ? { aliases: [...asked.aliases] } : {}),
        ...workload,
        intfName: device,
        status: 'running',
      },
      sandbox: netns,
      publications: claimed,
      runtime: RUNTIME,
      ...(name ? { configuration: name } : {}),
      end: device,
      ...(asked.bandwidth && { bandwidth: asked.bandwidth }),
    });
  }

  async function claim(
    id: string,
    wanted: readonly WantedPublication[],
    network: string,
    addresses: readonly string[],
  ): Promise<readonly Publication[]> {
    try {
      return publications.claim(id, wanted);
    } catch (error) {
      await Promise.all(addresses.map((address) => endpoints.release(network, address)));
      throw error;
    }
  }

  /** One of each family that the network has; none is kept where one is refused. */
  async function reserve(
    id: string,
    target: Target,
    { addresses }: Asked,
    families: readonly (4 | 6)[],
  ): Promise<string[]> {
    const wanted = (family: 4 | 6): string | undefined => {
      const address = addresses.find((a) => isV6(a) === (family === 6));
      return address && numberAddress(addressNumber(address), family);
    };
    const { tenant, network, group } = target;
    for (const family of [4, 6] as const)
      if (wanted(family) !== undefined && !families.includes(family))
        throw new CniError(
          CODES.configuration,
          `ips: network ${tenant}:${network} has no IPv${family} subnet`,
        );
    const answers = await Promise.allSettled(
      families.map(async (family) => {
        const request = {
          tenantName: tenant,
          networkName: network,
          family,
          ...(group ? { groupName: group } : {}),
        };
        const address = wanted(family);
        if (address) return endpoints.reserve({ ...request, address });
        const before = endpoints.addressBefore(id, family);
        if (before === undefined) return endpoints.reserve(request);
        return endpoints.reserve({ ...request, address: before }, 'if free').catch((error) => {
          log.debug({ err: error }, 'the container gets another address than it had');
          return endpoints.reserve(request);
        });
      }),
    );
    const given = answers.flatMap((a) => (a.status === 'fulfilled' ? [a.value.address] : []));
    const refused = answers.find((a) => a.status === 'rejected');
    if (refused === undefined) return given;
    await Promise.all(given.map((address) => endpoints.release(`${tenant}:${network}`, address)));
    throw refused.reason;
  }

  async function check({ container, device, netns, configuration }: CniRequest): Promise<undefined> {
    const attachment = endpoints.attachments.get(endpointId(container, device));
    if (attachment === undefined)
      throw new CniError(CODES.unknownContainer, `container ${container} has no ${device} of netplugin's`);
    const { endpoint, sandbox = '' } = attachment;
    const differs = (what: string): CniError =>
      new CniError(CODES.differs, `container ${container}: ${what}`);
    if (sandbox !== netns && namespaceId(sandbox) !== namespaceId(netns))
      throw differs(`was attached in ${sandbox}, not in ${netns}`);
    const before = addressesOf((configuration.prevResult ?? {}) as Json);
    const unknown = endpoint.ipAddress.filter((address) => !before.includes(address));
    if (configuration.prevResult !== undefined && unknown.length > 0)
      throw differs(`prevResult lacks its address ${unknown.join(', ')}`);
    const missing = await endpoints.missing(endpoint.endpointID);
    if (missing.length > 0) throw differs(`lacks ${missing.join(', ')}`);
  }

  async function collect({ name, configuration }: CniRequest): Promise<undefined> {
    const listed = configuration['cni.dev/valid-attachments'] ?? configuration['cni.dev/attachments'];
    // Some callers leave the list out (cnitool): that nothing is valid would be a lot to conclude.
    if (!Array.isArray(listed)) return;
    const valid = new Set(
      listed.map(({ containerID, ifname }: { containerID?: string; ifname?: string }) =>
        endpointId(containerID ?? '', ifname ?? ''),
      ),
    );
    const gone = [...endpoints.attachments.values()].filter(
      (a) => a.runtime === RUNTIME && (a.configuration ?? '') === name && !valid.has(a.endpoint.endpointID),
    );
    for (const { endpoint } of gone) {
      log.info(
        { endpoint: endpoint.endpointID, container: endpoint.containerID },
        'not valid for its runtime',
      );
      await inOrder(endpoint.endpointID, () => endpoints.detach(endpoint.endpointID));
    }
  }

  function refuseNamespace(netns: string): void {
    if (!isNamespace(netns))
      throw new CniError(CODES.environment, `CNI_NETNS '${netns}' is no network namespace on this host`);
    if (namespaceId(netns) === namespaceId('/proc/self/ns/net'))
      throw new CniError(CODES.environment, `CNI_NETNS '${netns}' is the host's own network namespace`);
  }

  async function carryOut(request: CniRequest, gone: AbortSignal): Promise<Json | undefined> {
    const id = endpointId(request.container, request.device);
    switch (request.command) {
      case 'ADD':
        return inOrder(id, () => add(request, gone));
      case 'DEL':
        await inOrder(id, () => endpoints.detach(id));
        return undefined;
      case 'CHECK':
        return inOrder(id, () => check(request));
      case 'GC':
        return collect(request);
      case 'STATUS':
        // netmaster's absence is no failure: what runs goes on, and a node that says it has no network loses its pods.
        if (!endpoints.ready())
          throw new CniError(
            CODES.unavailable,
            'netplugin does not know yet what was declared: it waits for netmaster',
          );
        return undefined;
    }
  }

  return {
    async run(request, gone) {
      try {
        return await carryOut(request, gone);
      } catch (error) {
        if (error instanceof CniError) throw error;
        const { message } = error as Error;
        throw new CniError(message.startsWith(GAVE_UP) ? CODES.tryAgainLater : CODES.refused, message);
      }
    },
  };
}
