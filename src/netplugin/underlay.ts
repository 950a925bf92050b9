/** This host's place on the underlay, and what of the control plane containers must not reach. */
import dns from 'node:dns/promises';
import net from 'node:net';
import { openNetlink } from '../linux/netlink.ts';
import { listAddresses, listLinks } from '../linux/route.ts';
import type { Guarded } from './state.ts';

export interface Underlay {
  readonly address: string;
  readonly mtu: number;
}

/** By address or interface name. Throws an Error with one plain line where this host has no such thing. */
export function findUnderlay(text: string): Underlay {
  const netlink = openNetlink();
  try {
    const links = listLinks(netlink);
    const addresses = listAddresses(netlink).filter((a) => !a.address.startsWith('fe80:'));
    const found = net.isIP(text)
      ? addresses.find((a) => a.address === text)
      : addresses.find((a) => links.find((l) => l.index === a.index)?.name === text);
    const link = links.find((l) => l.index === found?.index);
    if (found !== undefined && link !== undefined) return { address: found.address, mtu: link.mtu };
    const have = addresses
      .map((a) => `${a.address} (${links.find((l) => l.index === a.index)?.name})`)
      .filter((a) => !a.endsWith('(lo)'));
    throw new Error(
      `--underlay: no interface or address '${text}' on this host; it has ${have.join(', ') || 'no addresses'}`,
    );
  } finally {
    netlink.close();
  }
}

/** The netmasters' ports. Names are resolved once, at start. */
export async function findGuarded(urls: readonly string[]): Promise<Guarded[]> {
  const guarded: Guarded[] = [];
  for (const url of urls) {
    const { hostname, port, protocol } = new URL(url);
    const name = hostname.replace(/^\[|\]$/g, '');
    const addresses = net.isIP(name)
      ? [name]
      : await dns.lookup(name, { all: true }).then(
          (found) => found.map((f) => f.address),
          () => [],
        );
    for (const address of addresses)
      guarded.push({ address, protocol: 'tcp', port: Number(port) || (protocol === 'https:' ? 443 : 80) });
  }
  return guarded;
}
