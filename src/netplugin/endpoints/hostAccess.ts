/**
 * The host's own endpoint in each network that it reaches (`hostAccess`), and in each VLAN network where it has an uplink: an address of the network's, homed here, by which the other hosts
 * know where answers go. It is attached as a container's is, without a port, so it is on disk, told to netmaster and told again as those
 * are; and by it the tenant has a router here, whether or not a container runs.
 *
 *   network with hostAccess --> addresses from netmaster --> attachment --> kernel, netmaster
 *   network gone            --> its attachment goes
 */
import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { contains, macOf, parseSubnet } from '../../model/address.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import { familiesOf, subnetsOf } from '../../model/families.ts';
import { afterFailure, inTurn } from '../../turns.ts';
import type { Follower } from '../follower.ts';
import type { Attachment, KnownNetwork } from '../intent/view.ts';
import { ENDPOINTS_INTERVAL, RETRY_DELAY } from '../intervals.ts';
import type { LocalEndpoints } from './endpoints.ts';

export interface HostAccessOptions {
  readonly host: string;
  readonly endpoints: Pick<
    LocalEndpoints,
    'view' | 'live' | 'attachments' | 'reserve' | 'release' | 'attachHost' | 'detach'
  >;
  /** Whether networks of encapsulation vlan act here: the host has an address in each, from which it asks on the wire. */
  vlans(): boolean;
  readonly log: Logger;
}

export const HOST_RUNTIME = 'host';

const keyOf = ({ tenantName, networkName }: Endpoint): string => `${tenantName}:${networkName}`;

/** One a host and network. */
const idOf = (host: string, key: string): string =>
  `host-${createHash('sha256').update(`${host} ${key}`).digest('hex').slice(0, 32)}`;

export function followHostAccess({ host, endpoints, vlans, log }: HostAccessOptions): Follower {
  const attachedHere = () => [...endpoints.attachments.values()].filter((a) => a.runtime === HOST_RUNTIME);
  const wanted = (): Map<string, KnownNetwork> =>
    new Map(
      [...endpoints.view.networks].filter(([, n]) => (n.encap === 'vlan' ? vlans() : n.hostAccess === true)),
    );

  /** Not one of a network of the same name that went. */
  function fits({ endpoint }: Attachment, networks: ReadonlyMap<string, KnownNetwork>): boolean {
    const network = networks.get(keyOf(endpoint));
    const subnets = subnetsOf(network ?? {}).flatMap((text) => parseSubnet(text) ?? []);
    return (
      endpoint.ipAddress.length === subnets.length &&
      endpoint.ipAddress.every((address) => subnets.some((subnet) => contains(subnet, address)))
    );
  }

  async function attach(key: string, network: KnownNetwork): Promise<void> {
    const { tenantName, networkName } = network;
    const ipAddress: string[] = [];
    try {
      for (const family of familiesOf(network))
        ipAddress.push((await endpoints.reserve({ tenantName, networkName, family, ofHost: true })).address);
      const [address = ''] = ipAddress;
      const endpoint: Endpoint = {
        endpointID: idOf(host, key),
        tenantName,
        networkName,
        ipAddress,
        macAddress: macOf(address), // nobody sees it on a wire
        homingHost: host,
        status: 'created', // no name leads to it
        ofHost: true,
      };
      await endpoints.attachHost(endpoint, HOST_RUNTIME);
      log.info({ network: key, addresses: ipAddress }, 'this host has an address in the network');
    } catch (error) {
      for (const address of ipAddress) await endpoints.release(key, address);
      throw error;
    }
  }

  async function compare(): Promise<void> {
    // A copy of what was may name networks that are gone.
    if (!endpoints.live()) return;
    const networks = wanted();
    for (const attachment of attachedHere()) {
      const { endpoint } = attachment;
      const key = keyOf(endpoint);
      if (fits(attachment, networks)) {
        networks.delete(key);
        continue;
      }
      await endpoints.detach(endpoint.endpointID);
      for (const address of endpoint.ipAddress) await endpoints.release(key, address);
    }
    for (const [key, network] of networks) await attach(key, network);
  }

  const comparisons = inTurn(compare, {
    every: ENDPOINTS_INTERVAL,
    again: afterFailure(RETRY_DELAY),
    failed(error, first) {
      if (first)
        log.warn(
          { err: error },
          'this host has no address in some network in which it should have one; it is tried again',
        );
    },
  });
  const kept = (): boolean => {
    const networks = wanted();
    const attached = attachedHere();
    return attached.length === networks.size && attached.every((a) => fits(a, networks));
  };

  return {
    name: "the host's own addresses",
    awaited: 'briefly',
    changed(news) {
      if (news.type !== 'view' || kept()) return false;
      comparisons.ask();
      return true;
    },
    settled: () => comparisons.settled(),
    close: () => void comparisons.close(),
  };
}
