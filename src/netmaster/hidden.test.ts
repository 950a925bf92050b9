import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Api, openApi } from '../../test/apiServer.ts';
import { netctl } from '../netctl/run.ts';

let api: Api;
beforeEach(async () => {
  api = await openApi();
});
afterEach(() => api.close());

async function warning(method: 'POST' | 'DELETE', path: string, payload?: object): Promise<string> {
  const answer = await api.server.inject({
    method,
    url: `/api/v1/${path}/?wait=0`,
    ...(payload && { payload }),
  });
  expect(answer.statusCode).toBe(200);
  return String(answer.headers['contiv-warning'] ?? '');
}

it('a network that is called like a top-level domain is created with a warning, no other is', async () => {
  const network = (key: string, subnet: string) =>
    warning('POST', `networks/${key}`, { subnet, gateway: subnet.replace('0/24', '254') });
  expect(await warning('POST', 'tenants/blue', {})).toBe('');
  expect(await network('blue:dev', '20.1.1.0/24')).toBe(
    'network blue:dev: .dev is a top-level domain: in tenant blue names like example.dev are its own and resolve nothing outside',
  );
  expect(await network('blue:App', '20.1.2.0/24')).toMatch(/^network blue:App: \.app is a top-level domain/);
  expect(await network('blue:xn--p1ai', '20.1.3.0/24')).toMatch(/\.xn--p1ai is a top-level domain/);
  for (const [i, name] of ['contiv-net', 'web', 'backend', 'lan'].entries())
    expect(await network(`blue:${name}`, `20.2.${i}.0/24`)).toBe('');
  expect(await warning('POST', 'tenants/com', {})).toBe('');
  // What is gone hides nothing, and a group's name is one label.
  expect(await warning('POST', 'endpointGroups/blue:net', { networkName: 'dev' })).toBe('');
  expect(await warning('DELETE', 'networks/blue:App')).toBe('');
});

it('a file that declares such networks is warned of once, and netctl prints it', async () => {
  const objects = ['dev', 'app', 'plain'].map((networkName, i) => ({
    kind: 'network',
    networkName,
    subnet: `20.1.${i}.0/24`,
  }));
  const both = /^network default:dev: [^;]*; network default:app: [^;]*$/;
  expect(await warning('POST', 'apply', { objects })).toMatch(both);
  expect(await warning('POST', 'apply', { objects })).toBe('');

  const printed: string[] = [];
  const status = await netctl(
    ['net', 'create', 'page', '--subnet=20.9.9.0/24', `--netmaster=http://127.0.0.1:${api.port}`],
    { env: {}, print: (line) => printed.push(line), printError: (line) => printed.push(line) },
  );
  expect({ status, printed }).toEqual({
    status: 0,
    printed: [
      'Creating network default:page',
      expect.stringMatching(/^netctl: warning: network default:page: \.page is a top-level domain/),
    ],
  });
});
