/**
 * The host itself in a tenant's networks (hostAccess): its processes, what runs in its namespace, a kubelet that probes.
 *
 *   host's route --> router --> container here           from the host's end of the transit pair
 *                           --> container elsewhere      from the host's own address in the network, which other hosts know as ours
 *   container, other host, machine on its VLAN --> router --> own address of an infra network, which the host has by its end of the pair
 *
 * Nobody but the host comes that way: what others send through the host towards an exit is dropped unless it is translated there, and
 * then it is for the router's own address. So who comes from the host's end, for any other address than the router's own, is the
 * host. Towards containers of its own no policy judges it, as an orchestrator that looks after them has to reach them
 * (Kubernetes: a node always reaches its pods); on another host it is judged there as any address of the network. What is sent to the host's
 * own address is judged by the sender's policy, and comes with the router's address, as whatever leaves the tenant; what containers may
 * not reach on the host they do not reach there either (contained.ts).
 */
import { isV6 } from '../../../model/address.ts';
import type { Exit } from '../../state.ts';
import { DIRECT, EXITS, TUNNELS, UPLINK } from './devices.ts';
import { familyName } from './egress.ts';
import type { HostFeature, HostVariant, RouterFeature } from './feature.ts';

/** Both ends of the pair, of each version that there is. */
const pairs = ({ hostAddress, routerAddress, hostAddress6, routerAddress6 }: Exit) =>
  [
    { host: hostAddress, router: routerAddress },
    { host: hostAddress6, router: routerAddress6 },
  ].filter(({ host }) => host !== '');

/** The last rule of a version is for networks in which the host has no address. */
function sources({ access }: Exit, direct: boolean): string[] {
  const all = (access?.sources ?? []).flatMap(({ device, addresses }) =>
    addresses.map((address) => ({ device: `"${device}"`, address })),
  );
  const first = [all.find((s) => !isV6(s.address)), all.find((s) => isV6(s.address))];
  const rest = first.flatMap((s) =>
    s === undefined
      ? []
      : [TUNNELS, ...(direct ? [DIRECT] : [])].map((device) => ({ device, address: s.address })),
  );
  return [...all, ...rest].map(
    ({ device, address }) => `iifname ${UPLINK} oifname ${device} snat ${familyName(address)} to ${address}`,
  );
}

export const access: RouterFeature = {
  rules: {
    forward: ({ exit }) =>
      exit?.access === undefined
        ? ''
        : pairs(exit)
            .map(
              ({ host, router }) =>
                `iifname ${UPLINK} ${familyName(host)} saddr ${host} ct original ${familyName(host)} daddr != ${router} accept`,
            )
            .join('\n'),
    // Also from networks without a gateway, and from other hosts.
    leaving: ({ exit }) =>
      (exit?.access?.own ?? [])
        .map((address) => `${familyName(address)} daddr ${address} goto begun`)
        .join('\n'),
    out: ({ exit, direct }) => (exit?.access === undefined ? '' : sources(exit, direct).join('\n')),
  },
};

const REACHED = ['ip', 'ip6'].flatMap((ip) => {
  const six = ip === 'ip6' ? '6' : '';
  return [`iifname . ${ip} saddr @reached${six}`, `iifname . ${ip} saddr @answering${six}`];
});

const ofAccess =
  (text: string) =>
  ({ access }: HostVariant): string =>
    access ? text : '';

/** By an exit come containers' and services' own addresses too: in answers to the host, never with something new. */
export const hostAccess: HostFeature = {
  own: ofAccess(`
set reached { type ifname . ipv4_addr; flags interval; }
set reached6 { type ifname . ipv6_addr; flags interval; }
set answering { type ifname . ipv4_addr; }
set answering6 { type ifname . ipv6_addr; }`),
  rules: {
    raw: ofAccess(
      REACHED.map(
        (from) => `iifname ${EXITS} ${from.includes('ip6') ? '' : 'ip daddr != 127.0.0.0/8 '}${from} accept`,
      ).join('\n'),
    ),
    forward: ofAccess(REACHED.map((from) => `iifname ${EXITS} ${from} drop`).join('\n')),
    input: ofAccess(REACHED.map((from) => `iifname ${EXITS} ct state new ${from} drop`).join('\n')),
  },
  elements: {
    state({ exits }, add) {
      for (const { device, access } of exits) {
        for (const prefix of access?.subnets ?? []) add('reached', prefix, `"${device}" . ${prefix}`);
        for (const address of access?.services ?? []) add('answering', address, `"${device}" . ${address}`);
      }
    },
  },
};
