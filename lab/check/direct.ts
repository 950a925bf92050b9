/** Networks of encapsulation direct: the router's device on the hosts' link, who is there with it, and from whom which address is taken. */
import { createHash } from 'node:crypto';
import { UNDERLAY } from '../state.ts';
import { isV6 } from './docker.ts';
import {
  type Cluster,
  type Comparison,
  type Concat,
  DIRECT,
  hasLink,
  type Place,
  type Router,
  sharesLink,
} from './world.ts';

const hasDirect = ({ networks }: Cluster, tenant: string): boolean =>
  networks.some((n) => n.tenantName === tenant && n.encap === DIRECT);

/** Of a tenant's router on the link: 06, and what a hash of the tenant's name and the host's address begins with. */
const macOf = (tenant: string, { address }: Place): string =>
  `06:${createHash('sha256').update(`${tenant} ${address}`).digest('hex').slice(0, 10).match(/../g)?.join(':')}`;

/** One device on the underlay's interface where a network needs it, of the tenant's own address there, with the other hosts for good. */
export const link: Comparison<Router> = (
  { where, cluster, host, tenant, devices, neighbours, remote },
  say,
) => {
  const device = devices.find((d) => d.ifname === DIRECT);
  const wanted = hasDirect(cluster, tenant) && hasLink(host.place);
  if ((device !== undefined) !== wanted) {
    say(`${where}: ${wanted ? 'no device' : 'a device'} ${DIRECT}${wanted ? '' : ', which no network has'}`);
    return;
  }
  if (device === undefined) return;
  const { place } = host;
  if (device.address !== macOf(tenant, place))
    say(`${where}: ${DIRECT} has MAC address ${device.address}, not ${macOf(tenant, place)}`);
  if (device.mtu !== place.uplinkMtu)
    say(`${where}: ${DIRECT} has MTU ${device.mtu}, ${UNDERLAY} ${place.uplinkMtu}`);
  if (!device.flags.includes('LOWER_UP')) say(`${where}: ${DIRECT} is down`);
  if (host.devices.find((d) => d.ifname === UNDERLAY)?.ifindex !== device.link_index)
    say(`${where}: ${DIRECT} is not on ${UNDERLAY}`);
  const peers = new Set(remote.map((r) => r.host));
  const known = new Map(
    neighbours
      .filter((n) => n.dev === DIRECT && n.state.includes('PERMANENT'))
      .map((n) => [n.dst, n.lladdr] as const),
  );
  for (const other of cluster.places.filter((p) => peers.has(p.name) && sharesLink(place, p))) {
    if (known.get(other.address) !== macOf(tenant, other))
      say(
        `${where}: neighbour ${other.address} on ${DIRECT} has ${known.get(other.address)}, not ${macOf(tenant, other)}`,
      );
    known.delete(other.address);
  }
  for (const address of known.keys())
    if (!address.startsWith('fe80:')) say(`${where}: neighbour ${address} on ${DIRECT}, which is no host's`);
};

/** From each host on the link what runs there is taken, by its router's address, and from nobody else. */
export const onLink: Comparison<Router> = ({ where, cluster, host, tenant, remote, map }, say) => {
  if (!hasDirect(cluster, tenant) || !hasLink(host.place)) return;
  for (const six of ['', '6']) {
    const have = new Set(
      map(`linked${six}`).map(([key]) => (key as Concat).concat.map((part) => String(part)).join(' ')),
    );
    for (const r of remote) {
      const place = cluster.places.find((p) => p.name === r.host);
      if (place === undefined || !sharesLink(host.place, place)) continue;
      for (const address of r.addresses.filter((a) => isV6(a) === (six === '6')))
        if (!have.delete(`${macOf(tenant, place)} ${address}`))
          say(`${where}: map linked${six} lacks ${address} of ${r.container} on ${r.host}`);
    }
    for (const element of have) say(`${where}: map linked${six} has ${element}, which nobody has`);
  }
};
