/** States of one host (states.ts) for tests of the applier, and what the kernel then holds. */
import { expect } from 'vitest';
import {
  createNamespace,
  deleteNamespace,
  inNamespace,
  listNamespaces,
  namespacePath,
} from '../src/linux/netns.ts';
import { NAMESERVER, NAMESERVER6 } from '../src/netplugin/constants.ts';
import { type Applier, openApplier } from '../src/netplugin/dataplane/applier.ts';
import type { ApplyReport } from '../src/netplugin/dataplane/index.ts';
import type { HostState, Port } from '../src/netplugin/state.ts';
import { sh } from './isolation.ts';
import { NOTHING } from './states.ts';

export * from './states.ts';

/** Of a pass that had nothing to do. */
export const REPORT: ApplyReport = {
  writes: 0,
  reads: 0,
  repaired: [],
  lost: [],
  created: [],
  complete: true,
  awaited: false,
  failed: [],
};

/** In the router of tenant default. */
export const inRouter = (command: string): string =>
  inNamespace(namespacePath('contiv-default'), () => sh(command));

/** Of the router's end of a port. */
export const routerMac = ({ device }: Port): string =>
  /link\/ether (\S+)/.exec(inRouter(`ip -o link show ${device}`))?.[1] as string;

export function applied(applier: Applier, wanted: HostState, verify = false): ApplyReport {
  const report = applier.apply(wanted, { verify });
  expect(report.failed).toEqual([]);
  return report;
}

/** Takes a port's other end into a namespace of its own, box<n>, as a container has it. */
export function enter(given: Port, n: number): void {
  createNamespace(`box${n}`);
  sh(`ip link set ${given.peer} netns ${namespacePath(`box${n}`)} name eth0`);
  inNamespace(namespacePath(`box${n}`), () => {
    sh('ip link set lo up; ip link set eth0 up');
    sh(`ip addr add ${given.addresses[0]}/32 dev eth0`);
    sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
    const [, v6] = given.addresses;
    if (v6 === undefined) return;
    sh(`ip addr add ${v6}/128 dev eth0 nodad; ip route add ${NAMESERVER6} dev eth0`);
    sh(`ip -6 route add default via ${NAMESERVER6}`);
  });
}

export const LISTING =
  'ip -o link; ip -o addr; ip route; ip -6 route; ip neigh show nud permanent; bridge fdb; echo; nft -s list ruleset';

/** All that a router and the host hold, without what differs when it is made anew: indices, MAC addresses of our ends. */
export function kernel(): string {
  const namespace = (listing: string): string => {
    const [entries = '', ...rules] = listing.split('\n\n');
    const lines = entries
      .split('\n')
      .filter((line) => !/inet6 fe80|^fe80|^33:33|^01:00:5e/.test(line))
      .map((line) =>
        line
          .replace(/^\d+: ([^\s@:]+)(@\S+)?/, '$1')
          .replace(/<.*?>/, (flags) => `<${/\bUP\b/.test(flags) ? 'UP' : ''}>`)
          .replace(/ state .*| \\ .*| linkdown/, ''),
      );
    return [...lines.sort(), ...rules].join('\n');
  };
  return `${namespace(inRouter(LISTING))}\n${namespace(sh(LISTING))}`;
}

/** Leaves nothing in the test's kernel. */
export function clean(): void {
  // An applier that knows nothing removes every router there is.
  openApplier().apply(NOTHING, { verify: true });
  // The host stays guarded.
  sh('nft delete table inet contiv');
  for (const name of listNamespaces()) deleteNamespace(name);
  for (const link of sh('ip -o link show type veth').matchAll(/^\d+: ([^@:]+)/gm))
    sh(`ip link delete ${link[1]} 2>/dev/null || true`);
}

/** Packets that the router itself has forwarded. */
export function forwarded(): number {
  const [names = '', values = ''] = inRouter('grep ^Ip: /proc/thread-self/net/snmp').split('\n');
  const four = Number(values.split(' ')[names.split(' ').indexOf('ForwDatagrams')]);
  const six = /Ip6OutForwDatagrams\s+(\d+)/.exec(inRouter('cat /proc/thread-self/net/snmp6'))?.[1];
  return four + Number(six);
}
