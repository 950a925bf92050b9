/**
 * Containers' own namespaces: their names lead to us, before their first process runs where the namespace is there by then,
 * and their devices have the MTU that the underlay leaves them.
 */
import { NETLINK_NETFILTER, openNetlink } from '../../linux/netlink.ts';
import { inNamespace, namespaceId, setSysctl } from '../../linux/netns.ts';
import { openNft } from '../../linux/nftables.ts';
import { readGeneration } from '../../linux/nftset.ts';
import { type Link, listLinks, setLink } from '../../linux/route.ts';
import type { Port } from '../state.ts';
import { message, type Pass } from './pass.ts';
import { containerTable, createCommands } from './ruleset.ts';
import { readTable } from './tables.ts';

export interface Sandboxes {
  /** `end`: the router's end of its veth, where that is there. Fine for a container that ends meanwhile. */
  establish(port: Port, end: Link | undefined, pass: Pass): void;
  /** What is known of the others is forgotten. */
  retain(ports: readonly Port[]): void;
}

/** A namespace whose names lead to us, with the generation of its rules, and the ports that it was seen to for: one a network. */
interface Led {
  readonly id: number;
  readonly generation: number;
  readonly ports: ReadonlySet<Port>;
}

export function openSandboxes(): Sandboxes {
  const led = new Map<string, Led>();

  function lead(sandbox: string, before: Led | undefined, pass: Pass): number {
    return inNamespace(sandbox, () => {
      const netlink = openNetlink(NETLINK_NETFILTER);
      try {
        if (before?.generation === readGeneration(netlink)) return before.generation;
        setSysctl('net/ipv4/conf/all/route_localnet', '1');
        const nft = openNft();
        try {
          const table = containerTable();
          if (before === undefined || readTable(nft, table) === undefined) {
            nft.run(createCommands(table));
            pass.writes++;
          }
        } finally {
          nft.close();
        }
        return readGeneration(netlink);
      } finally {
        netlink.close();
      }
    });
  }

  /** When the port is new or another than before: what a container does with its device later is its own. */
  function size(sandbox: string, { mtu }: Port, end: Link, pass: Pass): void {
    inNamespace(sandbox, () => {
      const netlink = openNetlink();
      try {
        // Each end has the other's number. While it is in the host's namespace still, there is none here that fits.
        const link = listLinks(netlink).find((l) => l.index === end.peer && l.peer === end.index);
        if (link === undefined || link.mtu === mtu) return;
        netlink.request(setLink(link.index, { mtu }));
        pass.writes++;
      } finally {
        netlink.close();
      }
    });
  }

  return {
    establish(port, end, pass) {
      const { sandbox } = port;
      if (sandbox === undefined) return;
      const known = led.get(sandbox);
      if (known?.ports.has(port) && !pass.verify) return;
      const id = namespaceId(sandbox);
      if (id === undefined) return;
      try {
        const before = known?.id === id ? known : undefined;
        if (end !== undefined && before?.ports.has(port) !== true) size(sandbox, port, end, pass);
        const generation = lead(sandbox, before, pass);
        led.set(sandbox, { id, generation, ports: new Set([...(before?.ports ?? []), port]) });
      } catch (error) {
        // The container may end at any moment; a lasting fault shows on the next pass too.
        if (namespaceId(sandbox) === id)
          pass.failed.push({ endpoint: port.endpoint, message: `names in the container: ${message(error)}` });
      }
    },
    retain(ports) {
      const kept = new Set(ports);
      for (const [sandbox, known] of led) {
        const left = [...known.ports].filter((port) => kept.has(port));
        if (left.length === 0) led.delete(sandbox);
        else if (left.length < known.ports.size) led.set(sandbox, { ...known, ports: new Set(left) });
      }
    },
  };
}
