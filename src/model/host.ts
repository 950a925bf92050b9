/** A host that runs an agent. Bound to a lease: gone when the agent is not heard of for `HOST_TTL`. */
import { type Static, Type } from '@sinclair/typebox';
import { isIpv4, isIpv6 } from './address.ts';
import type { Problem } from './kind.ts';
import { isHostName } from './names.ts';

/** Seconds after the last heartbeat until a host counts as dead and its endpoints lose their names. */
export const HOST_TTL = 10;
/** Seconds between an agent's heartbeats. */
export const HEARTBEAT = 3;
/** That a heartbeat tells of: more are told by their number. */
export const MAX_PROBLEMS = 100;

/** That a host tells of. */
export const MAX_PREFIXES = 64;

/** See HostKey (encryption.ts). */
const HostKeySchema = Type.Object(
  {
    epoch: Type.Integer({ minimum: 1, maximum: 2 ** 31 }),
    key: Type.String({ pattern: '^[A-Za-z0-9+/]{43}=$' }),
  },
  { additionalProperties: false },
);

export const HostSchema = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 253 }),
    /** VTEP: the address that other hosts send VXLAN to. */
    underlay: Type.String({ maxLength: 64 }),
    /** Of the interface that has it: what is larger does not arrive there. */
    mtu: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000 })),
    /** Prefix of those whom it reaches without a router, by Ethernet, on the link of its underlay; '': nobody. */
    link: Type.Optional(Type.String({ maxLength: 64 })),
    /** Prefixes that it has routes to which are not ours: what addresses mean there already. The widest, where there are more. */
    prefixes: Type.Optional(Type.Array(Type.String({ maxLength: 64 }), { maxItems: MAX_PREFIXES })),
    /** By which what is for it is encrypted; absent: nothing is. */
    keys: Type.Optional(Type.Array(HostKeySchema, { maxItems: 2 })),
    version: Type.Optional(Type.String({ maxLength: 64 })),
    /** One life of its agent, drawn by chance: by it a host that has another address now is told from another host of its name. */
    run: Type.Optional(Type.String({ maxLength: 64 })),
  },
  { $id: 'Host', additionalProperties: false },
);
export type Host = Static<typeof HostSchema>;

/** Of a host that takes no new containers, by an operator's word, nor new connections where others may take them; lasting, by its name. */
export interface Draining {
  /** Milliseconds, Unix time. */
  readonly since: number;
}

/** An address that a host has in reserve. */
export interface Reserved {
  readonly address: string;
  /** Whose pool it is of; absent: the network's. */
  readonly groupName?: string;
}

/** What a host has in reserve of a network, for containers that start there while no netmaster answers; by `HOST/TENANT:NETWORK`. */
export interface Reserve {
  readonly host: string;
  readonly network: string;
  readonly addresses: readonly Reserved[];
}

export function checkHost({ name, underlay }: Host): Problem | undefined {
  const wrong = (field: keyof Host, text: string): Problem => ({
    field,
    status: 400,
    message: `host ${name}: ${field} ${text}`,
  });
  if (!isHostName(name))
    return wrong('name', "must be letters, digits, '-', '_' or '.', a letter or digit at both ends");
  if (!isIpv4(underlay) && !isIpv6(underlay))
    return wrong('underlay', `'${underlay}' must be an IPv4 or IPv6 address`);
  return undefined;
}
