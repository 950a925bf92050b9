import { expect, it } from 'vitest';
import { worldOf } from '../../../test/world.ts';
import { refusedByFabric } from './refusal.ts';

const cluster = (networkInfraType: string) =>
  worldOf({
    tenant: [{ tenantName: 'blue' }],
    global: [{ name: 'global', networkInfraType }],
    network: [
      { tenantName: 'blue', networkName: 'front', encap: 'vlan', subnet: '10.0.1.0/24', vni: 101 },
      { tenantName: 'blue', networkName: 'hidden', encap: 'vxlan', subnet: '10.0.2.0/24', vni: 102 },
    ],
    endpointGroup: [
      { tenantName: 'blue', groupName: 'web', networkName: 'front', policies: ['p'] },
      { tenantName: 'blue', groupName: 'app', networkName: 'front', policies: ['other'] },
      { tenantName: 'blue', groupName: 'db', networkName: 'hidden' },
      { tenantName: 'blue', groupName: 'new', networkName: 'front', vlan: 7 },
    ],
    policy: ['p', 'other'].map((policyName) => ({ tenantName: 'blue', policyName })),
    appProfile: [{ tenantName: 'blue', appProfileName: 'shop', endpointGroups: ['web'] }],
  });
const rule = (fields: object) => ({
  tenantName: 'blue',
  policyName: 'p',
  ruleId: '1',
  direction: 'in',
  action: 'allow',
  ...fields,
});

it('what the fabric cannot have is refused, and names the object, the field and what would be right', () => {
  const refused = (kind: string, key: string, object: object) =>
    refusedByFabric(kind, key, object as never, cluster('aci'));
  expect(refused('rule', 'blue:p:1', rule({ fromIpAddress: '10.0.0.1' }))).toEqual({
    field: 'fromIpAddress',
    message: expect.stringMatching(/^rule blue:p:1: fromIpAddress 10.0.0.1 is nothing .*: name a group/),
  });
  expect(refused('rule', 'blue:p:1', rule({ protocol: 'tcp', port: 80 }))).toBeUndefined();
  // Of a policy that no group in the fabric has.
  expect(
    refused('rule', 'blue:other:1', rule({ policyName: 'other', fromIpAddress: '10.0.0.1' })),
  ).toBeUndefined();
  const profile = (...endpointGroups: string[]) =>
    refused('appProfile', 'blue:shop', { tenantName: 'blue', appProfileName: 'shop', endpointGroups });
  expect(profile('web')).toBeUndefined();
  expect(profile('web', 'db')?.message).toMatch(/^group blue:db: is of network hidden, whose encap is vxlan/);
  expect(profile('web', 'app')?.message).toMatch(
    /^group blue:web: shares VLAN 101 of network front with group app/,
  );
  // Whoever has a VLAN of his own shares none, also where he is declared anew.
  expect(profile('web', 'new')).toBeUndefined();
  expect(
    refused('endpointGroup', 'blue:new', { tenantName: 'blue', groupName: 'new', networkName: 'front' }),
  ).toBeUndefined();
  expect(
    refused('extContractsGroup', 'blue:wan', {
      tenantName: 'blue',
      contractsGroupName: 'wan',
      contractsType: 'provided',
      contracts: ['web'],
    }),
  ).toBeUndefined();
});

it('with another fabric mode nothing is', () => {
  const object = rule({ fromIpAddress: '10.0.0.1' }) as never;
  expect(refusedByFabric('rule', 'blue:p:1', object, cluster('default'))).toBeUndefined();
});
