/** Names and link addresses that follow from what they stand for: equal on every host, stable over restarts. */
import { createHash } from 'node:crypto';
import ipaddr from 'ipaddr.js';
import { DEVICE_PREFIXES } from '../constants.ts';

/** The first hex digits of a SHA-256: device names have 15 bytes (IFNAMSIZ). */
function digest(text: string, length: number): string {
  return createHash('sha256').update(text).digest('hex').slice(0, length);
}

export const portDevice = (endpoint: string): string => `${DEVICE_PREFIXES.port}${digest(endpoint, 10)}`;
export const peerDevice = (endpoint: string): string => `${DEVICE_PREFIXES.peer}${digest(endpoint, 10)}`;
export const tunnelDevice = (vni: number): string => `${DEVICE_PREFIXES.tunnel}${vni}`;
export const vlanDevice = (id: number): string => `${DEVICE_PREFIXES.vlan}${id}`;
export const wireDevice = (id: number): string => `${DEVICE_PREFIXES.wire}${id}`;
export const exitDevice = (tenant: string): string => `${DEVICE_PREFIXES.exit}${digest(tenant, 8)}`;
export const routerNamespace = (tenant: string): string => `contiv-${tenant}`;

/** Of what is a host's on a segment: the four bytes of an IPv4 VTEP. */
function vtepTail(vtep: string): string {
  const bytes = ipaddr.parse(vtep).toByteArray();
  const tail =
    bytes.length === 4 ? bytes.map((b) => b.toString(16).padStart(2, '0')).join('') : digest(vtep, 8);
  return tail.match(/../g)?.join(':') as string;
}

/** MAC address of a host's VXLAN devices and VLAN devices, locally administered: 02:ce and the four bytes of an IPv4 VTEP. */
export const vtepMac = (vtep: string): string => `02:ce:${vtepTail(vtep)}`;

/**
 * Of a host in a group's VLAN, locally administered: the id's 12 bits around an `a`, as `1a:f4` of 0x1f4, and the same four bytes. A fabric
 * that joins several VLANs in one segment looks for each address in one of them (dataplane/vlan/program.ts writes it).
 */
export function tagMac(vtep: string, id: number): string {
  const [first, ...rest] = id.toString(16).padStart(3, '0');
  return `${first}a:${rest.join('')}:${vtepTail(vtep)}`;
}

/** MAC addresses of both ends of a tenant's exit: 02:cf and 02:cd, and the device's number. */
export function exitMacs(tenant: string): { hostMac: string; routerMac: string } {
  const tail = digest(tenant, 8).match(/../g)?.join(':');
  return { hostMac: `02:cf:${tail}`, routerMac: `02:cd:${tail}` };
}

/** Next hop for IPv6 routes to a host: fe80:: and its VTEP's MAC address. */
export const vtepLinkLocal = (vtep: string): string => linkLocalOf(vtepMac(vtep));

/** The same of another of its MAC addresses. */
export function linkLocalOf(mac: string): string {
  const [a, b, c, d, e, f] = mac.split(':');
  return ipaddr.parse(`fe80::${a}${b}:${c}${d}:${e}${f}`).toString();
}
