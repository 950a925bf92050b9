/** This host's place on the underlay, and what of the control plane containers must not reach. */
import dns from 'node:dns/promises';
import net from 'node:net';
import type { Logger } from 'pino';
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

/** Milliseconds between looks at where netmaster's names lead. */
const RESOLVE_INTERVAL = 10_000;

export interface GuardedPorts {
  /** The netmasters' ports; the same array until they change. */
  readonly all: readonly Guarded[];
  close(): void;
}

/** Resolves names at once, and now and then: DNS may not be up yet, and addresses change. What was found last stays till then. */
export async function followGuarded(urls: readonly string[], log: Logger): Promise<GuardedPorts> {
  const hosts = urls.map((url) => {
    const { hostname, port, protocol } = new URL(url);
    return {
      name: hostname.replace(/^\[|\]$/g, ''),
      port: Number(port) || (protocol === 'https:' ? 443 : 80),
    };
  });
  /** By name; none where that has been said. */
  const found = new Map<string, readonly string[]>();
  let all: readonly Guarded[] = [];

  async function resolve(): Promise<void> {
    for (const { name } of hosts)
      try {
        const answers = net.isIP(name)
          ? [name]
          : (await dns.lookup(name, { all: true })).map((a) => a.address);
        found.set(name, answers.sort());
      } catch (error) {
        if (found.has(name)) continue;
        found.set(name, []);
        log.warn(
          { err: error, name },
          "netmaster's address is not known: containers are not kept from it yet",
        );
      }
    const now = hosts.flatMap(({ name, port }) =>
      (found.get(name) ?? []).map((address): Guarded => ({ address, protocol: 'tcp', port })),
    );
    if (JSON.stringify(now) !== JSON.stringify(all)) all = now;
  }

  await resolve();
  const timer = hosts.every(({ name }) => net.isIP(name))
    ? undefined
    : setInterval(() => void resolve(), RESOLVE_INTERVAL);
  return {
    get all() {
      return all;
    },
    close: () => clearInterval(timer),
  };
}
