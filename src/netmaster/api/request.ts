/** Reading requests: what is wrong is refused with a line that names the field. */
import type { TObject } from '@sinclair/typebox';
import type { FastifyRequest } from 'fastify';
import { oneLine, shown } from '../../model/text.ts';
import { CLIENT_HEADER } from '../../protocol/wire.ts';
import type { Caller } from '../events.ts';
import { checkFields, readBody } from '../fields.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import type { Scope } from '../scope.ts';
import { whomOf } from './access.ts';

/** Seconds that a write waits for the live hosts. */
const DEADLINE = 2;

/** A body that is as the schema says. */
export function read<T>(what: string, schema: TObject, body: unknown): T {
  const object = readBody(what, body);
  checkFields(what, schema, object);
  return object as T;
}

/** Name of a host that is registered: what others say is kept nowhere. */
export function registered(name: string, mirror: Mirror): string {
  if (mirror.get('host', name) === undefined) throw new Refusal(404, `host ${name} is not registered`);
  return name;
}

/**
 * Who asks: what its certificate or token says, then what the client says it is, else its User-Agent; and the address that it asks from.
 */
export function callerOf({ headers, socket, identity }: FastifyRequest): Caller {
  const said = oneLine(String(headers[CLIENT_HEADER] ?? headers['user-agent'] ?? ''), 100);
  const known = identity === undefined || identity.role === 'nobody' ? undefined : identity;
  const by = known === undefined ? said : `${whomOf(known)}${said === '' ? '' : ` (${said})`}`;
  const from = (socket.remoteAddress ?? '').replace(/^::ffff:/, '');
  return { ...(by === '' ? {} : { by }), ...(from === '' ? {} : { from }) };
}

/** The tenants that the caller may ask about; undefined: all there is. */
export const scopeOf = ({ identity }: FastifyRequest): Scope | undefined => identity?.scope;

/** Parameters behind the '?' of a path. */
export type Query = Readonly<Record<string, string | undefined>>;

/** Each at most once. Throws a Refusal where there are others: `dryrun` would be no dry run. */
export function readQuery(request: FastifyRequest, names: readonly string[]): Query {
  const query = request.query as Readonly<Record<string, string | readonly string[]>>;
  const read: Record<string, string> = {};
  for (const [name, value] of Object.entries(query)) {
    if (!names.includes(name))
      throw new Refusal(
        400,
        `${shown(name)} is not a parameter; the parameters are ${names.join(', ')}`,
        name,
      );
    if (typeof value !== 'string') throw new Refusal(400, `${name} must be given once`, name);
    read[name] = value;
  }
  return read;
}

/** `wait` of a query, in seconds. */
export function waitSeconds({ wait }: Query): number {
  if (wait === undefined) return DEADLINE;
  if (!/^\d{1,3}(?:\.\d{1,3})?$/.test(wait) || Number(wait) > 600)
    throw new Refusal(400, `wait: ${shown(wait)} must be 0 to 600 seconds`, 'wait');
  return Number(wait);
}

/** `true` or `false`; false where it is not given. */
export function readSwitch(query: Query, name: string): boolean {
  const { [name]: text = 'false' } = query;
  if (text !== 'true' && text !== 'false')
    throw new Refusal(400, `${name}: ${shown(text)} must be true or false`, name);
  return text === 'true';
}

/** A revision of the store: a whole number that JavaScript holds exactly. */
export function readRevision(name: string, text: string): number {
  const revision = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(revision))
    throw new Refusal(400, `${name}: ${shown(text)} must be a revision, a whole number`, name);
  return revision;
}
