/**
 * What of a tenant on this host the fabric is told of (BGP):
 *
 *   networks that advertise --containers here--> their addresses, of each version of IP for which there is a gateway
 *                           --services with providers here--> their addresses, so that the fabric spreads clients over the hosts that have some
 *
 * A container is announced from the moment it is attached, before its process runs. No address of the host's own is.
 */
import { type Bgp, routerAddresses } from '../../model/bgp.ts';
import type { Attachment, TenantView, View, WatchedNetwork } from '../intent/view.ts';
import type { Announced, AnnouncedService, Fabric, Service } from '../state.ts';
import type { Memo } from './memo.ts';

/** This host's, where it has a neighbour. */
const speaking = (view: View, host: string): Bgp | undefined => {
  const bgp = view.bgps.get(host);
  return bgp?.neighbor ? bgp : undefined;
};

export function compileFabric(view: View, host: string, memo: Memo): { readonly fabric?: Fabric } {
  const bgp = speaking(view, host);
  return memo.use('fabric', [bgp], () =>
    bgp === undefined ? {} : { fabric: { addresses: routerAddresses(bgp) } },
  );
}

export interface AnnouncedInput {
  readonly tenant: string;
  readonly mine: TenantView;
  readonly networks: ReadonlyMap<string, WatchedNetwork>;
  /** Containers of the tenant on this host. */
  readonly attachments: readonly Attachment[];
  readonly services: readonly Service[];
  readonly view: View;
  readonly host: string;
}

export function compileAnnounced(
  { tenant, mine, networks, attachments, services, view, host }: AnnouncedInput,
  memo: Memo,
): Announced | undefined {
  const speaks = speaking(view, host) !== undefined;
  const key = `announced ${tenant}`;
  return memo.use(key, [speaks, networks, mine.services, services, ...attachments], () => {
    if (!speaks) return undefined;
    const advertised = (name: string): WatchedNetwork | undefined => {
      const network = networks.get(name);
      return network?.advertise ? network : undefined;
    };
    const addresses = attachments.flatMap(({ endpoint }) => {
      const network = advertised(endpoint.networkName);
      if (network === undefined) return [];
      return endpoint.ipAddress.filter((a) => (a.includes(':') ? network.ipv6Gateway : network.gateway));
    });
    const here = new Set(attachments.flatMap(({ endpoint }) => endpoint.ipAddress));
    const declared = new Set(
      mine.services.flatMap((s) => (advertised(s.networkName) === undefined ? [] : s.vip)),
    );
    const served = services.flatMap(({ address, ports, providers }): AnnouncedService[] => {
      const own = declared.has(address) ? providers.filter((p) => here.has(p)).toSorted() : [];
      return own.length === 0 ? [] : [{ address, ports, providers: own }];
    });
    if (addresses.length + served.length === 0) return undefined;
    return { addresses: [...new Set(addresses)].sort(), services: served };
  });
}
