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
 * (attachments.ts, held): a container that starts again has its own, and netmaster is told of both when it answers. Others have what
 * this host has in reserve (netmaster/reserves.ts); where that is used up they wait. Names, policy and services on this host go by
 * what is attached here: it is put into the view in netmaster's place (show).
 */
import { randomUUID } from 'node:crypto';
import { setImmediate as requestsSent } from 'node:timers/promises';
import type { Logger } from 'pino';
import { ApiError } from '../../client/client.ts';
import { isV6, parseSubnet } from '../../model/address.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { Reserved } from '../../model/host.ts';
import type { AddressAnswer, AddressRequest } from '../../protocol/messages.ts';
import { insist, inTurn } from '../../turns.ts';
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
import { type Attachments, placeOf } from './attachments.ts';
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
  readonly replica: Pick<
    Replica,
    'view' | 'live' | 'listed' | 'store' | 'assume' | 'assumed' | 'keep' | 'relist'
  >;
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
  /** Endpoints that have ended while netmaster could not be told, by id. */
  const ended = new Set([...attachments.held.values()].map((held) => held.endpointID));
  /**
   * Those with addresses of this host's own that netmaster has not heard of. Until it has, or has them as somebody else's, this host must not say that
   * it goes by what netmaster has: what it had in reserve would be free then.
   */
  const unheard = new Set<string>();
  /** Those whose addresses netmaster has as somebody else's: a store that was put back may have given them again. */
  const disowned = new Set<string>();
  // What an earlier agent had begun has ended with it: the runtime's call broke, and is not repeated with its contents.
  for (const id of attachments.all.keys()) attachments.joined(id);

  /** False: netmaster did not answer. What runs may have addresses that it takes for free ones of this host's: it is not said before that all is applied. */
  async function compare(): Promise<boolean> {
    const { listed } = replica;
    if (listed === undefined) return true;
    if (!(await intent.accepted())) return intent.answers();
    let areTold = true;
    // First: what runs may have the addresses of what has ended.
    if (replica.live) await forget();
    for (const attachment of attachments.all.values()) {
      const { endpoint } = attachment;
      const { endpointID: id } = endpoint;
      const isTold = !replica.assumed.has(id);
      if (isTold && listed.endpoints.has(id)) unheard.delete(id);
      if (isTold && equal(listed.endpoints.get(id), endpoint)) continue;
      // Of a store that has lost more than this host's addresses.
      if (!replica.live && !isDeclared(listed, endpoint)) continue;
      await intent.register(endpoint, 'not').then(
        () => {
          disowned.delete(id);
          unheard.delete(id);
        },
        (error) => {
          const isOthers = error instanceof ApiError && error.status === 409;
          if (isOthers) disowned.add(id);
          if (isOthers) unheard.delete(id);
          if (isSilence(error) || unheard.has(id)) areTold = false;
          const held = unheard.has(id)
            ? ': this host says nothing of what it has applied until it is, or its container has ended'
            : '';
          log.warn({ err: error, endpoint: id }, `endpoint not registered${held}`);
        },
      );
    }
    return areTold;
  }

  /** Followers go by what is attached here, or has ended: netmaster cannot be told, nor tell of it. */
  function show(id: string): void {
    const endpoint = attachments.all.get(id)?.endpoint;
    if (!equal(replica.view.endpoints.get(id), endpoint)) replica.assume(id, endpoint ?? null);
  }

  /** Tells netmaster what has ended here that it still has. */
  async function forget(): Promise<void> {
    // From then on they may be others'.
    const returned = [...attachments.held.keys()].filter((place) => !out.has(place));
    await attachments.letGo();
    out.clear();
    for (const place of returned) unreleased.add(place);
    const own = [...replica.view.endpoints.values()].filter(({ homingHost }) => homingHost === host);
    for (const id of new Set([...ended, ...own.map(({ endpointID }) => endpointID)])) {
      if (attachments.all.has(id)) continue;
      await intent.unregister(id).then(
        () => ended.delete(id),
        (error) => log.warn({ err: error, endpoint: id }, 'endpoint not removed'),
      );
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
    whole: (areTold) => areTold,
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

  /** The other hosts know it when it resolves; or, where its addresses are this host's own, when netmaster answers. */
  async function tell(endpoint: Endpoint, isOwn: boolean): Promise<void> {
    const register = async (): Promise<void> => {
      await intent.register(endpoint, isOwn ? 'while it answers' : 'until it answers');
      unheard.delete(endpoint.endpointID);
    };
    if (isOwn && !(await intent.answers())) return show(endpoint.endpointID);
    try {
      await register().catch(async (error) => {
        if (!(error instanceof ApiError && error.status === 409)) throw error;
        // netmaster answers again, and has not heard yet that what had the address has ended.
        await forget();
        await register();
      });
    } catch (error) {
      if (!isOwn || !isSilence(error)) throw error;
      show(endpoint.endpointID);
      log.warn({ err: error, endpoint: endpoint.endpointID }, 'endpoint not registered; it is tried again');
    }
  }

  /** `failed`: what may not have got so far as to be attached. */
  async function detach(id: string, failed?: Pick<Attachment, 'endpoint' | 'end'>): Promise<void> {
    const answers = await intent.answers();
    const attached = attachments.all.get(id);
    const had = attached ?? failed;
    const holds = attached !== undefined && staysAtNetmaster(attached);
    const silent = holds && !answers;
    const removed = attachments
      .remove(id, silent ? 'held' : undefined)
      .catch((error) => log.error({ err: error, endpoint: id }, 'endpoint removed, but not on disk'));
    for (const listener of listeners) listener(id, attached);
    // On disk first: an agent that is killed now would find it there, and register it again.
    await removed;
    const hold = (): void => {
      ended.add(id);
      show(id);
      if (attached !== undefined && attached.end === undefined)
        for (const place of placesOf(attached.endpoint)) out.add(place);
    };
    unheard.delete(id);
    if (silent) hold();
    // Also for one that is not attached: a reserved address may hang on it. Side by side with the kernel: what has ended is nobody else's
    // before this host too has applied the end (endings.ts at netmaster).
    const unregister = (): Promise<void> =>
      intent.unregister(id).catch(async (error) => {
        log.warn({ err: error, endpoint: id }, 'endpoint stays at netmaster until it answers');
        if (!holds || !(error instanceof ApiError && error.untaken)) return;
        hold();
        await attachments
          .hold(attached)
          .catch((failure) => log.error({ err: failure, endpoint: id }, 'its addresses are not on disk'));
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
   * netmaster has all its addresses as endpoints' of this host, or as in reserve for it, as it has told, and as long as it is not told
   * otherwise. What was asked for and not registered it gives to others after a while; what Docker's Swarm keeps is Swarm's to give.
   */
  function staysAtNetmaster({ endpoint }: Attachment): boolean {
    if (disowned.has(endpoint.endpointID) || endpoint.ofHost || endpoint.labels?.[TASK_LABEL] !== undefined)
      return false;
    const { tenantName } = endpoint;
    // What netmaster has told, not what is shown in its place.
    const told = [
      ...(replica.view.of(tenantName).endpoints.get(host) ?? []).filter(
        ({ endpointID }) => !replica.assumed.has(endpointID),
      ),
      ...[...replica.assumed.values()].filter((e) => e?.homingHost === host),
    ].flatMap((e) => (e === null ? [] : placesOf(e)));
    return placesOf(endpoint).every((place) => told.includes(place) || isReserved(place));
  }

  async function release(network: string, address: string): Promise<void> {
    const place = placeOf(network, address);
    out.delete(place);
    // netmaster is told with the end of its endpoint, or has it in reserve for this host.
    if (attachments.held.has(place) || isReserved(place)) return;
    if (!(await intent.answers())) return void unreleased.add(place);
    await intent.release(network, address).catch((error) => {
      log.warn({ err: error, network, address }, 'address not released; it is tried again');
      unreleased.add(place);
    });
  }

  /** netmaster has it in reserve for this host. */
  function isReserved(place: string): boolean {
    const [network = '', address] = place.split(' ');
    return reserveOf(network).some((reserved) => reserved.address === address);
  }
  function isOwnPlace(place: string): boolean {
    return attachments.held.has(place) || isReserved(place);
  }
  const reserveOf = (network: string): readonly Reserved[] =>
    replica.view.reserves.get(`${host}/${network}`)?.addresses ?? [];

  /** An address that netmaster has as this host's and nothing here has, for the request: held, or in reserve. */
  function ownFor(
    { tenantName, networkName, groupName = '', family, address, swarm }: Omit<AddressRequest, 'host'>,
    insistence: 'if free' | 'of a stopped one' | undefined,
  ): string | undefined {
    const { held, all } = attachments;
    // netmaster would refuse it, and does not wait for a host that has nothing (followed).
    if (swarm !== undefined || replica.view.draining.has(host) || all.size + held.size === 0)
      return undefined;
    const network = `${tenantName}:${networkName}`;
    const isV = (a: string): boolean => isV6(a) === (family === 6);
    const stopped = [...held.values()].filter(
      (h) => networkOf(h) === network && (h.groupName ?? '') === groupName && isV(h.address),
    );
    const attached = new Set([...all.values()].flatMap((a) => placesOf(a.endpoint)));
    const hasPool = family === 4 && replica.view.groups.get(`${tenantName}:${groupName}`)?.ipPool;
    const reserved = reserveOf(network).filter((r) => {
      const place = placeOf(network, r.address);
      return (
        isV(r.address) &&
        (r.groupName ?? '') === (hasPool ? groupName : '') &&
        !attached.has(place) &&
        !held.has(place)
      );
    });
    if (address !== undefined)
      return [...stopped, ...reserved].some((own) => own.address === address) ? address : undefined;
    const isHere = (own: Reserved): boolean => !out.has(placeOf(network, own.address));
    const again =
      insistence === 'of a stopped one'
        ? stopped.find((h) => h.runtime === 'docker' && isHere(h))
        : undefined;
    return (again ?? reserved.find(isHere))?.address;
  }

  function giveOwn(network: string, address: string): AddressAnswer {
    const { subnet = '', ipv6Subnet = '' } = replica.view.networks.get(network) ?? {};
    const prefixLength = parseSubnet(isV6(address) ? ipv6Subnet : subnet)?.length;
    if (prefixLength === undefined) throw new Error(`network ${network} is not known on this host`);
    const place = placeOf(network, address);
    out.add(place);
    unreleased.delete(place);
    return { address, prefixLength };
  }

  for (const { endpoint } of attachments.all.values())
    if (!replica.view.endpoints.has(endpoint.endpointID) && placesOf(endpoint).every(isOwnPlace))
      unheard.add(endpoint.endpointID);
  // As an earlier agent left it, until netmaster answers.
  for (const id of ended) show(id);
  for (const attachment of attachments.all.values())
    if (staysAtNetmaster(attachment)) show(attachment.endpoint.endpointID);

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
      if (!news.listed) return false;
      for (const attachment of attachments.all.values()) {
        const { endpointID: id } = attachment.endpoint;
        if (!replica.view.endpoints.has(id) && staysAtNetmaster(attachment)) show(id);
      }
      comparisons.ask();
      return true;
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
          // There is another way then: one of its own, or any.
          ownFor(request, insistence) === undefined && insistence !== 'if free'
            ? 'until it answers'
            : 'while it answers',
        );
      if (!(await intent.answers())) {
        const own = ownFor(request, insistence);
        if (own !== undefined) return giveOwn(network, own);
      }
      const answer = await ask().catch(async (error) => {
        const own = isSilence(error) ? ownFor(request, insistence) : undefined;
        if (own !== undefined) return giveOwn(network, own);
        // It may have been given all the same: only the answer is missing.
        if ((isSilence(error) || error.message.startsWith(GAVE_UP)) && request.address)
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
        const places = placesOf(endpoint);
        const isOwn = places.every(isOwnPlace);
        // netmaster cannot refuse the second of two that were given one address: it was forgotten with an agent, or is asked for by name.
        const other = [...attachments.all.values()].find(
          ({ endpoint: e }) => e.endpointID !== id && placesOf(e).some((place) => places.includes(place)),
        );
        if (isOwn && other !== undefined)
          throw new Error(
            `address ${endpoint.ipAddress.join(', ')} is another container's on this host, of endpoint ${other.endpoint.endpointID}: start it again`,
          );
        if (isOwn) unheard.add(id);
        const written = attachments.put(attachment);
        // Before this host says once more what it has applied: netmaster might take the address for a free one then.
        if (isOwn) comparisons.ask();
        await written;
        for (const place of places) out.delete(place);
        const [passed] = await Promise.all([established(), tell(attachment.endpoint, isOwn)]);
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
      if (!(await intent.answers())) return show(id);
      await intent.register(endpoint, 'not').catch((error) => {
        if (isSilence(error)) show(id);
        log.warn({ err: error, endpoint: id }, 'endpoint not updated; it is tried again');
      });
    },
    addressBefore: (id, family) =>
      [...attachments.held.values()].find((h) => h.endpointID === id && isV6(h.address) === (family === 6))
        ?.address,
    detach: (id) => detach(id),
    onDetach: (listener) => void listeners.push(listener),
    close: () => void comparisons.close(),
  };
}
