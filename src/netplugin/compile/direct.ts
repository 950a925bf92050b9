/**
 * Networks of encapsulation direct, between hosts that share a link: who is there, and by which address.
 *
 *   router of the tenant, device `direct` ==the hosts' link== device `direct`, router of the tenant on another host
 *
 * Each tenant has an address of its own on each host, which follows from both names, so nobody asks for it and nobody's answer is believed.
 * By it a frame comes to that tenant's router alone, past the host's own stack, and its sender's says which host sent it. Two hosts share the
 * link where the underlay address of each is within the prefix of the other's, so both know it alike; to all others, and from them, such
 * networks go by VXLAN.
 */
import { createHash } from 'node:crypto';
import { shareLink } from '../../model/direct.ts';
import type { Host } from '../../model/host.ts';
import { DIRECT_DEVICE } from '../constants.ts';
import type { LocalHost } from '../intent/view.ts';
import type { Direct, RemoteHost } from '../state.ts';

/**
 * MAC address of a tenant's router on the link: locally administered, 06 and 40 bits of a SHA-256. Of 10,000 such addresses on one link two
 * are the same with a probability of 1 in 20,000; those of tunnels begin with 02 (deviceNames.ts).
 */
export function directMac(tenant: string, vtep: string): string {
  const tail = createHash('sha256').update(`${tenant} ${vtep}`).digest('hex').slice(0, 10);
  return `06:${tail.match(/../g)?.join(':')}`;
}

/** Of a tenant that has such networks. undefined: this host shares its underlay's link with nobody. */
export const directOf = (tenant: string, { underlay, underlayMtu, link }: LocalHost): Direct | undefined =>
  link && {
    device: DIRECT_DEVICE,
    link: link.device,
    mac: directMac(tenant, underlay),
    mtu: underlayMtu,
  };

/**
 * Where another host is on the link; undefined: it does not share it. `told`: what it says of itself; of one that is away nothing is known,
 * and as its containers may run on, it stays where its address is.
 */
export function onLink(
  tenant: string,
  vtep: string,
  told: Pick<Host, 'link' | 'mtu'> | undefined,
  { underlay, link, underlayMtu }: LocalHost,
): RemoteHost['direct'] {
  const here = { underlay, link: link?.prefix ?? '' };
  const there = { underlay: vtep, ...(told?.link !== undefined && { link: told.link }) };
  if (!shareLink(here, there)) return undefined;
  const mtu = told?.mtu;
  return {
    device: DIRECT_DEVICE,
    mac: directMac(tenant, vtep),
    ...(mtu !== undefined && mtu < underlayMtu && { mtu }),
  };
}
