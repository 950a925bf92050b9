/** A host that runs an agent. Bound to a lease: gone when the agent is not heard of for `HOST_TTL`. */
import { type Static, Type } from '@sinclair/typebox';

/** Seconds after the last heartbeat until a host counts as dead and its endpoints lose their names. */
export const HOST_TTL = 10;
/** Seconds between an agent's heartbeats. */
export const HEARTBEAT = 3;

export const HostSchema = Type.Object(
  {
    name: Type.String({ minLength: 1, maxLength: 253 }),
    /** VTEP: the address that other hosts send VXLAN to. */
    underlay: Type.String(),
    version: Type.Optional(Type.String()),
  },
  { $id: 'Host', additionalProperties: false },
);
export type Host = Static<typeof HostSchema>;
