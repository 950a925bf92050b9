import { expect, it } from 'vitest';
import { PATHS, type RouteName, requestOf } from './wire.ts';

it.each<[RouteName, Record<string, string | undefined>, string]>([
  ['list', { collection: 'networks' }, 'GET /api/v1/networks/'],
  ['post', { collection: 'rules', key: 'default:web:1' }, 'POST /api/v1/rules/default:web:1/'],
  ['get', { collection: 'tenants', key: 'a/b c?d' }, 'GET /api/v1/tenants/a%2Fb%20c%3Fd/'],
  ['get', { collection: 'tenants', key: '\ud800' }, 'GET /api/v1/tenants/%EF%BF%BD/'],
  ['inspect', { collection: 'networks', key: 'a:b' }, 'GET /api/v1/inspect/networks/a:b/'],
  ['applied', { name: 'host1' }, 'POST /api/v1/hosts/host1/applied'],
  [
    'release',
    { network: 'default:n', address: 'fd00::1', host: 'h' },
    'DELETE /api/v1/addresses/default%3An/fd00%3A%3A1?host=h',
  ],
  ['attach', { id: 'e', host: 'h', wait: '0' }, 'PUT /api/v1/endpoints/e?host=h&wait=0'],
  ['detach', { id: 'e', host: undefined }, 'DELETE /api/v1/endpoints/e'],
  ['watch', { host: 'h', store: 's', after: '7' }, 'GET /api/v1/watch?host=h&store=s&after=7'],
  ['export', {}, 'GET /api/v1/export'],
])('%s with %j asks for %s', (name, parameters, line) => {
  const { method, url } = requestOf(name, parameters);
  expect(`${method} ${url}`).toBe(line);
});

it('no two routes have one method and path', () => {
  const shapes = Object.values(PATHS).map((path) => path.replace(/:\w+/g, ':'));
  expect(new Set(shapes).size).toBe(shapes.length);
});
