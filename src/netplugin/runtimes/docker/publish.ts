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
    const { HostIP = '' } = mapping;
    // Without an address all of the host's, of both families; 0.0.0.0 and :: are all of one, as on Docker's own networks.
    const targets = HostIP === '' ? [ipv4, ipv6] : [HostIP.includes(':') ? ipv6 : ipv4];
    const wanted = {
      protocol,
      hostAddress: ['0.0.0.0', '::'].includes(HostIP) ? '' : HostIP,
      hostPort: mapping.HostPort || FIRST_CHOSEN,
      lastPort: mapping.HostPort ? mapping.HostPortEnd || mapping.HostPort : LAST_CHOSEN,
      port: mapping.Port,
    };
    return targets.filter((a) => a !== undefined).map((address) => ({ ...wanted, address }));
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

  /** One socket for each; none is left where one of them cannot be had. */
  function bindAll(wanted: readonly WantedPublication[], port: number): number[] {
    const fds: number[] = [];
    try {
      for (const w of wanted) fds.push(bindPort(w.protocol, bindAddress(w), port));
      return fds;
    } catch (error) {
      for (const fd of fds) closeSocket(fd);
      throw error;
    }
  }

  function claimMapping(mapping: readonly WantedPublication[]): { port: number; fds: number[] } {
    const { protocol, hostPort, lastPort = hostPort } = mapping[0] as WantedPublication;
    let cause: unknown;
    for (let port = hostPort; port <= lastPort; port++)
      try {
        return { port, fds: bindAll(mapping, port) };
      } catch (error) {
        cause = error;
      }
    const range = lastPort > hostPort ? `ports ${hostPort}-${lastPort} are all` : `port ${hostPort} is`;
    const address = bindAddress(mapping[0] as WantedPublication);
    throw new Error(
      `cannot publish ${protocol} ${address}:${hostPort}: ${range} taken on this host (${(cause as Error).message})`,
    );
  }

  return {
    claim(endpoint, wanted) {
      free(endpoint);
      const claimed: number[] = [];
      held.set(endpoint, claimed);
      try {
        return byMapping(wanted).flatMap((mapping) => {
          const { port, fds } = claimMapping(mapping);
          claimed.push(...fds);
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

const bindAddress = ({ hostAddress, address }: Publication): string =>
  hostAddress || (address.includes(':') ? '::' : '0.0.0.0');

/** IPv4 and IPv6 of one mapping together: they get the same host port. */
function byMapping(wanted: readonly WantedPublication[]): WantedPublication[][] {
  const text = (w: WantedPublication): string => [w.protocol, w.hostAddress, w.hostPort, w.port].join();
  const mappings: WantedPublication[][] = [];
  for (const w of wanted) {
    const same = mappings.find((m) => m.every((o) => text(o) === text(w) && o.address !== w.address));
    if (same === undefined) mappings.push([w]);
    else same.push(w);
  }
  return mappings;
}
