/** What is about a physical fabric: BGP, the ACI gateway and external contracts. */
import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { type AciGw, aciGw } from './aciGw.ts';
import { type Bgp, bgp, neighborsOf } from './bgp.ts';
import { extContractsGroup } from './extContractsGroup.ts';

const WORLD = worldOf({});

describe('BGP', () => {
  const BGP: Bgp = { hostname: 'host1', routerip: '50.1.1.2/24', as: '65002' };
  const check = (fields: Partial<Bgp>) => bgp.check?.({ ...BGP, ...fields }, WORLD, undefined);
  const BOTH = '50.1.1.2/24,fd00:50::2/64';

  it('may be of any host, with neighbours or none', () => {
    for (const fields of [
      {},
      { hostname: 'node_1.rack-2', neighbor: '50.1.1.1', 'neighbor-as': '4294967294' },
      { neighbor: '50.1.1.1,50.1.1.3', 'neighbor-as': '65000, 65001', passwordFile: 'tor-1.key' },
      { routerip: BOTH, neighbor: '50.1.1.1,fd00:50::1', maxPrefixes: 5 },
      { neighbor: '50.1.1.1', services: '203.0.113.0/24, 10.96.0.0/12,2001:db8::/64' },
    ])
      expect(check(fields)).toBeUndefined();
  });

  it('has an AS number for each neighbour, the same for all, or its own', () => {
    const of = (fields: Partial<Bgp>) => neighborsOf({ ...BGP, neighbor: '50.1.1.1, 50.1.1.3', ...fields });
    expect(of({})).toEqual([
      { address: '50.1.1.1', as: '65002' },
      { address: '50.1.1.3', as: '65002' },
    ]);
    expect(of({ 'neighbor-as': '7' }).map((n) => n.as)).toEqual(['7', '7']);
    expect(of({ 'neighbor-as': '7,8' }).map((n) => n.as)).toEqual(['7', '8']);
    expect(neighborsOf(BGP)).toEqual([]);
  });

  it.each<[Partial<Bgp>, keyof Bgp]>([
    [{ hostname: '../x' }, 'hostname'],
    [{ routerip: '50.1.1.2' }, 'routerip'],
    [{ routerip: 'bad' }, 'routerip'],
    [{ routerip: 'fd00::1/64' }, 'routerip'],
    [{ routerip: '50.1.1.2/24,50.1.1.3/24' }, 'routerip'],
    [{ routerip: `${BOTH},fd00::9/64` }, 'routerip'],
    [{ routerip: '127.0.0.1/8' }, 'routerip'],
    [{ as: '0' }, 'as'],
    [{ as: '4294967295' }, 'as'],
    [{ as: '1.5' }, 'as'],
    [{ 'neighbor-as': 'x' }, 'neighbor-as'],
    [{ neighbor: '50.1.1.1', 'neighbor-as': '1,2' }, 'neighbor-as'],
    [{ neighbor: '50.1.1.1/24' }, 'neighbor'],
    [{ neighbor: '50.1.1.1,50.1.1.1' }, 'neighbor'],
    [{ neighbor: '50.1.1.1,,50.1.1.3' }, 'neighbor'],
    [{ neighbor: '50.1.1.2' }, 'neighbor'],
    [{ neighbor: 'fd00:50::1' }, 'neighbor'],
    [{ neighbor: '224.0.0.5' }, 'neighbor'],
    [{ neighbor: '1.1.1.1,1.1.1.2,1.1.1.3,1.1.1.4,1.1.1.5,1.1.1.6,1.1.1.7,1.1.1.8,1.1.1.9' }, 'neighbor'],
    [{ services: 'all' }, 'services'],
    [{ services: '203.0.113.10-203.0.113.20/24' }, 'services'],
    [{ services: '50.1.1.128/25' }, 'services'],
    [{ services: '50.0.0.0/8' }, 'services'],
    [{ services: '203.0.113.0/24', neighbor: '203.0.113.1' }, 'services'],
    [{ passwordFile: '../shadow' }, 'passwordFile'],
    [{ passwordFile: '/etc/shadow' }, 'passwordFile'],
  ])('is refused with %j', (fields, field) => {
    expect(check(fields)).toMatchObject({
      field,
      status: 400,
      message: expect.stringMatching(`^Bgp .*: ${field} '.*' must be `),
    });
  });
});

describe('ACI gateway', () => {
  const check = (fields: Partial<AciGw>) => aciGw.check?.({ name: 'aciGw', ...fields }, WORLD, undefined);

  it('has bindings of the form that the fabric has', () => {
    const path = 'topology/pod-1/paths-101/pathep-[eth1/14]';
    const node = 'topology/pod-1/node-101';
    expect(check({})).toBeUndefined();
    expect(check({ pathBindings: `${path},${path}`, nodeBindings: `${node}, ${node}` })).toBeUndefined();
    expect(check({ pathBindings: `${path},${node}` })).toMatchObject({ field: 'pathBindings', status: 400 });
    expect(check({ nodeBindings: path })).toMatchObject({
      field: 'nodeBindings',
      message: `aciGw: nodeBindings '${path}' must be like ${node}`,
    });
  });

  it('has domains of virtual machines by vendor and name, where netmaster itself speaks to the fabric', () => {
    expect(check({ vmmDomains: 'VMware/dvs1, Redhat/kvm' })).toBeUndefined();
    for (const odd of ['dvs1', 'VMware/', 'VMware/a/b', 'Nobody/dvs1', 'VMware/a]'])
      expect(check({ vmmDomains: `VMware/dvs1,${odd}` })).toMatchObject({
        field: 'vmmDomains',
        message: `aciGw: vmmDomains '${odd}' must be like VMware/dvs1`,
      });
    expect(check({ vmmDomains: 'VMware/dvs1', gateway: 'http://localhost:5000' })).toMatchObject({
      field: 'vmmDomains',
      message: 'aciGw: vmmDomains does not go with gateway: the gateway of Contiv 1.x knows of none',
    });
  });
});

describe("the ACI gateway's controllers", () => {
  const CONTROLLED = { controllers: 'https://10.0.0.1', userName: 'contiv' } as const;
  const check = (fields: Partial<AciGw>) =>
    aciGw.check?.({ name: 'aciGw', ...CONTROLLED, ...fields }, WORLD, undefined);

  it('are asked as a user, over TLS, or on this machine', () => {
    for (const fields of [
      { controllers: 'https://10.0.0.1, https://apic2.example:8443,https://[fd00::1]', passwordFile: 'apic' },
      { controllers: 'http://127.0.0.1:8080,http://localhost,http://[::1]:80', caFile: 'ca.pem' },
      { keyFile: 'key.pem', certificateName: 'contiv', clusterName: 'east' },
      { controllers: '', userName: '', gateway: 'http://localhost:5000' },
    ])
      expect(check(fields)).toBeUndefined();
  });

  it.each<[Partial<AciGw>, keyof AciGw]>([
    [{ controllers: '10.0.0.1' }, 'controllers'],
    [{ controllers: 'http://10.0.0.1' }, 'controllers'],
    [{ controllers: 'https://10.0.0.1/api' }, 'controllers'],
    [{ controllers: 'https://a@10.0.0.1' }, 'controllers'],
    [{ controllers: 'https://10.0.0.1,https://10.0.0.1' }, 'controllers'],
    [{ userName: '' }, 'userName'],
    [{ userName: 'a/b' }, 'userName'],
    [{ passwordFile: '../shadow' }, 'passwordFile'],
    [{ caFile: '/etc/ca.pem' }, 'caFile'],
    [{ keyFile: 'k', passwordFile: 'p', certificateName: 'c' }, 'keyFile'],
    [{ keyFile: 'k' }, 'certificateName'],
    [{ certificateName: 'c' }, 'keyFile'],
    [{ clusterName: 'a b' }, 'clusterName'],
    [{ gateway: 'http://localhost:5000' }, 'gateway'],
    [{ controllers: '', gateway: 'http://10.0.0.1:5000' }, 'gateway'],
  ])('are refused with %j', (fields, field) => {
    expect(check(fields)).toMatchObject({
      field,
      status: 400,
      message: expect.stringMatching(`^aciGw: ${field} `),
    });
  });
});

it('the ACI gateway stays while there are application profiles', () => {
  const gateway = { name: 'aciGw' } as const;
  const profiles = ['shop', 'bank'].map((appProfileName) => ({ tenantName: 'blue', appProfileName }));
  expect(aciGw.checkRemoval?.(gateway, WORLD)).toBeUndefined();
  expect(aciGw.checkRemoval?.(gateway, worldOf({ appProfile: profiles }))).toEqual({
    status: 409,
    message: 'aciGw is in use by appProfile blue:shop and 1 more: delete them first',
  });
});

it('what is kept only says so', () => {
  expect(bgp.note?.({ hostname: 'h', routerip: '', as: '' })).toContain('no neighbour is given');
  expect(bgp.note?.({ hostname: 'h', routerip: '', as: '', neighbor: '50.1.1.1' })).toBeUndefined();
  expect(aciGw.note?.({ name: 'aciGw' })).toContain('kept only: nothing acts on it without controllers');
  expect(
    extContractsGroup.note?.({ tenantName: 'a', contractsGroupName: 'b', contractsType: 'provided' }),
  ).toContain('kept only where the fabric mode is not aci');
});
