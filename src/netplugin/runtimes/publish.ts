/**
 * Published ports: a runtime's port map as Publications, and the claim on the host's ports. A claimed port is
 * held by a bound socket that never listens, so that no other process of the host can take it and a port that
 * is taken is refused; packets are translated in the kernel and never reach that socket.
 */
import type { Logger } from 'pino';
import { allowSockets, bindPort, closeSocket } from '../../linux/netns.ts';
import { isV6 } from '../../model/address.ts';
import { MOST_PUBLISHED } from '../../model/endpoint.ts';
import type { Publication } from '../state.ts';
import type { Endpoints } from './runtime.ts';

/** As dockerd sends it: types.PortBinding of libnetwork. Proto is the IP protocol number. */
export interface PortMapping {
  readonly Proto: number;
  readonly Port: number;
  readonly HostIP?: string;
  /** 0: any free one. */
  readonly HostPort: number;
  /** End of the range that it may be chosen from. */
  readonly HostPortEnd?: number;
}

/** A publication whose host port may still be chosen, from `hostPort` to `lastPort`; a range of ports has no choice. */
export interface WantedPublication extends Publication {
  readonly lastPort?: number;
}

/** More than all ports of three protocols and both families: a claimed port is a socket. */
const SOCKETS = 1 << 19;

/** Docker's own range for ports that it chooses. */
const FIRST_CHOSEN = 49153;
const LAST_CHOSEN = 65535;

const PROTOCOLS: Readonly<Record<number, Publication['protocol']>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

export function readPortMap(
  mappings: readonly PortMapping[],
  addresses: readonly string[],
): WantedPublication[] {
  const [ipv4, ipv6] = [addresses.find((a) => !isV6(a)), addresses.find(isV6)];
  return inRows(mappings).flatMap(([mapping, count]) => {
    const protocol = PROTOCOLS[mapping.Proto];
    if (protocol === undefined)
      throw new Error(`port ${mapping.Port}: protocol ${mapping.Proto} cannot be published`);
    const { HostIP = '' } = mapping;
    // Without an address all of the host's, of both families; 0.0.0.0 and :: are all of one, as on Docker's own networks.
    const targets = HostIP === '' ? [ipv4, ipv6] : [HostIP.includes(':') ? ipv6 : ipv4];
    const wanted = {
      protocol,
      hostAddress: ['0.0.0.0', '::'].includes(HostIP) ? '' : HostIP,
      hostPort: mapping.HostPort || FIRST_CHOSEN,
      lastPort: mapping.HostPort ? mapping.HostPortEnd || mapping.HostPort : LAST_CHOSEN,
      port: mapping.Port,
      ...(count > 1 ? { count } : {}),
    };
    return targets.filter((a) => a !== undefined).map((address) => ({ ...wanted, address }));
  });
}

/** The host's port is given, not to be chosen. */
const isGiven = ({ HostPort, HostPortEnd }: PortMapping): boolean =>
  HostPort !== 0 && (HostPortEnd || HostPort) === HostPort;

/** Docker makes a mapping of each port of a range: the first of those in a row, and how many they are. */
function inRows(mappings: readonly PortMapping[]): [PortMapping, number][] {
  const place = (m: PortMapping): string => `${m.Proto} ${m.HostIP ?? ''} ${m.Port - m.HostPort}`;
  const chosen = mappings.filter((m) => !isGiven(m)).map((m): [PortMapping, number] => [m, 1]);
  const rows: [PortMapping, number][] = [];
  for (const given of Map.groupBy(mappings.filter(isGiven), place).values())
    for (const mapping of given.toSorted((a, b) => a.HostPort - b.HostPort)) {
      const row = rows.at(-1);
      const next = row !== undefined && place(row[0]) === place(mapping) ? row[0].HostPort + row[1] : -1;
      if (mapping.HostPort === next) (row as [PortMapping, number])[1]++;
      else if (mapping.HostPort !== next - 1) rows.push([mapping, 1]); // the same twice
    }
  return [...rows, ...chosen];
}

export interface Publications {
  /** All or none. Throws an Error that names the port where one is taken. */
  claim(endpoint: string, wanted: readonly WantedPublication[]): Publication[];
  free(endpoint: string): void;
}

export function openPublications(bind: typeof bindPort = bindPort): Publications {
  const held = new Map<string, number[]>();
  try {
    allowSockets(SOCKETS);
  } catch {
    // It has what it has; where that is too little, the refusal says so.
  }

  function free(endpoint: string): void {
    for (const fd of held.get(endpoint) ?? []) closeSocket(fd);
    held.delete(endpoint);
  }

  /** One socket for each port, of both families where both are wanted; none is left where one cannot be had. Throws a Refused. */
  function bindAll(mapping: readonly WantedPublication[], first: number): number[] {
    const wanted = mapping[0] as WantedPublication;
    const both = mapping.length > 1;
    const fds: number[] = [];
    for (let port = first; port < first + (wanted.count ?? 1); port++)
      try {
        fds.push(bind(wanted.protocol, both ? '::' : bindAddress(wanted), port, { both }));
      } catch (error) {
        for (const fd of fds) closeSocket(fd);
        throw new Refused(wanted, port, error as NodeJS.ErrnoException);
      }
    return fds;
  }

  /** The first that is free, from `start` on. */
  function claimMapping(
    mapping: readonly WantedPublication[],
    start: number,
  ): { port: number; fds: number[] } {
    const wanted = mapping[0] as WantedPublication;
    const { protocol, hostPort, lastPort = hostPort } = wanted;
    const size = lastPort - hostPort + 1;
    for (let i = 0; i < size; i++) {
      const port = hostPort + ((start - hostPort + i) % size);
      try {
        return { port, fds: bindAll(mapping, port) };
      } catch (error) {
        const { isTaken, message } = error as Refused;
        if (!isTaken || size === 1) throw new Error(`cannot publish ${describe(wanted)}: ${message}`);
      }
    }
    throw new Error(
      `cannot publish ${protocol} ${bindAddress(wanted)}:${hostPort}: ports ${hostPort}-${lastPort} are all taken on this host`,
    );
  }

  return {
    claim(endpoint, wanted) {
      free(endpoint);
      const claimed: number[] = [];
      held.set(endpoint, claimed);
      /** Where to go on choosing: what was chosen just before is not free any more. */
      const chosen = new Map<string, number>();
      try {
        return byMapping(wanted).flatMap((mapping) => {
          const { protocol, hostPort, lastPort } = mapping[0] as WantedPublication;
          const range = `${protocol} ${hostPort} ${lastPort}`;
          const { port, fds } = claimMapping(mapping, chosen.get(range) ?? hostPort);
          chosen.set(range, port);
          for (const fd of fds) claimed.push(fd);
          return mapping.map(({ lastPort: _, ...publication }) => ({ ...publication, hostPort: port }));
        });
      } catch (error) {
        free(endpoint);
        throw error;
      }
    },
    free,
  };
}

/** Who is attached holds its ports, also where an earlier agent has attached it; who is detached gives them back. */
export function keepPublications(
  publications: Publications,
  { attachments, onDetach }: Pick<Endpoints, 'attachments' | 'onDetach'>,
  log: Logger,
): void {
  for (const { endpoint, publications: held } of attachments.values())
    if (held.length > 0)
      try {
        publications.claim(endpoint.endpointID, held);
      } catch (error) {
        log.warn({ err: error }, 'a published port was taken by another process while netplugin was away');
      }
  onDetach(publications.free);
}

/** `udp 0.0.0.0:20000-30000` */
function describe(wanted: WantedPublication): string {
  const { protocol, hostPort, count = 1 } = wanted;
  return `${protocol} ${bindAddress(wanted)}:${hostPort}${count > 1 ? `-${hostPort + count - 1}` : ''}`;
}

/** A port that the kernel does not give. */
class Refused extends Error {
  readonly isTaken: boolean;

  constructor(wanted: Publication, port: number, { code, message }: NodeJS.ErrnoException) {
    super(`${reason(wanted, port, code)} (${message})`);
    this.isTaken = code === 'EADDRINUSE';
  }
}

/** What socket(2) and bind(2) say, as what is so. */
function reason({ protocol, hostAddress }: Publication, port: number, code: string | undefined): string {
  switch (code) {
    case 'EADDRINUSE':
      return `port ${port} is taken on this host`;
    case 'EADDRNOTAVAIL':
      return `this host has no address ${hostAddress}`;
    case 'EPROTONOSUPPORT':
      return `this host's kernel has no ${protocol.toUpperCase()}: ${protocol === 'sctp' ? 'try modprobe sctp' : 'use one that has'}`;
    case 'EAFNOSUPPORT':
      return `this host's kernel has no IPv6: publish on an IPv4 address, as in -p 0.0.0.0:${port}:...`;
    case 'EMFILE':
      return 'netplugin may open no more files, and takes one for each port: start it with a higher limit (ulimit -n)';
    case 'ENFILE':
      return 'this host opens no more files: raise sysctl fs.file-max';
    case 'ENOBUFS':
    case 'ENOMEM':
      return 'this host has no memory for it';
    case 'EACCES':
    case 'EPERM':
      return `netplugin may not have port ${port} on this host`;
    default:
      return `port ${port} cannot be had on this host`;
  }
}

const bindAddress = ({ hostAddress, address }: Publication): string =>
  hostAddress || (address.includes(':') ? '::' : '0.0.0.0');

/** IPv4 and IPv6 of one mapping together: they get the same host port. */
function byMapping(wanted: readonly WantedPublication[]): WantedPublication[][] {
  const text = (w: WantedPublication): string => [w.protocol, w.hostAddress, w.hostPort, w.port].join();
  const mappings: WantedPublication[][] = [];
  for (const alike of Map.groupBy(wanted, text).values()) {
    const found: WantedPublication[][] = [];
    for (const w of alike) {
      const same = found.find((m) => m.every((o) => o.address !== w.address));
      if (same === undefined) found.push([w]);
      else same.push(w);
    }
    mappings.push(...found);
  }
  return mappings;
}

/** What a runtime asks for, where no host port is chosen for it. */
export function askedText(mappings: readonly PortMapping[]): string[] {
  const lines = mappings.map(({ Proto, Port, HostPort }) => {
    const port = `${Port}/${PROTOCOLS[Proto] ?? Proto}`;
    return HostPort === 0 ? port : `${HostPort}->${port}`;
  });
  return [...new Set(lines)].slice(0, MOST_PUBLISHED);
}
