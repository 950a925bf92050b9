/**
 * What is found out about a packet on its way, and where it stands.
 *
 * Packets of one connection may be in the chains on all processors at the same moment: first ones too, as a UDP flow that
 * nobody answers stays new. So what a packet is found out to be stands in what is the packet's own, never in the
 * connection:
 *
 *   meta mark       from anti-spoofing on the number of the sender's network, MARKED and BACK; in `forward` what is looked up, at last
 *                   the rule that decided
 *   meta priority   the drawn slot of a service, the class of a profile; in `forward` the rule set. Each chain that uses it leaves
 *                   what the kernel would have there (DEFAULT_PRIORITY), since queueing disciplines read it
 *
 * What is shared is written with final values only: the ct mark becomes SAME_NETWORK, or is never written.
 */

/** Beside the number of the sender's network, which has 24 bits as a VNI: its packets are given a class (dscp.ts). */
export const MARKED = 0x80000000;

/** Beside both: it goes back by the exit, where its connection came in (externalGateways.ts). */
export const BACK = 0x40000000;

/** Mark of a connection whose ends are in one network: of a new one that is denied too, which then is none. */
export const SAME_NETWORK = 1;

/** Bit of a decision's mark that says deny; the others are the rule's number. */
export const DENY = 0x80000000;

/**
 * What the kernel gives a packet that it forwards (net/ipv4/route.c, ip_tos2prio): by two bits of IPv4's type of service,
 * none by IPv6. It did so just before the chain `forward`.
 */
export const DEFAULT_PRIORITY = `
  meta priority set none
  meta nfproto ipv4 meta priority set @nh,11,2 map { 1 : 0:2, 2 : 0:6, 3 : 0:4 }`;
