/** What is not as it should be on this host, from whoever knows it, each with what mends it. netmaster is told with each heartbeat. */

import { MAX_SHOWN } from '../model/bgp.ts';
import { isDirect, overlapped, type Placed } from '../model/direct.ts';
import { MAX_PROBLEMS } from '../model/host.ts';
import { oneLine } from '../model/text.ts';
import type { Condition, NeighborState, Problem } from '../protocol/hosts.ts';
import type { Kernel } from './converge.ts';
import type { DroppedWay, Gateway } from './dataplane/index.ts';
import { droppedText } from './underlay/firewalls.ts';
import { named } from './underlay/gateways.ts';
import type { NarrowPath } from './underlay/paths.ts';

export interface ConditionSources {
  fastPath(): boolean | undefined;
  readonly underlay: { readonly problem: string; readonly now: { readonly device: string } };
  readonly uplink: { readonly problem: string; readonly now: unknown };
  /** That this host has routes to. */
  readonly prefixes: { readonly now: readonly string[] };
  networks(): ReadonlyMap<string, Placed>;
  readonly firewalls: { readonly dropped: readonly DroppedWay[] };
  readonly paths: { readonly narrow: readonly NarrowPath[] };
  readonly gateways: { readonly silent: readonly Gateway[] };
  readonly bgp: {
    readonly problems: readonly Problem[];
    readonly neighbors: readonly NeighborState[] | undefined;
    readonly announced: readonly string[];
  };
  readonly docker: { readonly problems: readonly Problem[] };
  readonly keys: { readonly problem: string };
  readonly kernel: Pick<Kernel, 'failed'>;
}

/** Characters: of what is said on a line. */
const LENGTH = 500;

const REMEDIES: Readonly<Record<DroppedWay['way'], string>> = {
  out: "let through there what comes from the tenants' routers (Other firewalls, in docs/guide/hosts.md)",
  in: 'let through there what comes to published ports (Other firewalls, in docs/guide/hosts.md)',
  encrypted:
    'let through there UDP 14789 and 14790 from the other hosts (Other firewalls, in docs/guide/hosts.md)',
  tunnel: 'let through there UDP 4789 from the other hosts (Other firewalls, in docs/guide/hosts.md)',
};

const tooNarrow = ({ host, wanted, fits }: NarrowPath, device: string): Problem => ({
  problem: `packets of ${wanted} bytes, the MTU of ${device}, do not arrive at host ${host}: only up to ${fits}`,
  remedy: `let ${wanted} bytes pass on the way there, or set the MTU of ${device} here and there to what fits: ip link set ${device} mtu ${fits}`,
});

const silentGateway = (gateway: Gateway): Problem => ({
  problem: `${named(gateway)} does not answer: its containers here reach nobody outside`,
  remedy: `see whether the router has ${gateway.address} on VLAN ${gateway.vlan}, and whether the switch port of this host has that VLAN tagged`,
});

/** A host without an uplink is as it should be while there is no VLAN network. */
function vlanProblems(uplink: ConditionSources['uplink'], networks: readonly string[]): Problem[] {
  if (networks.length === 0 || (uplink.problem === '' && uplink.now !== undefined)) return [];
  const [first, ...more] = networks;
  const named = `network ${first}${more.length === 0 ? '' : ` and ${more.length} more`} of encapsulation vlan`;
  return [
    uplink.problem === ''
      ? {
          problem: `${named}: no --uplink is given, so no container here is on it`,
          remedy:
            'start netplugin with --uplink INTERFACE, the one to whose switch port the VLANs come tagged',
        }
      : {
          problem: `${named}: ${uplink.problem}`,
          remedy: 'set the interface up (ip link), or start netplugin with the --uplink that is meant',
        },
  ];
}

/**
 * What came on this host when a network of encapsulation direct was there; what was there before netmaster refused (model/direct.ts). Without a
 * link such a network goes by VXLAN, which is as it should be.
 */
function directProblems(
  networks: ReadonlyMap<string, Placed>,
  prefixes: ConditionSources['prefixes'],
): Problem[] {
  return [...networks].flatMap(([key, network]) => {
    const found = isDirect(network) ? overlapped(network, prefixes.now) : undefined;
    if (found === undefined) return [];
    return {
      problem: `network ${key} of encapsulation direct: its ${found.field} ${network[found.field]} overlaps ${found.prefix}, to which this host has a route`,
      remedy: `give the network another subnet, or what is at ${found.prefix} (ip route show ${found.prefix}), or make the network anew with encap vxlan`,
    };
  });
}

/** By what they are about. */
export interface Problems {
  readonly underlay: readonly Problem[];
  readonly uplink: readonly Problem[];
  readonly gateways: readonly Problem[];
  readonly direct: readonly Problem[];
  readonly firewalls: readonly Problem[];
  readonly paths: readonly Problem[];
  readonly bgp: readonly Problem[];
  readonly docker: readonly Problem[];
  readonly keys: readonly Problem[];
  readonly kernel: readonly Problem[];
}

export function problemsOf({
  underlay,
  uplink,
  prefixes,
  networks,
  gateways,
  firewalls,
  paths,
  bgp,
  docker,
  keys,
  kernel,
}: ConditionSources): Problems {
  const all = networks();
  const vlans = [...all].flatMap(([key, { encap }]) => (encap === 'vlan' ? [key] : []));
  const short = ({ problem, remedy }: Problem): Problem => ({
    problem: oneLine(problem, LENGTH),
    remedy: oneLine(remedy, LENGTH),
  });
  return {
    underlay:
      underlay.problem === ''
        ? []
        : [
            short({
              problem: `${underlay.problem}: other hosts cannot reach this one`,
              remedy: 'set the interface up and give it its address (ip link, ip addr)',
            }),
          ],
    uplink: vlanProblems(uplink, vlans).map(short),
    // Without the uplink nobody answers, which is said of that.
    gateways: uplink.problem === '' ? gateways.silent.map(silentGateway).map(short) : [],
    direct: directProblems(all, prefixes).map(short),
    firewalls: firewalls.dropped.map((dropped) =>
      short({
        problem: `another firewall drops what is ours: ${droppedText(dropped)}`,
        remedy: REMEDIES[dropped.way],
      }),
    ),
    paths: paths.narrow.map((path) => short(tooNarrow(path, underlay.now.device))),
    bgp: bgp.problems.map(short),
    docker: docker.problems.map(short),
    keys:
      keys.problem === ''
        ? []
        : [
            short({
              problem: `${keys.problem}: what is to be encrypted does not leave`,
              remedy: 'give the folder back to root, and the disk room: it is tried again',
            }),
          ],
    kernel: kernel.failed.map((message) =>
      short({
        problem: `not established: ${message}`,
        remedy: 'it is tried again; what the kernel lacks is in journalctl -u contiv-netplugin',
      }),
    ),
  };
}

export function conditionOf(sources: ConditionSources): Condition {
  const { underlay, uplink, gateways, direct, firewalls, paths, bgp, docker, keys, kernel } =
    problemsOf(sources);
  const all = [
    ...underlay,
    ...uplink,
    ...gateways,
    ...direct,
    ...firewalls,
    ...paths,
    ...bgp,
    ...docker,
    ...keys,
    ...kernel,
  ];
  const more = all.length - MAX_PROBLEMS + 1;
  const problems =
    more <= 1
      ? all
      : [
          ...all.slice(0, MAX_PROBLEMS - 1),
          { problem: `${more} more problems`, remedy: 'journalctl -u contiv-netplugin has them all' },
        ];
  const fast = sources.fastPath();
  const { neighbors, announced } = sources.bgp;
  return {
    ...(fast === undefined ? {} : { fastPath: fast }),
    problems,
    ...(neighbors === undefined
      ? {}
      : { neighbors: [...neighbors], announced: announced.slice(0, MAX_SHOWN) }),
  };
}
