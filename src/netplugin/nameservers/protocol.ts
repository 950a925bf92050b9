/**
 * What the agent tells the process that answers names, one JSON object a line, and what that says. The body of POST /feed on
 * its socket, and the answer's; GET /health tells who it is.
 */
import type { WatchedObject } from '../../protocol/messages.ts';
import type { Parcel } from './parcel.ts';

export type Told =
  /** All objects that names follow from: they replace those before at once. */
  | { readonly type: 'list'; readonly objects: readonly WatchedObject[] }
  | { readonly type: 'changes'; readonly objects: readonly WatchedObject[] }
  /** The routers of this host, which are established: each has a nameserver, others have none. */
  | { readonly type: 'routers'; readonly id: number; readonly parcel: Parcel };

/** All that was told up to the routers with this id holds. */
export interface Said {
  readonly holds: number;
}

export interface Health {
  readonly pid: number;
  /** The file that it was started from, as stampOf() told it then. */
  readonly program: string;
  /** Namespaces with a nameserver. */
  readonly routers: readonly string[];
  readonly residentBytes: number;
  readonly cpuSeconds: number;
}
