/**
 * The agent's side of netmaster: registration and heartbeats, what the kernel has applied, addresses and
 * endpoints of this host.
 */
import type { Logger } from 'pino';
import { ApiError, type Client } from '../../client/client.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import { HEARTBEAT } from '../../model/host.ts';
import type { Registration } from '../../protocol/hosts.ts';
import type {
  AddressAnswer,
  AddressRequest,
  Applied,
  LiveAnswer,
  SwarmReport,
  WriteAnswer,
} from '../../protocol/messages.ts';
import { afterFailure, insist, inTurn } from '../../turns.ts';
import { GAVE_UP } from '../constants.ts';
import { HASTY_DELAY } from '../intervals.ts';

/**
 * Milliseconds that a runtime's call is held while netmaster cannot be reached: dockerd gives up after 30 s. Calls that come
 * when it has been away for as long are not held: a dockerd that starts makes them one after the other, and answers nobody
 * before the last one.
 */
const HOLD = 25_000;

/**
 * How long a call is tried again that failed because netmaster is away, or another host late: for up to 25 s; only as long as netmaster
 * answers at all; not.
 */
export type Insistence = 'until it answers' | 'while it answers' | 'not';

/** netmaster does not answer, or has no store: what it was asked may have been done, or not. */
export const isSilence = (error: unknown): error is ApiError =>
  error instanceof ApiError && (error.code === 'unreachable' || error.status === 503);

export interface Intent {
  /** The last heartbeat was answered, be it by a refusal; waits for the first one. */
  answers(): Promise<boolean>;
  /** netmaster takes this host for what it says it is: there is no other one of its name. Asks where that is not known. */
  accepted(): Promise<boolean>;
  /** The same as of the last heartbeat. */
  readonly registered: boolean;
  /** What this host registers as has changed: netmaster is told at once. */
  changed(): void;
  reserve(request: AddressRequest, insistence: Insistence): Promise<AddressAnswer>;
  /** `'swarm'`: of those that Docker's Swarm keeps. */
  release(network: string, address: string, of?: 'swarm'): Promise<void>;
  /** With any insistence but `not` the other hosts know it when it resolves (bounded by netmaster's deadline). */
  register(endpoint: Endpoint, insistence: Insistence): Promise<WriteAnswer>;
  unregister(endpoint: string): Promise<void>;
  /** What a Swarm has that a manager on this host leads. */
  swarmHas(id: string, has: Omit<SwarmReport, 'host'>): Promise<number>;
  /** Reports in the background; the newest wins. */
  applied(applied: Applied): void;
  /** To a question that came on the watch. */
  answer(id: string, answer: LiveAnswer): Promise<void>;
  close(): void;
}

/**
 * `registration`: as the host is now, of one name. `renewKeys`: its keys are another host's, as on a copied disk or where it had another name; from
 * then on it registers without them, and later with new ones.
 */
export function startIntent(
  client: Client,
  registration: () => Registration,
  log: Logger,
  renewKeys?: () => void,
): Intent {
  let closed = false;
  let latest: Applied | undefined;
  const host = registration().name;

  /** Answer to the last heartbeat; undefined: none yet. */
  let registered: boolean | undefined;
  /** Said to this host, which then has no business there. */
  let refusal: ApiError | undefined;
  /** When the first call failed of those that did since netmaster answered last. */
  let awaySince: number | undefined;
  /** It may be granted later: 423 where another host is late (endings.ts of netmaster). */
  const isAway = (error: unknown): error is ApiError =>
    isSilence(error) || (error instanceof ApiError && error.status === 423);
  /** Nobody answered the last heartbeat. */
  let silent = false;

  async function beat(): Promise<void> {
    const told = registration();
    try {
      await client.call('register', { name: host }, told);
      if (registered === false) log.info('netmaster answers again');
      registered = true;
      silent = false;
      refusal = undefined;
      awaySince = undefined;
    } catch (error) {
      if (isAway(error)) awaySince ??= performance.now();
      silent = isSilence(error);
      refusal = error instanceof ApiError && error.status === 409 ? error : undefined;
      // The refused one is the newcomer, and a key costs nothing.
      if (refusal?.field === 'keys' && told.keys !== undefined && renewKeys !== undefined) {
        log.warn({ err: error }, 'this host makes new WireGuard keys, and registers again');
        renewKeys();
        beats.ask();
      } else if (registered !== false) log.warn({ err: error }, 'cannot register at netmaster; trying on');
      registered = false;
    }
  }
  // One after the other: one that says where the host was must not come after one that says where it is.
  const beats = inTurn(beat, { every: HEARTBEAT * 1000 });
  beats.ask();

  /** A host that is refused tells nothing that is another's to tell. */
  const asHost = <T>(call: () => Promise<T>): Promise<T> =>
    refusal === undefined ? call() : Promise.reject(refusal);

  function held<T>(call: () => Promise<T>, insistence: Insistence): Promise<T> {
    if (insistence === 'not') return asHost(call);
    const asked = performance.now();
    let failures = 0;
    return insist(
      async () => {
        const answer = await asHost(call);
        awaySince = undefined;
        return answer;
      },
      (error) => {
        if (!isAway(error) || closed) throw error;
        // Of several netmasters one that ends fails a call once.
        if (insistence === 'while it answers' && isSilence(error) && (silent || ++failures > 1)) throw error;
        awaySince ??= performance.now();
        if (performance.now() > Math.min(asked, awaySince) + HOLD)
          throw new Error(`${GAVE_UP}: ${error.message}`, { cause: error });
        return HASTY_DELAY;
      },
    );
  }

  const reports = inTurn(
    async () => {
      if (latest !== undefined && refusal === undefined) await client.call('applied', { name: host }, latest);
    },
    {
      again: afterFailure(HASTY_DELAY),
      failed: (error) => log.debug({ err: error }, 'applied revision not reported'),
    },
  );

  return {
    async answers() {
      if (registered === undefined) await beats.idle();
      return !silent;
    },
    async accepted() {
      if (registered !== true) await beats.next();
      return registered === true;
    },
    get registered() {
      return registered === true;
    },
    changed: () => beats.ask(),
    async reserve(request, insistence) {
      return (await held(() => client.call('reserve', {}, request), insistence)).body;
    },
    async release(network, address, of) {
      const release = () =>
        client.call('release', { network, address, host, ...(of === 'swarm' && { swarm: 'true' }) });
      await (of === 'swarm' ? held(release, 'until it answers') : release());
    },
    async register(endpoint, insistence) {
      // Agents that wait for each other's registrations before they say what they applied would wait in vain.
      const wait = insistence === 'not' ? { wait: '0' } : {};
      const call = () => client.call('attach', { id: endpoint.endpointID, host, ...wait }, endpoint);
      return (await held(call, insistence)).body;
    },
    async unregister(endpoint) {
      await client.call('detach', { id: endpoint, host, wait: '0' });
    },
    async swarmHas(id, has) {
      return (await asHost(() => client.call('swarm', { id }, { host, ...has }))).body.missed;
    },
    applied(applied) {
      latest = applied;
      reports.ask();
    },
    async answer(id, answer) {
      await client.call('answer', { name: host, id }, answer);
    },
    close() {
      closed = true;
      void beats.close();
      void reports.close();
    },
  };
}
