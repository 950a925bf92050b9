import { UNDERLAY } from '../state.ts';
import type { Comparison, Router } from './world.ts';

/** Ports and tunnels take what the underlay leaves, and tunnels send from the host's address. */
export const links: Comparison<Router> = ({ where, host, devices }, say) => {
  const { mtu: leaves, address } = host.place;
  for (const { ifname, mtu, linkinfo } of devices.filter((d) => /^(vx|ct)/.test(d.ifname))) {
    if (mtu !== leaves) say(`${where}: ${ifname} has MTU ${mtu}, ${UNDERLAY} leaves ${leaves}`);
    const from = linkinfo?.info_data?.local ?? linkinfo?.info_data?.local6;
    if (ifname.startsWith('vx') && from !== address)
      say(`${where}: ${ifname} sends from ${from}, ${UNDERLAY} has ${address}`);
  }
};

/** A port for each container here. */
export const ports: Comparison<Router> = ({ where, devices, local }, say) => {
  const { length } = devices.filter((d) => d.ifname.startsWith('ct'));
  if (length !== local.length) say(`${where}: ${length} ports for ${local.length} containers`);
};
