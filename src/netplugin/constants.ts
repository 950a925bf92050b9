/** Addresses, names and limits that the host's parts must agree on. */

/** The nameserver's address in every router and, by a connected route, in every container. */
export const NAMESERVER = '169.254.53.53';
/** The same for IPv6; also the next hop of containers whose network has no IPv6 gateway. On every port. */
export const NAMESERVER6 = 'fd6f:6e74:6976:53::53';
/**
 * Ports of the nameserver, IPv4's, for what containers ask Docker's resolver (dataplane/rules/stub.ts): from 127.0.0.1, as a socket does
 * that is bound to nothing, from an address that the socket is bound to, and from another loopback address.
 */
export const STUB_PORTS = { loopback: 5311, bound: 5312, kept: 5313 } as const;
/** Docker's embedded resolver in every container. */
export const DOCKER_RESOLVER = '127.0.0.11';
/** At that address the nameserver's own port in a container of IPv6 alone (dataplane/rules/stub.ts). */
export const RESOLVER_PORT = 5311;
/**
 * How our devices' names begin, by what they are: in a router the end of a container's veth and the VXLAN devices; the
 * container's end until it is in its container; on the host the end of a router's exit; what queues what a port sends; and a
 * VLAN's device in its router with the end of it that the host has.
 */
export const DEVICE_PREFIXES = {
  port: 'ct',
  tunnel: 'vx',
  peer: 'cc',
  exit: 'cx',
  queue: 'ib',
  vlan: 'vl',
  wire: 'cv',
} as const;
/** In a router the device on the hosts' link, by which networks of encapsulation direct go. */
export const DIRECT_DEVICE = 'direct';
/** The router's end of its exit. */
export const UPLINK_DEVICE = 'uplink';
export const VXLAN_PORT = 4789;
/**
 * WireGuard's devices on the host and their ports of UDP, by place: of two epochs of keys that follow each other one has the first place and one the
 * second (compile/encryption.ts), on all hosts alike. No ports that the kernel gives to who asks for none (ip_local_port_range).
 */
export const WIREGUARD = [
  { device: 'contiv-wg0', port: 14789 },
  { device: 'contiv-wg1', port: 14790 },
] as const;
/** How a refusal to a runtime begins that is none for good: netmaster was away, or could not write. */
export const GAVE_UP = 'gave up waiting';
/** The same, within the refusal of what Docker repeats without its contents to an agent that has just started. */
export const REPEATED = 'since netplugin was restarted meanwhile';
/** Label of the container of a task of Docker's Swarm. */
export const TASK_LABEL = 'com.docker.swarm.task.id';
/** Answered to a Docker that wants a gateway of a network without one; never configured anywhere. */
export const DUMMY_GATEWAY = '169.254.53.1';
export const DUMMY_GATEWAY6 = 'fe80::1';
/** Default range of the transit pairs: shared address space (RFC 6598), away from Docker's pools. */
export const TRANSIT = '100.127.0.0/16';
export const TRANSIT6 = 'fd6f:6e74:6976::/64';
/** Name of the nftables table in every router and in the host's namespace. */
export const NFT_TABLE = 'contiv';
/**
 * Milliseconds for which what a runtime is about to make, a container's namespace or the end of its veth there, is looked for at short intervals, as
 * nobody tells when it is there. What comes later is seen by the next look at a long one.
 */
export const ARRIVAL = 10_000;
/** Who stands for somebody outside in packets of our own (dataplane/observe/probe.ts): nobody has it, none leaves a host (RFC 7600, RFC 6666). */
export const SOMEBODY = '192.0.0.8';
export const SOMEBODY6 = '100::8';
/** By which a frame of our own is told from those of tunnels, that come from other ports: the last tag, and port discard. */
export const PROBE_TAG = 0xffffff;
export const PROBE_PORT = 9;
/** NFLOG group of packets that were denied, and of those that a rule allows and logs, in every router: the number is the router's own, as each namespace has its groups. */
export const DENIED_LOG = 4789;
/** Protocol number of the kernel routes that are to be announced: of no daemon in rt_protos, so that ours learns these and no others. */
export const ANNOUNCED_PROTOCOL = 200;
/** Realm (ip-route(8)) of IPv4 routes that were learned from the fabric: by it rules know that it answers our own addresses. 179 is BGP's port. */
export const FABRIC_REALM = 179;
