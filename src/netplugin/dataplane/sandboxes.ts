/**
 * Containers' own namespaces: their names lead to us, before their first process runs where the namespace is there by then, and
 * their ends of the veths have what they were given (inside.ts).
 */
import { NETLINK_NETFILTER, openNetlink } from '../../linux/netlink.ts';
import { inNamespace, namespaceId, setSysctl } from '../../linux/netns.ts';
import { openNft } from '../../linux/nftables.ts';
import { readGeneration } from '../../linux/nftset.ts';
import type { Link } from '../../linux/route.ts';
import type { Port } from '../state.ts';
import { establishInside, type Found } from './inside.ts';
import { message, type Pass } from './pass.ts';
import { createCommands } from './ruleset.ts';
import { stubTable, withoutDockerNat } from './stub.ts';
import { readTable } from './tables.ts';

/** Milliseconds that a container's end is looked for often after its router has it. */
const ARRIVAL = 10_000;

/** A container decides itself how much there is to look at: looking takes one part in so many of the time at most. */
const SHARE = 100;

export interface Sandboxes {
  /** Fine for a container that ends meanwhile. `link`: the router's end of its veth; none where it is not there. */
  establish(port: Port, link: Link | undefined, pass: Pass): void;
  /** What is known of the others is forgotten. Answers whether ends of containers are about to arrive there. */
  retain(ports: readonly Port[]): boolean;
}

/** A namespace whose names lead to us, and the ports that it was seen to for: one a network. */
interface Led {
  readonly id: number;
  /** Of its rules, when they were looked at. */
  readonly generation: number;
  /** Our table: as it was written, and its rules as the kernel lists them. */
  readonly body: string;
  readonly rules: string;
  readonly ports: ReadonlySet<Port>;
}

/** Of an endpoint: what was found of it in its container, or since when that is looked for. */
interface Arrival {
  readonly found?: Found;
  readonly since: number;
  /** When it is looked at again, at the earliest. */
  readonly next: number;
}

export function openSandboxes(): Sandboxes {
  const led = new Map<string, Led>();
  const arrivals = new Map<string, Arrival>();

  /** In the container's namespace. */
  function lead(
    before: Led | undefined,
    ports: readonly Port[],
    pass: Pass,
  ): Pick<Led, 'generation' | 'body' | 'rules'> {
    const table = stubTable(ports);
    const netlink = openNetlink(NETLINK_NETFILTER);
    try {
      if (before?.body === table.body && before.generation === readGeneration(netlink)) return before;
      // Else what is sent from a loopback address has no route to elsewhere.
      setSysctl('net/ipv4/conf/all/route_localnet', '1');
      const nft = openNft();
      try {
        const rules = before?.body === table.body ? readTable(nft, table)?.rules : undefined;
        const kept = rules !== undefined && rules === before?.rules;
        const commands = [...(kept ? [] : [createCommands(table)]), ...withoutDockerNat(nft)];
        if (commands.length > 0) nft.run(commands.join('\n'));
        pass.writes += commands.length;
        return {
          generation: readGeneration(netlink),
          body: table.body,
          rules: kept ? rules : (readTable(nft, table)?.rules ?? ''),
        };
      } finally {
        nft.close();
      }
    } finally {
      netlink.close();
    }
  }

  function look(port: Port, link: Link | undefined, fresh: boolean, pass: Pass): void {
    if (link === undefined) return;
    const known = arrivals.get(port.endpoint);
    const began = performance.now();
    if (!fresh && known?.found !== undefined && began < known.next) return;
    const found = establishInside(port, link, known?.found, fresh || known?.found === undefined, pass);
    const now = performance.now();
    const next = now + SHARE * (now - began);
    arrivals.set(port.endpoint, { since: known?.since ?? now, next, ...(found && { found }) });
  }

  const isAwaited = ({ found, since }: Arrival): boolean =>
    found === undefined && performance.now() - since < ARRIVAL;

  return {
    establish(port, link, pass) {
      const { sandbox } = port;
      if (sandbox === undefined) return;
      const known = led.get(sandbox);
      const arrival = arrivals.get(port.endpoint);
      const settled = arrival !== undefined && !isAwaited(arrival);
      if (known?.ports.has(port) && settled && !pass.verify) return;
      const id = namespaceId(sandbox);
      if (id === undefined) return;
      try {
        const before = known?.id === id ? known : undefined;
        const ports = new Set([...(before?.ports ?? []), port]);
        const leading = inNamespace(sandbox, () => {
          look(port, link, before?.ports.has(port) !== true, pass);
          return lead(before, [...ports], pass);
        });
        led.set(sandbox, { ...leading, id, ports });
      } catch (error) {
        // The container may end at any moment; a lasting fault shows on the next pass too.
        if (namespaceId(sandbox) === id)
          pass.failed.push({ endpoint: port.endpoint, message: `in the container: ${message(error)}` });
      }
    },
    retain(ports) {
      const kept = new Set(ports);
      for (const [sandbox, known] of led) {
        const left = [...known.ports].filter((port) => kept.has(port));
        if (left.length === 0) led.delete(sandbox);
        else if (left.length < known.ports.size) led.set(sandbox, { ...known, ports: new Set(left) });
      }
      const endpoints = new Set(ports.map((port) => port.endpoint));
      for (const endpoint of arrivals.keys()) if (!endpoints.has(endpoint)) arrivals.delete(endpoint);
      return [...arrivals.values()].some(isAwaited);
    },
  };
}
