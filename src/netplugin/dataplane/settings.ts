/** Sysctls that we depend on: of a router, which is ours wholly, and those few of the host's. */
import { getSysctl, setSysctl } from '../../linux/netns.ts';
import type { Outcome } from './outcome.ts';

export type Settings = Readonly<Record<string, string>>;

/** Of a router's namespace, before any device is there: defaults are inherited when one is made. */
export const ROUTER: Settings = {
  'net/ipv4/ip_forward': '1',
  'net/ipv4/conf/all/rp_filter': '0',
  'net/ipv4/conf/default/rp_filter': '0',
  'net/ipv4/conf/all/accept_local': '1',
  'net/ipv4/conf/all/send_redirects': '0',
  'net/ipv4/conf/default/send_redirects': '0',
  'net/ipv4/icmp_ratelimit': '0',
  // Fragments that wait for the rest of theirs (rules/limits.ts): seconds, and bytes.
  'net/ipv4/ipfrag_time': '2',
  'net/ipv4/ipfrag_high_thresh': String(128 << 20),
  // What arrives here is hardly ever for a socket of the router's own: no look for one before routing, of both versions.
  'net/ipv4/ip_early_demux': '0',
  // Else all namespaces' errors share 1,000 a second (net/ipv4/icmp.c, icmpv4_global_allow), which one container uses up.
  'net/ipv4/icmp_ratemask': '0',
  'net/ipv6/icmp/ratemask': '255', // a type that is never sent
  'net/ipv6/conf/all/forwarding': '1',
  'net/ipv6/conf/default/forwarding': '1',
  'net/ipv6/conf/all/accept_ra': '0',
  'net/ipv6/conf/default/accept_ra': '0',
  'net/ipv6/conf/default/accept_dad': '0',
  'net/ipv6/conf/default/dad_transmits': '0',
};

/** They are there with conntrack, which a module of the kernel's may bring with the first rule that needs it. */
export const CONNTRACK: Settings = {
  // Closed connections are not counted (rules/limits.ts): 120 s of them would be many.
  'net/netfilter/nf_conntrack_tcp_timeout_time_wait': '10',
  // As those of IPv4 (ROUTER): conntrack has a queue of its own.
  'net/netfilter/nf_conntrack_frag6_timeout': '2',
  'net/netfilter/nf_conntrack_frag6_high_thresh': String(128 << 20),
};

/** Of each device of a router. What `all` says does not win over a device that says otherwise, but for rp_filter. */
export const device = (name: string): Settings => ({
  [`net/ipv4/conf/${name}/forwarding`]: '1',
  [`net/ipv4/conf/${name}/rp_filter`]: '0',
  [`net/ipv6/conf/${name}/forwarding`]: '1',
});

/** Of a container's port: the router answers for whatever it has a route to, at once. */
export const port = (name: string): Settings => ({
  [`net/ipv4/conf/${name}/proxy_arp`]: '1',
  // Otherwise the kernel keeps an answer back for up to 0.8 s (net/ipv4/arp.c, parp_redo).
  [`net/ipv4/neigh/${name}/proxy_delay`]: '0',
  [`net/ipv6/neigh/${name}/proxy_delay`]: '0',
});

/**
 * Of a VLAN's device: who asks on the wire is answered for the device's own address and for each container here, at once, as the
 * ARP table lets no other question through (rules/vlans.ts); of the router's other addresses, which every host has, nobody there hears. Where that
 * can be without an entry for each (ip-neighbour(8), proxy), whose life depends on a state that nothing shows (findings/proxy-neighbour-hidden-state.sh).
 */
export const vlan = (name: string): Settings => ({
  [`net/ipv4/conf/${name}/arp_ignore`]: '1',
  [`net/ipv4/conf/${name}/proxy_arp`]: '1',
  [`net/ipv4/neigh/${name}/proxy_delay`]: '0',
  // IPv6 knows no other way than an entry for each (entries.ts). Who asks again whether a neighbour is there asks that one itself, which is
  // taken for a question to us only where all devices are said to answer so (net/ipv6/ip6_output.c, ip6_forward).
  'net/ipv6/conf/all/proxy_ndp': '1',
  [`net/ipv6/neigh/${name}/proxy_delay`]: '0',
  [`net/ipv6/conf/${name}/router_solicitations`]: '0',
});

/**
 * Of a VLAN's device with routers of the fabric's own (entries.ts): that one does not answer any more is known 14 to 24 s after it fell silent, where the
 * kernel's own times make a minute of it (Documentation/networking/ip-sysctl.rst, neigh). Who is spoken to is asked every 10 s.
 */
export const sought = (name: string): Settings =>
  Object.fromEntries(
    (['ipv4', 'ipv6'] as const).flatMap((version) => [
      [`net/${version}/neigh/${name}/base_reachable_time_ms`, '10000'],
      [`net/${version}/neigh/${name}/delay_first_probe_time`, '1'],
    ]),
  );

/** Of the device on the hosts' link: it says nothing there by itself, not even that it has IPv6. */
export const direct = (name: string): Settings => ({
  [`net/ipv6/conf/${name}/addr_gen_mode`]: '1', // no link-local address
  [`net/ipv6/conf/${name}/router_solicitations`]: '0',
});

/**
 * Of a device of WireGuard's: members' packets come by it, to whose addresses others lead as well, since the way there is by a rule that the kernel
 * does not see when it looks who an address belongs to. The greater of this and what `all` says holds (ip-sysctl.rst): 1 would drop them all.
 */
export const wireguard = (name: string): Settings => ({ [`net/ipv4/conf/${name}/rp_filter`]: '2' });

/** Of the host's end of an exit. */
export const exit = (name: string): Settings => ({
  // Published ports are served on localhost too: such packets leave with a source of 127.0.0.1.
  [`net/ipv4/conf/${name}/route_localnet`]: '1',
  [`net/ipv4/conf/${name}/rp_filter`]: '0',
  [`net/ipv4/conf/${name}/forwarding`]: '1',
});

/**
 * Of the host's own way out: what comes back by it is forwarded only if it says so itself (include/linux/inetdevice.h). With
 * IPv6 `all` decides for every device (net/ipv6/ip6_output.c, ip6_forward).
 */
export const hostWayOut = (name: string): Settings => ({ [`net/ipv4/conf/${name}/forwarding`]: '1' });

/** In the thread's current namespace. `known`: they were set before, so that a difference is somebody else's doing. */
export function establishSettings(wanted: Settings, known: boolean): Outcome {
  const repaired: string[] = [];
  for (const [key, value] of Object.entries(wanted))
    try {
      if (getSysctl(key) === value) continue;
      setSysctl(key, value);
      if (known) repaired.push(`${key} was not ${value}`);
    } catch (error) {
      // A kernel without IPv6, or a device that has just gone.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  return { writes: repaired.length, repaired };
}

/** How many connections a table of conntrack takes, each namespace's the same; undefined: conntrack is not loaded yet. */
export function conntrackTable(): number | undefined {
  try {
    return Number(getSysctl('net/netfilter/nf_conntrack_max'));
  } catch {
    return undefined;
  }
}
