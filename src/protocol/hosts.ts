/** What hosts say of themselves, what netmaster says of hosts, and what it says of itself: bodies and answers, as in messages.ts. */
import { type Static, Type } from '@sinclair/typebox';
import { MAX_NEIGHBORS, MAX_SHOWN } from '../model/bgp.ts';
import { HostSchema, MAX_PROBLEMS } from '../model/host.ts';

const Line = Type.String({ maxLength: 600 });

/** Something that is not as it should be, and what mends it. One plain line each. */
export const ProblemSchema = Type.Object({ problem: Line, remedy: Line }, { additionalProperties: false });
export type Problem = Static<typeof ProblemSchema>;

/** A session of BGP. */
export const NeighborStateSchema = Type.Object(
  {
    address: Line,
    as: Line,
    /** `Established`, or how far it is (RFC 4271, 8.2.2); `Down` where no daemon runs. */
    state: Line,
    /** ISO 8601: since it is up, or was last tried anew. */
    since: Type.Optional(Line),
    /** Routes that it is told, and that are taken from it. */
    sent: Type.Integer(),
    received: Type.Integer(),
    /** Why it is not established, as the daemon has it. */
    reason: Type.Optional(Line),
    /** It tells more routes than are taken (`maxPrefixes`). */
    limited: Type.Optional(Type.Literal(true)),
  },
  { additionalProperties: false },
);
export type NeighborState = Static<typeof NeighborStateSchema>;

/** What a host's agent sees of its host. In no store: told anew with each heartbeat. */
export const ConditionSchema = Type.Object(
  {
    /** Established connections take it; absent: nothing has run here yet that could. */
    fastPath: Type.Optional(Type.Boolean()),
    problems: Type.Array(ProblemSchema, { maxItems: MAX_PROBLEMS }),
    /** Of the host's BGP; absent: it has none. */
    neighbors: Type.Optional(Type.Array(NeighborStateSchema, { maxItems: MAX_NEIGHBORS })),
    /** Addresses here that they are told, at most MAX_SHOWN. */
    announced: Type.Optional(Type.Array(Line, { maxItems: MAX_SHOWN })),
  },
  { additionalProperties: false },
);
export type Condition = Static<typeof ConditionSchema>;

/** A heartbeat. */
export const RegistrationSchema = Type.Object(
  { ...HostSchema.properties, condition: Type.Optional(ConditionSchema) },
  { additionalProperties: false },
);
export type Registration = Static<typeof RegistrationSchema>;

/** A heartbeat that a netmaster has taken. */
export const HeardSchema = Type.Object({
  /** Milliseconds, Unix time. */
  at: Type.Integer(),
  condition: Type.Optional(ConditionSchema),
});
export type Heard = Static<typeof HeardSchema>;

/** A heartbeat that a netmaster has refused. */
export const RefusedHostSchema = Type.Object({
  name: Type.String(),
  underlay: Type.String(),
  version: Type.Optional(Type.String()),
  reason: Type.String(),
  at: Type.Integer(),
});
export type RefusedHost = Static<typeof RefusedHostSchema>;

export const HostStateSchema = Type.Object({
  name: Type.String(),
  /** These three as it registered last; absent where that is not known. */
  underlay: Type.Optional(Type.String()),
  mtu: Type.Optional(Type.Integer()),
  version: Type.Optional(Type.String()),
  /**
   * `late`: it lives, and has not applied what was declared some seconds ago. `away`: nothing is heard of it; its containers count as
   * unreachable. `refused`: it asks to be let in, and is not. `draining`: as ready, and it takes no new containers.
   */
  state: Type.Union([
    Type.Literal('ready'),
    Type.Literal('late'),
    Type.Literal('away'),
    Type.Literal('refused'),
    Type.Literal('draining'),
  ]),
  /** Why it is not ready, in one plain line. */
  reason: Type.Optional(Type.String()),
  containers: Type.Integer(),
  /** When it was heard of last, ISO 8601; absent: never, as far as is known. */
  seen: Type.Optional(Type.String()),
  /** Since when it takes no new containers, whatever its state; absent: it takes them. */
  draining: Type.Optional(Type.String()),
  /** Revision that its kernel is as declared at; 0: it has said none yet. */
  applied: Type.Integer(),
  /** Revisions that it is behind what was declared. */
  lag: Type.Integer(),
  fastPath: Type.Optional(Type.Boolean()),
  problems: Type.Array(ProblemSchema),
});
export type HostState = Static<typeof HostStateSchema>;

/** With what runs there: endpoints as inspect has them. */
export const InspectedHostSchema = Type.Object({
  ...HostStateSchema.properties,
  endpoints: Type.Array(
    Type.Unsafe<Record<string, unknown>>(Type.Object({}, { additionalProperties: true })),
  ),
});

export const DrainedHostSchema = Type.Object({
  /** Since when it takes no new containers; absent: it takes them. */
  draining: Type.Optional(Type.String()),
  /** Hosts that may still send new connections as before. */
  late: Type.Array(Type.String()),
});

export const RotationSchema = Type.Object({
  /** Of the keys that hosts make now. */
  epoch: Type.Integer(),
  late: Type.Array(Type.String()),
});

export const RemovedHostSchema = Type.Object({
  revision: Type.Integer(),
  late: Type.Array(Type.String()),
  /** How many of its endpoints went with it. */
  endpoints: Type.Integer(),
});

/** With status 503 where there are problems, and then as an error too. */
export const ReadySchema = Type.Object({
  /** One plain line each; none: it is ready. */
  problems: Type.Array(Type.String()),
});

/**
 * `reached`: it goes by what is declared, or its problems say what not; `unreachable`: no controller answers; `refused`: they do not let
 * netmaster in, or do not let it read; `unset`: what it takes to speak to them is missing.
 */
const FabricStateSchema = Type.Union(
  ['reached', 'unreachable', 'refused', 'unset'].map((state) =>
    Type.Literal(state as 'reached' | 'unreachable' | 'refused' | 'unset'),
  ),
);

/** How it stands with an ACI fabric. */
export interface Fabric {
  readonly state: Static<typeof FabricStateSchema>;
  /** URL of the one that answered. */
  readonly controller?: string;
  /** ISO 8601: of the state. */
  readonly since: string;
  /** That are ours there, or are to be; with a gateway process of 1.x application profiles. */
  readonly objects: number;
  /** It tells of what is changed there; absent: that is found by looking. */
  readonly subscribed?: boolean;
  readonly problems: readonly (Problem & { readonly of: string })[];
}

/** The whole cluster on a page. */
export const StatusSchema = Type.Object({
  netmaster: Type.Object({
    version: Type.String(),
    /** `none`: whoever reaches it may do everything. */
    security: Type.Union([Type.Literal('certificates'), Type.Literal('none')]),
    /** `memory`, `sqlite` or `etcd`. */
    store: Type.String(),
    /** The file, or the members of etcd. */
    place: Type.Optional(Type.String()),
    /** That the store takes. */
    bytes: Type.Optional(Type.Integer()),
    revision: Type.Integer(),
    /** When the store was put back to an earlier state, and how that is known; absent: it was not, in the last week. */
    restored: Type.Optional(Type.String()),
    /** Seconds. */
    uptime: Type.Integer(),
    /** URLs of all netmasters, where there may be several. */
    netmasters: Type.Array(Type.String()),
  }),
  hosts: Type.Object({
    ready: Type.Integer(),
    late: Type.Integer(),
    away: Type.Integer(),
    refused: Type.Integer(),
    draining: Type.Integer(),
  }),
  /** Where the fabric mode is aci, or something of that is in the fabric still. */
  fabric: Type.Optional(
    Type.Object({
      state: FabricStateSchema,
      controller: Type.Optional(Type.String()),
      since: Type.String(),
      objects: Type.Integer(),
      subscribed: Type.Optional(Type.Boolean()),
    }),
  ),
  /** Of what goes between hosts; absent: none. */
  encryption: Type.Optional(
    Type.Object({
      /** Of the keys by which hosts send. */
      epoch: Type.Integer(),
      /** ISO 8601: since when. */
      since: Type.Optional(Type.String()),
      /** Keys are being rotated: hosts that are waited for; absent: they are not. */
      rotating: Type.Optional(Type.Array(Type.String())),
      /** Networks that go as they are, by VLANs: `default:contiv-net`; absent: there are none. */
      clear: Type.Optional(Type.Array(Type.String())),
    }),
  ),
  networks: Type.Array(
    Type.Object({
      /** `default:contiv-net`. */
      network: Type.String(),
      /** Of IPv4, where it has that. */
      subnet: Type.String(),
      /**
       * Its addresses: of containers, services and what starts; that hosts have in reserve beside those (of an older netmaster absent); and how
       * many there are to give, the gateway's left out, 2^53 - 1 at most.
       */
      used: Type.Integer(),
      reserved: Type.Optional(Type.Integer()),
      size: Type.Integer(),
    }),
  ),
  /** Hosts that live and have not applied all that was declared, however short a time ago. */
  pending: Type.Array(Type.Object({ host: Type.String(), lag: Type.Integer() })),
  /** None: all is well. `of`: `netmaster`, `host node1`, `network default:contiv-net`. */
  problems: Type.Array(Type.Object({ of: Type.String(), ...ProblemSchema.properties })),
});
export type Status = Static<typeof StatusSchema>;
