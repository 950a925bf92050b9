/**
 * The data plane as the rest of the agent sees it: one worker thread that owns the kernel.
 *
 *   main thread --HostState, packed (parcel.ts)--> worker.ts --> apply.ts --> linux/ --> kernel
 */
import { Worker } from 'node:worker_threads';
import type { Spent } from '../clock.ts';
import type { HostState } from '../state.ts';
import { admitForwarding } from './admit.ts';
import { closeLeftovers } from './leftovers.ts';
import type { KernelDecision, Observation, Question } from './observe.ts';
import { openPacker } from './parcel.ts';
import type { AnswerMessage, CallMessage } from './worker.ts';

export { removeGuard } from './remove.ts';
export type { KernelDecision, Observation, Question };

export interface ApplyReport {
  /** Kernel objects written (links, addresses, routes, neighbours, fdb entries, nft elements and tables, the fast path's entries and filters). */
  readonly writes: number;
  /** Routers of which every address, route, neighbour and forwarding entry was read. */
  readonly reads: number;
  /** Only with `verify`: differences from the kernel that were none of our doing and were put right, one line each. */
  readonly repaired: readonly string[];
  /** Endpoints with phase joined whose veth is gone: their containers are. */
  readonly lost: readonly string[];
  /** Router namespaces that were made in this pass: sockets opened in an earlier one of the name are of no use. */
  readonly created: readonly string[];
  /** False where a router's part, or the host's, stopped in the middle: what is new in it may not hold. */
  readonly complete: boolean;
  /** What could not be established, one plain line each; the rest was. */
  readonly failed: readonly { readonly endpoint?: string; readonly message: string }[];
}

/** With what it took the thread that owns the kernel. */
export interface TimedReport extends ApplyReport, Spent {}

/** What another firewall of the host drops of what is ours, and where. */
export interface DroppedWay {
  /** What containers send out; what comes in to their published ports; what other hosts send to the tunnels. */
  readonly way: 'out' | 'in' | 'tunnel';
  readonly family: 'IPv4' | 'IPv6';
  /** `ip filter`. */
  readonly table: string;
  readonly chain: string;
  /** The chain's policy, or one of its rules. */
  readonly by: 'policy' | 'rule';
}

/** Listening sockets in a router's namespace, as file descriptors of this process. */
export interface NameserverSockets {
  readonly udp4: number;
  readonly udp6: number;
  /** Bound, not yet listening. */
  readonly tcp4: number;
  readonly tcp6: number;
}

/** Where a query that the router led to our nameserver was going. */
export interface OriginalDestination {
  readonly address: string;
  readonly port: number;
}

export interface Dataplane {
  /**
   * Makes the kernel equal to the state. Calls run one after the other. Without `verify` it trusts what it
   * established before and writes the difference; with it, it reads the kernel and puts drift right.
   */
  apply(state: HostState, options?: { verify?: boolean }): Promise<TimedReport>;
  /**
   * Has the exits let through by Docker's firewall, which may have come or have been made anew, or not `wanted` any more.
   * Answers what somebody had taken out of it, one line each. Runs several programs: no apply waits for it.
   */
  admit(wanted: boolean): Promise<readonly string[]>;
  /** Looks for other firewalls in the way; undefined: nothing has changed since it was looked, or there is no way out here. */
  probe(): Promise<readonly DroppedWay[] | undefined>;
  /** Sockets on port 53 of the nameserver's addresses in a router that is established. */
  openNameserver(namespace: string): Promise<NameserverSockets>;
  /** Asks conntrack where a UDP or TCP query from `client` was sent before it was redirected; undefined: unknown. */
  originalDestination(
    namespace: string,
    protocol: 'tcp' | 'udp',
    client: { address: string; port: number },
  ): Promise<OriginalDestination | undefined>;
  /** What policy did since the last call, of each router that has rule sets. */
  observe(): Promise<readonly Observation[]>;
  /**
   * What the kernel's sets say to the first packet of a connection on one side, and which of its chains are not as they
   * were set up. undefined: there is no such router.
   */
  lookUp(
    namespace: string,
    question: Question,
  ): Promise<(KernelDecision & { readonly changed: readonly string[] }) | undefined>;
  /** Leaves the kernel as it is: running containers keep their traffic. */
  close(): Promise<void>;
}

/** The worker thread has ended: what it was asked for may have happened in part. */
class EndedError extends Error {}

/**
 * Starts the worker thread in this process's network namespace, which is the host's. Where it ends by itself, `ended` is
 * told why, and the next apply starts another, which reads the kernel as at the agent's start; until then the other calls
 * are refused. What others have open, such as nameservers' sockets, goes on.
 */
export async function startDataplane(ended: (cause: Error) => void = () => {}): Promise<Dataplane> {
  let lives = 0;
  let closed = false;
  let running: Thread | undefined;

  function start(): Thread {
    lives++;
    running = startThread((cause) => {
      running = undefined;
      if (!closed) ended(cause);
    });
    return running;
  }
  /** One that has to be there already: a new one knows no router. */
  async function ask<T>(name: CallMessage['call'], ...args: unknown[]): Promise<T> {
    if (running === undefined) throw new EndedError('the data plane has ended');
    return running.call<T>(name, ...args);
  }
  start();
  return {
    async apply(state, { verify = false } = {}) {
      if (closed) throw new EndedError('the data plane has ended');
      try {
        return await (running ?? start()).apply(state, verify);
      } catch (error) {
        if (!(error instanceof EndedError) || closed) throw error;
        // Once more only: it may be this state that ends it.
        return (running ?? start()).apply(state, verify);
      }
    },
    admit: admitForwarding,
    probe: () => ask('probe'),
    openNameserver: (namespace) => ask('openNameserver', namespace),
    originalDestination: (namespace, protocol, client) =>
      ask('originalDestination', namespace, protocol, client),
    async observe() {
      const life = lives;
      const observed = await ask<Observation[]>('observe');
      // A new thread makes the tables anew, and counts from 1 how often it did.
      return observed.map((o) => ({ ...o, table: `${life}.${o.table}` }));
    },
    lookUp: (namespace, question) => ask('lookUp', namespace, question),
    async close() {
      closed = true;
      await running?.terminate();
    },
  };
}

/** One life of the worker thread. */
interface Thread {
  call<T>(name: CallMessage['call'], ...args: unknown[]): Promise<T>;
  apply(state: HostState, verify: boolean): Promise<TimedReport>;
  terminate(): Promise<unknown>;
}

/** `gone` is called when nothing of it is left, just before what still waits for it is refused. */
function startThread(gone: (cause: Error) => void): Thread {
  const worker = new Worker(new URL('./worker.ts', import.meta.url));
  const waiting = new Map<number, { done(value: never): void; fail(error: Error): void }>();
  const pack = openPacker(); // by what this thread has
  const routers = new Set<string>();
  let last = 0;
  let cause: Error | undefined;

  worker.on('message', (answer: AnswerMessage) => {
    const asked = waiting.get(answer.id);
    waiting.delete(answer.id);
    if ('error' in answer) asked?.fail(new Error(answer.error));
    else asked?.done(answer.value as never);
  });
  worker.on('error', (error) => {
    cause = error as Error; // the exit follows
  });
  worker.on('exit', (status) => {
    cause ??= new Error(`its thread ended with status ${status}`);
    closeLeftovers(routers);
    gone(cause);
    const error = new EndedError(`the data plane has ended: ${cause.message}`, { cause });
    for (const { fail } of waiting.values()) fail(error);
  });
  function call<T>(name: CallMessage['call'], ...args: unknown[]): Promise<T> {
    const id = ++last;
    return new Promise<T>((done, fail) => {
      waiting.set(id, { done, fail });
      worker.postMessage({ id, call: name, args } satisfies CallMessage);
    });
  }
  return {
    call,
    apply(state, verify) {
      for (const { namespace } of state.routers) routers.add(namespace);
      return call('apply', pack(state), { verify });
    },
    terminate: () => worker.terminate(),
  };
}
