import { UNDERLAY } from '../state.ts';
import { type Comparison, mtuOf, portOf, type Router } from './world.ts';

/** Tunnels take what the underlay leaves, ports what their network does, and tunnels send from the host's address. */
export const links: Comparison<Router> = (router, say) => {
  const { where, host, devices, local } = router;
  const { mtu: leaves, address } = host.place;
  for (const { ifname, mtu, linkinfo } of devices.filter((d) => d.ifname.startsWith('vx'))) {
    if (mtu !== leaves) say(`${where}: ${ifname} has MTU ${mtu}, ${UNDERLAY} leaves ${leaves}`);
    const from = linkinfo?.info_data?.local ?? linkinfo?.info_data?.local6;
    if (from !== address) say(`${where}: ${ifname} sends from ${from}, ${UNDERLAY} has ${address}`);
  }
  for (const r of local) {
    const port = devices.find((d) => d.ifname === portOf(router, r));
    if (port !== undefined && port.mtu !== mtuOf(host, r))
      say(`${where}: ${port.ifname} has MTU ${port.mtu}, ${r.network} leaves ${mtuOf(host, r)}`);
  }
};

/** A port for each container here. */
export const ports: Comparison<Router> = ({ where, devices, local }, say) => {
  const { length } = devices.filter((d) => d.ifname.startsWith('ct'));
  if (length !== local.length) say(`${where}: ${length} ports for ${local.length} containers`);
};
