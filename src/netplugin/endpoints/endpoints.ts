/**
 * What runtimes ask of the agent (runtimes/runtime.ts): an endpoint is on disk first (attachments), then in the kernel
 * and at netmaster.
 *
 *   attach    attachments --> netmaster, which tells the peers, and at the same time kernel
 *   detach    attachments, at the same time kernel --> netmaster
 *
 * What netmaster missed meanwhile is told again: a comparison makes its list of this host's endpoints equal to what is attached.
 *
 * While netmaster is silent nothing waits for it. What ends then is not told, so its addresses stay this host's there
 * (attachments.ts, held): a container that starts again has its own, and netmaster is told of both when it answers. Other
 * containers need an address that nobody can give them, and wait.
 */
import { randomUUID } from 'node:crypto';
import { setImmediate as requestsSent } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ApiError } from '../../client/client.ts';
import { isV6, parseSubnet } from '../../model/address.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { AddressAnswer, AddressRequest } from '../../protocol/messages.ts';
import { equal } from '../compile/memo.ts';
import { GAVE_UP, TASK_LABEL } from '../constants.ts';
import type { Kernel, Passed } from '../converge.ts';
import type { ApplyReport, Dataplane } from '../dataplane/index.ts';
import type { Follower } from '../follower.ts';
import { type Intent, isSilence } from '../intent/netmaster.ts';
import type { Replica } from '../intent/replica.ts';
import { type Attachment, isWhole, type View } from '../intent/view.ts';
import { ENDPOINTS_INTERVAL, FOLLOWED_INTERVAL } from '../intervals.ts';
import type { Attached, Endpoints } from '../runtimes/runtime.ts';
import type { HostState } from '../state.ts';
import { insist, inTurn } from '../turns.ts';
import { type Attachments, type Held, placeOf } from './attachments.ts';
import { publishedText } from './published.ts';

/** Milliseconds until a runtime's call is refused where netmaster's objects are not followed. */
const FOLLOWED_WITHIN = 25_000;
/** Milliseconds in which a tenant's objects come as a rule. */
const KNOWN_WITHIN = 3000;

/**
 * Settled: with a list of netmaster's, what runs here has been told. It is always waited for, since its addresses must not be given
 * to others; changes are none of its business, so a netmaster that answers slowly holds no rule back.
 */
export interface LocalEndpoints extends Endpoints, Follower {
  /** The host's own, which has no veth (hostAccess.ts). On disk and in the kernel when it resolves; netmaster is told again where that fails. */
  attachHost(endpoint: Endpoint, runtime: string): Promise<void>;
  /** netmaster does not know what runs here: it is told at once. */
  unknown(): void;
}

export interface LocalEndpointsOptions {
  readonly host: string;
  readonly replica: Pick<Replica, 'view' | 'live' | 'listed' | 'store' | 'keep' | 'relist'>;
  readonly attachments: Attachments;
  readonly intent: Pick<
    Intent,
    'answers' | 'accepted' | 'reserve' | 'release' | 'register' | 'unregister' | 'swarmHas'
  >;
  readonly log: Logger;
  readonly kernel: Pick<Kernel, 'now' | 'ready' | 'state'>;
  readonly dataplane: Pick<Dataplane, 'missing'>;
  /** When the exit is open that the kernel has. */
  admitted(): Promise<void>;
}

function throwFailure(id: string, { failed }: ApplyReport): void {
  const failure = failed.find(({ endpoint }) => endpoint === id);
  if (failure !== undefined) throw new Error(failure.message);
}

/** With what is published said of the endpoint too. */
function withPorts(attachment: Attachment): Attachment {
  const { published: _, ...endpoint } = attachment.endpoint;
  const published = publishedText(attachment.publications);
  return { ...attachment, endpoint: { ...endpoint, ...(published.length > 0 ? { published } : {}) } };
}

function portIn(state: HostState, id: string): Attached | undefined {
  const port = state.routers.flatMap((r) => r.ports).find((p) => p.endpoint === id);
  return port?.inside === undefined ? undefined : (port as Attached);
}

const networkOf = ({ tenantName, networkName }: Pick<Endpoint, 'tenantName' | 'networkName'>): string =>
  `${tenantName}:${networkName}`;

const placesOf = (endpoint: Endpoint): string[] =>
  endpoint.ipAddress.map((address) => placeOf(networkOf(endpoint), address));

const isDeclared = ({ networks, groups }: View, e: Endpoint): boolean =>
  networks.has(`${e.tenantName}:${e.networkName}`) &&
  (!e.groupName || groups.has(`${e.tenantName}:${e.groupName}`));

export function openEndpoints(options: LocalEndpointsOptions): LocalEndpoints {
  const { host, replica, attachments, intent, log, kernel, dataplane, admitted } = options;
  const listeners: ((endpoint: string, had: Attachment | undefined) => void)[] = [];
  /** Addresses that the runtime has given back while netmaster was away, by place. */
  const unreleased = new Set<string>();
  /** Held ones that a runtime has not given back: it is to, or was given them again and has not attached them. */
  const out = new Set<string>();
  // What an earlier agent had begun has ended with it: the runtime's call broke, and is not repeated with its contents.
  for (const id of attachments.all.keys()) attachments.joined(id);

  async function compare(): Promise<void> {
    const { listed } = replica;
    if (listed === undefined || !(await intent.accepted())) return;
    // First: what runs may have the addresses of what has ended.
    if (replica.live) await forget();
    for (const attachment of attachments.all.values()) {
      const { endpoint } = attachment;
      if (equal(listed.endpoints.get(endpoint.endpointID), endpoint)) continue;
      // Of a store that has lost more than this host's addresses.
      if (!replica.live && !isDeclared(listed, endpoint)) continue;
      await intent
        .register(endpoint, 'not')
        .catch((error) => log.warn({ err: error, endpoint: endpoint.endpointID }, 'endpoint not registered'));
    }
  }

  /** Tells netmaster what has ended here that it still has. */
  async function forget(): Promise<void> {
    // From then on they may be others'.
    const returned = [...attachments.held.keys()].filter((place) => !out.has(place));
    await attachments.letGo();
    out.clear();
    for (const place of returned) unreleased.add(place);
    for (const endpoint of replica.view.endpoints.values()) {
      if (endpoint.homingHost !== host || attachments.all.has(endpoint.endpointID)) continue;
      await intent
        .unregister(endpoint.endpointID)
        .catch((error) => log.warn({ err: error, endpoint: endpoint.endpointID }, 'endpoint not removed'));
    }
    // After the endpoints that had them.
    for (const entry of unreleased) {
      const [network = '', address = ''] = entry.split(' ');
      await intent.release(network, address).then(
        () => unreleased.delete(entry),
        (error) => log.warn({ err: error, network, address }, 'address not released; it is tried again'),
      );
    }
  }

  /**
   * Gives back what is reserved for this host and attached to nothing here: a runtime that was killed says nothing of containers that it
   * was starting, and wants their addresses again. Of two that really start with one address at once, the second to attach is refused.
   */
  async function takeBack(network: string, address: string): Promise<void> {
    for (const { endpoint } of attachments.all.values())
      if (networkOf(endpoint) === network && endpoint.ipAddress.includes(address)) return;
    await intent.release(network, address);
  }
  const comparisons = inTurn(compare, {
    every: ENDPOINTS_INTERVAL,
    failed: (error) => log.error({ err: error }, 'endpoints not compared with netmaster'),
  });

  /**
   * Where nothing runs, and netmaster knows that, it does not wait for this host before an address becomes another group's (endings.ts
   * there): the first router is made of what is declared now, not of the copy on disk.
   */
  function followed(): Promise<void> {
    const began = performance.now();
    return insist(
      () => {
        if (attachments.all.size === 0 && attachments.held.size === 0 && !replica.live)
          throw new Error(`${GAVE_UP}: what is declared at netmaster is not known on this host yet`);
      },
      (error) => {
        if (performance.now() - began > FOLLOWED_WITHIN) throw error;
        return FOLLOWED_INTERVAL;
      },
    );
  }

  /** The tenant's objects are here: with its first address on this host, which is reserved by now, they are on their way. */
  async function known({ endpointID, tenantName, networkName }: Endpoint): Promise<void> {
    const began = performance.now();
    const key = `${tenantName}:${networkName}`;
    let asked = false;
    await insist(
      () => {
        const network = replica.view.networks.get(key);
        if (network !== undefined && !isWhole(network))
          throw new Error(`${GAVE_UP}: what tenant ${tenantName} has is not known on this host yet`);
      },
      (error) => {
        const waited = performance.now() - began;
        if (waited > FOLLOWED_WITHIN) throw error;
        // By a netmaster of before, which this host follows since another one has told it outlines, nothing more comes.
        if (waited > KNOWN_WITHIN && !asked) replica.relist();
        asked = waited > KNOWN_WITHIN;
        return FOLLOWED_INTERVAL;
      },
    );
    const others = [...attachments.all.values()].map((a) => a.endpoint);
    // An agent that is killed has to have the tenant too, not only what runs in it.
    if (!others.some((e) => e.tenantName === tenantName && e.endpointID !== endpointID)) replica.keep();
  }

  /** A pass takes the whole agent for a while: what was asked of netmaster is on its way first, so that both go on side by side. */
  async function established(): Promise<Passed> {
    await requestsSent();
    return kernel.now();
  }

  /** The other hosts know it when it resolves; or it has what they know, and they will know it when netmaster answers. */
  async function tell(endpoint: Endpoint, wasHeld: boolean): Promise<void> {
    const register = async (): Promise<void> => {
      await intent.register(endpoint, wasHeld ? 'while it answers' : 'until it answers');
    };
    if (wasHeld && !(await intent.answers())) return;
    try {
      await register().catch(async (error) => {
        if (!(error instanceof ApiError && error.status === 409)) throw error;
        // netmaster answers again, and has not heard yet that what had the address has ended.
        await forget();
        await register();
      });
    } catch (error) {
      if (!wasHeld || !isSilence(error)) throw error;
      log.warn({ err: error, endpoint: endpoint.endpointID }, 'endpoint not registered; it is tried again');
    }
  }

  /** `failed`: what may not have got so far as to be attached. */
  async function detach(id: string, failed?: Pick<Attachment, 'endpoint' | 'end'>): Promise<void> {
    const attached = attachments.all.get(id);
    const had = attached ?? failed;
    const holds = attached !== undefined && staysAtNetmaster(attached);
    const silent = holds && !(await intent.answers());
    const removed = attachments
      .remove(id, silent ? 'held' : undefined)
      .catch((error) => log.error({ err: error, endpoint: id }, 'endpoint removed, but not on disk'));
    for (const listener of listeners) listener(id, attached);
    // On disk first: an agent that is killed now would find it there, and register it again.
    await removed;
    const hold = (): void => {
      if (attached !== undefined && attached.end === undefined)
        for (const place of placesOf(attached.endpoint)) out.add(place);
    };
    if (silent) hold();
    // Also for one that is not attached: a reserved address may hang on it. Side by side with the kernel: what has ended is nobody else's
    // before this host too has applied the end (endings.ts at netmaster).
    const unregister = (): Promise<void> =>
      intent.unregister(id).catch(async (error) => {
        log.warn({ err: error, endpoint: id }, 'endpoint stays at netmaster until it answers');
        if (!holds || !(error instanceof ApiError && error.untaken)) return;
        hold();
        await attachments.hold(attached);
      });
    await Promise.all([
      silent ? undefined : unregister(),
      had !== undefined && kernel.ready() ? established() : undefined,
    ]);
    if (had?.end === undefined) return; // the runtime does it
    const { endpoint } = had;
    await Promise.all(endpoint.ipAddress.map((address) => release(networkOf(endpoint), address)));
  }

  /**
   * netmaster has all its addresses as endpoints' of this host, as it has told, and as long as it is not told otherwise. What was
   * reserved and not registered it gives to others after a while; what Docker's Swarm keeps is Swarm's to give.
   */
  function staysAtNetmaster({ endpoint }: Attachment): boolean {
    if (endpoint.ofHost || endpoint.labels?.[TASK_LABEL] !== undefined) return false;
    const { tenantName } = endpoint;
    const told = (replica.view.of(tenantName).endpoints.get(host) ?? []).flatMap(placesOf);
    return placesOf(endpoint).every((place) => told.includes(place));
  }

  async function release(network: string, address: string): Promise<void> {
    const place = placeOf(network, address);
    out.delete(place);
    if (attachments.held.has(place)) return; // netmaster is told with the end of its endpoint
    if (!(await intent.answers())) return void unreleased.add(place);
    await intent.release(network, address).catch((error) => {
      log.warn({ err: error, network, address }, 'address not released; it is tried again');
      unreleased.add(place);
    });
  }

  /** A held one that answers the request: by name, or of any container that has stopped. */
  function heldFor(
    { tenantName, networkName, groupName, family, address, swarm }: Omit<AddressRequest, 'host'>,
    insistence: 'if free' | 'of a stopped one' | undefined,
  ): Held | undefined {
    // netmaster would refuse it.
    if (swarm !== undefined || replica.view.draining.has(host)) return undefined;
    const isMeant = (held: Held): boolean =>
      held.tenantName === tenantName &&
      held.networkName === networkName &&
      (held.groupName ?? '') === (groupName ?? '') &&
      isV6(held.address) === (family === 6);
    if (address !== undefined) {
      const held = attachments.held.get(placeOf(`${tenantName}:${networkName}`, address));
      return held !== undefined && isMeant(held) ? held : undefined;
    }
    if (insistence !== 'of a stopped one') return undefined;
    return [...attachments.held]
      .filter(([place, held]) => !out.has(place) && held.runtime === 'docker' && isMeant(held))
      .map(([, held]) => held)[0];
  }

  function giveHeld({ tenantName, networkName, address }: Held): AddressAnswer {
    const network = `${tenantName}:${networkName}`;
    const { subnet = '', ipv6Subnet = '' } = replica.view.networks.get(network) ?? {};
    const prefixLength = parseSubnet(isV6(address) ? ipv6Subnet : subnet)?.length;
    if (prefixLength === undefined) throw new Error(`network ${network} is not known on this host`);
    out.add(placeOf(network, address));
    return { address, prefixLength };
  }

  return {
    name: 'endpoints at netmaster',
    awaited: 'always',
    changed(news) {
      if (news.type === 'kernel') {
        for (const id of news.report.lost) {
          log.info(
            { endpoint: id },
            'the container is gone without a word from its runtime: removing its endpoint',
          );
          detach(id).catch((error) =>
            log.warn({ err: error, endpoint: id }, 'endpoint not removed; it is tried again'),
          );
        }
        return false;
      }
      if (news.listed) comparisons.ask();
      return news.listed;
    },
    settled: () => comparisons.settled(),
    unknown: () => comparisons.ask(),
    host,
    view: replica.view,
    live: () => replica.live,
    ready: () => replica.store !== '',
    attachments: attachments.all,
    async reserve(request, insistence) {
      const network = networkOf(request);
      const ask = (): Promise<AddressAnswer> =>
        intent.reserve(
          { ...request, host, request: randomUUID() },
          heldFor(request, insistence) === undefined ? 'until it answers' : 'while it answers',
        );
      if (!(await intent.answers())) {
        const held = heldFor(request, insistence);
        if (held !== undefined) return giveHeld(held);
      }
      const answer = await ask().catch(async (error) => {
        const held = isSilence(error) ? heldFor(request, insistence) : undefined;
        if (held !== undefined) return giveHeld(held);
        // It may have been given all the same: only the answer is missing.
        if (error.message.startsWith(GAVE_UP) && request.address)
          unreleased.add(placeOf(network, request.address));
        if (!(error instanceof ApiError && error.status === 409)) throw error;
        // What is refused may be held by one that ended here while netmaster was away: the container itself, started anew.
        await forget();
        if (request.address && insistence !== 'if free') await takeBack(network, request.address);
        return ask();
      });
      // Another container's by now.
      unreleased.delete(placeOf(network, answer.address));
      return answer;
    },
    release,
    swarmHas: intent.swarmHas,
    releaseOfSwarm: (network, address) => intent.release(network, address, 'swarm'),
    async attach(joining) {
      const { endpoint } = joining;
      const { endpointID: id, tenantName, networkName } = endpoint;
      try {
        await followed();
        await known(endpoint);
        const attachment = withPorts({ ...joining, phase: 'joining' });
        const wasHeld = placesOf(endpoint).every((place) => attachments.held.has(place));
        await attachments.put(attachment);
        for (const place of placesOf(endpoint)) out.delete(place);
        const [passed] = await Promise.all([established(), tell(attachment.endpoint, wasHeld)]);
        throwFailure(id, passed);
        const port = portIn(passed.state, id);
        if (port === undefined)
          throw new Error(`network ${tenantName}:${networkName} is not known on this host`);
        await admitted();
        attachments.joined(id);
        return port;
      } catch (error) {
        await detach(id, joining).catch((second) =>
          log.warn({ err: second, endpoint: id }, 'endpoint not removed; it is tried again'),
        );
        throw error;
      }
    },
    portOf: (id) => portIn(kernel.state, id),
    missing: (id) => dataplane.missing(id),
    async attachHost(endpoint, runtime) {
      await attachments.put({ endpoint, phase: 'joined', publications: [], runtime });
      // Other hosts have to know the address before anything comes from it, which they would drop.
      await intent
        .register(endpoint, 'not')
        .catch((error) =>
          log.warn(
            { err: error, endpoint: endpoint.endpointID },
            'endpoint not registered; it is tried again',
          ),
        );
      if (kernel.ready()) await kernel.now();
    },
    async publish(id, publications) {
      const attachment = attachments.all.get(id);
      if (attachment === undefined) throw new Error(`endpoint ${id} has not joined on this host`);
      await attachments.put(withPorts({ ...attachment, publications }));
      throwFailure(id, await kernel.now());
      // It is for people: nobody waits for it, and what is missed the comparison tells.
      comparisons.ask();
    },
    async describe(id, description) {
      const attachment = attachments.all.get(id);
      if (attachment === undefined) return;
      const endpoint: Endpoint = { ...attachment.endpoint, ...description };
      if (equal(endpoint, attachment.endpoint)) return;
      await attachments.put({ ...attachment, endpoint });
      await intent
        .register(endpoint, 'not')
        .catch((error) => log.warn({ err: error, endpoint: id }, 'endpoint not updated; it is tried again'));
    },
    addressBefore: (id, family) =>
      [...attachments.held.values()].find((h) => h.endpointID === id && isV6(h.address) === (family === 6))
        ?.address,
    detach: (id) => detach(id),
    onDetach: (listener) => void listeners.push(listener),
    close: () => void comparisons.close(),
  };
}
