/**
 * What the fabric tells by itself: queries that are subscribed to, and a websocket on which it says when the answer to one is another.
 *
 *   wss://CONTROLLER/socketTOKEN                   a session's, which ends with it
 *   GET QUERY&subscription=yes                     the answer, and a `subscriptionId`
 *   a message {subscriptionId, imdata}             the answer is another
 *   GET /api/subscriptionRefresh.json?id=ID        within a minute, or the subscription ends
 *
 * From Cisco's APIC REST API Configuration Guide, "Subscribing to Query Results". That something is another is all that is taken from a message: what is
 * there is read again, as messages may be missed while the socket is made anew.
 */
import type { Agent } from 'node:http';
import { WebSocket } from 'ws';

/** Milliseconds: half of a subscription's life, as APIC has it. */
const REFRESH = 30_000;
/** Bytes of a message: one has a few objects. */
const MESSAGE = 16 << 20;

export interface SubscriptionOptions {
  /** Of the controller, and the token of a session there. */
  readonly url: string;
  readonly token: string;
  readonly agent: Agent | undefined;
  /** Milliseconds until the socket is open. */
  readonly patience: number;
  /** Milliseconds; absent: REFRESH. */
  readonly refresh?: number | undefined;
  /** Asks that controller; whether it has the subscription still. */
  renew(id: string): Promise<boolean>;
  /** The answer to a query is another, or it may be, as nobody would be told any more. */
  changed(): void;
}

/** Of one socket: they end with it. */
export interface Subscriptions {
  readonly url: string;
  readonly isOpen: boolean;
  readonly count: number;
  has(query: string): boolean;
  add(query: string, id: string): void;
  /** Nobody is told of this. */
  close(): void;
}

/** Rejects where the controller opens no socket. */
export async function openSubscriptions(options: SubscriptionOptions): Promise<Subscriptions> {
  const { url, token, agent, patience, refresh = REFRESH, renew, changed } = options;
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/socket${token}`, {
    agent,
    handshakeTimeout: patience,
    maxPayload: MESSAGE,
    perMessageDeflate: false,
  });
  /** By query its number. */
  const ids = new Map<string, string>();
  let isOpen = false;
  let timer: NodeJS.Timeout | undefined;

  /** One after the other, so that a controller is asked by one connection; a tenant that is gone costs one question. */
  async function refreshAll(): Promise<void> {
    for (const [query, id] of [...ids]) {
      if (!isOpen) return;
      if ((await renew(id)) || !isOpen || ids.get(query) !== id) continue;
      ids.delete(query);
      changed();
    }
    if (isOpen) timer = setTimeout(refreshAll, refresh);
  }

  function end(): void {
    isOpen = false;
    clearTimeout(timer);
    ids.clear();
  }

  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.on('open', () => {
    isOpen = true;
    timer = setTimeout(refreshAll, refresh);
    resolve();
  });
  // Whatever it is, the socket closes behind it.
  socket.on('error', reject);
  socket.on('message', () => isOpen && changed());
  socket.on('close', () => {
    const wasOpen = isOpen;
    end();
    reject(new Error('it closes the connection'));
    if (wasOpen) changed();
  });
  await promise;

  return {
    url,
    get isOpen() {
      return isOpen;
    },
    get count() {
      return ids.size;
    },
    has: (query) => ids.has(query),
    add(query, id) {
      if (isOpen) ids.set(query, id);
    },
    close() {
      end();
      socket.terminate();
    },
  };
}
