/** Reading requests: what is wrong is refused with a line that names the field. */
import type { TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import type { FastifyRequest } from 'fastify';
import { Refusal } from '../problem.ts';

export function read<T>(what: string, schema: TSchema, body: unknown): T {
  const error = Value.Errors(schema, body).First();
  if (error === undefined) return body as T;
  const field = error.path.replace(/^\//, '').replaceAll('/', '.') || undefined;
  throw new Refusal(400, `${what}: ${field ?? 'the body'}: ${error.message.toLowerCase()}`, field);
}

/** Throws where a name is not valid UTF-8 in percent encoding. */
export const parameter = (request: FastifyRequest, name: string): string =>
  (request.params as Record<string, string>)[name] ?? '';

export const query = (request: FastifyRequest, name: string): string | undefined => {
  const value = (request.query as Record<string, string | string[]>)[name];
  return Array.isArray(value) ? value[0] : value;
};
