/**
 * What travels between netmaster, agents and netctl beside the objects of the model: bodies, answers and the lines of the watch.
 * The types follow from the schemas; routes.ts says which route has which.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { Endpoint } from '../model/endpoint.ts';
import type { Host } from '../model/host.ts';
import { SwarmServiceSchema } from '../model/swarmService.ts';
import type { Side } from '../model/verdict.ts';
import { ToldEventSchema } from './events.ts';
import { HeardSchema, RefusedHostSchema } from './hosts.ts';

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** Milliseconds, Unix time: as many as a Date can hold (ECMA-262, time values). */
const Time = Type.Integer({ minimum: 0, maximum: 8.64e15 });
/** Of a rule; or what names that of a NetworkPolicy, whose names are long. */
const Key = Type.String({ maxLength: 400 });
const Address = Type.String({ maxLength: 64 });
const Direction = Type.Union([Type.Literal('in'), Type.Literal('out')]);
const Verdict = Type.Union([Type.Literal('allow'), Type.Literal('deny')]);
/** IANA number. */
const Protocol = Type.Integer({ minimum: 0, maximum: 255 });
const Port = Type.Integer({ minimum: 0, maximum: 65535 });

/** `revision` of the store when it answered; `store` its id. */
export const HostAnswerSchema = Type.Object({ store: Type.String(), revision: Type.Integer() });
export type HostAnswer = Static<typeof HostAnswerSchema>;

/** The host's kernel equals intent as of this revision. */
export const AppliedSchema = Type.Object(
  { store: Type.String({ maxLength: 64 }), revision: Count },
  { additionalProperties: false },
);
export type Applied = Static<typeof AppliedSchema>;

export const AddressRequestSchema = Type.Object(
  {
    tenantName: Type.String({ minLength: 1, maxLength: 63 }),
    networkName: Type.String({ minLength: 1, maxLength: 63 }),
    /** Its ip-pool is used where it has one. */
    groupName: Type.Optional(Type.String({ maxLength: 63 })),
    /** A given address instead of the next free one. */
    address: Type.Optional(Address),
    family: Type.Union([Type.Literal(4), Type.Literal(6)]),
    host: Type.String({ minLength: 1, maxLength: 253 }),
    /** For the host itself, not for a container: given also where the host takes no new ones. */
    ofHost: Type.Optional(Type.Literal(true)),
    /** Drawn by chance, of one request: asked again with it, the answer is the same address. */
    request: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    /** Id of the Swarm of Docker's that it is for, '' where that is not known yet: it keeps the address, whichever hosts have it by turns. */
    swarm: Type.Optional(Type.String({ maxLength: 64 })),
  },
  { additionalProperties: false },
);
export type AddressRequest = Static<typeof AddressRequestSchema>;

const { swarm: _, ipv6VirtualAddress: _6, ...swarmServiceFields } = SwarmServiceSchema.properties;
const SwarmServiceFields = Type.Object(swarmServiceFields, { additionalProperties: false });

/** All that a Swarm has of a cluster's networks: addresses of its tasks and services, and its services. */
export const SwarmReportSchema = Type.Object(
  {
    /** A manager, which leads. */
    host: Type.String({ minLength: 1, maxLength: 253 }),
    addresses: Type.Array(
      Type.Object(
        {
          tenantName: Type.String({ minLength: 1, maxLength: 63 }),
          networkName: Type.String({ minLength: 1, maxLength: 63 }),
          address: Address,
        },
        { additionalProperties: false },
      ),
    ),
    /** In each network that stands for one of the cluster's. Absent: of an agent that does not tell. */
    services: Type.Optional(Type.Array(SwarmServiceFields)),
  },
  { additionalProperties: false },
);
export type SwarmReport = Static<typeof SwarmReportSchema>;

export const SwarmAnswerSchema = Type.Object({
  /** Addresses that are kept for the Swarm and that it has no more: until the grace period ends. */
  missed: Type.Integer({ minimum: 0 }),
});

/** What came of an external endpoint's health check. */
export const CheckedReportSchema = Type.Object(
  {
    /** Its key. */
    endpoint: Type.String({ minLength: 1, maxLength: 128 }),
    /** As it was when it was asked. */
    healthCheck: Type.String({ maxLength: 256 }),
    /** Why it is not well; absent: it is. */
    problem: Type.Optional(Type.String({ minLength: 1, maxLength: 500 })),
  },
  { additionalProperties: false },
);
export type CheckedReport = Static<typeof CheckedReportSchema>;

export const AddressAnswerSchema = Type.Object({
  address: Type.String(),
  /** Of the network's subnet. */
  prefixLength: Type.Integer(),
});
export type AddressAnswer = Static<typeof AddressAnswerSchema>;

/** Which live hosts had not applied the write when the deadline passed; empty when all had. */
export const WriteAnswerSchema = Type.Object({ revision: Type.Integer(), late: Type.Array(Type.String()) });
export type WriteAnswer = Static<typeof WriteAnswerSchema>;

/** What would the kernel of a host do with the first packet of a connection, on one side. */
export const LiveQuestionSchema = Type.Object({
  tenant: Type.String(),
  direction: Direction,
  /** Address of the endpoint on that host. */
  own: Type.String(),
  peer: Type.String(),
  protocol: Protocol,
  port: Type.Optional(Port),
});
export type LiveQuestion = Static<typeof LiveQuestionSchema>;

export const LiveAnswerSchema = Type.Object(
  {
    verdict: Verdict,
    /** Key of the rule that decides; '' where none does. */
    rule: Key,
    /** Chains that are not as the agent set them up: then the verdict is not to be relied on. */
    changed: Type.Array(Type.String({ maxLength: 1000 }), { maxItems: 1000 }),
    /** Why there is no verdict. */
    problem: Type.Optional(Type.String({ maxLength: 1000 })),
  },
  { additionalProperties: false },
);
export type LiveAnswer = Static<typeof LiveAnswerSchema>;

/**
 * The kinds on the watch: `tenant`, `network`, `endpointGroup`, `global` and all further intent, `endpoint`, `host`, `draining` for
 * each host that is being drained, by its name, and `reserve` for what a host has in reserve of a network, by `HOST/TENANT:NETWORK`.
 * A `network` carries `vni`, the tag on the wire, also where it was given out automatically, an `endpointGroup` in the same way `vlan`, the
 * tag of its own that it has in an ACI fabric, and a `serviceLB` `vip`, its virtual address.
 * Objects are without `key`, `links` and `link-sets`.
 */
export const WatchedObjectSchema = Type.Object({
  kind: Type.String(),
  key: Type.String(),
  /** null: it is gone. */
  object: Type.Unknown(),
});
export type WatchedObject = Static<typeof WatchedObjectSchema>;

/**
 * Without `after`: an `object` line for each object, then `synced`, then `change` lines. An object that changes while the list
 * is sent has a second line, with null where it is gone: the last one counts. With `after`:
 * `synced` at once (its revision is `after`), then the changes since. A `change` with `store`: from this revision on it is called
 * so, as another netmaster has started. 410 {error: {code: 'compacted'}} when the store is another, or was put back to an earlier state,
 * or the revision is too old. 429 where the client has too many watches open, 503 where all have. A watch that has fallen
 * too far behind, or of which nothing was taken for a minute, is closed, and may be resumed. A `ping` comes at least every 3 s: a silent connection is dead. An `ask` comes only
 * where the watcher named its host: it posts its answer.
 */
export const WatchMessageSchema = Type.Union([
  Type.Object({ type: Type.Literal('object'), ...WatchedObjectSchema.properties }),
  Type.Object({ type: Type.Literal('synced'), store: Type.String(), revision: Type.Integer() }),
  Type.Object({
    type: Type.Literal('change'),
    revision: Type.Integer(),
    changes: Type.Array(WatchedObjectSchema),
    store: Type.Optional(Type.String()),
  }),
  Type.Object({ type: Type.Literal('ping'), revision: Type.Integer() }),
  Type.Object({ type: Type.Literal('ask'), id: Type.String(), question: LiveQuestionSchema }),
]);
export type WatchMessage = Static<typeof WatchMessageSchema>;

/** What a container sent in vain, whatever policy says. */
export const RefusedPacketsSchema = Type.Object(
  {
    /** Endpoint's id. */
    endpoint: Key,
    /** `source`: from an address that is not its own; `connections`: it has as many as a container may have. */
    reason: Type.Union([Type.Literal('source'), Type.Literal('connections')]),
    packets: Count,
    /** Of the newest. */
    last: Time,
    /** Of `source`, the newest that was looked at: the address that it came from, and the sender's MAC address. */
    address: Type.Optional(Address),
    mac: Type.Optional(Type.String({ maxLength: 17 })),
  },
  { additionalProperties: false },
);
export type RefusedPackets = Static<typeof RefusedPacketsSchema>;

/**
 * First packets of connections that a rule decided: one for each connection that it let through, one for each attempt
 * (a TCP client repeats its own) that it denied. Of UDP without an answer each packet.
 */
export const RuleHitsSchema = Type.Object(
  {
    /** Key of the rule. */
    rule: Key,
    packets: Count,
    bytes: Count,
  },
  { additionalProperties: false },
);
export type RuleHits = Static<typeof RuleHitsSchema>;

export const DeniedFlowSchema = Type.Object(
  {
    tenant: Type.String({ maxLength: 63 }),
    /** Which side of it denied, or allowed. */
    direction: Direction,
    from: Address,
    to: Address,
    protocol: Protocol,
    /** Destination port, where the protocol has ports. */
    port: Type.Optional(Port),
    /** Key of the rule; '' where it was gone when the packet was read. */
    rule: Key,
    /** Packets of it that were logged: some of them where they are many. */
    count: Count,
    /** Of the last one. */
    last: Time,
  },
  { additionalProperties: false },
);
export type DeniedFlow = Static<typeof DeniedFlowSchema>;

/**
 * What a host's policy did since `reporter` began: all of it, so that the report with the greatest sequence is all that needs to be
 * known, however often and wherever reports come.
 */
export const FlowReportSchema = Type.Object(
  {
    /** A run of an agent; its sequence goes up. */
    reporter: Type.String({ maxLength: 128 }),
    sequence: Count,
    hits: Type.Array(RuleHitsSchema),
    denied: Type.Array(DeniedFlowSchema),
    /** By rules that log; absent: none. */
    allowed: Type.Optional(Type.Array(DeniedFlowSchema)),
    /** Absent: none. */
    refused: Type.Optional(Type.Array(RefusedPacketsSchema)),
    /** What happened there since the last report that was answered. */
    events: Type.Optional(Type.Array(ToldEventSchema, { maxItems: 132 })),
  },
  { additionalProperties: false },
);
export type FlowReport = Static<typeof FlowReportSchema>;

/** Between netmasters: what hosts said to the one that sends it. First all of them, then those of which there is news. */
export const ReplicaMessageSchema = Type.Union([
  Type.Object({
    type: Type.Literal('hosts'),
    store: Type.String(),
    hosts: Type.Array(
      Type.Object({
        name: Type.String(),
        /** 0: nothing yet. */
        applied: Type.Integer(),
        /** Its watch is there. */
        watches: Type.Boolean(),
        /** By that netmaster, and not from others. */
        heard: Type.Optional(HeardSchema),
      }),
    ),
    /** Since the last piece. */
    refused: Type.Optional(Type.Array(RefusedHostSchema)),
  }),
  Type.Object({ type: Type.Literal('ping') }),
]);
export type ReplicaMessage = Static<typeof ReplicaMessageSchema>;

export const ReplicaQuestionSchema = Type.Object(
  {
    host: Type.String({ minLength: 1, maxLength: 253 }),
    question: LiveQuestionSchema,
    /** That the host has. */
    seconds: Type.Number({ minimum: 0, maximum: 60 }),
  },
  { additionalProperties: false },
);
export const ReplicaAnswerSchema = Type.Object({
  /** `away`: the host has no watch there; `silent`: it did not answer in time. */
  answer: Type.Union([LiveAnswerSchema, Type.Literal('away'), Type.Literal('silent')]),
});

/** With the names that the addresses had when it was first reported; absent where they were no endpoint's. */
export const NamedDeniedFlowSchema = Type.Object({
  ...DeniedFlowSchema.properties,
  /** `last` in ISO 8601. */
  time: Type.String(),
  host: Type.String(),
  fromContainer: Type.Optional(Type.String()),
  fromGroup: Type.Optional(Type.String()),
  toContainer: Type.Optional(Type.String()),
  toGroup: Type.Optional(Type.String()),
  /** `NAMESPACE/NAME`. */
  fromWorkload: Type.Optional(Type.String()),
  toWorkload: Type.Optional(Type.String()),
});
export type NamedDeniedFlow = Static<typeof NamedDeniedFlowSchema>;

/** The newest report of one run of a host's agent, as a netmaster keeps it. */
export const KeptReportSchema = Type.Object({
  host: Type.String(),
  reporter: Type.String(),
  sequence: Count,
  hits: Type.Array(RuleHitsSchema),
  denied: Type.Array(NamedDeniedFlowSchema),
  allowed: Type.Optional(Type.Array(NamedDeniedFlowSchema)),
  refused: Type.Array(RefusedPacketsSchema),
});
export type KeptReport = Static<typeof KeptReportSchema>;

/** In what inspect says of an endpoint: as long as its host's agents are known to have counted. */
export const DroppedPacketsSchema = Type.Object({
  reason: RefusedPacketsSchema.properties.reason,
  packets: Type.Integer(),
  /** Of the newest, ISO 8601. */
  time: Type.String(),
  address: Type.Optional(Type.String()),
  mac: Type.Optional(Type.String()),
});
export type DroppedPackets = Static<typeof DroppedPacketsSchema>;

export const TraceEndSchema = Type.Object({
  /** As asked for. */
  asked: Type.String(),
  address: Type.String(),
  /** `container web`, `group db`, `address 20.1.1.7`. */
  name: Type.String(),
  group: Type.Optional(Type.String()),
  network: Type.Optional(Type.String()),
  /** Where its container runs. */
  host: Type.Optional(Type.String()),
  /** It is an external endpoint, which is on no host. */
  external: Type.Optional(Type.Literal(true)),
});
export type TraceEnd = Static<typeof TraceEndSchema>;

export const LiveSideSchema = Type.Object({
  host: Type.String(),
  direction: Direction,
  agrees: Type.Boolean(),
  /** Such as "agrees: rule default:prod_web:1 says deny". */
  text: Type.String(),
});
export type LiveSide = Static<typeof LiveSideSchema>;

/** Of the model (verdict.ts): the rules that were considered, and which of them decides. */
const SideSchema = Type.Unsafe<Side>(Type.Object({}, { additionalProperties: true }));

/** Why a connection passes to one end or not, as declared. */
export const BackendTraceSchema = Type.Object({
  tenant: Type.String(),
  protocol: Protocol,
  port: Type.Optional(Port),
  from: TraceEndSchema,
  to: TraceEndSchema,
  /** `unreachable`: whatever policy says, nothing is there or no way leads there. */
  verdict: Type.Union([Type.Literal('allow'), Type.Literal('deny'), Type.Literal('unreachable')]),
  out: SideSchema,
  in: SideSchema,
  /** What else is to be known, one plain line each. */
  notes: Type.Array(Type.String()),
  /** Only where it was asked for: the kernel of each end's host. */
  live: Type.Optional(Type.Array(LiveSideSchema)),
});
export type BackendTrace = Static<typeof BackendTraceSchema>;

/** The same of any connection. */
export const TraceSchema = Type.Object({
  ...BackendTraceSchema.properties,
  /** `partly`: a service that some of its backends let it pass to. */
  verdict: Type.Union([
    Type.Literal('allow'),
    Type.Literal('deny'),
    Type.Literal('unreachable'),
    Type.Literal('partly'),
  ]),
  /** Where it goes to an orchestrator's service: what becomes of it at each backend that may be chosen. */
  service: Type.Optional(
    Type.Object({
      name: Type.String(),
      /** Which those are, for people. */
      chosen: Type.String(),
      backends: Type.Array(BackendTraceSchema),
    }),
  ),
});
export type Trace = Static<typeof TraceSchema>;

export const VersionAnswerSchema = Type.Object({
  GitCommit: Type.String(),
  Version: Type.String(),
  BuildTime: Type.String(),
});

export const HealthSchema = Type.Object({
  /** `ok`, or `unwritable`. */
  status: Type.String(),
  /** Why the store cannot be written. */
  problem: Type.Optional(Type.String()),
  store: Type.String(),
  revision: Type.Integer(),
});

/** Body of every answer with status >= 400. `position`: of the object in a set, from 1. */
export const ErrorBodySchema = Type.Object({
  error: Type.Object({
    code: Type.String(),
    message: Type.String(),
    field: Type.Optional(Type.String()),
    position: Type.Optional(Type.Integer()),
  }),
});
export type ErrorBody = Static<typeof ErrorBodySchema>;

export type { Endpoint, Host };
