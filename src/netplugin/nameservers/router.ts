/** A nameserver's way into its router: sockets there, and the router's connection table. */
import { findByReply } from '../../linux/conntrack.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../linux/netlink.ts';
import {
  bindPort,
  closeSocket,
  inNamespace,
  namespaceId,
  namespacePath,
  setReceiveBuffer,
} from '../../linux/netns.ts';
import { isV6 } from '../../model/address.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';

/** Bytes for queries that wait: what some containers may send at once (dataplane/rules/names.ts), some 768 each as the kernel counts. */
const QUERIES = 16 << 20;

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

export interface RouterAccess {
  /** Of the namespace that these are in: another one may get its name. */
  readonly id: number;
  readonly sockets: NameserverSockets;
  /** Asks conntrack where a UDP or TCP query from `client` was sent before it was redirected; undefined: unknown. */
  originalDestination(
    protocol: 'tcp' | 'udp',
    client: { address: string; port: number },
  ): OriginalDestination | undefined;
  /** The sockets are for who took them. */
  close(): void;
}

/** Throws where there is no such router, or somebody else has the port. */
export function openRouter(namespace: string): RouterAccess {
  const file = namespacePath(namespace);
  const id = namespaceId(file);
  if (id === undefined) throw new Error(`there is no router ${namespace}`);
  return inNamespace(file, () => {
    const sockets = bindNameserver();
    const netfilter = openNetlink(NETLINK_NETFILTER);
    return {
      id,
      sockets,
      originalDestination(protocol, client) {
        const found = findByReply(netfilter, {
          source: isV6(client.address) ? NAMESERVER6 : NAMESERVER,
          destination: client.address,
          protocol: protocol === 'udp' ? 17 : 6,
          sourcePort: 53,
          destinationPort: client.port,
        });
        return found && { address: found.original.destination, port: found.original.destinationPort };
      },
      close: () => netfilter.close(),
    };
  });
}

/**
 * On port 53 of the nameserver's addresses in the thread's current namespace, also where an earlier process has them still: of
 * UDP sockets the one that was bound last gets what comes (net/ipv4/udp.c, udp_lib_get_port), of TCP's either.
 */
function bindNameserver(): NameserverSockets {
  const fds: number[] = [];
  const open = (protocol: 'tcp' | 'udp', address: string): number => {
    const fd = bindPort(protocol, address, 53, { shared: true, nonblocking: true });
    fds.push(fd);
    if (protocol === 'udp') setReceiveBuffer(fd, QUERIES);
    return fd;
  };
  try {
    return {
      udp4: open('udp', NAMESERVER),
      udp6: open('udp', NAMESERVER6),
      tcp4: open('tcp', NAMESERVER),
      tcp6: open('tcp', NAMESERVER6),
    };
  } catch (error) {
    for (const fd of fds) closeSocket(fd); // it is tried again
    throw error;
  }
}
