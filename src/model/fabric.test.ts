/** What is kept for a physical fabric and does not act yet: BGP, the ACI gateway, external contracts. */
import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { type AciGw, aciGw } from './aciGw.ts';
import { type Bgp, bgp } from './bgp.ts';
import { extContractsGroup } from './extContractsGroup.ts';

const WORLD = worldOf({});

describe('BGP', () => {
  const BGP: Bgp = { hostname: 'host1', routerip: '50.1.1.2/24', as: '65002' };
  const check = (fields: Partial<Bgp>) => bgp.check?.({ ...BGP, ...fields }, WORLD, undefined);

  it('may be of any host, with a neighbour or none', () => {
    expect(check({})).toBeUndefined();
    expect(
      check({ hostname: 'node_1.rack-2', neighbor: '50.1.1.1', 'neighbor-as': '4294967294' }),
    ).toBeUndefined();
  });

  it.each<[Partial<Bgp>, keyof Bgp]>([
    [{ hostname: '../x' }, 'hostname'],
    [{ routerip: '50.1.1.2' }, 'routerip'],
    [{ routerip: 'bad' }, 'routerip'],
    [{ routerip: 'fd00::1/64' }, 'routerip'],
    [{ as: '0' }, 'as'],
    [{ as: '4294967295' }, 'as'],
    [{ as: '1.5' }, 'as'],
    [{ 'neighbor-as': 'x' }, 'neighbor-as'],
    [{ neighbor: '50.1.1.1/24' }, 'neighbor'],
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
  expect(bgp.note?.({ hostname: 'h', routerip: '', as: '' })).toContain('nothing acts on BGP');
  expect(aciGw.note?.({ name: 'aciGw' })).toContain('nothing acts on the ACI gateway');
  expect(
    extContractsGroup.note?.({ tenantName: 'a', contractsGroupName: 'b', contractsType: 'provided' }),
  ).toContain('nothing acts on external contracts');
});
