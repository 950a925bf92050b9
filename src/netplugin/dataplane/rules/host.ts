/**
 * The host's own table: in which order a packet meets which feature. It is there with or without containers of ours, since
 * those of others are kept away from us too.
 */
import { NFT_TABLE } from '../../constants.ts';
import type { HostState } from '../../state.ts';
import { hostAccess } from './access.ts';
import { hostAnnounced } from './announced.ts';
import { contained } from './contained.ts';
import { hostEgress } from './egress.ts';
import { type Chain, compose, type HostFeature } from './feature.ts';
import { limitsOutside, SMALLEST_TABLE } from './limits.ts';
import { probes } from './probes.ts';
import { hostPublished } from './published.ts';
import type { Elements, Table } from './table.ts';
import { tunnels } from './tunnels.ts';

/** What the host's table follows from beside the state: as the host is now. */
export interface HostFacts {
  /** Docker's own bridges, whose containers are reached by their published ports only, as by any outsider. */
  readonly bridges: readonly string[];
  /** Devices of a kind that containers are attached by, which lead elsewhere all the same (exits.ts). */
  readonly operated: readonly string[];
  /** The control plane's ports of which an address is this host's: closed to containers at all of its addresses. */
  readonly closed: readonly string[];
}

const CHAINS: readonly Chain<HostFeature>[] = [
  // Every packet, before conntrack sees it: what arrives, and what the host sends.
  {
    name: 'raw',
    hook: 'type filter hook prerouting priority -300; policy accept;',
    steps: [tunnels, hostAnnounced, hostAccess, hostEgress],
  },
  {
    name: 'sent',
    hook: 'type filter hook output priority -300; policy accept;',
    steps: [tunnels, probes],
  },

  // The first packet of each connection, for destination NAT, before Docker's chains.
  {
    name: 'prerouting',
    hook: 'type nat hook prerouting priority -101; policy accept;',
    steps: [hostPublished],
  },
  { name: 'output', hook: 'type nat hook output priority -101; policy accept;', steps: [hostPublished] },

  // Every packet, before other firewalls: what goes through the host, and what is for the host itself.
  {
    name: 'forward',
    hook: 'type filter hook forward priority -10; policy accept;',
    steps: [
      contained,
      'ct state established,related accept',
      hostAnnounced,
      hostAccess,
      hostPublished,
      hostEgress,
    ],
  },
  {
    name: 'counted_forward',
    hook: 'type filter hook forward priority -9; policy accept;',
    steps: [limitsOutside],
  },
  {
    name: 'input',
    hook: 'type filter hook input priority -10; policy accept;',
    steps: [contained, hostAnnounced, hostAccess],
  },
  {
    name: 'counted_input',
    hook: 'type filter hook input priority -9; policy accept;',
    steps: [limitsOutside],
  },

  // The first packet of each connection, for source NAT.
  {
    name: 'postrouting',
    hook: 'type nat hook postrouting priority 99; policy accept;',
    steps: [hostAnnounced, hostEgress],
  },

  // After all chains of anybody.
  {
    name: 'last',
    hook: 'type filter hook forward priority 2147483647; policy accept;',
    steps: [probes],
  },
  {
    name: 'last_here',
    hook: 'type filter hook input priority 2147483647; policy accept;',
    steps: [probes],
  },
];

const { body, elements } = compose(CHAINS);

/** `vnis`: of the tunnels here; `connections`: how many a conntrack table takes. */
export function hostTable(
  state: HostState,
  { bridges, operated, closed }: HostFacts,
  vnis: readonly number[],
  connections: number = SMALLEST_TABLE,
): Table {
  const parts = new Map<object, Elements>([
    // One part: a host has few exits, and its state changes seldom.
    [state, elements('state', state)],
    [vnis, elements('vnis', vnis)],
    [bridges, elements('bridges', bridges)],
    [operated, elements('operated', operated)],
    [closed, elements('closed', closed)],
  ]);
  const variant = {
    connections,
    access: state.exits.some((e) => e.access !== undefined),
    fabric: state.fabric?.addresses ?? [],
    encrypted: state.encryption !== undefined,
    entrances: state.exits.some((e) => (e.entrances ?? []).some((p) => p.hostAddress !== '')),
  };
  return { name: `inet ${NFT_TABLE}`, parts, body: body(variant) };
}
