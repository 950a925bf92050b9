/**
 * GET /api/v1/watch: the list, then changes by revision, one JSON object a line (protocol/messages.ts). What is sent stands
 * in feed.ts; here are the connections: each is written to as long as it takes something, and is closed when it has fallen
 * behind or has taken nothing for a minute. Who was closed resumes by revision, or lists anew.
 *
 * Pings are so small that the kernel takes thousands for a machine that is gone without a word, and would go on for a
 * quarter of an hour: whether somebody is there, is for the kernel to say.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { type Feed, line, type Reader } from '../feed.ts';
import { isHostPosition } from '../hostScope.ts';
import type { Lineage } from '../lineage.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import type { Questions } from '../questions.ts';
import { clientOf, type Kept, keptFor, keyOf } from './connections.ts';
import { type Lines, openLines, turnOf } from './lines.ts';
import { type Query, readRevision, scopeOf } from './request.ts';

/** Milliseconds. */
const PING_INTERVAL = 3000;
/** Watchers that are written to at once, before other requests are served. */
const AT_ONCE = 16;
/** Bytes of lines that are written as one: to encrypt and to hand on one of a hundred bytes costs nearly as much. */
const TOGETHER = 16 << 10;
/** Pings in a row for which a connection has taken nothing, or its machine said nothing: then it is closed. */
const PATIENCE = 20;
/** Pings between two questions to the kernel whether the machines are there: it lists all connections for an answer. */
const LOOK = 5;
/** Pings between two lines of the log about watches that were refused. */
const SILENCE = 20;
/** Bytes that a watcher may be behind, beside what it had missed when it came: less than is kept, so that it can resume. */
const BACKLOG = 64 << 20;
/** Bytes that may wait for who reads, and milliseconds that it has for its list, before it has to make room for others. */
const UNREAD = 16 << 10;
const SETTLING = 5000;
/** Milliseconds for which it is good enough what the kernel said of all connections. */
const KEPT_AGE = 1000;
const NOTHING_KEPT: Kept = { bytes: 0, unanswered: 0 };
/** Questions that wait for a connection. */
const QUESTIONS = 16;

/** Watches at a time: of one client, and of all. */
export interface WatchLimits {
  readonly client: number;
  readonly all: number;
}
export const WATCH_LIMITS: WatchLimits = { client: 1024, all: 4096 };

export interface Watches {
  open(query: Query, request: FastifyRequest, reply: FastifyReply): Promise<void>;
  readonly count: number;
  /** Bytes that wait for a connection that does not take them; many of them are the same ones. */
  queued(): number;
  /** How many were refused, and how many were closed. */
  readonly refused: number;
  readonly closed: number;
  close(): void;
}

export interface WatchParts {
  readonly mirror: Mirror;
  readonly feed: Feed;
  /** The mirror shows this revision, which another netmaster said, or it is none of the store's. */
  known(revision: number): Promise<void>;
  readonly lineage: Lineage;
  readonly questions: Questions;
  readonly log: Logger;
  readonly limits: WatchLimits;
}

interface Watcher {
  readonly client: string;
  /** Of its connection, and netmaster's port of it. */
  readonly key: string;
  readonly port: number;
  readonly out: Lines;
  readonly reader: Reader;
  readonly questions: Buffer[];
  /** When it came, by performance.now. */
  readonly since: number;
  /** Bytes that it may be behind. */
  limit: number;
  /** Pings since the connection took something last, while something waits for it. */
  stuck: number;
  /** The same since its machine said something last, and what it had not answered then. */
  silent: number;
  kept: Kept;
}

/** Not out of Node's pool: its 8 kB would stay for as long as any line of the history that lies in them too. */
function joined(lines: readonly Buffer[], bytes: number): Buffer {
  const all = Buffer.allocUnsafeSlow(bytes);
  let at = 0;
  for (const line of lines) at += line.copy(all, at);
  return all;
}

export function openWatches({ mirror, feed, known, lineage, questions, log, limits }: WatchParts): Watches {
  const watchers = new Set<Watcher>();
  const byClient = new Map<string, Set<Watcher>>();
  let refused = 0;
  let closed = 0;
  let isClosed = false;
  /** Since the last line of the log. */
  const unsaid = new Map<string, number>();
  let silence = 0;
  /** What the kernel keeps for connections, and when that was read. */
  let kept: Promise<ReadonlyMap<string, Kept>> = Promise.resolve(new Map());
  let keptAt = Number.NEGATIVE_INFINITY;
  /** Pings until it is asked again. */
  let look = LOOK;

  /** Have something to be sent, or may have. */
  const ready = new Set<Watcher>();
  let isSending = false;

  function wake(watcher: Watcher): void {
    ready.add(watcher);
    if (isSending) return;
    isSending = true;
    setImmediate(sendPieces);
  }

  /** A piece to each of some watchers, then other requests are served: a list for a thousand is gigabytes to copy. */
  function sendPieces(): void {
    let left = AT_ONCE;
    for (const watcher of ready) {
      if (left-- === 0) break;
      ready.delete(watcher);
      sendPiece(watcher);
    }
    isSending = ready.size > 0;
    if (isSending) setImmediate(sendPieces);
  }

  /**
   * When the one before has been taken: by TLS Node keeps for each watcher as much as was ever handed to it at once
   * (findings/node-tls-keeps-largest-write.sh), and what waits is handed to it as one.
   */
  function sendPiece(watcher: Watcher): void {
    const { out, reader, questions } = watcher;
    if (out.socket.writableLength > 0 || out.socket.destroyed) return;
    const small: Buffer[] = [];
    let bytes = 0;
    let large: Buffer | undefined;
    let isAll = false;
    try {
      while (bytes < TOGETHER && large === undefined && !isAll) {
        const next = questions.shift() ?? reader.next();
        if (next === undefined) isAll = true;
        else if (next.length >= TOGETHER) large = next;
        else {
          small.push(next);
          bytes += next.length;
        }
      }
    } catch {
      end(watcher); // what comes next is no longer kept
      return;
    }
    if (small.length > 0) write(watcher, small.length === 1 ? (small[0] as Buffer) : joined(small, bytes));
    // As it is: many wait for the same bytes.
    if (large !== undefined) write(watcher, large);
    if (isAll) watcher.limit = BACKLOG;
  }

  function write(watcher: Watcher, lines: Buffer): void {
    watcher.out.write(lines, () => {
      // What the kernel has room for it takes, whoever is there.
      if (watcher.stuck > 0) watcher.silent = 0;
      watcher.stuck = 0;
      wake(watcher);
    });
  }

  function end(watcher: Watcher): void {
    closed++;
    leave(watcher);
    watcher.out.socket.destroy();
  }

  /** What the kernel keeps for connections to a port. */
  function keptNow(port: number): Promise<ReadonlyMap<string, Kept>> {
    if (performance.now() - keptAt <= KEPT_AGE) return kept;
    keptAt = performance.now();
    kept = keptFor(port);
    return kept;
  }

  /**
   * Closes watchers whose machine has said nothing for too long to what it is sent. Of who reads slowly the kernel may send
   * something again too, for lack of room there: but it has less to keep then, or takes more.
   */
  async function endSilent(): Promise<void> {
    const [watcher] = watchers;
    if (watcher === undefined) return;
    const now = await keptNow(watcher.port);
    for (const watcher of watchers) {
      const { kept: before } = watcher;
      const kept = now.get(watcher.key) ?? NOTHING_KEPT;
      const isSilent =
        kept.unanswered > 0 && kept.unanswered >= before.unanswered && kept.bytes >= before.bytes;
      watcher.silent = isSilent ? watcher.silent + LOOK : 0;
      watcher.kept = kept;
      if (watcher.silent > PATIENCE) end(watcher);
    }
  }

  /** Throws a Refusal where there is no place for one more, and everybody reads. */
  function makeRoom(client: string, now: ReadonlyMap<string, Kept>): void {
    const full = fullOf(client);
    if (full === undefined) return;
    // Who has most before it makes room, and resumes if it does read; but nobody who has only just come.
    const before = performance.now() - SETTLING;
    let room: { watcher: Watcher; bytes: number } | undefined;
    for (const watcher of full) {
      const bytes = watcher.out.socket.writableLength + (now.get(watcher.key)?.bytes ?? 0);
      if (watcher.since < before && bytes > (room?.bytes ?? UNREAD)) room = { watcher, bytes };
    }
    if (room !== undefined) {
      end(room.watcher);
      return;
    }
    refused++;
    unsaid.set(client, (unsaid.get(client) ?? 0) + 1);
    if (full !== watchers)
      throw new Refusal(
        429,
        `watch: ${full.size} are open from ${client}, as many as one client may have: close some`,
      );
    throw new Refusal(503, `watch: ${full.size} are open, as many as there may be: try again later`);
  }

  /** Among whom room must be made for one more of this client; undefined where there is a place. */
  function fullOf(client: string): ReadonlySet<Watcher> | undefined {
    const own = byClient.get(client);
    if (own !== undefined && own.size >= limits.client) return own;
    return watchers.size >= limits.all ? watchers : undefined;
  }

  function leave(watcher: Watcher): void {
    const own = byClient.get(watcher.client);
    own?.delete(watcher);
    if (own?.size === 0) byClient.delete(watcher.client);
    watchers.delete(watcher);
    ready.delete(watcher);
  }

  const unsubscribe = feed.onChange(() => {
    for (const watcher of watchers)
      if (watcher.reader.behind() > watcher.limit) end(watcher);
      else wake(watcher);
  });

  const ticking = setInterval(() => {
    const ping = line({ type: 'ping', revision: mirror.revision });
    for (const watcher of watchers) {
      if (watcher.out.socket.writableLength === 0) write(watcher, ping);
      else if (++watcher.stuck > PATIENCE) end(watcher);
    }
    if (--look === 0) {
      look = LOOK;
      void endSilent();
    }
    feed.tidy();
    if (silence > 0) silence--;
    if (silence > 0 || unsaid.size === 0) return;
    silence = SILENCE;
    const [most = ['', 0]] = [...unsaid].sort(([, a], [, b]) => b - a);
    const total = [...unsaid.values()].reduce((sum, n) => sum + n, 0);
    unsaid.clear();
    log.warn(
      { open: watchers.size, limits },
      `${total} watches were refused, ${most[1]} of them from ${most[0]}: too many are open from one client or in all`,
    );
  }, PING_INTERVAL);
  ticking.unref();

  return {
    async open({ store, after, host }, request, reply) {
      const { socket } = request.raw;
      const client = clientOf(socket);
      const port = socket.localPort ?? 0;
      const scope = scopeOf(request);
      const { identity } = request;
      /** Whom its certificate says to be. */
      const told = identity?.role === 'host' ? identity.name : undefined;
      let reader: Reader | undefined;
      if (after !== undefined) {
        const revision = readRevision('after', after);
        await known(revision);
        const who = host === undefined ? `a watcher from ${client}` : `host ${host}`;
        const isOfKind = scope === undefined && isHostPosition(store ?? '') === (told !== undefined);
        if (lineage.holds(store ?? '', revision, who) && isOfKind)
          reader = told === undefined ? feed.after(revision, store) : feed.afterFor(told, revision, store);
        if (reader === undefined)
          throw new Refusal(
            410,
            `changes after revision ${after} of store ${store} are not kept: list again`,
          );
      }
      await turnOf(reply);
      // Between making room and taking it nobody else may come.
      if (fullOf(client) !== undefined) makeRoom(client, await keptNow(port));
      const out = openLines(request, reply);
      if (out === undefined) return;
      if (isClosed) return void out.socket.destroy();
      reader ??= told === undefined ? feed.list(scope) : feed.listFor(told);
      // What it has missed may itself be larger: whoever takes it is not slow, and would be closed again and again.
      const limit = reader.behind() + BACKLOG;
      const key = keyOf(socket);
      const since = performance.now();
      const watcher: Watcher = {
        client,
        key,
        port,
        out,
        reader,
        questions: [],
        since,
        limit,
        stuck: 0,
        silent: 0,
        kept: NOTHING_KEPT,
      };
      watchers.add(watcher);
      byClient.set(client, (byClient.get(client) ?? new Set()).add(watcher));
      const detach =
        host === undefined
          ? () => {}
          : questions.attach(host, (message) => {
              if (watcher.questions.length < QUESTIONS) watcher.questions.push(line(message));
              wake(watcher);
            });
      socket.on('close', () => {
        detach();
        leave(watcher);
      });
      // Nothing but what is taken wakes one that waits for it.
      out.begun(() => wake(watcher));
    },
    get count() {
      return watchers.size;
    },
    queued: () => [...watchers].reduce((sum, { out }) => sum + out.socket.writableLength, 0),
    get refused() {
      return refused;
    },
    get closed() {
      return closed;
    },
    close() {
      clearInterval(ticking);
      unsubscribe();
      // Node's server ends its own connections, and waits for these.
      isClosed = true;
      for (const { out } of watchers) out.socket.destroy();
    },
  };
}
