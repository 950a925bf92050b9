/**
 * HostState: everything that one host's kernel must hold, as plain data. `compile(view, host)` makes
 * it, `apply(state)` makes the kernel equal to it. Nothing else goes between the two.
 *
 *   intent + endpoints --compile--> HostState --apply--> kernel
 *
 * A state is made of parts (Port, RemoteHost, RuleSet, ...): a part that did not change is the same object as in the
 * state before, so that what a change costs does not grow with what is there. Equal states are deeply equal all the same.
 *
 * Addresses are strings in canonical text form (ipaddr.js toString()), prefixes `a.b.c.d/len`, MAC addresses lower
 * case with colons. Lists are sorted by their first field.
 */

export interface HostState {
  /** One router namespace for each tenant that has endpoints on this host. */
  readonly routers: readonly Router[];
  /** What the host's own namespace must hold for the exit and for published ports. */
  readonly exits: readonly Exit[];
  /** Destinations that no container may reach, on this host or through it: the control plane's sockets. */
  readonly guarded: readonly Guarded[];
  /** This host's own address on the underlay. */
  readonly underlay: string;
  /** Those of the other hosts: whose frames the tunnels take. A dead host's too, as long as its containers count as running. */
  readonly members: readonly string[];
  /** How the host takes part in the fabric's routing, by BGP; absent: it does not. */
  readonly fabric?: Fabric;
  /** What tunnels send to other hosts is encrypted, and nothing else is taken from those; absent: it goes as it is. */
  readonly encryption?: Encryption;
}

/** By WireGuard (dataplane/encryption.ts). Private keys are in no state: the data plane is given them by their public ones. */
export interface Encryption {
  /** One for each epoch of keys that is in use; none: nothing is sent, and nothing taken. */
  readonly devices: readonly Wireguard[];
  /** By which of them tunnels send to a member. What is for those that are not here goes nowhere. */
  readonly ways: readonly { readonly address: string; readonly device: string }[];
}

export interface Wireguard {
  readonly device: string;
  /** Of UDP, here; a peer's is the one that its device of the same place has. */
  readonly port: number;
  readonly mtu: number;
  /** This host's, base64 as all keys. */
  readonly publicKey: string;
  /** Members that have told a key of this epoch, by their underlay address. */
  readonly peers: readonly { readonly address: string; readonly publicKey: string }[];
}

export interface Fabric {
  /** The host's own addresses to its neighbours, at most one of each version of IP. */
  readonly addresses: readonly string[];
}

export interface Router {
  readonly tenant: string;
  /** Name of the network namespace, e.g. `contiv-blue`. */
  readonly namespace: string;
  readonly tunnels: readonly Tunnel[];
  /** Networks that go by the host's uplink; absent: none, or this host has no uplink. */
  readonly vlans?: readonly Vlan[];
  /** How networks of encapsulation direct go; absent: there are none, or this host's underlay is no link that is shared. */
  readonly direct?: Direct;
  readonly ports: readonly Port[];
  /** Other hosts that have endpoints of the tenant. */
  readonly hosts: readonly RemoteHost[];
  /** Subnets of the tenant's networks: an unreachable route covers what no endpoint has. */
  readonly subnets: readonly Subnet[];
  /** Gateway addresses, which this router answers for on every host. */
  readonly gateways: readonly string[];
  readonly publications: readonly DnatEntry[];
  /** The tenant's services, wherever their providers run. */
  readonly services: readonly Service[];
  /** What an orchestrator serves in the tenant. */
  readonly clusterServices: readonly ClusterService[];
  /** Rule sets of the groups that have endpoints here. */
  readonly ruleSets: readonly RuleSet[];
  /** Disjoint ranges of addresses that the rules here tell apart. */
  readonly ranges: readonly AddressRange[];
  /** Disjoint ranges of destination ports that they tell apart; none where no rule is about a range. */
  readonly portRanges: readonly PortRange[];
  /** Addresses of external endpoints, which rules know by their groups; absent: there are none. */
  readonly externals?: readonly External[];
  /** The tenant's networks do not reach each other: the cluster's forwarding mode is bridge. */
  readonly bridged?: true;
}

/** An address of a machine that is a member of a group and has nothing of ours. */
export interface External {
  readonly address: string;
  /** Number of its identity. */
  readonly group: number;
}

/** A subnet of a network; a network with IPv6 has two. */
export interface Subnet {
  readonly prefix: string;
  /** Number of the network (compile/segments.ts). */
  readonly network: number;
  /** The VLAN's device, on which who has no route of his own is looked for; absent: nobody else is there. */
  readonly device?: string;
  /** Its gateway is a router of the fabric's own, by which others than those on that wire may speak to its containers. */
  readonly externalGateway?: true;
}

/** The VXLAN device of one network. */
export interface Tunnel {
  readonly vni: number;
  /** Device name in the router, `vx<vni>`. */
  readonly device: string;
  /** IPv4 or IPv6 address of this host on the underlay. */
  readonly local: string;
  readonly mac: string;
  readonly mtu: number;
}

/** The device of one VLAN network: a veth from the router to the host, whose other end leads to the uplink (dataplane/vlan/). */
export interface Vlan {
  readonly id: number;
  /** Number of the network (compile/segments.ts). */
  readonly network: number;
  /** Device name in the router, `vl<id>`, and that of its end in the host's namespace. */
  readonly device: string;
  readonly wire: string;
  /** Name of the interface by which tagged frames leave. */
  readonly uplink: string;
  readonly mac: string;
  readonly mtu: number;
  /** Subnets: who is on the wire has an address in one. */
  readonly prefixes: readonly string[];
  /** The host's own, from which it asks on the wire. */
  readonly addresses: readonly string[];
  /** An infra network: the host has them itself, at its end of the exit, and the router answers and asks for it; absent: the router has them. */
  readonly entered?: true;
  /** Routers of the fabric's own on the wire, by which its containers reach what is outside; absent: none. */
  readonly gateways?: readonly string[];
  /** Of groups that have a tag of their own; absent: no group of the network has one. */
  readonly tags?: readonly Tag[];
  /** Where there are such tags: addresses of containers here that have none of them, and go by the network's own. */
  readonly untagged?: readonly string[];
}

/** The VLAN of a group within its network's segment: what is joined by the fabric, on the wire, is told apart by it. */
export interface Tag {
  readonly id: number;
  /** This host's in it: no address of Ethernet's is in two of them. */
  readonly mac: string;
  /** Of the group's containers here; where there is none nothing arrives by it. */
  readonly addresses: readonly string[];
}

/** The device of a tenant's direct networks: a macvlan on the interface that the underlay is on, with an address of its own there. */
export interface Direct {
  /** Name in the router, and of the host's interface. */
  readonly device: string;
  readonly link: string;
  /** No other tenant and no other host has it (compile/direct.ts). */
  readonly mac: string;
  readonly mtu: number;
}

/** A remote host: one neighbour and one FDB entry on each tunnel, one route each of its endpoints' addresses. */
export interface RemoteHost {
  /** Its underlay address; of IPv4 it is the next hop of IPv4 routes too. */
  readonly vtep: string;
  /** Next hop of all other routes: a link-local address derived from the VTEP's address. */
  readonly linkLocal: string;
  readonly mac: string;
  /** What reaches its containers; absent: as much as this host's tunnels take. */
  readonly mtu?: number;
  /** Its MAC addresses in VLAN tags of groups: in those of its endpoints, and in those by which this host is sent to; absent: none. */
  readonly tagMacs?: readonly string[];
  /** The router's VXLAN devices. */
  readonly devices: readonly string[];
  /** Those of its VLANs; absent: none. */
  readonly vlans?: readonly string[];
  /** Where it is on the link; absent: it shares none with this host, and direct networks of it are reached by tunnels. */
  readonly direct?: {
    readonly device: string;
    readonly mac: string;
    /** As `mtu`, of what goes there by the link. */
    readonly mtu?: number;
  };
  readonly endpoints: readonly Remote[];
}

/** At least 1,000 bits. `burstBytes`: what may pass at once after a pause; by default what suits the rate. */
export interface Rate {
  readonly bitsPerSecond: number;
  readonly burstBytes?: number;
}

/** Of a container, each way by itself. */
export interface Bandwidth {
  readonly to?: Rate;
  readonly from?: Rate;
}

/** A local container's attachment: the router's end of its veth. */
export interface Port {
  readonly endpoint: string;
  /** Router side device name, `ct<10 digits of the endpoint id's hash>`. */
  readonly device: string;
  /** What the container side is called until the runtime moves and renames it: `cc<same 10 digits>`. */
  readonly peer: string;
  /** What the container side is called where we make it in the sandbox ourselves, set up as `inside` says; then there is no `peer`. */
  readonly end?: string;
  readonly mac: string;
  readonly mtu: number;
  /** The endpoint's addresses, each routed /32 or /128 to the device. */
  readonly addresses: readonly string[];
  /** Gateways of the endpoint's network: also on the device, so that the router's own messages come from them. */
  readonly gateways: readonly string[];
  /** Those that are routers of the fabric's own instead: the router answers for them here, and they are on the VLAN. */
  readonly externalGateways?: readonly string[];
  /** Number of the endpoint's network, 0 where it is not known: within it the router must not be seen (ttl kept). */
  readonly network: number;
  /** Other addresses that the same container has in this tenant: legal sources here too. */
  readonly alsoFrom: readonly string[];
  /** False until the runtime has taken the container's end: from then on a missing device is not made again. */
  readonly joined: boolean;
  /** Number of the endpoint's identity, its group and labels, 0 for none: what rules of others call it by. */
  readonly group: number;
  /** Numbers of the rule sets that judge what it receives and what it sends; 0: nothing does. */
  readonly judgedIn: number;
  readonly judgedOut: number;
  /** How fast it may receive (`to` it), and send (`from` it); absent: as fast as it can. */
  readonly limit?: Bandwidth;
  /** What its packets are marked with, 0 to 63; absent: as it sends them. */
  readonly dscp?: number;
  /** Path of the container's network namespace; none until it is known. */
  readonly sandbox?: string;
  /** There Docker's resolver is led to the nameserver. */
  readonly stub?: true;
  /** There the nameserver listens itself where Docker's resolver is asked: the container has no IPv4 by which to lead it to the router. */
  readonly resolver?: true;
  /** The VLAN's device on which the router answers for its addresses, by ARP and neighbour discovery; absent: none. */
  readonly wire?: string;
  /** What the container has of us on its end; none where that is not known. */
  readonly inside?: Inside;
}

/** What a container holds of us, whoever sets it up: its runtime, or we. */
export interface Inside {
  /** Prefixes. */
  readonly addresses: readonly string[];
  /** In the order in which they are made; without next hop to the device. */
  readonly routes: readonly { readonly destination: string; readonly via?: string }[];
  /** Of the network: the runtime makes default routes of one network's; those that we make are among the routes. */
  readonly gateways: readonly string[];
}

/** One address of a remote endpoint. */
export interface Remote {
  readonly address: string;
  /** Device by which its network goes there. */
  readonly device: string;
  /** Number of that network. */
  readonly network: number;
  /** Number of the endpoint's identity, 0 for none. */
  readonly group: number;
  /** Where its group has a VLAN tag of its own: its host's place there, by which it is sent to. */
  readonly tagged?: { readonly mac: string; readonly linkLocal: string };
}

/**
 * What judges the first packet of a connection on one side (in: to endpoints here, out: from them), for all endpoints
 * that the same policies judge. The peer is known by the number of its identity (compile/identity.ts); a range of addresses that
 * rules name leads to another rule set, made for peers in that range, and a range of ports to one for ports in it.
 *
 *   rule set, peer's address -> range -> rule set -> (port's range -> rule set) -> peer's identity, protocol, port -> rule
 */
export interface RuleSet {
  /** Not 0; unique in the tenant on this host. */
  readonly id: number;
  /** For people: `in default: prod_web, base`. */
  readonly name: string;
  /** Range to the rule set for peers in it. */
  readonly narrowed: readonly { readonly range: number; readonly to: number }[];
  /** The same for ranges of ports, where rules are about some: asked after the peer's address has led to this one. */
  readonly narrowedPorts?: readonly { readonly range: number; readonly to: number }[];
  readonly decisions: readonly Decision[];
  /** Some of them allow, and are told. */
  readonly logs?: true;
}

/** The most specific one that fits decides: by port before by protocol before any, and of two that say as much the group's. */
export interface Decision {
  /** Number of the peer's identity; 0: any. */
  readonly group: number;
  /** IANA number; absent: any. */
  readonly protocol?: number;
  /** Destination port; absent: any. */
  readonly port?: number;
  /** Number of the rule in its set, 1 to 2^31-1. */
  readonly rule: number;
  readonly action: 'allow' | 'deny';
  /** What it decides is told. What is denied is logged in any case. */
  readonly log?: true;
  /** Key of the rule, `default:prod_web:1`, or name: `NetworkPolicy default/web rule 1`. */
  readonly key: string;
}

export interface PortRange {
  readonly first: number;
  readonly last: number;
  readonly range: number;
}

export interface AddressRange {
  /** First and last address. */
  readonly first: string;
  readonly last: string;
  readonly range: number;
}

/**
 * A virtual address that leads to its providers. The client's router chooses one for each
 * connection, so that policy judges the real provider, and answers itself for what no provider does.
 */
export interface Service {
  readonly name: string;
  readonly address: string;
  readonly ports: readonly ServicePort[];
  /** Every port of it leads to the same one of a provider; `ports` has none then. */
  readonly everyPort?: true;
  /** Addresses of the same family by slot. Which has which slot means nothing: those that stay keep theirs (compile/services.ts). */
  readonly providers: readonly string[];
}

export interface ServicePort {
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
  readonly providerPort: number;
}

/**
 * A service of an orchestrator: addresses of its own, and where it is asked. As with a Service the first router that a connection
 * comes to chooses who answers: the client's, or the host's where it comes from outside.
 */
export interface ClusterService {
  /** `NAMESPACE/NAME`. */
  readonly name: string;
  /** The router's too: it answers pings, and refuses what nobody takes. */
  readonly addresses: readonly string[];
  readonly frontends: readonly Frontend[];
}

/** One address, protocol and port at which connections come for a service; in a router no two have the same. */
export interface Frontend {
  readonly address: string;
  /** IANA number. */
  readonly protocol: number;
  readonly port: number;
  /** By slot; null: nobody has it. The first has somebody where any has. */
  readonly backends: readonly (Backend | null)[];
  /** What becomes of a connection where there is nobody. */
  readonly otherwise: 'refuse' | 'drop';
  /** Seconds after its last new connection for which a client stays with its backend; absent: it does not. */
  readonly affinity?: number;
  /** Prefixes that may ask; absent: all. */
  readonly clients?: readonly string[];
}

export interface Backend {
  readonly address: string;
  readonly port: number;
}

/** A published port, or several in a row: host address and port to an endpoint. */
export interface Publication {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  /** '' for all the host's addresses. */
  readonly hostAddress: string;
  readonly hostPort: number;
  readonly address: string;
  readonly port: number;
  /** How many ports, from `hostPort` to as many from `port` on, one to one; absent: one. */
  readonly count?: number;
}

/** Published ports on their way through the router's pair. */
export interface DnatEntry extends Publication {
  /** The first at the router's end: the host's port, another where two of the host's addresses publish the same one. */
  readonly transitPort: number;
}

/** A way from outside to a frontend at the router's end. */
export interface Entrance extends DnatEntry {
  /** Only for what comes to the host, not for what it asks itself: it has another way to that address. */
  readonly arriving?: true;
}

/** The exit of one router: a veth pair between it and the host's namespace. */
export interface Exit {
  readonly namespace: string;
  /** Device in the host's namespace, `cx<8 digits of the tenant's hash>`. The router's end is called `uplink`. */
  readonly device: string;
  /** /31 pair, IPv4: host's and router's address out of the transit range. */
  readonly hostAddress: string;
  readonly routerAddress: string;
  /** The same for IPv6, /127; '' where the tenant has no IPv6. */
  readonly hostAddress6: string;
  readonly routerAddress6: string;
  /** MAC addresses of the pair's ends: each end has the other as a permanent neighbour. */
  readonly hostMac: string;
  readonly routerMac: string;
  /** The ranges that all pairs come from, as prefixes: containers send nothing there. */
  readonly transit: string;
  readonly transit6: string;
  readonly publications: readonly DnatEntry[];
  /** Ports and addresses of the host's that lead to frontends at the router's end; without `hostAddress` its own at all its addresses. */
  readonly entrances?: readonly Entrance[];
  /** How the host itself reaches the tenant's networks and services; absent: it does not. */
  readonly access?: Access;
  /** What of the tenant's on this host the fabric is told of: /32 and /128 routes that lead here; absent: nothing. */
  readonly announced?: Announced;
}

export interface Announced {
  /** Of containers. */
  readonly addresses: readonly string[];
  /** Virtual addresses of services that have providers on this host, with those. */
  readonly services: readonly AnnouncedService[];
  /** Addresses of an orchestrator's services, to which entrances lead; absent: none. */
  readonly served?: readonly string[];
}

/** All that the fabric is told of. */
export const toldOf = ({ addresses, services, served = [] }: Announced): readonly string[] => [
  ...addresses,
  ...services.map((s) => s.address),
  ...served,
];

/** Whoever asks from outside is led to a provider on this host, so that the way back is the same. */
export interface AnnouncedService {
  readonly address: string;
  readonly ports: readonly ServicePort[];
  /** Of IPv4, on this host. */
  readonly providers: readonly string[];
}

export interface Access {
  /** Prefixes of networks that the host reaches by the router. */
  readonly subnets: readonly string[];
  /** Addresses of services that it reaches there too. */
  readonly services: readonly string[];
  /** The host's own addresses, with which it is known on other hosts, by the device of their network's tunnel. */
  readonly sources: readonly { readonly device: string; readonly addresses: readonly string[] }[];
  /** Those by which containers and other hosts reach this one: it has them itself. */
  readonly own: readonly string[];
}

export interface Guarded {
  readonly address: string;
  readonly protocol: 'tcp' | 'udp';
  readonly port: number;
}
