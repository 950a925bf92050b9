/** A nameserver's way into its router: sockets there and in containers, and the router's connection table. */
import { findByReply } from '../../linux/conntrack.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../linux/netlink.ts';
import {
  bindPort,
  bindSocket,
  closeSocket,
  inNamespace,
  letOthersBind,
  namespaceId,
  namespacePath,
  openSocket,
  type SocketOptions,
  setReceiveBuffer,
} from '../../linux/netns.ts';
import { isV6 } from '../../model/address.ts';
import { DOCKER_RESOLVER, NAMESERVER, NAMESERVER6, RESOLVER_PORT, STUB_PORTS } from '../constants.ts';

/**
 * Bytes for queries that wait until the nameserver reads them, some 768 each as the kernel counts: more than half a second of what one container may
 * send (dataplane/rules/dns.ts).
 */
const QUERIES = 16 << 20;

const PROTOCOLS = ['udp', 'tcp'] as const;

/** A listening socket in a router's or a container's namespace, as a file descriptor of this process; of TCP, bound and not yet listening. */
export interface NameserverSocket {
  readonly protocol: 'tcp' | 'udp';
  readonly version: 4 | 6;
  readonly fd: number;
  /** Only what containers ask Docker's resolver comes here, so it was sent to nobody else (dataplane/rules/stub.ts). */
  readonly stub: boolean;
  /** In a container: the address by which it is known, whatever it asks from; absent: the sender's is. */
  readonly of?: string;
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
 * Where a container asks Docker's resolver, in its namespace; `of`: its address. Answers what closes it. Throws where somebody has the port, or
 * no such namespace is.
 *
 * Any program there can bind ports, so what is asked must not go to who has bound last: only root has a part in it, as an earlier process
 * of ours, which answers too until it ends. Node lets others bind the port of each UDP socket that it takes (uv_udp_open sets SO_REUSEADDR), so this
 * one is bound when Node has it: there is no moment for others.
 */
export const openResolver = (sandbox: string, of: string, listen: Listen): (() => Promise<void>) =>
  inNamespace(sandbox, () => {
    const stream = bindAll([{ protocol: 'tcp', address: DOCKER_RESOLVER, port: RESOLVER_PORT, of }], 'user');
    const fd = openSocket('udp', 4, { shared: 'user', nonblocking: true });
    const close = listen([...stream, { protocol: 'udp', version: 4, fd, stub: true, of }]);
    try {
      letOthersBind(fd, false);
      bindSocket(fd, DOCKER_RESOLVER, RESOLVER_PORT);
      return close;
    } catch (error) {
      void close();
      throw error;
    }
  });
type Listen = (sockets: readonly NameserverSocket[]) => () => Promise<void>;

/**
 * On port 53 of the nameserver's addresses and on the ports of stubs, in the thread's current namespace, also where an earlier process has
 * them still: of UDP sockets the one that was bound last gets what comes (net/ipv4/udp.c, udp_lib_get_port), of TCP's either.
 */
function bindNameserver(): NameserverSocket[] {
  const sockets = bindAll(
    PROTOCOLS.flatMap((protocol) => [
      ...[NAMESERVER, NAMESERVER6].map((address) => ({ protocol, address, port: 53 })),
      ...Object.values(STUB_PORTS).map((port) => ({ protocol, address: NAMESERVER, port })),
    ]),
    'latest',
  );
  for (const { protocol, fd } of sockets) if (protocol === 'udp') setReceiveBuffer(fd, QUERIES);
  return sockets;
}

type Bound = Pick<NameserverSocket, 'protocol' | 'of'> & { readonly address: string; readonly port: number };

/** All of them, or none: it is tried again. */
function bindAll(wanted: readonly Bound[], shared: SocketOptions['shared']): NameserverSocket[] {
  const sockets: NameserverSocket[] = [];
  try {
    for (const { address, port, ...of } of wanted) {
      const fd = bindPort(of.protocol, address, port, { shared, nonblocking: true });
      sockets.push({ ...of, version: isV6(address) ? 6 : 4, fd, stub: port !== 53 });
    }
    return sockets;
  } catch (error) {
    for (const { fd } of sockets) closeSocket(fd);
    throw error;
  }
}
