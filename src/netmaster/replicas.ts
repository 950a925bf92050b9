/**
 * Several netmasters on one store. What hosts say to one of them, and is in no store, goes from netmaster to netmaster:
 *
 *   replica/ID                     each netmaster's URL, under a lease of its own
 *   GET replicas/hosts             a stream from each of the others: which hosts have their watch there, when they were heard of, what they
 *                                  see, what they applied; and which were refused
 *   POST replicas/ask              a question to a host whose watch is there
 *   GET replicas/reports           what hosts counted, as reported there
 *
 * What comes in goes on to nobody: each host's word is passed on by whom it was said to. To know less than others is to wait longer, and to
 * give an address later; never earlier.
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { type Client, connect } from '../client/client.ts';
import type { Credentials } from '../client/credentials.ts';
import type { Heard, RefusedHost } from '../protocol/hosts.ts';
import type { KeptReport, LiveAnswer, LiveQuestion, ReplicaMessage } from '../protocol/messages.ts';
import type { Store } from '../store/store.ts';
import { inTurn } from '../turns.ts';
import type { Acknowledgements } from './acknowledgements.ts';
import { type Mirror, storeKey } from './mirror.ts';
import type { Roster } from './roster.ts';
import type { Writer } from './writer.ts';

/** Seconds until a netmaster that says nothing is none, and milliseconds between its words. */
const TTL = 10;
const BEAT = 3000;
/** Milliseconds: what hosts say meanwhile is passed on in one piece; until a stream that broke off is begun again; for an answer. */
const GATHER = 20;
const RETRY = 500;
const PATIENCE = 2000;
/** More than a host has to answer. */
const ASKING = 10_000;

export interface Replicas {
  /** A host said that to this netmaster. */
  applied(host: string, revision: number): void;
  heard(host: string, heard: Heard): void;
  refused(refused: RefusedHost): void;
  /** A host's watch is here; answers how to say that it is not any more. */
  attached(host: string): () => void;
  /** All that hosts said here, then what they say. Answers how to end it. */
  subscribe(send: (message: ReplicaMessage) => void): () => void;
  /** By the netmaster that has the host's watch. */
  ask(host: string, question: LiveQuestion, seconds: number): Promise<LiveAnswer | 'away' | 'silent'>;
  /** Of all other netmasters that answer. */
  reports(): Promise<KeptReport[]>;
  /** The mirror shows this revision, or the store has none of it. */
  known(revision: number): Promise<void>;
  /** The mirror shows all that was written before at any netmaster; false: the store does not say so in time. */
  fresh(): Promise<boolean>;
  close(): Promise<void>;
}

export interface ReplicasOptions {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly acknowledgements: Acknowledgements;
  readonly roster: Roster;
  readonly log: Logger;
  /** Where other netmasters reach this one; absent: it is the only one. */
  readonly url?: string | undefined;
  /** What it shows to the others. */
  readonly credentials?: (() => Credentials) | undefined;
}

interface Registered {
  readonly url: string;
}

/** Another netmaster, as long as it is registered. */
interface Other {
  readonly client: Client;
  readonly watched: Set<string>;
  readonly stop: AbortController;
}

export function openReplicas(options: ReplicasOptions): Replicas {
  const { store, mirror, writer, acknowledgements, roster, log, url, credentials } = options;
  const id = randomUUID();
  const others = new Map<string, Other>();
  /** What hosts said here. */
  const applied = new Map<string, number>();
  const heard = new Map<string, Heard>();
  const watches = new Map<string, number>();
  const subscribers = new Set<(message: ReplicaMessage) => void>();
  /** Hosts of which there is news since the last piece. */
  const news = new Set<string>();
  const refused: RefusedHost[] = [];
  let gathering: NodeJS.Timeout | undefined;
  let closed = false;

  const messageOf = (hosts: Iterable<string>): ReplicaMessage => ({
    type: 'hosts',
    store: store.id,
    hosts: [...hosts].map((name) => ({
      name,
      applied: applied.get(name) ?? 0,
      watches: (watches.get(name) ?? 0) > 0,
      ...(heard.has(name) ? { heard: heard.get(name) as Heard } : {}),
    })),
    refused: refused.splice(0),
  });

  function note(host?: string): void {
    if (subscribers.size === 0) return;
    if (host !== undefined) news.add(host);
    gathering ??= setTimeout(() => {
      gathering = undefined;
      const message = messageOf(news);
      news.clear();
      for (const send of subscribers) send(message);
    }, GATHER);
  }

  function take(other: Other, message: ReplicaMessage): void {
    if (message.type !== 'hosts' || message.store !== store.id) return;
    for (const { name, applied, watches, heard } of message.hosts) {
      if (watches) other.watched.add(name);
      else other.watched.delete(name);
      if (applied > 0) acknowledgements.applied(name, applied);
      if (heard !== undefined) roster.heard(name, heard);
    }
    for (const refused of message.refused ?? []) roster.refused(refused);
  }

  async function listen(other: Other, name: string): Promise<void> {
    let complained = false;
    while (!other.stop.signal.aborted) {
      try {
        for await (const message of other.client.lines('replicaHosts', {}, other.stop.signal)) {
          complained = false;
          take(other, message);
        }
      } catch (error) {
        if (!complained) log.warn({ err: error }, `netmaster ${name} says nothing of its hosts; trying on`);
        complained = true;
      }
      other.watched.clear();
      if (!other.stop.signal.aborted) await new Promise((done) => setTimeout(done, RETRY));
    }
  }

  function meet(): void {
    for (const [key, { object }] of mirror.entries<Registered>('replica')) {
      if (url === undefined || closed || key === id || others.has(key)) continue;
      const other: Other = {
        client: connect({
          urls: [object.url],
          timeoutMs: ASKING,
          ...(credentials && { credentials }),
        }),
        watched: new Set(),
        stop: new AbortController(),
      };
      others.set(key, other);
      log.info(`netmaster ${object.url} is there`);
      void listen(other, object.url);
    }
    for (const [key, other] of others) {
      if (!closed && mirror.stored('replica', key) !== undefined) continue;
      others.delete(key);
      other.stop.abort();
      other.client.close();
    }
  }

  let lease: string | undefined;
  async function register(url: string): Promise<void> {
    if (lease !== undefined && (await store.renew(lease)) && mirror.stored('replica', id) !== undefined)
      return;
    const granted = await store.grant(TTL);
    lease = granted;
    await writer.write(() => ({
      checks: [],
      writes: [{ key: storeKey('replica', id), value: { url } satisfies Registered, lease: granted }],
      answer: undefined,
    }));
  }
  const beats =
    url === undefined
      ? undefined
      : inTurn(() => register(url), {
          every: BEAT,
          failed: (error) => log.warn({ err: error }, 'not registered among the netmasters; trying on'),
        });
  const unsubscribe = mirror.onReplicas(meet);
  beats?.ask();
  meet();

  const within = <T>(answer: Promise<T>, otherwise: T): Promise<T> => {
    const { promise, resolve } = Promise.withResolvers<T>();
    const timer = setTimeout(resolve, PATIENCE, otherwise);
    answer.then(resolve, () => resolve(otherwise)).finally(() => clearTimeout(timer));
    return promise;
  };

  return {
    applied(host, revision) {
      applied.set(host, Math.max(applied.get(host) ?? 0, revision));
      note(host);
    },
    heard(host, said) {
      heard.set(host, said);
      note(host);
    },
    refused(said) {
      if (subscribers.size === 0) return;
      refused.push(said);
      note();
    },
    attached(host) {
      watches.set(host, (watches.get(host) ?? 0) + 1);
      note(host);
      return () => {
        watches.set(host, (watches.get(host) ?? 1) - 1);
        note(host);
      };
    },
    subscribe(send) {
      send(messageOf(new Set([...applied.keys(), ...watches.keys(), ...heard.keys()])));
      subscribers.add(send);
      return () => subscribers.delete(send);
    },
    async ask(host, question, seconds) {
      for (const { client, watched } of others.values()) {
        if (!watched.has(host)) continue;
        const { answer } = (await client.call('replicaAsk', {}, { host, question, seconds })).body;
        if (answer !== 'away') return answer;
      }
      return 'away';
    },
    async reports() {
      const asked = [...others.values()].map(({ client }) =>
        within(
          client.call('replicaReports').then(({ body }) => body as KeptReport[]),
          [],
        ),
      );
      return (await Promise.all(asked)).flat();
    },
    async known(revision) {
      if (url !== undefined) await within(mirror.seen(revision), undefined);
    },
    async fresh() {
      if (url === undefined) return true;
      const seen = store.list(storeKey('none', '')).then(async ({ revision }) => {
        await mirror.seen(revision);
        return true;
      });
      return within(seen, false);
    },
    async close() {
      closed = true;
      clearTimeout(gathering);
      unsubscribe();
      meet();
      await beats?.close();
      if (lease !== undefined) await store.revoke(lease).catch(() => {}); // it ends by itself
    },
  };
}
