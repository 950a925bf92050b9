/** The table in a container's own namespace, beside the one that Docker's resolver makes there: names lead to our nameserver. */
import { DOCKER_RESOLVER, NAMESERVER, NFT_TABLE } from '../../constants.ts';
import type { Table } from './table.ts';

export function containerTable(): Table {
  return {
    name: `ip ${NFT_TABLE}`,
    parts: new Map(),
    // Docker's own nat chain has priority -100: ours comes first.
    body: `
chain output {
  type nat hook output priority -101; policy accept;
  ip daddr ${DOCKER_RESOLVER} meta l4proto { tcp, udp } th dport 53 dnat to ${NAMESERVER}
}
chain postrouting {
  type nat hook postrouting priority 99; policy accept;
  ip saddr 127.0.0.0/8 ip daddr ${NAMESERVER} masquerade
}
`,
  };
}
