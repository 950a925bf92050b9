/** What happened: changes of intent, hosts and containers that come and go, and what agents tell of. */
import { type Static, Type } from '@sinclair/typebox';
import { FieldChangesSchema } from './declared.ts';
import { EVENT_KINDS } from './wire.ts';

const KindSchema = Type.Union(EVENT_KINDS.map((kind) => Type.Literal(kind)));

/** The part of an event that is known where it happens. */
const HappenedSchema = Type.Object({
  kind: KindSchema,
  /**
   * `created`, `changed`, `deleted` of objects; `joined`, `changed`, `left` of hosts; `attached`, `changed`, `detached` of endpoints, `failed`,
   * `recovered` of external ones; `told` by an agent; of access `login`, `logout`, `refused`; of a fabric its state (hosts.ts), or `repaired`.
   */
  action: Type.String(),
  /** Kind of the object, such as `endpointGroup`, and its key; absent where it is none. */
  object: Type.Optional(Type.String()),
  key: Type.Optional(Type.String()),
  tenant: Type.Optional(Type.String()),
  host: Type.Optional(Type.String()),
  /** Before and after, of each field that is another; of one that was deleted what it had. A long value is cut, and ends in `…` then. */
  fields: Type.Optional(FieldChangesSchema),
  /** One plain line. */
  text: Type.Optional(Type.String()),
});
export type Happened = Readonly<Static<typeof HappenedSchema>>;

export const EventSchema = Type.Object({
  /** `REVISION-NUMBER`: of the store, and in that transaction. What comes later has a greater one. */
  id: Type.String(),
  revision: Type.Integer(),
  /** ISO 8601; by the clock of the host that told it, else of the netmaster that wrote it. */
  time: Type.String(),
  ...HappenedSchema.properties,
  /**
   * What the client says it is, such as `netctl root@node1`: nobody has checked that. With certificates in front of it what was checked:
   * `admin alice (netctl root@node1)`.
   */
  by: Type.Optional(Type.String()),
  /** Address that the request came from. */
  from: Type.Optional(Type.String()),
});
export type Event = Readonly<Static<typeof EventSchema>>;

/** A line of those that are followed. A ping comes at least every 3 s: a silent connection is dead. */
export const EventMessageSchema = Type.Union([
  Type.Object({ type: Type.Literal('event'), event: EventSchema }),
  Type.Object({ type: Type.Literal('ping') }),
]);
export type EventMessage = Static<typeof EventMessageSchema>;

/** What an agent tells of in its report, until netmaster has it. */
export const ToldEventSchema = Type.Object(
  {
    /** Of one run of the agent: told again, it is the same. */
    number: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
    /** Milliseconds, Unix time. */
    time: Type.Integer({ minimum: 0, maximum: 8.64e15 }),
    kind: Type.Union([
      Type.Literal('repair'),
      Type.Literal('denial'),
      Type.Literal('name'),
      Type.Literal('neighbor'),
    ]),
    text: Type.String({ minLength: 1, maxLength: 500 }),
  },
  { additionalProperties: false },
);
export type ToldEvent = Static<typeof ToldEventSchema>;
