/**
 * Services: destination NAT of a virtual address to one of its providers, chosen for each connection by its first packet.
 *
 * A provider is drawn: slots until one is taken. Of n providers each gets one of n connections, at any n; one more
 * or less changes its own element, at times the size. Beyond 4096 providers the others wait.
 *
 *   service_size   where it is asked -> how many slots, as a power of two; STICKY where clients stay; what becomes of it where nobody is
 *   service_to     where it is asked, slot -> who answers
 *
 * Where every port of an address leads to the same one of a provider, as with Swarm's, the same is asked by address alone (`every`), by what
 * has ports: a ping is the router's.
 *
 * All of it by IPv6 too, in sets and chains of its own, which are there where some service has such an address (`services6`).
 *
 * A serviceLB has one address, and nothing beside that. An orchestrator's services (ClusterService) are the same in the same maps. What
 * they have beside is in the table where the tenant has some (`served`): both versions of IP, refusals, clients that stay, and those that may ask.
 * However many there are, the lookups of a packet are the same.
 *
 * A client that stays (session affinity) has an element in `stay`, which its first packets make and renew, and which leads it to the
 * slot of then. Slots keep their meaning for as long as whoever has one stays (compile/services.ts); where the slot is nobody's any more the
 * element goes, and the client draws anew. Two first packets of one client on two processors may draw differently: only one makes the element
 * (the kernel inserts a key once), and both go by what it says after that. A transaction of the agent's between two lookups leaves a
 * packet with a slot that is nobody's, which draws again, or with who has it now: never half of each, as `dnat` takes address and port from one
 * element.
 *
 * A container makes one element for each place that it asks, whatever it sends, since its address is its own; so containers do not reach the
 * end of `stay` by flooding. Who is outside may have any address: those have a map of their own, whose end makes nobody
 * inside lose his place. Where a map is full a client is served like any other, but does not stay.
 */
import { classid } from '../../../linux/classid.ts';
import { isV6 } from '../../../model/address.ts';
import { NAMESERVER, NAMESERVER6 } from '../../constants.ts';
import type { Frontend, Router } from '../../state.ts';
import { PORTS, UPLINK } from './devices.ts';
import type { RouterFeature, RouterVariant, Served } from './feature.ts';

/** Slots of a service's port as a power of two: what `numgen` draws from must stand in a rule. */
const MAX_SIZE = 4096;
const SIZES = Array.from({ length: Math.log2(MAX_SIZE) + 1 }, (_, i) => 2 ** i);
/** Draws before one that cannot miss: less than one connection in a thousand needs it, as more than half of the slots are taken. */
const DRAWS = 10;
/** Beside a size: clients stay. */
const STICKY = 0x10000;
/** Instead of a size. */
const DROP = 0x20000;
const REFUSE = 0x20001;
/** Clients that stay, of containers and of outside each: 3 MB where all are there. */
const STAYING = 16_384;
/** Nobody listens there (RFC 863), whatever the router answers for. */
const NOBODY = 9;

export function servedBy({ clusterServices }: Router): Served | undefined {
  if (clusterServices.length === 0) return undefined;
  const frontends = clusterServices.flatMap((s) => s.frontends);
  const timeouts = new Set(frontends.flatMap((f) => f.affinity ?? []));
  return {
    timeouts: [...timeouts].sort((a, b) => a - b),
    chosen: frontends.some((f) => f.clients !== undefined),
  };
}

/** Text of one version of IP. */
interface Version {
  readonly ip: 'ip' | 'ip6';
  readonly six: '' | '6';
}
const V4: Version = { ip: 'ip', six: '' };
const V6: Version = { ip: 'ip6', six: '6' };

const place = ({ ip }: Version): string => `${ip} daddr . meta l4proto . th dport`;

/**
 * Who asks, and where, as keys of `stay` have it. Of IPv6, where nft 1.0.6 does not take all of that: the second half of the
 * client's address (that at bit 128 of the header), and a hash of all of it and where it asks (`hashed`). Clients that are alike in both stay with one backend, which does no harm.
 */
const clientOf = (version: Version): string =>
  version.six ? '@nh,128,64 . meta mark' : `ip saddr . ${place(version)}`;
const hashed = (version: Version): string =>
  version.six ? `  meta mark set jhash ip6 saddr . ${place(version)} mod 4294967295 seed 0x636f6e74\n` : '';
/** The sender's network again, as anti-spoofing found it (marks.ts). */
const unhashed = ({ six }: Version): string =>
  six ? `  meta mark set 0\n  meta mark set iifname . ip6 saddr map @sources6\n` : '';

const draw = (n: number): string => `meta priority set ${n === 1 ? 'none' : `numgen random mod ${n}`}`;
const draws = (size: number, last: number, then: string): string =>
  [...Array.from({ length: size === 1 ? 0 : DRAWS }, () => size), last]
    .map((n) => `  ${draw(n)} jump ${then}`)
    .join('\n');

/** Services with every port, where there are some of this version. */
function every({ ip, six }: Version): string {
  const address = six ? 'ipv6_addr' : 'ipv4_addr';
  const pickOf = (size: number): string => `pick_every${six}_${size}`;
  const pickFrom = (size: number): string =>
    `chain ${pickOf(size)} {\n${draws(size, Math.ceil(size / 2), `lead_every${six}`)}\n}`;
  return `set every${six} { type ${address}; }
map every_size${six} { type ${address} : classid; }
map every_to${six} { type ${address} . classid : ${address}; }
chain lead_every${six} {
  dnat ${ip} to ${ip} daddr . meta priority map @every_to${six}
}
${SIZES.map(pickFrom).join('\n')}
chain serve_every${six} {
  meta priority set ${ip} daddr map @every_size${six}
  meta priority vmap { ${SIZES.map((size) => `${classid(size)} : goto ${pickOf(size)}`).join(', ')} }
}
`;
}
const leadsEvery = ({ ip, six }: Version): string =>
  `  ${ip} daddr @every${six} meta l4proto { tcp, udp, sctp } goto serve_every${six}\n`;

const pick = (size: number, { six }: Version): string => `chain pick${six}_${size} {
${draws(size, Math.ceil(size / 2), `lead${six}`)}
}`;

/** Without `served` what a serviceLB needs. */
function serve(version: Version, served: Served | undefined, everyPort: boolean): string {
  const { ip, six } = version;
  const verdicts = [
    ...SIZES.map((size) => `${classid(size)} : goto pick${six}_${size}`),
    ...(served === undefined
      ? []
      : [
          ...(served.timeouts.length === 0
            ? []
            : SIZES.map((size) => `${classid(STICKY + size)} : goto stick${six}_${size}`)),
          `${classid(DROP)} : drop`,
          `${classid(REFUSE)} : goto refuse${six}`,
        ]),
  ];
  return `chain lead${six} {
  dnat ${ip} to ${place(version)} . meta priority map @service_to${six}
}
${SIZES.map((size) => pick(size, version)).join('\n')}
${served === undefined ? '' : beyond(version, served)}chain serve${six} {
${everyPort ? leadsEvery(version) : ''}${served?.chosen ? `  ${place(version)} @service_chosen${six} jump choose${six}\n` : ''}  meta priority set ${place(version)} map @service_size${six}
  meta priority vmap { ${verdicts.join(', ')} }
}`;
}

/** What is led to nobody is refused by the router itself. */
function beyond(version: Version, { timeouts, chosen }: Served): string {
  const { ip, six } = version;
  const client = clientOf(version);
  const nobody = `${six ? `[${NAMESERVER6}]` : NAMESERVER}:${NOBODY}`;
  const refuse = `chain refuse${six} {
${['tcp', 'udp', 'sctp'].map((protocol) => `  meta l4proto ${protocol} dnat ${ip} to ${nobody}`).join('\n')}
}
`;
  const choose = `chain choose${six} {
  ${place(version)} . ${ip} saddr @service_clients${six} return
  drop
}
`;
  /** By where the client is. */
  const inMap = (rule: (map: string) => string): string =>
    [
      [PORTS, `stay${six}`],
      [UPLINK, `stay_outside${six}`],
    ]
      .map(([from, map]) => `  iifname ${from} ${rule(`@${map}`)}`)
      .join('\n');
  const stick = (size: number): string => `chain stick${six}_${size} {
${hashed(version)}${inMap((map) => `meta priority set ${client} map ${map} jump stick${six}`)}
  jump leave${six}
${draws(size, 1, `stick${six}`)}
}`;
  const stay = (seconds: number): string => `chain stay${six}_${seconds} {
${inMap((map) => `update ${map} { ${client} timeout ${seconds}s : meta priority }`)}
${inMap((map) => `meta priority set ${client} map ${map}`)}
${unhashed(version)}  goto lead${six}
}`;
  const staying = `chain stick${six} {
  ${place(version)} . meta priority vmap @service_stays${six}
}
chain leave${six} {
${inMap((map) => `delete ${map} { ${client} : none }`)}
}
${[...SIZES.map(stick), ...timeouts.map(stay)].join('\n')}
`;
  return `${refuse}${chosen ? choose : ''}${timeouts.length > 0 ? staying : ''}`;
}

/** Sets that a serviceLB does without. */
function setsBeyond({ six }: Version, { timeouts, chosen }: Served): string {
  const address = six ? 'ipv6_addr' : 'ipv4_addr';
  const at = `${address} . inet_proto . inet_service`;
  const staying = six ? `typeof ${clientOf(V6)} : meta priority` : `type ${address} . ${at} : classid`;
  const stays = `map service_stays${six} { type ${at} . classid : verdict; }
${['stay', 'stay_outside']
  .map((name) => `map ${name}${six} { ${staying}; size ${STAYING}; flags dynamic,timeout; timeout 1d; }\n`)
  .join('')}`;
  const choose = `set service_chosen${six} { type ${at}; }
set service_clients${six} { type ${at} . ${address}; flags interval; }
`;
  return `${timeouts.length > 0 ? stays : ''}${chosen ? choose : ''}`;
}

const sets = ({ six }: Version): string => {
  const address = six ? 'ipv6_addr' : 'ipv4_addr';
  return `set services${six} { type ${address}; }
map service_size${six} { type ${address} . inet_proto . inet_service : classid; }
map service_to${six} { type ${address} . inet_proto . inet_service . classid : ${address} . inet_service; }
set own${six} { type ${address} . ${address}; }
`;
};

/** Some services have addresses of IPv6. */
export const servesIpv6 = ({ served, services6 }: Pick<RouterVariant, 'served' | 'services6'>): boolean =>
  served !== undefined || services6;
const byIpv6 =
  (text: string) =>
  (variant: RouterVariant): string =>
    servesIpv6(variant) ? text : '';

const ofServed =
  (text: (served: Served, variant: RouterVariant) => string) =>
  (variant: RouterVariant): string =>
    variant.served === undefined ? '' : text(variant.served, variant);

export const services: RouterFeature = {
  own(variant) {
    const { served, everyPort, everyPort6 } = variant;
    const six = servesIpv6(variant);
    return [
      sets(V4),
      six ? sets(V6) : '',
      served === undefined ? '' : setsBeyond(V4, served) + setsBeyond(V6, served),
      everyPort ? every(V4) : '',
      everyPort6 ? every(V6) : '',
      serve(V4, served, everyPort),
      six ? `\n${serve(V6, served, everyPort6)}` : '',
    ].join('');
  },
  rules: {
    beginning: (variant) =>
      `ip daddr @services goto serve${byIpv6('\nip6 daddr @services6 goto serve6')(variant)}`,
    // Nobody can be kept from himself (kubernetes.io, Network Policies), whatever rules say of others.
    forward: (variant) =>
      `ct status dnat ip saddr . ip daddr @own goto begun${byIpv6(
        '\nct status dnat ip6 saddr . ip6 daddr @own6 goto begun',
      )(variant)}`,
    // A container that is led to itself would answer itself, and the router, which has to translate the answer back, would not
    // see it. So its own connection comes to it from another address.
    out: (variant) =>
      `ct status dnat ip saddr . ip daddr @own snat ip to ${NAMESERVER}${byIpv6(
        `\nct status dnat ip6 saddr . ip6 daddr @own6 snat ip6 to ${NAMESERVER6}`,
      )(variant)}`,
  },
  elements: {
    port({ addresses, alsoFrom }, add) {
      for (const address of addresses)
        for (const own of [...addresses, ...alsoFrom])
          if (!isV6(address) && !isV6(own)) add('own', address, `${own} . ${address}`);
    },
    portByIpv6({ port: { addresses, alsoFrom } }, add) {
      for (const address of addresses.filter(isV6))
        for (const own of [...addresses, ...alsoFrom].filter(isV6))
          add('own', address, `${own} . ${address}`);
    },
    service({ address, ports, everyPort, providers }, add) {
      add('services', address, address);
      const size = SIZES.find((n) => n >= providers.length) ?? MAX_SIZE;
      if (everyPort) {
        add('every', address, address);
        if (providers.length > 0) add('every_size', address, `${address} : ${classid(size)}`);
        for (const [slot, provider] of providers.entries())
          add('every_to', address, `${address} . ${classid(slot)} : ${provider}`);
      }
      for (const { protocol, port, providerPort } of ports) {
        const key = `${address} . ${protocol} . ${port}`;
        if (providers.length > 0) add('service_size', address, `${key} : ${classid(size)}`);
        for (const [slot, provider] of providers.entries())
          add('service_to', address, `${key} . ${classid(slot)} : ${provider} . ${providerPort}`);
      }
    },
    clusterService({ addresses, frontends }, add) {
      for (const address of new Set([...addresses, ...frontends.map((f) => f.address)]))
        add('services', address, address);
      for (const frontend of frontends) {
        const { address, protocol, port, backends, affinity, clients } = frontend;
        const key = `${address} . ${protocol} . ${port}`;
        add('service_size', address, `${key} : ${classid(sizeOf(frontend))}`);
        for (const [slot, backend] of backends.slice(0, MAX_SIZE).entries()) {
          if (backend === null) continue;
          const at = `${key} . ${classid(slot)}`;
          add('service_to', address, `${at} : ${backend.address} . ${backend.port}`);
          if (affinity !== undefined)
            add('service_stays', address, `${at} : goto stay${isV6(address) ? '6' : ''}_${affinity}`);
        }
        if (clients !== undefined) {
          add('service_chosen', address, key);
          for (const prefix of clients)
            if (isV6(prefix) === isV6(address)) add('service_clients', address, `${key} . ${prefix}`);
        }
      }
    },
  },
};

function sizeOf({ backends, affinity, otherwise }: Frontend): number {
  if (backends.length === 0) return otherwise === 'drop' ? DROP : REFUSE;
  const size = SIZES.find((n) => n >= backends.length) ?? MAX_SIZE;
  return affinity === undefined ? size : STICKY + size;
}

/**
 * Services as outside asks for them: the host's table leads ports of nodes and external addresses to the router's own address, and the host
 * itself comes by its routes to the addresses of services.
 */
export const servedOutside: RouterFeature = {
  rules: {
    arriving: ofServed(() => 'ip daddr @services goto serve\nip6 daddr @services6 goto serve6'),
    // With IPv6 routing leaves what the slot was (marks.ts).
    forward: byIpv6('meta nfproto ipv6 ct status dnat meta priority set none'),
    input: ofServed(
      () => `iifname ${UPLINK} meta l4proto tcp reject with tcp reset\niifname ${UPLINK} reject`,
    ),
  },
};
