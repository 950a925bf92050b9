/**
 * BGP of one host: to which routers of the fabric it tells the addresses of what runs there, and from which it takes routes.
 * Several neighbours are a list, separated by commas, in the fields that 1.x has for one.
 */
import { type Static, Type } from '@sinclair/typebox';
import {
  contains,
  isIpv4,
  isIpv6,
  overlap,
  parsePrefix,
  parseSubnet,
  type Subnet,
  subnetPrefix,
} from './address.ts';
import type { Kind, Problem } from './kind.ts';
import { isHostName } from './names.ts';

/** Routes that are taken from a neighbour by default: more than a fabric has for its hosts, less than the Internet's. */
export const MAX_PREFIXES = 10_000;
/** Neighbours of one host: racks have two routers or four. */
export const MAX_NEIGHBORS = 8;
/** Announced addresses that inspect shows. */
export const MAX_SHOWN = 100;

export const BgpSchema = Type.Object(
  {
    hostname: Type.String({ description: 'host that speaks BGP', minLength: 1, maxLength: 253 }),
    routerip: Type.String({
      description:
        "the host's own address to its neighbours, with the prefix length; `50.1.1.2/24,fd00:50::2/64` where some are IPv6",
      maxLength: 128,
    }),
    as: Type.String({ description: "the host's AS number", maxLength: 10 }),
    'neighbor-as': Type.Optional(
      Type.String({
        description: "the neighbour's AS number; of several neighbours one for all, or one for each",
        maxLength: 128,
      }),
    ),
    neighbor: Type.Optional(
      Type.String({
        description: "the neighbour's address; several are separated by commas",
        maxLength: 400,
      }),
    ),
    passwordFile: Type.Optional(
      Type.String({
        description:
          'name of a file in /etc/contiv/bgp/ on that host, whose one line is the password of its sessions (TCP MD5)',
        maxLength: 100,
      }),
    ),
    maxPrefixes: Type.Optional(
      Type.Integer({
        description: 'routes that are taken from each neighbour; those beyond are left out, and said',
        minimum: 1,
        maximum: 1_000_000,
        default: MAX_PREFIXES,
      }),
    ),
    services: Type.Optional(
      Type.String({
        description:
          "prefixes, separated by commas: addresses in them at which an orchestrator's services are asked, external ones and the cluster's own, are announced; none where it is absent",
        maxLength: 400,
      }),
    ),
  },
  { $id: 'Bgp', additionalProperties: false },
);
export type Bgp = Static<typeof BgpSchema>;

export interface Neighbor {
  readonly address: string;
  readonly as: string;
}

const parts = (text = ''): string[] => (text === '' ? [] : text.split(',').map((part) => part.trim()));

/** In the order in which they are given; of one that is valid. */
export function neighborsOf(bgp: Bgp): Neighbor[] {
  const numbers = parts(bgp['neighbor-as']);
  return parts(bgp.neighbor).map((address, i) => ({
    address,
    as: (numbers.length === 1 ? numbers[0] : numbers[i]) ?? bgp.as,
  }));
}

/** The host's own addresses to its neighbours, without the prefix length: one of a version of IP. */
export const routerAddresses = ({ routerip }: Bgp): string[] =>
  parts(routerip).map((text) => text.split('/')[0] as string);

/** In which an orchestrator's services are announced; of one that is valid. */
export const servicePrefixes = ({ services }: Bgp): Subnet[] =>
  parts(services).flatMap((text) => parseSubnet(text) ?? []);

/** RFC 6793: four octets, 0 reserved (RFC 7607), and the last one (RFC 7300). */
const isAsNumber = (text: string): boolean => /^[1-9]\d{0,9}$/.test(text) && Number(text) < 2 ** 32 - 1;

/** Of a host whose loopback, or that of everybody, it is, no neighbour speaks. */
const isHost = (address: string): boolean =>
  isIpv4(address)
    ? !/^(?:0|127|22[4-9]|2[3-5]\d)\./.test(address)
    : isIpv6(address) && !/^(?:::1?$|ff)/i.test(address);

export const bgp: Kind<typeof BgpSchema> = {
  name: 'Bgp',
  collection: 'Bgps',
  schema: BgpSchema,
  keyFields: ['hostname'],
  updatable: true,
  references: [],
  note: ({ neighbor }) =>
    neighbor ? undefined : 'no neighbour is given, so nothing is announced or learned',
  check(b) {
    const wrong = (field: keyof Bgp, text: string): Problem => ({
      field,
      status: 400,
      message: `Bgp ${b.hostname}: ${field} '${b[field]}' must be ${text}`,
    });
    if (!isHostName(b.hostname)) return wrong('hostname', 'the name of a host');
    const own = parts(b.routerip).map((text) => ({ text, prefix: parsePrefix(text) }));
    const families = own.map(({ prefix }) => prefix?.family);
    if (
      families[0] !== 4 ||
      own.length > 2 ||
      (own.length === 2 && families[1] !== 6) ||
      own.some(({ text }) => !text.includes('/') || !isHost(text.split('/')[0] as string))
    )
      return wrong(
        'routerip',
        'an IPv4 address with its prefix length like 50.1.1.2/24, and for IPv6 one of that behind a comma',
      );
    if (!isAsNumber(b.as)) return wrong('as', 'an AS number from 1 to 4294967294');
    const neighbors = parts(b.neighbor);
    const numbers = parts(b['neighbor-as']);
    if (!numbers.every(isAsNumber)) return wrong('neighbor-as', 'an AS number from 1 to 4294967294');
    if (numbers.length > 1 && numbers.length !== neighbors.length)
      return wrong('neighbor-as', 'one AS number for all neighbours, or one for each');
    if (!neighbors.every(isHost)) return wrong('neighbor', 'an address, or several separated by commas');
    if (neighbors.length > MAX_NEIGHBORS || new Set(neighbors).size < neighbors.length)
      return wrong('neighbor', `at most ${MAX_NEIGHBORS} addresses, each another one`);
    if (own.length < 2 && neighbors.some(isIpv6))
      return wrong('neighbor', "reached from an IPv6 address: give the host's behind a comma in routerip");
    if (neighbors.some((n) => routerAddresses(b).includes(n)))
      return wrong('neighbor', "another one than the host's own, routerip");
    const prefixes = parts(b.services).map((text) => parseSubnet(text));
    if (prefixes.some((prefix) => prefix === undefined || prefix.ranged))
      return wrong('services', 'prefixes like 203.0.113.0/24, separated by commas');
    // A route to one of these would cut the host off from whoever has it.
    const link = own.flatMap(({ text }) => parseSubnet(subnetPrefix(text)) ?? []);
    const meets = (prefix: Subnet): boolean =>
      neighbors.some((n) => contains(prefix, n)) || link.some((l) => overlap(l, prefix));
    if (servicePrefixes(b).some(meets))
      return wrong('services', 'prefixes that neither a neighbour nor the subnet of routerip is in');
    if (b.passwordFile && !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(b.passwordFile))
      return wrong('passwordFile', 'the name of a file in /etc/contiv/bgp, without a path');
    return undefined;
  },
};
