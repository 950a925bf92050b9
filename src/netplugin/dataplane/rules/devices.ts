/** Our devices as rules name them, by what they are: a pattern of nft(8), or a name; and the ports of WireGuard's. */
import { DEVICE_PREFIXES, DIRECT_DEVICE, UPLINK_DEVICE, WIREGUARD } from '../../constants.ts';

/** In a router: towards its containers, towards other hosts by tunnels and by their link, VLANs, and its exit. */
export const PORTS = `"${DEVICE_PREFIXES.port}*"`;
export const TUNNELS = `"${DEVICE_PREFIXES.tunnel}*"`;
export const DIRECT = `"${DIRECT_DEVICE}"`;
export const VLANS = `"${DEVICE_PREFIXES.vlan}*"`;
export const UPLINK = `"${UPLINK_DEVICE}"`;

/** On the host: the other ends of the routers' exits. */
export const EXITS = `"${DEVICE_PREFIXES.exit}*"`;
/** WireGuard's, by which tunnels send and receive where what goes between hosts is encrypted. */
export const ENCRYPTED = `{ ${WIREGUARD.map(({ device }) => `"${device}"`).join(', ')} }`;
export const WIREGUARD_PORTS = `{ ${WIREGUARD.map(({ port }) => port).join(', ')} }`;
