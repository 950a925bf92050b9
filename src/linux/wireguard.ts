/**
 * WireGuard devices (linux/wireguard.h): which key a device has, where it listens, and its peers, by generic netlink (net/netlink/genetlink.c). That
 * there is such a device, its MTU and its addresses are rtnetlink's (route.ts).
 *
 *   message    generic header: command u8, version u8, two bytes of nothing; attributes
 */
import { addressBytes, addressText } from './address.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import {
  attribute,
  listAttributes,
  type Netlink,
  nested,
  type Request,
  readAttributes,
  text,
  u8,
  u16,
  u32,
} from './netlink.ts';

export const NETLINK_GENERIC = 16;

const GENL_ID_CTRL = 16;
const CTRL_CMD_GETFAMILY = 3;
const CTRL_ATTR_FAMILY_ID = 1;
const CTRL_ATTR_FAMILY_NAME = 2;

const VERSION = 1;
const WG_CMD_GET_DEVICE = 0;
const WG_CMD_SET_DEVICE = 1;
const WGDEVICE_A_IFINDEX = 1;
const WGDEVICE_A_PRIVATE_KEY = 3;
const WGDEVICE_A_PUBLIC_KEY = 4;
const WGDEVICE_A_LISTEN_PORT = 6;
const WGDEVICE_A_PEERS = 8;
const WGPEER_A_PUBLIC_KEY = 1;
const WGPEER_A_FLAGS = 3;
const WGPEER_F_REMOVE_ME = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS = 2;
const WGPEER_A_ENDPOINT = 4;
const WGPEER_A_LAST_HANDSHAKE_TIME = 6;
const WGPEER_A_ALLOWEDIPS = 9;
const WGALLOWEDIP_A_FAMILY = 1;
const WGALLOWEDIP_A_IPADDR = 2;
const WGALLOWEDIP_A_CIDR_MASK = 3;

/** Who is spoken to: one address, at which its own packets and those that are in them come from. */
export interface WireguardPeer {
  /** Base64 of 32 bytes, as of all keys here. */
  readonly publicKey: string;
  readonly address: string;
  /** Of UDP, at that address. */
  readonly port: number;
}

export interface KnownPeer extends Pick<WireguardPeer, 'publicKey' | 'address'> {
  /** Where it was heard of last, `ADDRESS PORT`: what is for it goes there. '' where that is not known. */
  readonly endpoint: string;
  /** Seconds, Unix time; 0: there was none. */
  readonly handshake: number;
}

export interface WireguardDevice {
  /** '' where it has none yet. */
  readonly publicKey: string;
  readonly port: number;
  /** Without those that have another number of addresses than one. */
  readonly peers: readonly KnownPeer[];
  /** Public keys of all. */
  readonly keys: readonly string[];
}

const message = (command: number, ...attributes: readonly Buffer[]): Buffer =>
  Buffer.concat([Buffer.of(command, VERSION, 0, 0), ...attributes]);

/** Number that the kernel gives messages of WireGuard's; undefined: it has no WireGuard. Of a socket of NETLINK_GENERIC, as all here. */
export function wireguardFamily(netlink: Netlink): number | undefined {
  const body = message(CTRL_CMD_GETFAMILY, attribute(CTRL_ATTR_FAMILY_NAME, text('wireguard')));
  const answer = netlink.get({ type: GENL_ID_CTRL, flags: 0, body, text: 'genl ctrl get name wireguard' });
  return answer && readAttributes(answer.body.subarray(4)).get(CTRL_ATTR_FAMILY_ID)?.readUInt16LE();
}

/** Throws a NetlinkError where there is no such device, ENODEV, or it is none of WireGuard's. */
export function readWireguard(netlink: Netlink, family: number, index: number): WireguardDevice {
  const body = message(WG_CMD_GET_DEVICE, attribute(WGDEVICE_A_IFINDEX, u32(index)));
  const peers = new Map<string, { addresses: string[]; endpoint: string; handshake: number }>();
  let publicKey = '';
  let port = 0;
  // Many peers come in several messages, and one of many addresses in several of those.
  for (const { body: part } of netlink.dump({ type: family, flags: 0, body, text: `wg show ${index}` })) {
    const attributes = readAttributes(part.subarray(4));
    publicKey = attributes.get(WGDEVICE_A_PUBLIC_KEY)?.toString('base64') ?? publicKey;
    port = attributes.get(WGDEVICE_A_LISTEN_PORT)?.readUInt16LE() ?? port;
    for (const [, bytes] of listAttributes(attributes.get(WGDEVICE_A_PEERS) ?? Buffer.alloc(0))) {
      const peer = readAttributes(bytes);
      const key = peer.get(WGPEER_A_PUBLIC_KEY)?.toString('base64') ?? '';
      const known = peers.get(key) ?? { addresses: [], endpoint: '', handshake: 0 };
      peers.set(key, known);
      known.handshake = Number(peer.get(WGPEER_A_LAST_HANDSHAKE_TIME)?.readBigInt64LE() ?? known.handshake);
      known.endpoint = readEndpoint(peer.get(WGPEER_A_ENDPOINT)) ?? known.endpoint;
      for (const [, allowed] of listAttributes(peer.get(WGPEER_A_ALLOWEDIPS) ?? Buffer.alloc(0))) {
        const one = readAttributes(allowed);
        const address = one.get(WGALLOWEDIP_A_IPADDR);
        if (address !== undefined)
          known.addresses.push(`${addressText(address)}/${one.get(WGALLOWEDIP_A_CIDR_MASK)?.[0] ?? 0}`);
      }
    }
  }
  return {
    publicKey,
    port,
    keys: [...peers.keys()],
    peers: [...peers].flatMap(([key, { addresses, endpoint, handshake }]) => {
      const [address = '', length] = addresses[0]?.split('/') ?? [];
      const whole = length === (address.includes(':') ? '128' : '32');
      return addresses.length === 1 && whole ? [{ publicKey: key, address, endpoint, handshake }] : [];
    }),
  };
}

/** The key, of 32 bytes, and the port of UDP. Sessions under another key before are over. */
export const setWireguard = (
  family: number,
  device: { readonly index: number; readonly name: string },
  privateKey: Buffer,
  port: number,
): Request => ({
  type: family,
  flags: 0,
  text: `wg set ${device.name} listen-port ${port}`,
  body: message(
    WG_CMD_SET_DEVICE,
    attribute(WGDEVICE_A_IFINDEX, u32(device.index)),
    attribute(WGDEVICE_A_PRIVATE_KEY, privateKey),
    attribute(WGDEVICE_A_LISTEN_PORT, u16(port)),
  ),
});

/** struct sockaddr_in, sockaddr_in6. */
function endpoint(address: string, port: number): Buffer {
  const bytes = addressBytes(address);
  const out = Buffer.alloc(bytes.length === 4 ? 16 : 28);
  out.writeUInt16LE(bytes.length === 4 ? AF_INET : AF_INET6, 0);
  out.writeUInt16BE(port, 2);
  bytes.copy(out, bytes.length === 4 ? 4 : 8);
  return out;
}

function readEndpoint(bytes: Buffer | undefined): string | undefined {
  if (bytes === undefined) return undefined;
  const address = bytes.readUInt16LE(0) === AF_INET ? bytes.subarray(4, 8) : bytes.subarray(8, 24);
  return `${addressText(address)} ${bytes.readUInt16BE(2)}`;
}

function changePeer(family: number, index: number, what: string, ...attributes: readonly Buffer[]): Request {
  const peers = nested(WGDEVICE_A_PEERS, nested(0, ...attributes));
  const body = message(WG_CMD_SET_DEVICE, attribute(WGDEVICE_A_IFINDEX, u32(index)), peers);
  return { type: family, flags: 0, body, text: `wg set ${index} peer ${what}` };
}

/** A peer with this one address; an address that another peer of the device had is this one's then (allowedips.c). */
export function addPeer(family: number, index: number, { publicKey, address, port }: WireguardPeer): Request {
  const bytes = addressBytes(address);
  return changePeer(
    family,
    index,
    `${publicKey} allowed-ips ${address}`,
    attribute(WGPEER_A_PUBLIC_KEY, Buffer.from(publicKey, 'base64')),
    attribute(WGPEER_A_FLAGS, u32(WGPEER_F_REPLACE_ALLOWEDIPS)),
    attribute(WGPEER_A_ENDPOINT, endpoint(address, port)),
    nested(
      WGPEER_A_ALLOWEDIPS,
      nested(
        0,
        attribute(WGALLOWEDIP_A_FAMILY, u16(bytes.length === 4 ? AF_INET : AF_INET6)),
        attribute(WGALLOWEDIP_A_IPADDR, bytes),
        attribute(WGALLOWEDIP_A_CIDR_MASK, u8(bytes.length * 8)),
      ),
    ),
  );
}

export const removePeer = (family: number, index: number, publicKey: string): Request =>
  changePeer(
    family,
    index,
    `${publicKey} remove`,
    attribute(WGPEER_A_PUBLIC_KEY, Buffer.from(publicKey, 'base64')),
    attribute(WGPEER_A_FLAGS, u32(WGPEER_F_REMOVE_ME)),
  );
