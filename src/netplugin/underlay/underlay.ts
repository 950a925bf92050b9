/** This host's place on the underlay, as it changes, and what of the control plane containers must not reach. */
import dns from 'node:dns/promises';
import net from 'node:net';
import type { Logger } from 'pino';
import { INTERFACE_GROUPS, openListener, openNetlink } from '../../linux/netlink.ts';
import { type Address, type Link, listAddresses, listLinks } from '../../linux/route.ts';
import { insist, inTurn } from '../../turns.ts';
import { LISTEN_INTERVAL, RESOLVE_INTERVAL } from '../intervals.ts';
import type { Guarded } from '../state.ts';

export interface Underlay {
  readonly address: string;
  /** Of the interface that has it. */
  readonly device: string;
  readonly mtu: number;
  readonly running: boolean;
  /** The address with the length of the prefix that is reached without a router, by Ethernet; absent: nobody is. */
  readonly prefix?: string;
}

/** A device of kind ipvlan has no MAC address but that of the one that it is on. */
const sharesLink = ({ ethernet, kind }: Link, { address, length }: Address): boolean =>
  ethernet && kind !== 'ipvlan' && length < (address.includes(':') ? 128 : 32);

/** The interface is there and has no address, or none yet. */
class NoAddress extends Error {}

/**
 * By address or interface name. Of several addresses it stays with the one that it had `before`, and with that one's family,
 * since tunnels of one do not reach hosts of the other. Throws an Error with one plain line where this host has no such thing.
 */
export function findUnderlay(text: string, before?: Underlay): Underlay {
  const netlink = openNetlink();
  try {
    const links = listLinks(netlink);
    const addresses = listAddresses(netlink).filter((a) => !a.address.startsWith('fe80:'));
    const meant = net.isIP(text)
      ? addresses.filter((a) => a.address === text)
      : addresses
          .filter((a) => links.find((l) => l.index === a.index)?.name === text)
          .filter((a) => before === undefined || net.isIP(a.address) === net.isIP(before.address));
    const found =
      meant.find((a) => a.address === before?.address) ?? meant.find((a) => a.passing !== true) ?? meant[0];
    const link = links.find((l) => l.index === found?.index);
    if (found !== undefined && link !== undefined)
      return {
        address: found.address,
        device: link.name,
        mtu: link.mtu,
        running: link.running,
        ...(sharesLink(link, found) && { prefix: `${found.address}/${found.length}` }),
      };
    const have = addresses
      .map((a) => `${a.address} (${links.find((l) => l.index === a.index)?.name})`)
      .filter((a) => !a.endsWith('(lo)'));
    const there = `; it has ${have.join(', ') || 'no addresses'}`;
    if (!links.some((l) => l.name === text))
      throw new Error(`--underlay: no interface or address '${text}' on this host${there}`);
    const family = before === undefined ? '' : `IPv${net.isIP(before.address)} `;
    throw new NoAddress(`--underlay: interface '${text}' has no ${family}address${there}`);
  } finally {
    netlink.close();
  }
}

export interface Followed {
  /** As it is, or was while it is not there: what runs is not torn down for it. */
  readonly now: Underlay;
  /** Why other hosts cannot reach this one, in one plain line; '' where they can. */
  readonly problem: string;
  /** Called when `now` is another than before. */
  onChange(listener: (before: Underlay) => void): void;
  close(): void;
}

/** The address, the MTU and the interface, as they come, go and change. Throws where there is no such thing to begin with. */
export function followUnderlay(text: string, log: Logger): Followed {
  // Before the first look, so that nothing is missed in between.
  const listener = openListener(INTERFACE_GROUPS);
  let now: Underlay;
  try {
    now = findUnderlay(text);
  } catch (error) {
    listener.close();
    throw error;
  }
  const listeners: ((before: Underlay) => void)[] = [];
  let problem = '';

  function look(): void {
    const before = now;
    const known = problem;
    try {
      now = findUnderlay(text, before);
      problem = now.running ? '' : `--underlay: interface ${now.device} is down`;
    } catch (error) {
      problem = (error as Error).message;
    }
    if (problem !== '' && known === '')
      log.warn({ underlay: before }, `${problem}: other hosts cannot reach this one; what runs goes on`);
    if (problem === '' && known !== '') log.info({ underlay: now }, 'other hosts can reach this one again');
    if (
      now.address === before.address &&
      now.mtu === before.mtu &&
      now.device === before.device &&
      now.prefix === before.prefix
    )
      return;
    log.info({ underlay: now, before }, 'the underlay has changed: following it');
    for (const changed of listeners) changed(before);
  }
  if (!now.running) look();
  const looks = inTurn(async () => look(), { every: LISTEN_INTERVAL, due: () => listener.heard() });

  return {
    get now() {
      return now;
    },
    get problem() {
      return problem;
    },
    onChange: (changed) => void listeners.push(changed),
    close() {
      void looks.close();
      listener.close();
    },
  };
}

/**
 * The same for an agent that starts: where the interface has no address yet (DHCP), it waits for one, and says so once. Rejects
 * where there is no such interface or address: a name that is wrong does not mend itself.
 */
export async function awaitUnderlay(text: string, log: Logger): Promise<Followed> {
  const listener = openListener(INTERFACE_GROUPS);
  let missing: NoAddress | undefined;
  try {
    return await insist(
      () => {
        if (missing !== undefined && !listener.heard()) throw missing;
        return followUnderlay(text, log);
      },
      (error) => {
        if (!(error instanceof NoAddress)) throw error;
        if (missing === undefined) log.warn(`${error.message}: waiting for one`);
        missing = error;
        return LISTEN_INTERVAL;
      },
    );
  } finally {
    listener.close();
  }
}

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

  const fixed = hosts.every(({ name }) => net.isIP(name));
  const turns = inTurn(resolve, fixed ? {} : { every: RESOLVE_INTERVAL });
  await turns.next();
  return {
    get all() {
      return all;
    },
    close: () => void turns.close(),
  };
}
