/**
 * Published ports: Docker's port map as Publications, and the claim on the host's ports. A claimed port is
 * held by a bound socket that never listens, so that no other process of the host can take it and a port that
 * is taken is refused; packets are translated in the kernel and never reach that socket.
 */
import { bindPort, closeSocket } from '../../../linux/netns.ts';
import type { Publication } from '../../state.ts';

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

/** A publication whose host port may still be chosen, from `hostPort` to `lastPort`. */
export interface WantedPublication extends Publication {
  readonly lastPort?: number;
}

/** Docker's own range for ports that it chooses. */
const FIRST_CHOSEN = 49153;
const LAST_CHOSEN = 65535;

const PROTOCOLS: Readonly<Record<number, Publication['protocol']>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

export function readPortMap(
  mappings: readonly PortMapping[],
  addresses: readonly string[],
): WantedPublication[] {
  const [ipv4, ipv6] = addresses;
  return mappings.flatMap((mapping) => {
    const protocol = PROTOCOLS[mapping.Proto];
    if (protocol === undefined)
      throw new Error(`port ${mapping.Port}: protocol ${mapping.Proto} cannot be published`);
    const hostAddress = ['0.0.0.0', '::'].includes(mapping.HostIP ?? '') ? '' : (mapping.HostIP ?? '');
    const wanted = {
      protocol,
      hostAddress,
      hostPort: mapping.HostPort || FIRST_CHOSEN,
      lastPort: mapping.HostPort ? mapping.HostPortEnd || mapping.HostPort : LAST_CHOSEN,
      port: mapping.Port,
    };
    if (hostAddress.includes(':')) return ipv6 === undefined ? [] : [{ ...wanted, address: ipv6 }];
    // On all addresses: IPv6 too, where the endpoint has it.
    const both = hostAddress === '' && ipv6 !== undefined ? [ipv6] : [];
    return [ipv4, ...both].filter((a) => a !== undefined).map((address) => ({ ...wanted, address }));
  });
}

export interface Publications {
  /** All or none. Throws an Error that names the port where one is taken. */
  claim(endpoint: string, wanted: readonly WantedPublication[]): Publication[];
  free(endpoint: string): void;
}

export function openPublications(): Publications {
  const held = new Map<string, number[]>();

  function free(endpoint: string): void {
    for (const fd of held.get(endpoint) ?? []) closeSocket(fd);
    held.delete(endpoint);
  }

  function claimOne(wanted: WantedPublication, ports: readonly number[]): { port: number; fd: number } {
    const address = wanted.hostAddress || (wanted.address.includes(':') ? '::' : '0.0.0.0');
    let cause: unknown;
    for (const port of ports)
      try {
        return { port, fd: bindPort(wanted.protocol, address, port) };
      } catch (error) {
        cause = error;
      }
    const range = ports.length > 1 ? `ports ${ports[0]}-${ports.at(-1)} are all` : `port ${ports[0]} is`;
    throw new Error(
      `cannot publish ${wanted.protocol} ${address}:${wanted.hostPort}: ${range} taken on this host (${(cause as Error).message})`,
    );
  }

  return {
    claim(endpoint, wanted) {
      free(endpoint);
      const fds: number[] = [];
      held.set(endpoint, fds);
      const chosen = new Map<string, number>();
      try {
        return wanted.map(({ lastPort, ...publication }) => {
          // IPv4 and IPv6 of one mapping get the same port.
          const mapping = [
            publication.protocol,
            publication.hostAddress,
            publication.hostPort,
            publication.port,
          ].join();
          const first = chosen.get(mapping);
          const from = first ?? publication.hostPort;
          const to = first ?? lastPort ?? publication.hostPort;
          const ports = Array.from({ length: to - from + 1 }, (_, i) => from + i);
          const { port, fd } = claimOne(publication, ports);
          fds.push(fd);
          chosen.set(mapping, port);
          return { ...publication, hostPort: port };
        });
      } catch (error) {
        free(endpoint);
        throw error;
      }
    },
    free,
  };
}
