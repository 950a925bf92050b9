/**
 * The data plane as the rest of the agent sees it.
 *
 *   HostState --> applier.ts --> linux/ --> kernel
 *
 * A pass does not wait for anything but the kernel, and nothing else of the agent runs meanwhile: some milliseconds, and most of
 * a second where a host with 10,000 endpoints and rules meets an empty kernel. What cannot wait for it, names, is a process
 * of its own (nameservers/).
 */
import { type Spent, startClock } from '../clock.ts';
import type { HostState } from '../state.ts';
import { admitForwarding } from './admit.ts';
import { type Gateway, openApplier } from './applier.ts';
import type { SecretOf } from './encryption.ts';
import {
  HOST,
  type JudgedPacket,
  type KernelDecision,
  type Observation,
  type Question,
} from './observe/observe.ts';
import type { DroppedWay } from './observe/probe.ts';
import type { ApplyReport } from './outcome.ts';

export { refuseWhileUsed, removeFromHost } from './remove.ts';
export type { ApplyReport, DroppedWay, Gateway, JudgedPacket, KernelDecision, Observation, Question };
export { HOST };

/** With what it took. */
export interface TimedReport extends ApplyReport, Spent {}

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
  /** Looks for other firewalls in the way; undefined: nothing has changed since it was looked, or there is no exit here. */
  probe(): Promise<readonly DroppedWay[] | undefined>;
  /** What policy did since the last call, of each router that has rule sets; what was dropped beside, of each that did and of the host. */
  observe(): Promise<readonly Observation[]>;
  /**
   * What the kernel's sets say to the first packet of a connection on one side, and which of its chains are not as they
   * were set up. undefined: there is no such router.
   */
  lookUp(
    namespace: string,
    question: Question,
  ): Promise<(KernelDecision & { readonly changed: readonly string[] }) | undefined>;
  /** Routers of the fabric's own that are gateways here, each with where it answers. */
  gateways(): Promise<readonly Gateway[]>;
  /** Whether established connections take the fast path in all routers; undefined: there is no router. */
  fastPath(): boolean | undefined;
  /** Public keys by which other hosts may send here now: WireGuard's devices have them and listen. */
  encrypting(): readonly string[];
  /** What an endpoint's container lacks of what it was given, in words, as the kernel has it now. */
  missing(endpoint: string): Promise<readonly string[]>;
  /** Leaves the kernel as it is: running containers keep their traffic. */
  close(): Promise<void>;
}

/** In this process's network namespace, which is the host's. `secretOf`: private keys by their public ones. */
export function startDataplane(secretOf?: SecretOf): Dataplane {
  const applier = openApplier(secretOf);
  let closed = false;
  return {
    async apply(state, { verify = false } = {}) {
      if (closed) throw new Error('the data plane has ended');
      const clock = startClock();
      const report = applier.apply(state, { verify });
      return { ...report, ...clock() };
    },
    admit: admitForwarding,
    probe: async () => applier.probe(),
    observe: async () => applier.observe(),
    lookUp: async (namespace, question) => applier.lookUp(namespace, question),
    gateways: async () => applier.gateways(),
    fastPath: () => applier.fastPath(),
    encrypting: () => applier.encrypting(),
    missing: async (endpoint) => applier.missing(endpoint),
    async close() {
      closed = true;
      applier.close();
    },
  };
}
