import { isV6, type Running } from './docker.ts';
import { type Comparison, type Device, type Host, mtuOf, type Neighbour, type Router } from './world.ts';

interface Addressed extends Device {
  readonly addr_info: readonly { readonly local: string }[];
}

/** What `ip` says in the container. */
const within = async <T>({ at }: Host, { netns }: Running, ...command: string[]): Promise<T[]> =>
  JSON.parse(await at('nsenter', `--net=${netns}`, 'ip', '-j', ...command));

/** What each container was given is there: its MAC and IP addresses, routes to its subnets by next hops that it knows for good. */
export const insides: Comparison<Host> = async (host, say) => {
  for (const r of host.here) {
    const where = `${r.host}: inside ${r.container}`;
    const device = (await within<Addressed>(host, r, 'addr')).find((d) => d.address === r.mac);
    if (device === undefined) {
      say(`${where}: no device has ${r.mac}`);
      continue;
    }
    for (const address of r.addresses)
      if (!device.addr_info.some((a) => a.local === address)) say(`${where}: no address ${address}`);
    // Its only network: the router's part may be another one's where there are several.
    const alone = host.here.filter((other) => other.id === r.id).length === 1;
    for (const version of new Set(r.addresses.map((a) => (isV6(a) ? '-6' : '-4')))) {
      const hops = (await within<{ gateway?: string; dev: string }>(host, r, version, 'route'))
        .filter(({ dev }) => dev === device.ifname)
        .flatMap(({ gateway }) => gateway ?? []);
      const permanent = await within<Neighbour>(host, r, version, 'neigh', 'show', 'nud', 'permanent');
      const known = permanent.map((n) => n.dst);
      if (hops.length === 0 && alone) say(`${where}: no route by a router (ip ${version} route)`);
      for (const hop of new Set(hops))
        if (!known.includes(hop)) say(`${where}: no permanent neighbour ${hop}`);
    }
  }
};

/** Each container of the tenant takes as large packets as its network leaves. */
export const sizes: Comparison<Router> = async ({ host, local }, say) => {
  for (const r of local) {
    const end = (await within<Device>(host, r, 'link')).find((d) => d.address === r.mac);
    if (end?.mtu !== mtuOf(host, r))
      say(`${host.name}: ${r.container} has MTU ${end?.mtu}, ${r.network} leaves ${mtuOf(host, r)}`);
  }
};
