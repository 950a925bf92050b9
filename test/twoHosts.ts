/**
 * Two hosts in one test: its own namespace is one, a namespace beside it the other, and a veth between them the underlay.
 * Containers are namespaces, with what the driver gives them. The router of the second host has another name, as both
 * share one folder of names, which nothing on the way sees.
 *
 *   box2, box4, box6 -- contiv-default -- this namespace ==VXLAN== host2 -- contiv-far -- box3, box5
 */
import { createNamespace, inNamespace, namespacePath } from '../src/linux/netns.ts';
import { NAMESERVER, NAMESERVER6 } from '../src/netplugin/constants.ts';
import { openApplier } from '../src/netplugin/dataplane/applier.ts';
import type { Port } from '../src/netplugin/state.ts';
import { applied, type Case, LOCAL, NOTHING, PEERS, port, state, VNI } from './hostState.ts';
import { sh } from './isolation.ts';

export const NEAR = [2, 4, 6];
export const FAR = [3, 5];

export const v4 = (n: number): string => `20.1.1.${n}`;
export const v6 = (n: number): string => `fd00:1::${n}`;
export const inBox = <T>(n: number, use: () => T): T => inNamespace(namespacePath(`box${n}`), use);
/** In the router of the host that the container is on. */
export const inRouterOf = (n: number, command: string): string =>
  inNamespace(namespacePath(NEAR.includes(n) ? 'contiv-default' : 'contiv-far'), () => sh(command));

const FAR_HOST = PEERS[0] as string;
const onFarHost = <T>(use: () => T): T => inNamespace(namespacePath('host2'), use);

/** How the routers are to judge, and lead: by container what of its port differs, and what both routers have beside it. */
export interface Policy {
  readonly ports?: Readonly<Record<number, Partial<Port>>>;
  readonly more?: Pick<Case, 'ruleSets' | 'clusterServices'>;
}

/** Makes all of it, without policy. Answers how to change that on both hosts. */
export function twoHosts(): { change(policy: Policy): void } {
  createNamespace('host2');
  sh('ip link add under type veth peer name under netns host2; ip link set under up');
  sh(`ip addr add ${LOCAL}/24 dev under`);
  onFarHost(() => sh(`ip link set lo up; ip link set under up; ip addr add ${FAR_HOST}/24 dev under`));
  // The first pass of each removes routers that it does not know: before there are any.
  const near = openApplier();
  applied(near, NOTHING);
  const far = onFarHost(openApplier);
  onFarHost(() => applied(far, NOTHING));
  const apply = ({ ports = {}, more = {} }: Policy, joined: boolean): void => {
    const containers = (of: number[]): Port[] => of.map((n) => port(n, { joined, ...ports[n] }));
    const remotes = (of: number[], vtep: string) =>
      of.flatMap((n) => [v4(n), v6(n)].map((address) => ({ address, device: `vx${VNI}`, vtep })));
    applied(near, state({ ...more, ports: containers(NEAR), remotes: remotes(FAR, FAR_HOST) }));
    const there = { tenant: 'far', local: FAR_HOST, ports: containers(FAR), remotes: remotes(NEAR, LOCAL) };
    const members = { underlay: FAR_HOST, members: [LOCAL] };
    onFarHost(() => applied(far, { ...state({ ...more, ...there }), ...members }));
  };
  apply({}, false);
  for (const n of NEAR) attach(n);
  onFarHost(() => FAR.forEach(attach));
  return { change: (policy) => apply(policy, true) };
}

/** The container takes its end, which is in the thread's namespace. */
export function attach(n: number): void {
  createNamespace(`box${n}`);
  sh(`ip link set ${port(n).peer} netns ${namespacePath(`box${n}`)} name eth0`);
  inBox(n, () => {
    sh('echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 up');
    sh(`ip addr add ${v4(n)}/32 dev eth0; ip addr add ${v6(n)}/128 dev eth0 nodad`);
    sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
    sh(`ip -6 route add ${NAMESERVER6} dev eth0; ip -6 route add default via ${NAMESERVER6}`);
  });
}
