/** The table of routes against what netmaster serves and describes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kindByName } from '../src/model/kinds.ts';
import { hostPlace, tenantPlace } from '../src/protocol/access.ts';
import { ROUTES, type Route } from '../src/protocol/routes.ts';
import { PATHS } from '../src/protocol/wire.ts';
import { type Api, openApi } from './apiServer.ts';

let api: Api;
beforeAll(async () => {
  api = await openApi();
});
afterAll(() => api.close());

const lineOf = ({ method, path }: Pick<Route, 'method' | 'path'>): string => `${method} ${path}`;
const table = ROUTES.map(lineOf).sort();

/** `GET /api/v1/hosts/:name` of what fastify prints as a tree: four columns a level, each with the rest of its path. */
function served(): string[] {
  const above: string[] = [];
  return api.server
    .printRoutes({ commonPrefix: false })
    .split('\n')
    .flatMap((line) => {
      const [, indent = '', segment = '', methods = ''] =
        /^(.*?[├└]── )(\S*)(?: \((.*)\))?$/.exec(line) ?? [];
      const depth = indent.length / 4;
      above.length = Math.max(0, depth - 1);
      const path = above.join('') + segment;
      above.push(segment);
      return methods.split(', ').flatMap((method) => (method === '' ? [] : `${method} ${path}`));
    });
}

describe.each(ROUTES.map((route) => [lineOf(route), route] as const))('%s', (_, route) => {
  const { name, summary, who, path, query, body } = route;
  const inPath = [...path.matchAll(/:(\w+)/g)].map((m) => m[1]);

  it('has a line about it, and says who may ask', () => {
    expect(summary).toMatch(/^[^\n]{10,120}$/);
    if (typeof who === 'string') return;
    const place = hostPlace({ who }) ?? tenantPlace({ who });
    const [[where, parameter] = []] = Object.entries<string>(place ?? {});
    const names = {
      path: inPath,
      query: Object.keys(query?.properties ?? {}),
      body: Object.keys(body?.properties ?? {}),
    };
    expect(names[where as keyof typeof names]).toContain(parameter);
  });

  it('calls no two of its parameters the same', () => {
    const all = [...inPath, ...Object.keys(query?.properties ?? {})];
    expect(new Set(all).size).toBe(all.length);
  });

  it('says whose an object is by a key that begins with its tenant', () => {
    const kind = kindByName.get(route.tag);
    if (kind === undefined) return;
    const isTenants = kind.keyFields[0] === 'tenantName';
    if (name !== 'list' && who !== 'cluster')
      expect(who).toEqual(isTenants ? { tenant: { path: 'key' } } : 'tenants');
    // Others do not tell by their key whose they are, and tenants are made for their operators.
    if (name !== 'list' && name !== 'get' && who !== 'cluster')
      expect(isTenants && kind.keyFields.length > 1).toBe(true);
  });
});

it('every path has its routes', () => {
  expect(new Set(ROUTES.map(({ name }) => name))).toEqual(new Set(Object.keys(PATHS)));
});

it('netmaster serves the table, and nothing else', () => {
  const endless = new Set(
    ROUTES.filter(({ as }) => as === 'lines').map(({ method, path }) => `${method} ${path}`),
  );
  const lines = served();
  expect(lines.filter((line) => !line.startsWith('HEAD ')).sort()).toEqual(table);
  const heads = lines.filter((line) => line.startsWith('HEAD ')).map((line) => line.replace('HEAD', 'GET'));
  expect(heads.sort()).toEqual(table.filter((line) => line.startsWith('GET ') && !endless.has(line)));
});

it('/openapi.json lists the table, and nothing else', async () => {
  const { text } = await api.send('GET', '/openapi.json');
  const { paths } = JSON.parse(text) as { paths: Record<string, Record<string, { summary: string }>> };
  const listed = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { summary }]) => ({
      line: `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
      summary,
    })),
  );
  const byLine = (a: { line: string }, b: { line: string }): number => (a.line < b.line ? -1 : 1);
  const described = ROUTES.map((route) => ({ line: lineOf(route), summary: route.summary }));
  expect(listed.sort(byLine)).toEqual(described.sort(byLine));
});
