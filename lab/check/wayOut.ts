import { inUrl, OUTSIDE_ADDRESS, OUTSIDE_ADDRESS6 } from '../state.ts';
import { isV6 } from './docker.ts';
import { type Comparison, neighboursOf, type Router } from './world.ts';

/** Outside nothing listens there and says so (curl: 7), where no firewall of the host keeps it from being asked. */
export const wayOut: Comparison<Router> = async ({ where, host, at }, say) => {
  const outside = isV6(host.place.address) ? OUTSIDE_ADDRESS6 : OUTSIDE_ADDRESS;
  const status = await at('sh', '-c', `curl -s -m 2 http://${inUrl(outside)}:9/; echo $?`);
  if (status.trim() !== '7') say(`${where}: no way out to ${outside}`);
};

/** Both ends know each other for good: the router its next hops, the host the router's addresses. */
export const uplink: Comparison<Router> = async (router, say) => {
  const { where, host, ns, routes, neighbours } = router;
  const end = router.devices.find((d) => d.ifname === 'uplink');
  const cx = host.devices.find((d) => d.ifindex === end?.link_index);
  if (end === undefined || cx === undefined) {
    say(`${where}: no way out`);
    return;
  }
  for (const { gateway } of routes.filter((r) => r.dst === 'default')) {
    const known = neighbours.find(
      (n) => n.dev === 'uplink' && n.dst === gateway && n.state.includes('PERMANENT'),
    );
    if (known?.lladdr !== cx.address)
      say(`${where}: neighbour ${gateway} has ${known?.lladdr}, ${cx.ifname} has ${cx.address}`);
  }
  const [own] = JSON.parse(await host.at('ip', '-n', ns, '-j', 'addr', 'show', 'uplink')) as {
    addr_info: { local: string; scope: string }[];
  }[];
  const back = (await neighboursOf(host)).filter((n) => n.dev === cx.ifname && n.state.includes('PERMANENT'));
  for (const { local, scope } of own?.addr_info ?? [])
    if (scope === 'global' && back.find((n) => n.dst === local)?.lladdr !== end.address)
      say(`${where}: the host has no permanent neighbour ${local}`);
};
