/**
 * Segments: how frames of a network go between hosts, by VXLAN, by a VLAN of the fabric, or as they are. What differs between them follows from here.
 *
 *   vxlan   a device vx<VNI>; a container gets what the encapsulation leaves of the underlay's MTU
 *   vlan    a device vl<id>, where this host has an uplink; without one the network has no device here, and nobody elsewhere is reached. In an
 *           ACI fabric a group has a VLAN of its own in it (`vlan`), by which its containers go, all by that one device
 *   direct  one device for all such networks of a tenant, to the hosts that share a link with this one; a device vx<VNI> beside it to the
 *           others, and for what those send (direct.ts)
 */
import { addressNumber, numberAddress, subnetPrefix } from '../../model/address.ts';
import { isDirect } from '../../model/direct.ts';
import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import { subnetsOf } from '../../model/families.ts';
import type { LocalHost, WatchedNetwork } from '../intent/view.ts';
import type { Remote, Tag, Tunnel, Vlan } from '../state.ts';
import { linkLocalOf, tagMac, tunnelDevice, vlanDevice, vtepMac, wireDevice } from './deviceNames.ts';

/** Outer Ethernet, IP, UDP and VXLAN headers (RFC 7348). */
const ENCAPSULATION = { 4: 50, 6: 70 } as const;
/**
 * With less a device loses its IPv6 addresses, in a running container for good (net/ipv6/addrconf.c, addrconf_notify); what is
 * too large for the underlay then goes in fragments of the outer packet (RFC 8200, 5).
 */
const LEAST_MTU = 1280;

/** A VNI has 24 bits, and a VLAN may have the number of a VNI. */
const VLANS = 1 << 24;

export const isVlan = ({ encap }: WatchedNetwork): boolean => encap === 'vlan';

/** The host is on the wire itself, and reaches who is there. */
export const isEntered = (network: WatchedNetwork, { uplink }: LocalHost): boolean =>
  isVlan(network) && network.nwType === 'infra' && uplink !== undefined;

/** By which packets are marked, and networks of a tenant told apart. */
export const networkNumber = (network: WatchedNetwork): number =>
  isVlan(network) ? VLANS + network.vni : network.vni;

/** To who has no place on the link with this host. undefined: this host has no part in it. */
export function segmentDevice(network: WatchedNetwork, local: LocalHost): string | undefined {
  if (!isVlan(network)) return tunnelDevice(network.vni);
  return local.uplink === undefined ? undefined : vlanDevice(network.vni);
}

/** What an interface with this address and MTU leaves to containers. */
export function overlayMtu(underlay: string, mtu: number): number {
  return Math.max(LEAST_MTU, mtu - ENCAPSULATION[underlay.includes(':') ? 6 : 4]);
}

/** Of a container in the network. */
export function segmentMtu(network: WatchedNetwork | undefined, local: LocalHost): number {
  if (network !== undefined && isVlan(network) && local.uplink !== undefined) return local.uplink.mtu;
  if (network !== undefined && isDirect(network) && local.link !== undefined) return local.underlayMtu;
  return overlayMtu(local.underlay, local.underlayMtu);
}

export const tunnelOf = ({ vni }: WatchedNetwork, local: LocalHost): Tunnel => ({
  vni,
  device: tunnelDevice(vni),
  local: local.underlay,
  mac: vtepMac(local.underlay),
  mtu: overlayMtu(local.underlay, local.underlayMtu),
});

const canonical = (address: string): string =>
  numberAddress(addressNumber(address), address.includes(':') ? 6 : 4);

/** By whom its containers reach what is outside: the tenant's router on each host, or a router of the fabric's own on the VLAN. */
export function gatewaysOf(network: WatchedNetwork): { readonly own: string[]; readonly external: string[] } {
  const all = [network.gateway, network.ipv6Gateway].flatMap((g) => (g ? canonical(g) : []));
  return network.externalGateway ? { own: [], external: all } : { own: all, external: [] };
}

/** Those of a network that have a VLAN of their own in it. */
export const taggedIn = (
  { networkName, ...network }: WatchedNetwork,
  groups: readonly StoredEndpointGroup[],
): readonly (StoredEndpointGroup & { readonly vlan: number })[] =>
  network.encap === 'vlan'
    ? groups.flatMap(({ vlan, ...g }) => (g.networkName === networkName && vlan ? [{ ...g, vlan }] : []))
    : [];

/** `here`: addresses of containers here, by their group. */
export function tagsOf(
  network: WatchedNetwork,
  groups: readonly StoredEndpointGroup[],
  here: ReadonlyMap<string, readonly string[]>,
  { underlay }: LocalHost,
): readonly Tag[] | undefined {
  const tagged = taggedIn(network, groups);
  if (tagged.length === 0) return undefined;
  return tagged
    .map(({ groupName, vlan: id }) => ({
      id,
      mac: tagMac(underlay, id),
      addresses: here.get(groupName) ?? [],
    }))
    .sort((a, b) => a.id - b.id);
}

/** Of a container in a group with such a VLAN, on the host with this address. */
export function taggedAt(vtep: string, id: number): NonNullable<Remote['tagged']> {
  const mac = tagMac(vtep, id);
  return { mac, linkLocal: linkLocalOf(mac) };
}

/** `addresses`: the host's own in it; `tagging`: where groups have tags, as tagsOf. */
export function vlanOf(
  network: WatchedNetwork,
  addresses: readonly string[],
  tagging: Required<Pick<Vlan, 'tags' | 'untagged'>> | undefined,
  local: LocalHost,
): Vlan[] {
  const { underlay, uplink } = local;
  if (!isVlan(network) || uplink === undefined) return [];
  const { vni: id } = network;
  const { external } = gatewaysOf(network);
  return [
    {
      id,
      network: networkNumber(network),
      device: vlanDevice(id),
      wire: wireDevice(id),
      uplink: uplink.device,
      mac: vtepMac(underlay),
      mtu: uplink.mtu,
      prefixes: subnetsOf(network).map(subnetPrefix),
      addresses,
      ...(isEntered(network, local) && { entered: true as const }),
      ...(external.length > 0 && { gateways: external }),
      ...tagging,
    },
  ];
}
