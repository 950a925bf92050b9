/** contiv's objects by kubectl: what `kubectl get` shows of each kind, and what netmaster says of it. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { apply, kubectl } from './kubernetes.ts';
import { differences } from './lab.ts';

const OBJECTS: readonly (readonly [kind: string, name: string, spec: object])[] = [
  ['Tenant', 'blue', {}],
  ['Network', 'shop', { subnet: '10.77.0.0/24', gateway: '10.77.0.254' }],
  ['Network', 'away', { tenantName: 'blue', ipv6Subnet: 'fd77::/64', ipv6Gateway: 'fd77::1' }],
  ['Policy', 'closed', {}],
  ['NetProfile', 'slow', { bandwidth: '10Mbps' }],
  ['EndpointGroup', 'front', { networkName: 'shop', policies: ['closed'], netProfile: 'slow' }],
  ['EndpointGroup', 'astray', { networkName: 'nowhere' }],
  ['ExternalEndpoint', 'files', { groupName: 'front', ipAddress: ['192.0.2.10'] }],
  [
    'Rule',
    'closed-1',
    { policyName: 'closed', ruleId: '1', direction: 'in', protocol: 'tcp', ports: '80,443', action: 'deny' },
  ],
];
const documents = (): string =>
  OBJECTS.map(([kind, name, spec]) =>
    JSON.stringify({ apiVersion: 'contiv.io/v1', kind, metadata: { name }, spec }),
  ).join('\n---\n');

/** A table of kubectl's, by its header's columns. */
function table(text: string): Record<string, string>[] {
  const [header = '', ...lines] = text.split('\n');
  const columns = [...header.matchAll(/\S+\s*/g)];
  return lines.map((line) =>
    Object.fromEntries(
      columns.map(({ 0: name, index }, i) => [name.trim(), line.slice(index, columns[i + 1]?.index).trim()]),
    ),
  );
}
const WELL = { ACCEPTED: 'True', APPLIED: 'True', MESSAGE: '' };

beforeAll(async () => {
  await apply(documents());
});
afterAll(async () => {
  const kinds = 'rules,externalendpoints,endpointgroups,netprofiles,policies,networks,tenants';
  await kubectl(`delete ${kinds.replaceAll(/\w+/g, '$&.contiv.io')} --all --timeout=120s`);
  expect(await differences()).toBe('');
});

it.each([
  ['tenants', [{ NAME: 'blue' }]],
  [
    'networks',
    [
      {
        NAME: 'away',
        TENANTNAME: 'blue',
        SUBNET: '',
        GATEWAY: '',
        IPV6SUBNET: 'fd77::/64',
        IPV6GATEWAY: 'fd77::1',
      },
      {
        NAME: 'shop',
        TENANTNAME: '',
        SUBNET: '10.77.0.0/24',
        GATEWAY: '10.77.0.254',
        IPV6SUBNET: '',
        IPV6GATEWAY: '',
      },
    ],
  ],
  ['policies', [{ NAME: 'closed', TENANTNAME: '' }]],
  ['netprofiles', [{ NAME: 'slow', TENANTNAME: '', BANDWIDTH: '10Mbps' }]],
  [
    'endpointgroups',
    [
      {
        NAME: 'astray',
        TENANTNAME: '',
        NETWORKNAME: 'nowhere',
        POLICIES: '',
        ACCEPTED: 'False',
        APPLIED: 'False',
        MESSAGE: expect.stringContaining('nowhere'),
      },
      { NAME: 'front', TENANTNAME: '', NETWORKNAME: 'shop', POLICIES: '["closed"]' },
    ],
  ],
  [
    'externalendpoints',
    [
      {
        NAME: 'files',
        TENANTNAME: '',
        GROUPNAME: 'front',
        IPADDRESS: '["192.0.2.10"]',
        HEALTHCHECK: '',
      },
    ],
  ],
  [
    'rules',
    [
      {
        NAME: 'closed-1',
        POLICYNAME: 'closed',
        DIRECTION: 'in',
        ACTION: 'deny',
        PROTOCOL: 'tcp',
        PROTOCOLS: '',
        PORT: '',
        PORTS: '80,443',
      },
    ],
  ],
])(
  '`kubectl get` shows of %s what is declared, and whether it is accepted and applied',
  async (resource, rows) => {
    const shown = async () => table(await kubectl(`get ${resource}.contiv.io`));
    await expect.poll(shown).toEqual(rows.map((row) => ({ ...WELL, ...row })));
  },
);
