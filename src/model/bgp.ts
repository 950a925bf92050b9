/** BGP of one host: whom it would tell its containers' addresses. Kept; nothing acts on it yet. */
import { type Static, Type } from '@sinclair/typebox';
import { isIpv4, parsePrefix } from './address.ts';
import type { Kind, Problem } from './kind.ts';
import { isHostName } from './names.ts';

export const BgpSchema = Type.Object(
  {
    hostname: Type.String({ description: 'host that speaks BGP', minLength: 1, maxLength: 253 }),
    routerip: Type.String({
      description: "the host's address to its neighbour, with the prefix length",
      maxLength: 64,
    }),
    as: Type.String({ description: "the host's AS number", maxLength: 10 }),
    'neighbor-as': Type.Optional(Type.String({ description: "the neighbour's AS number", maxLength: 10 })),
    neighbor: Type.Optional(Type.String({ description: "the neighbour's address", maxLength: 64 })),
  },
  { $id: 'Bgp', additionalProperties: false },
);
export type Bgp = Static<typeof BgpSchema>;

/** RFC 6793: four octets, 0 reserved (RFC 7607), and the last one (RFC 7300). */
const isAsNumber = (text: string): boolean => /^[1-9]\d{0,9}$/.test(text) && Number(text) < 2 ** 32 - 1;

export const bgp: Kind<typeof BgpSchema> = {
  name: 'Bgp',
  collection: 'Bgps',
  schema: BgpSchema,
  keyFields: ['hostname'],
  updatable: true,
  references: [],
  note: () => 'kept only: nothing acts on BGP settings yet, no route is announced or learned',
  check(b) {
    const wrong = (field: keyof Bgp, text: string): Problem => ({
      field,
      status: 400,
      message: `Bgp ${b.hostname}: ${field} '${b[field]}' must be ${text}`,
    });
    if (!isHostName(b.hostname)) return wrong('hostname', 'the name of a host');
    const router = parsePrefix(b.routerip);
    if (router === undefined || router.family !== 4 || !b.routerip.includes('/'))
      return wrong('routerip', 'an IPv4 address with its prefix length like 50.1.1.2/24');
    for (const field of ['as', 'neighbor-as'] as const)
      if (b[field] && !isAsNumber(b[field])) return wrong(field, 'an AS number from 1 to 4294967294');
    if (b.neighbor && !isIpv4(b.neighbor)) return wrong('neighbor', 'an IPv4 address');
    return undefined;
  },
};
