/**
 * Health checks of external endpoints, as they declare them: a TCP connection, or an HTTP request that is answered with 2xx or 3xx.
 *
 *   tenant's router --TCP, HTTP--> machine        by the way that containers go: what is well is well for them
 *   netmaster <--only where it is another--       all hosts go by what it says
 *
 * One host asks for all: of those that have containers of the tenant, and take part where the machine is in a VLAN, the one that a hash of
 * its name and the machine's chooses (rendezvous hashing). Every host knows which by itself; when a host comes or goes, only
 * what was, or will be, asked by that one changes hands, and a machine is asked as often with a thousand hosts as with one. What a single
 * host cannot reach counts as failed for all: each for itself would be more exact, and a flood.
 */
import { createHash } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { setTimeout as after } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Client } from '../../client/client.ts';
import type { SyscallError } from '../../linux/libc.ts';
import { beginConnection, closeSocket, inNamespace, isConnected, namespacePath } from '../../linux/netns.ts';
import {
  type HealthCheck,
  holds,
  parseHealthCheck,
  type StoredExternalEndpoint,
} from '../../model/externalEndpoint.ts';
import { inTurn } from '../../turns.ts';
import type { Follower } from '../follower.ts';
import type { View } from '../intent/view.ts';
import { CHECK_INTERVAL } from '../intervals.ts';

/** So many in a row until it counts as failing, and until it counts as well again. */
export const FALL = 3;
export const RISE = 2;
/** Checks at a time. */
const AT_ONCE = 64;
/** Milliseconds between looks whether a connection is there. */
const CONNECTING = 20;

/** Why it is not well; undefined: it is. */
export type Ask = (
  namespace: string,
  address: string,
  check: HealthCheck,
  signal: AbortSignal,
) => Promise<string | undefined>;

export interface ChecksOptions {
  readonly host: string;
  view(): View;
  readonly client: Pick<Client, 'call'>;
  readonly log: Logger;
  readonly ask?: Ask;
}

const digest = (text: string): number => createHash('sha1').update(text).digest().readInt32LE();

/** The finalizer of MurmurHash3. */
function mixed(a: number, b: number): number {
  let h = a ^ b;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The one of these hosts that asks; undefined where there is none. */
export function askerOf(
  { tenantName, endpointName }: Pick<StoredExternalEndpoint, 'tenantName' | 'endpointName'>,
  hosts: Iterable<string>,
): string | undefined {
  const own = digest(`${tenantName}:${endpointName}`);
  let chosen: { readonly host: string; readonly weight: number } | undefined;
  for (const host of hosts) {
    const weight = mixed(own, digest(host));
    if (chosen === undefined || weight > chosen.weight || (weight === chosen.weight && host < chosen.host))
      chosen = { host, weight };
  }
  return chosen?.host;
}

/** Hosts by which the machine can be asked: of a VLAN those that have an address in it. */
export function hostsFor({ tenantName, ipAddress }: StoredExternalEndpoint, view: View): string[] {
  const mine = view.of(tenantName);
  const wire = mine.networks.find(
    (n) => n.encap === 'vlan' && ipAddress.some((address) => holds(n, address)),
  )?.networkName;
  return [...mine.endpoints].flatMap(([host, endpoints]) => {
    const takesPart = wire === undefined || endpoints.some((e) => e.ofHost && e.networkName === wire);
    return view.hosts.has(host) && takesPart ? [host] : [];
  });
}

interface Count {
  readonly healthCheck: string;
  failed: number;
  well: number;
}

export function followChecks({ host, view, client, log, ask = askNow }: ChecksOptions): Follower {
  const ending = new AbortController();
  /** Routers here by tenant. */
  let namespaces: ReadonlyMap<string, string> = new Map();
  const counts = new Map<string, Count>();

  /** Those that this host asks now. */
  function own(): { readonly external: StoredExternalEndpoint; readonly namespace: string }[] {
    return [...namespaces].flatMap(([tenant, namespace]) =>
      view()
        .of(tenant)
        .externals.filter(
          (external) =>
            external.healthCheck !== undefined && askerOf(external, hostsFor(external, view())) === host,
        )
        .map((external) => ({ external, namespace })),
    );
  }

  async function look(external: StoredExternalEndpoint, namespace: string): Promise<void> {
    const { tenantName, endpointName, healthCheck = '', ipAddress, failing } = external;
    const key = `${tenantName}:${endpointName}`;
    const check = parseHealthCheck(healthCheck);
    const [address] = ipAddress;
    if (check === undefined || address === undefined) return;
    const problem = await ask(namespace, address, check, ending.signal);
    if (ending.signal.aborted) return;
    const known = counts.get(key);
    const count = known?.healthCheck === healthCheck ? known : { healthCheck, failed: 0, well: 0 };
    counts.set(key, count);
    count.failed = problem === undefined ? 0 : count.failed + 1;
    count.well = problem === undefined ? count.well + 1 : 0;
    const news = failing === undefined ? count.failed >= FALL : count.well >= RISE;
    if (!news) return;
    // Until the view says so too: what netmaster did not hear it is told again.
    await client
      .call('checked', { name: host }, { endpoint: key, healthCheck, ...(problem && { problem }) })
      .then(() => log.info({ endpoint: key, problem }, 'health check of an external endpoint'))
      .catch((error) => log.debug({ err: error, endpoint: key }, 'health check not reported'));
  }

  async function round(): Promise<void> {
    const waiting = own();
    const keys = new Set(waiting.map(({ external: e }) => `${e.tenantName}:${e.endpointName}`));
    for (const key of counts.keys()) if (!keys.has(key)) counts.delete(key);
    const worker = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift())
        await look(next.external, next.namespace);
    };
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, waiting.length) }, worker));
  }

  const turns = inTurn(round, {
    every: CHECK_INTERVAL,
    due: () => namespaces.size > 0,
    failed: (error) => log.warn({ err: error }, 'external endpoints are not checked; it is tried again'),
  });

  return {
    name: 'health checks of external endpoints',
    awaited: 'never',
    changed(news) {
      if (news.type === 'kernel')
        namespaces = new Map(news.state.routers.map(({ tenant, namespace }) => [tenant, namespace]));
      return false;
    },
    settled: () => Promise.resolve(),
    close() {
      ending.abort();
      return turns.close();
    },
  };
}

const WHY: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  EHOSTUNREACH: 'it does not answer on its link, or no way leads there',
  ENETUNREACH: 'no way leads there',
  ECONNRESET: 'it ends the connection without an answer',
};
const TIMES_OUT = `no answer within ${CHECK_INTERVAL / 1000} s`;

const whyOf = (error: unknown): string => {
  const { code, message } = error as SyscallError;
  return WHY[code] ?? message;
};

/** From the router: by the sockets of that namespace. */
export async function askNow(
  namespace: string,
  address: string,
  check: HealthCheck,
  ended: AbortSignal,
): Promise<string | undefined> {
  const signal = AbortSignal.any([ended, AbortSignal.timeout(CHECK_INTERVAL)]);
  let fd: number | undefined;
  try {
    const opened = inNamespace(namespacePath(namespace), () => beginConnection(address, check.port));
    fd = opened;
    while (!isConnected(opened, address, check.port)) await after(CONNECTING, undefined, { signal });
    if (check.path === undefined) return undefined;
    const socket = new net.Socket({ fd: opened });
    fd = undefined;
    return await request(socket, address, { ...check, path: check.path }, signal);
  } catch (error) {
    return signal.aborted ? TIMES_OUT : whyOf(error);
  } finally {
    if (fd !== undefined) closeSocket(fd);
  }
}

function request(
  socket: net.Socket,
  address: string,
  { port, path }: Required<HealthCheck>,
  signal: AbortSignal,
): Promise<string | undefined> {
  const name = address.includes(':') ? `[${address}]` : address;
  const headers = { host: port === 80 ? name : `${name}:${port}`, 'user-agent': 'contiv-netplugin' };
  return new Promise((resolve, reject) => {
    // Without an agent: that would make a connection of its own, from the host.
    const asked = http.get({ createConnection: () => socket, path, headers, signal }, (answer) => {
      const { statusCode = 0 } = answer;
      answer.destroy();
      resolve(statusCode >= 200 && statusCode < 400 ? undefined : `HTTP status ${statusCode}`);
    });
    asked.on('error', reject);
  });
}
