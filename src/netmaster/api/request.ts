/** Reading requests: what is wrong is refused with a line that names the field. */
import type { TObject } from '@sinclair/typebox';
import type { FastifyRequest } from 'fastify';
import { shown } from '../../model/text.ts';
import { checkFields, readBody } from '../fields.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';

/** A body that is as the schema says. */
export function read<T>(what: string, schema: TObject, body: unknown): T {
  const object = readBody(what, body);
  checkFields(what, schema, object);
  return object as T;
}

export const parameter = (request: FastifyRequest, name: string): string =>
  (request.params as Record<string, string>)[name] ?? '';

/** Name of a host in the path that is registered: what others say is kept nowhere. */
export function registered(request: FastifyRequest, mirror: Mirror): string {
  const name = parameter(request, 'name');
  if (mirror.get('host', name) === undefined) throw new Refusal(404, `host ${name} is not registered`);
  return name;
}

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
