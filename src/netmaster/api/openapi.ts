/** The table of routes as OpenAPI 3.0 (https://spec.openapis.org/oas/v3.0.3), made when it is asked for. */
import type { TObject, TSchema } from '@sinclair/typebox';
import { ErrorBodySchema } from '../../protocol/messages.ts';
import { ROUTES, type Route } from '../../protocol/routes.ts';

type Plain = Record<string, unknown>;

export function describe(version: string): Plain {
  const paths: Record<string, Plain> = {};
  for (const route of ROUTES) {
    const path = route.path.replace(/:(\w+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route) };
  }
  return {
    openapi: '3.0.3',
    info: { title: 'Contiv netmaster', version, description: 'Tenants, networks, groups and policy' },
    components: { schemas: { Error: plain(ErrorBodySchema) } },
    paths,
  };
}

const ERROR = {
  description: 'refused: one line says why',
  content: { 'application/json': { schema: { $ref: '#/components/schemas/Error' } } },
};
const MEDIA = { text: 'text/plain', lines: 'application/x-ndjson' };

function operation({ tag, summary, path, query, body, answer, as }: Route): Plain {
  const parameters = [
    ...[...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
      schema: { type: 'string' },
      in: 'path',
      name,
      required: true,
    })),
    ...Object.entries(query?.properties ?? {}).map(([name, { description }]) => ({
      schema: { type: 'string' },
      in: 'query',
      name,
      required: false,
      description,
    })),
  ];
  const media = as === undefined ? 'application/json' : MEDIA[as];
  const done =
    answer === undefined
      ? { 204: { description: 'done' } }
      : { 200: { description: 'done', content: { [media]: { schema: plain(answer) } } } };
  return {
    ...(tag === '' ? {} : { tags: [tag] }),
    summary,
    ...(body === undefined
      ? {}
      : { requestBody: { required: true, content: { 'application/json': { schema: plain(body) } } } }),
    ...(parameters.length === 0 ? {} : { parameters }),
    responses: { ...done, default: ERROR },
  };
}

/** A schema in the words that OpenAPI 3.0 has: of one value it says `enum`, of a map's values `additionalProperties`. */
function plain(schema: TSchema): Plain {
  const { $id: _, const: only, anyOf, items, properties, patternProperties, ...rest } = schema;
  const each = (of: TObject['properties']): Plain =>
    Object.fromEntries(Object.entries(of).map(([name, s]) => [name, plain(s)]));
  const [values] = Object.values(patternProperties ?? {});
  return {
    ...rest,
    ...(only === undefined ? {} : { enum: [only] }),
    ...(anyOf === undefined ? {} : { anyOf: anyOf.map(plain) }),
    ...(items === undefined ? {} : { items: plain(items) }),
    ...(properties === undefined ? {} : { properties: each(properties) }),
    ...(values === undefined ? {} : { additionalProperties: plain(values as TSchema) }),
  };
}
