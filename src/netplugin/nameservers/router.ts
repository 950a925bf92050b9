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
import { NAMESERVER, NAMESERVER6, STUB_PORTS } from '../constants.ts';

/**
 * Bytes for queries that wait until the nameserver reads them, some 768 each as the kernel counts: more than half a second of what one container may
 * send (dataplane/rules/dns.ts).
 */
const QUERIES = 16 << 20;

/** A listening socket in a router's namespace, as a file descriptor of this process; of TCP, bound and not yet listening. */
export interface NameserverSocket {
  readonly protocol: 'tcp' | 'udp';
  readonly version: 4 | 6;
  readonly fd: number;
  /** Only what containers ask Docker's resolver comes here, so it was sent to nobody else (dataplane/rules/stub.ts). */
  readonly stub: boolean;
}

/** Where a query that the router led to our nameserver was going. */
export interface OriginalDestination {
  readonly address: string;
  readonly port: number;
}

export interface RouterAccess {
  /** Of the namespace that these are in: another one may get its name. */
  readonly id: number;
  readonly sockets: readonly NameserverSocket[];
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
 * On port 53 of the nameserver's addresses and on the ports of stubs, in the thread's current namespace, also where an earlier process has
 * them still: of UDP sockets the one that was bound last gets what comes (net/ipv4/udp.c, udp_lib_get_port), of TCP's either.
 */
function bindNameserver(): NameserverSocket[] {
  const sockets: NameserverSocket[] = [];
  const open = (protocol: 'tcp' | 'udp', address: string, port: number): void => {
    const fd = bindPort(protocol, address, port, { shared: true, nonblocking: true });
    sockets.push({ protocol, version: isV6(address) ? 6 : 4, fd, stub: port !== 53 });
    if (protocol === 'udp') setReceiveBuffer(fd, QUERIES);
  };
  try {
    for (const protocol of ['udp', 'tcp'] as const) {
      for (const address of [NAMESERVER, NAMESERVER6]) open(protocol, address, 53);
      for (const port of Object.values(STUB_PORTS)) open(protocol, NAMESERVER, port);
    }
    return sockets;
  } catch (error) {
    for (const { fd } of sockets) closeSocket(fd); // it is tried again
    throw error;
  }
}
