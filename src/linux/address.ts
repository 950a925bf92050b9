/** Addresses between text and the bytes that the kernel takes. */
import ipaddr from 'ipaddr.js';

/** 4 or 16 bytes in network order. Throws an Error where it is not an address. */
export function addressBytes(text: string): Buffer {
  return Buffer.from(ipaddr.parse(text).toByteArray());
}

/** Canonical text (RFC 5952 for IPv6) of 4 or 16 bytes. */
export function addressText(bytes: Uint8Array): string {
  return ipaddr.fromByteArray([...bytes]).toString();
}

export function macBytes(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

export function macText(bytes: Uint8Array): string {
  return [...bytes].map((b) => b.toString(16).padStart(2, '0')).join(':');
}
