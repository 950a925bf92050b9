/**
 * What no container may reach, by whatever device it is attached and whoever made it: the control plane's sockets, here and
 * through this host, and the tunnels of any host. WireGuard takes nothing from who has no key, but it works at each attempt.
 */
import { VXLAN_PORT, WIREGUARD } from '../../constants.ts';
import { EXITS, WIREGUARD_PORTS } from './devices.ts';
import type { HostFeature } from './feature.ts';

/** Kinds of devices (rtnetlink's) that containers and virtual machines are attached by. */
export const CONTAINER_KINDS = ['bridge', 'ipvlan', 'ipvtap', 'macvlan', 'macvtap', 'netkit', 'veth'];

const refuseAtHosts = (ports: string): string => `
  udp dport ${ports} fib daddr type != unicast counter name "refused" drop
  udp dport ${ports} ip daddr @members counter name "refused" drop
  udp dport ${ports} ip6 daddr @members6 counter name "refused" drop`;

/** What chain `refuse` has no rule for. Every packet of the host meets this, and a set of nothing but ports is a bitmap to the kernel. */
const ELSEWHERE = 'th dport != @ports';

export const contained: HostFeature = {
  own: ({ encrypted }) => `
set guarded { type ipv4_addr . inet_proto . inet_service; }
set guarded6 { type ipv6_addr . inet_proto . inet_service; }
set closed { type inet_proto . inet_service; }
set ports { type inet_service; }
set operated { type ifname; }
counter refused { }
chain contained {
  ${ELSEWHERE} return
  iifname @operated return
  meta iifkind { ${CONTAINER_KINDS.map((kind) => `"${kind}"`).join(', ')} } goto refuse
  meta iifkind "tun" meta iiftype ether goto refuse
}
chain refuse {
  ip daddr . meta l4proto . th dport @guarded counter name "refused" drop
  ip6 daddr . meta l4proto . th dport @guarded6 counter name "refused" drop
  fib daddr type != unicast meta l4proto . th dport @closed counter name "refused" drop${refuseAtHosts(`${VXLAN_PORT}`)}${encrypted ? refuseAtHosts(WIREGUARD_PORTS) : ''}
}`,
  rules: {
    // Nearly all packets are of a connection and for other ports: one rule, and nothing that `contained` would refuse.
    forward: `
${ELSEWHERE} ct state established,related accept
iifname ${EXITS} udp dport ${VXLAN_PORT} counter name "refused" drop
jump contained`,
    input: 'jump contained',
  },
  elements: {
    state({ guarded, encryption }, add) {
      const own = [VXLAN_PORT, ...(encryption === undefined ? [] : WIREGUARD.map(({ port }) => port))];
      for (const port of new Set([...own, ...guarded.map((g) => g.port)])) add('ports', '', String(port));
      const sockets = new Map(guarded.map((g) => [`${g.address} . ${g.protocol} . ${g.port}`, g.address]));
      for (const [socket, address] of sockets) add('guarded', address, socket);
    },
    operated(names, add) {
      for (const name of names) add('operated', '', `"${name}"`);
    },
    closed(ports, add) {
      for (const port of ports) add('closed', '', port);
    },
  },
};
