/**
 * What runtimes ask of the agent (runtimes/runtime.ts): an endpoint is on disk first (attachments), then in the kernel
 * and at netmaster.
 *
 *   attach    attachments --> kernel, and at the same time netmaster, which tells the peers
 *   detach    attachments --> kernel --> netmaster
 *
 * What netmaster missed meanwhile is told again: reconcile makes its list of this host's endpoints equal to what is attached.
 */
import type { Logger } from 'pino';
import { ApiError } from '../client/client.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { AddressAnswer } from '../protocol/messages.ts';
import type { Attachments } from './attachments.ts';
import { equal } from './compile/memo.ts';
import { GAVE_UP } from './constants.ts';
import type { Converging } from './converge.ts';
import type { ApplyReport } from './dataplane/index.ts';
import type { Intent } from './intent.ts';
import type { Replica } from './replica.ts';
import type { Endpoints } from './runtimes/runtime.ts';
import type { HostState } from './state.ts';
import { inTurn } from './turns.ts';
import type { Attachment } from './view.ts';

/** Milliseconds between comparisons of this host's endpoints with netmaster's. */
const RECONCILE_INTERVAL = 5000;
/** Milliseconds between looks whether netmaster's objects are followed, and until a runtime's call is refused where they are not. */
const LOOK_INTERVAL = 50;
const FOLLOWED_WITHIN = 25_000;

export interface LocalEndpoints extends Endpoints {
  /** Compares with netmaster's list now. */
  reconcile(): void;
  /** When those comparisons have ended that were asked for before. */
  reconciled(): Promise<void>;
  close(): void;
}

export interface LocalEndpointsOptions {
  readonly host: string;
  readonly replica: Pick<Replica, 'view' | 'live'>;
  readonly attachments: Attachments;
  readonly intent: Pick<Intent, 'accepted' | 'reserve' | 'release' | 'register' | 'unregister'>;
  readonly log: Logger;
  readonly converging: Pick<Converging, 'now' | 'ready'>;
  /** What was compiled last. */
  state(): HostState;
}

function throwFailure(id: string, { failed }: ApplyReport): void {
  const failure = failed.find(({ endpoint }) => endpoint === id);
  if (failure !== undefined) throw new Error(failure.message);
}

export function openEndpoints(options: LocalEndpointsOptions): LocalEndpoints {
  const { host, replica, attachments, intent, log, converging, state } = options;
  const listeners: ((endpoint: string) => void)[] = [];
  /** Addresses that the runtime has given back while netmaster was away: network and address. */
  const unreleased = new Set<string>();

  async function compare(): Promise<void> {
    if (!replica.live || !(await intent.accepted())) return;
    for (const { endpoint } of attachments.all.values()) {
      if (equal(replica.view.endpoints.get(endpoint.endpointID), endpoint)) continue;
      await intent
        .register(endpoint, { hold: false })
        .catch((error) => log.warn({ err: error, endpoint: endpoint.endpointID }, 'endpoint not registered'));
    }
    await forget();
  }

  /** Tells netmaster what has ended here that it still has. */
  async function forget(): Promise<void> {
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
  const comparisons = inTurn(compare);
  const reconcile = (): void => {
    comparisons.next().catch((error) => log.error({ err: error }, 'endpoints not compared with netmaster'));
  };
  const timer = setInterval(reconcile, RECONCILE_INTERVAL);

  /**
   * Where nothing runs, netmaster does not wait for this host before an address becomes another group's (endings.ts there): the
   * first router is made of what is declared now, not of the copy on disk.
   */
  async function followed(): Promise<void> {
    for (const began = performance.now(); attachments.all.size === 0 && !replica.live; ) {
      if (performance.now() - began > FOLLOWED_WITHIN)
        throw new Error(`${GAVE_UP}: what is declared at netmaster is not known on this host yet`);
      await new Promise((done) => setTimeout(done, LOOK_INTERVAL));
    }
  }

  async function detach(id: string): Promise<void> {
    const had = attachments.all.has(id);
    try {
      attachments.remove(id);
    } catch (error) {
      log.error({ err: error, endpoint: id }, 'endpoint removed, but not on disk');
    }
    for (const listener of listeners) listener(id);
    if (had && converging.ready()) await converging.now();
    // Also for one that is not attached: a reserved address may hang on it.
    await intent
      .unregister(id)
      .catch((error) =>
        log.warn({ err: error, endpoint: id }, 'endpoint stays at netmaster until it answers'),
      );
  }

  return {
    host,
    view: replica.view,
    live: () => replica.live,
    attachments: attachments.all,
    async reserve(request) {
      const ask = (): Promise<AddressAnswer> => intent.reserve({ ...request, host });
      // What is refused may be held by one that ended here while netmaster was away: the container itself, started anew.
      const answer = await ask().catch(async (error) => {
        if (!(error instanceof ApiError && error.status === 409)) throw error;
        await forget();
        return ask();
      });
      // Another container's by now.
      unreleased.delete(`${request.tenantName}:${request.networkName} ${answer.address}`);
      return answer;
    },
    async release(network, address) {
      await intent.release(network, address).catch((error) => {
        log.warn({ err: error, network, address }, 'address not released; it is tried again');
        unreleased.add(`${network} ${address}`);
      });
    },
    async attach(endpoint, sandbox, runtime) {
      const attachment: Attachment = {
        endpoint,
        phase: 'joining',
        publications: [],
        runtime,
        ...(sandbox === undefined ? {} : { sandbox }),
      };
      await followed();
      attachments.put(attachment);
      try {
        const [report] = await Promise.all([converging.now(), intent.register(endpoint, { hold: true })]);
        throwFailure(endpoint.endpointID, report);
        const port = state()
          .routers.flatMap((r) => r.ports)
          .find((p) => p.endpoint === endpoint.endpointID);
        if (port === undefined)
          throw new Error(`network ${endpoint.tenantName}:${endpoint.networkName} is not known on this host`);
        return { device: port.peer };
      } catch (error) {
        await detach(endpoint.endpointID).catch((second) =>
          log.warn({ err: second, endpoint: endpoint.endpointID }, 'endpoint not removed; it is tried again'),
        );
        throw error;
      }
    },
    joined(id) {
      const attachment = attachments.all.get(id);
      if (attachment !== undefined && attachment.phase === 'joining')
        attachments.put({ ...attachment, phase: 'joined' });
    },
    async publish(id, publications) {
      const attachment = attachments.all.get(id);
      if (attachment === undefined) throw new Error(`endpoint ${id} has not joined on this host`);
      attachments.put({ ...attachment, publications });
      throwFailure(id, await converging.now());
    },
    async describe(id, description) {
      const attachment = attachments.all.get(id);
      if (attachment === undefined) return;
      const endpoint: Endpoint = { ...attachment.endpoint, ...description };
      if (equal(endpoint, attachment.endpoint)) return;
      attachments.put({ ...attachment, endpoint });
      await intent
        .register(endpoint, { hold: false })
        .catch((error) => log.warn({ err: error, endpoint: id }, 'endpoint not updated; it is tried again'));
    },
    detach,
    onDetach: (listener) => void listeners.push(listener),
    reconcile,
    reconciled: () => comparisons.idle(),
    close: () => clearInterval(timer),
  };
}
