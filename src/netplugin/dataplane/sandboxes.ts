/**
 * Containers' own namespaces. Two things are seen to in each:
 *
 *   names        where the runtime has its containers ask Docker's resolver (127.0.0.11), that is led to the router's nameserver, or to
 *                where that listens in the container, by a table of nftables in the namespace. Where the runtime has made the namespace before it starts the first process, as
 *                Docker does, the table is there before that process asks for its first name
 *   its own end  of the veth has what it was given (inside.ts)
 */
import { hasDevice } from '../../linux/libc.ts';
import { NETLINK_NETFILTER, type Netlink, openNetlink } from '../../linux/netlink.ts';
import { inNamespace, namespaceId } from '../../linux/netns.ts';
import { type Nft, openNft } from '../../linux/nftables.ts';
import { deleteTables, listChains, readGeneration } from '../../linux/nftset.ts';
import type { Link } from '../../linux/route.ts';
import { startClock } from '../clock.ts';
import { ARRIVAL } from '../constants.ts';
import type { Port } from '../state.ts';
import { establishInside, type Found } from './inside.ts';
import { combine, failureOf, type Outcome } from './outcome.ts';
import { sameParts } from './parts.ts';
import { stubTable, tablesOfDockerNat } from './rules/stub.ts';
import { establishTable, type KnownTable, openTable } from './tables.ts';

/**
 * How much there is to look at in a container is up to the container, which may have any number of addresses, routes and rules. So that
 * it cannot keep the agent busy, one that took long to look at is left alone for so many times as long. Its rules are looked at when
 * they have changed: what then takes fewer milliseconds than BRIEF is what it takes with few of them.
 */
const SHARE = 100;
const BRIEF = 100;

/**
 * Milliseconds after which the kernel has destroyed what somebody, we or Docker, deleted. Until then it has who closes a socket of nf_tables
 * wait for that (nf_tables_api.c, nft_rcv_nl_event), some ten milliseconds for each container, in which the agent could do nothing else.
 */
const DESTROYED = 1000;

export interface Sandboxes {
  /**
   * Fine for a container that ends meanwhile, and complete whatever fails: what a container's namespace refuses is up to the
   * container, which may not keep the host from acknowledging. `link`: the router's end of its veth; none where it is not there.
   */
  establish(port: Port, link: Link | undefined, verify: boolean): Outcome;
  /** Before these are established: what is known of the others is forgotten, so that a container's names go by none that it has no more. */
  retain(ports: readonly Port[]): void;
  /** Ends of containers are about to arrive there. */
  readonly awaited: boolean;
}

/** A namespace whose names lead to us, and the ports that it was seen to for: one a network. */
interface Led {
  readonly id: number;
  /** Our table; absent: none yet. */
  readonly table?: KnownTable | undefined;
  readonly ports: ReadonlySet<Port>;
}

/** Of an endpoint: what was found of it in its container, or since when that is looked for. */
interface Arrival {
  readonly found?: Found;
  /** For ARRIVAL from then on passes come one after the other (`awaited`). */
  readonly since: number;
  /** When it is looked at again, at the earliest. */
  readonly next: number;
}

/**
 * In the container's namespace; answers how many tables that took. `changed`: somebody was at the rules meanwhile, so that what was
 * found to be Docker's alone may not be so any more: nothing is removed, and the next verification looks again.
 */
export function removeDockerNat(nft: Nft, netlink: Netlink): number | 'changed' {
  const generation = readGeneration(netlink);
  const tables = tablesOfDockerNat(nft, listChains(netlink));
  if (tables.length === 0) return 0;
  return deleteTables(netlink, tables, generation) ? tables.length : 'changed';
}

export function openSandboxes(): Sandboxes {
  const led = new Map<string, Led>();
  const arrivals = new Map<string, Arrival>();
  /** Until when containers are left alone, by performance.now(). */
  const rests = new WeakMap<Port, number>();

  /**
   * In the container's namespace. What others have done to our rules is for verification: Docker is at it with its own while a
   * container starts, and looks for its end come one after the other.
   */
  function leadNames(
    known: KnownTable | undefined,
    ports: readonly Port[],
    verify: boolean,
  ): { readonly leading?: KnownTable | undefined; readonly outcome: Outcome } {
    if (ports.length === 0) return { leading: known, outcome: {} };
    const table = stubTable(ports);
    const established = known?.established;
    const same =
      established?.table.body === table.body &&
      sameParts([...established.table.parts.keys()], [...table.parts.keys()]);
    if (same && !verify) return { leading: known, outcome: {} };
    const netlink = openNetlink(NETLINK_NETFILTER);
    let nft: Nft | undefined;
    try {
      if (same && established.generation === readGeneration(netlink)) return { leading: known, outcome: {} };
      nft = openNft();
      const open = { ...(known ?? openTable(nft, netlink)), nft, netlink };
      const { writes = 0 } = establishTable(open, table, verify);
      const removed = removeDockerNat(nft, netlink);
      const generation = removed === 'changed' ? 0 : readGeneration(netlink);
      const { elements, made, established: now } = open;
      return {
        leading: { elements, made, established: now && { ...now, generation } },
        outcome: { writes: writes + (removed === 'changed' ? 0 : removed) },
      };
    } finally {
      if (nft === undefined) netlink.close();
      else
        setTimeout(() => {
          nft?.close();
          netlink.close();
        }, DESTROYED);
    }
  }

  function look(port: Port, link: Link | undefined, fresh: boolean): Outcome {
    if (link === undefined) return {};
    const known = arrivals.get(port.endpoint);
    const began = performance.now();
    if (!fresh && known?.found !== undefined && began < known.next) return {};
    const { found, outcome } = establishInside(port, link, known?.found, fresh || known?.found === undefined);
    const now = performance.now();
    const next = now + SHARE * (now - began);
    arrivals.set(port.endpoint, { since: known?.since ?? now, next, ...(found && { found }) });
    return outcome;
  }

  const isAwaited = ({ found, since }: Arrival): boolean =>
    found === undefined && performance.now() - since < ARRIVAL;

  return {
    establish(port, link, verify) {
      const { sandbox } = port;
      if (sandbox === undefined) return {};
      const known = led.get(sandbox);
      const arrival = arrivals.get(port.endpoint);
      const settled = arrival !== undefined && !isAwaited(arrival);
      const isLed = known?.ports.has(port) && !verify;
      if (settled && (isLed || performance.now() < (rests.get(port) ?? 0))) return {};
      // While the host has the container's end still, there is none to look at in the container; of a hundred that start at once most wait so.
      if (isLed && arrival?.found === undefined && port.end === undefined && hasDevice(port.peer)) return {};
      const id = namespaceId(sandbox);
      if (id === undefined) return {};
      const clock = startClock();
      try {
        const before = known?.id === id ? known : undefined;
        const ports = new Set([...(before?.ports ?? []), port]);
        const [looked, { leading, outcome }] = inNamespace(
          sandbox,
          (): [Outcome, ReturnType<typeof leadNames>] => [
            look(port, link, before?.ports.has(port) !== true),
            leadNames(
              before?.table,
              [...ports].filter((p) => p.stub ?? p.resolver),
              verify,
            ),
          ],
        );
        led.set(sandbox, { table: leading, id, ports });
        return { ...combine([looked, outcome]), complete: true };
      } catch (error) {
        // The container may end at any moment; a lasting fault shows on the next pass too.
        if (namespaceId(sandbox) !== id) return {};
        const failure = failureOf(error, port.endpoint);
        return { failed: [{ ...failure, message: `in the container: ${failure.message}` }], complete: true };
      } finally {
        const spent = clock().cpuSeconds * 1000;
        if (spent > BRIEF) rests.set(port, performance.now() + SHARE * spent);
      }
    },
    retain(ports) {
      const kept = new Set(ports);
      const sandboxes = new Set(ports.map((port) => port.sandbox));
      for (const [sandbox, known] of led)
        if (!sandboxes.has(sandbox)) led.delete(sandbox);
        else if (![...known.ports].every((port) => kept.has(port)))
          led.set(sandbox, { ...known, ports: new Set([...known.ports].filter((port) => kept.has(port))) });
      const endpoints = new Set(ports.map((port) => port.endpoint));
      for (const endpoint of arrivals.keys()) if (!endpoints.has(endpoint)) arrivals.delete(endpoint);
    },
    get awaited() {
      return [...arrivals.values()].some(isAwaited);
    },
  };
}
