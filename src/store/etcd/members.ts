/**
 * The members of an etcd cluster: a call goes to the one that answered last, and to the next where that does not answer. Each call has
 * a deadline, as a member that is stopped keeps its connections; a member without a leader says so (`hasleader`).
 */
import fs from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import * as grpc from '@grpc/grpc-js';
import { UnwritableError } from '../store.ts';
import { type CallName, METHODS, type Request, type Response } from './protocol.ts';

/** Milliseconds: for one answer; for all members together; between two rounds of them. An election takes some seconds. */
const DEADLINE = 4000;
const LIMIT = 20_000;
const PAUSE = 100;
/**
 * Of a connection on which somebody waits, in milliseconds. More often than every 5 s etcd takes for abuse and closes the connection
 * (its --grpc-keepalive-min-time).
 */
const KEEPALIVE = 5500;
const KEEPALIVE_TIMEOUT = 2000;

export interface EtcdOptions {
  /** `host:port`. */
  readonly endpoints: readonly string[];
  /** Of this cluster among those that use the same etcd: its keys begin with it. */
  readonly name?: string;
  /** Files in PEM. With `ca`, `cert` or `key` the connection is TLS. */
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  readonly user?: string;
  readonly passwordFile?: string;
}

/** A member did not answer: it is not known whether it did what it was asked. */
export class LostError extends Error {}

export interface Call<Q, A> {
  write(request: Q): void;
  /** Ends with the call, also where that fails. */
  [Symbol.asyncIterator](): AsyncIterator<A>;
  cancel(): void;
}

export interface Members {
  /** Throws a LostError where the member that was asked did not answer; the next call goes to another. */
  once<C extends CallName>(name: C, request: Request<C>): Promise<Response<C>>;
  /** What may be asked again: until a member answers. Throws an UnwritableError where none does. */
  call<C extends CallName>(name: C, request: Request<C>): Promise<Response<C>>;
  /** A stream in both directions, with one member; `failed` says that it is no good. */
  stream<C extends CallName>(name: C): Promise<{ call: Call<Request<C>, Response<C>>; failed(): void }>;
  /** For calls that failed after a call was lost: whether to go on. */
  deadline(): () => Promise<boolean>;
  close(): void;
}

const { status } = grpc;
/** The member's fault, or that of the way to it: another may do better. */
const AWAY = new Set<number>([
  status.UNAVAILABLE,
  status.DEADLINE_EXCEEDED,
  status.CANCELLED,
  status.INTERNAL,
]);
export const codeOf = (error: unknown): number | undefined => (error as Partial<grpc.ServiceError>).code;
const textOf = (error: unknown): string =>
  (error as Partial<grpc.ServiceError>).details || (error as Error).message;

export function openMembers(options: EtcdOptions): Members {
  const { endpoints, ca, cert, key, user, passwordFile } = options;
  const read = (file: string | undefined): Buffer | null =>
    file === undefined ? null : fs.readFileSync(file);
  const isTls = [ca, cert, key].some((file) => file !== undefined);
  const credentials = isTls
    ? grpc.credentials.createSsl(read(ca), read(key), read(cert))
    : grpc.credentials.createInsecure();
  const password = read(passwordFile)?.toString('utf8').trimEnd() ?? '';
  const clients = endpoints.map(
    (endpoint) =>
      new grpc.Client(endpoint, credentials, {
        'grpc.keepalive_time_ms': KEEPALIVE,
        'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT,
        'grpc.max_receive_message_length': -1,
        'grpc.max_send_message_length': -1,
        'grpc.initial_reconnect_backoff_ms': 200,
        'grpc.max_reconnect_backoff_ms': 2000,
        'grpc.enable_retries': 0,
        'grpc.enable_http_proxy': 0,
        // Each has a connection of its own: clients of one address would share one, also that of a cluster before.
        'grpc.use_local_subchannel_pool': 1,
      }),
  );
  let current = 0;
  /** Of the user, as long as etcd takes it. */
  let token: string | undefined;

  const moveFrom = (index: number): void => {
    if (current === index) current = (current + 1) % clients.length;
  };

  function metadata(): grpc.Metadata {
    const metadata = new grpc.Metadata();
    metadata.set('hasleader', 'true');
    if (token !== undefined) metadata.set('token', token);
    return metadata;
  }

  function ask<C extends CallName>(index: number, name: C, request: Request<C>): Promise<Response<C>> {
    const { path, serialize, deserialize } = METHODS[name];
    return new Promise((done, fail) => {
      const call = (clients[index] as grpc.Client).makeUnaryRequest(
        path,
        serialize,
        deserialize,
        request,
        metadata(),
        (error, answer) => {
          clearTimeout(timer);
          if (error === null) done(answer as Response<C>);
          else fail(error);
        },
      );
      // Not gRPC's own deadline, which goes by the time of day.
      const timer = setTimeout(() => call.cancel(), DEADLINE);
    });
  }

  async function signIn(index: number): Promise<void> {
    if (user === undefined || token !== undefined) return;
    ({ token } = await ask(index, 'authenticate', { name: user, password }));
  }

  async function once<C extends CallName>(name: C, request: Request<C>): Promise<Response<C>> {
    const index = current;
    for (let i = 0; ; i++)
      try {
        await signIn(index);
        return await ask(index, name, request);
      } catch (error) {
        const code = codeOf(error);
        // A token ends after a while, and with its member.
        if (code === status.UNAUTHENTICATED && user !== undefined && i === 0) {
          token = undefined;
          continue;
        }
        if (code === undefined || !AWAY.has(code)) throw error;
        moveFrom(index);
        throw new LostError(`${endpoints[index]}: ${textOf(error)}`, { cause: error });
      }
  }

  function deadline(): () => Promise<boolean> {
    const until = performance.now() + LIMIT;
    let asked = 0;
    return async () => {
      if (performance.now() > until) return false;
      if (++asked % clients.length === 0) await sleep(PAUSE);
      return true;
    };
  }

  return {
    once,
    deadline,
    async call(name, request) {
      for (const goOn = deadline(); ; )
        try {
          return await once(name, request);
        } catch (error) {
          if (!(error instanceof LostError) || (await goOn())) {
            if (error instanceof LostError) continue;
            throw error;
          }
          throw new UnwritableError(`no member of etcd answers, the last asked was ${error.message}`, {
            cause: error,
          });
        }
    },
    async stream<C extends CallName>(name: C) {
      const index = current;
      const { path, serialize, deserialize } = METHODS[name];
      try {
        await signIn(index);
      } catch (error) {
        moveFrom(index);
        throw error;
      }
      const call = (clients[index] as grpc.Client).makeBidiStreamRequest(
        path,
        serialize,
        deserialize,
        metadata(),
      );
      call.on('error', () => {}); // the iterator throws it
      return {
        call: call as Call<Request<C>, Response<C>>,
        failed() {
          token = undefined;
          moveFrom(index);
        },
      };
    },
    close() {
      for (const client of clients) client.close();
    },
  };
}

/** What etcd refused, for people. */
export function refused(error: unknown): Error {
  if (codeOf(error) === status.RESOURCE_EXHAUSTED || codeOf(error) === status.PERMISSION_DENIED)
    return new UnwritableError(`the store cannot be written: etcd says ${textOf(error)}`, { cause: error });
  return codeOf(error) === undefined
    ? (error as Error)
    : new Error(`etcd says ${textOf(error)}`, { cause: error });
}
export const { NOT_FOUND, OUT_OF_RANGE } = status;
