/**
 * What of a tenant on this host the fabric is told of (BGP):
 *
 *   networks that advertise --containers here--> their addresses, of each version of IP for which there is a gateway
 *                           --services with providers here--> their addresses, so that the fabric spreads clients over the hosts that have some
 *   an orchestrator's services --in prefixes of the host's BGP--> addresses at which they answer on this host: with policy `local` by what is ready
 *                                here, else wherever it runs
 *
 * A container is announced from the moment it is attached, before its process runs. No address of the host's own is.
 */
import { contains, parseSubnet, type Subnet } from '../../model/address.ts';
import { type Bgp, routerAddresses, servicePrefixes } from '../../model/bgp.ts';
import type { Attachment, TenantView, View, WatchedNetwork } from '../intent/view.ts';
import type { Announced, AnnouncedService, Exit, Fabric, Service } from '../state.ts';
import { answers } from './clusterServices.ts';
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

/** In which addresses of an orchestrator's services are told. */
export function openPrefixes(view: View, host: string, memo: Memo): readonly Subnet[] {
  const bgp = speaking(view, host);
  return memo.use('prefixes of services', [bgp], () => (bgp === undefined ? [] : servicePrefixes(bgp)));
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
  readonly zone: string | undefined;
  readonly open: readonly Subnet[];
}

export function compileAnnounced(input: AnnouncedInput, memo: Memo): Announced | undefined {
  const { tenant, mine, networks, attachments, services, view, host } = input;
  const speaks = speaking(view, host) !== undefined;
  const orchestrated = compileServed(input, memo);
  const key = `announced ${tenant}`;
  return memo.use(key, [speaks, networks, mine.services, services, orchestrated, ...attachments], () => {
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
    if (addresses.length + served.length + orchestrated.length === 0) return undefined;
    return {
      addresses: [...new Set(addresses)].sort(),
      services: served,
      ...(orchestrated.length > 0 && { served: orchestrated }),
    };
  });
}

/** Where several services have one address, one that answers is enough. */
function compileServed(
  { tenant, mine, view, host, zone, open }: AnnouncedInput,
  memo: Memo,
): readonly string[] {
  const { clusterServices } = mine;
  const { draining } = view;
  const found = memo.use(`served ${tenant}`, [clusterServices, host, zone, draining, open], () => {
    if (open.length === 0) return [];
    const addresses = clusterServices.flatMap((service) =>
      [...service.addresses, ...(service.externalAddresses ?? [])].filter(
        (a) => open.some((prefix) => contains(prefix, a)) && answers(service, a, { host, zone, draining }),
      ),
    );
    return [...new Set(addresses)].sort();
  });
  return memo.use(`served ${tenant} as text`, [found.join()], () => found);
}

/**
 * Each address by one exit, and none that leads elsewhere already: who writes a Service chooses its external addresses, and is not to lead away
 * what is another host's, a container's, or what the host reaches in a network.
 */
export function withoutTaken(exits: readonly Exit[], hosts: readonly string[], memo: Memo): readonly Exit[] {
  if (exits.every(({ announced }) => announced?.served === undefined)) return exits;
  const taken = new Set(hosts);
  for (const { announced } of exits)
    for (const a of [...(announced?.addresses ?? []), ...(announced?.services ?? []).map((s) => s.address)])
      taken.add(a);
  const reached = exits.flatMap(({ access }) => access?.subnets ?? []).flatMap((p) => parseSubnet(p) ?? []);
  return exits.map((exit) => {
    const { announced } = exit;
    if (announced?.served === undefined) return exit;
    const free = announced.served.filter((a) => !taken.has(a) && !reached.some((p) => contains(p, a)));
    for (const a of free) taken.add(a);
    if (free.length === announced.served.length) return exit;
    return memo.use(`exit without taken ${exit.device}`, [exit, free.join()], () => ({
      ...exit,
      announced: { ...announced, served: free },
    }));
  });
}
