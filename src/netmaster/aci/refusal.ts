/**
 * What the fabric cannot have is refused when it is declared, where the fabric mode is aci: a write that adds to what compile.ts leaves out. What
 * was declared before the mode is told by netctl status.
 */
import type { AciGw } from '../../model/aciGw.ts';
import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import type { Problem, World } from '../../model/kind.ts';
import type { Global } from '../../model/settings.ts';
import type { Plain } from '../fields.ts';
import { compile } from './compile.ts';
import type { Unfit } from './contracts.ts';

/** Kinds by which something may not fit any more. */
const KINDS: ReadonlySet<string> = new Set(['rule', 'endpointGroup', 'appProfile', 'extContractsGroup']);

export function refusedByFabric(kind: string, key: string, object: Plain, world: World): Problem | undefined {
  if (!KINDS.has(kind)) return undefined;
  if (world.get<Global>('global', 'global')?.networkInfraType !== 'aci') return undefined;
  const gateway = world.get<AciGw>('aciGw', 'aciGw') ?? { name: 'aciGw' };
  const unfitIn = (view: World): Unfit[] =>
    compile(gateway, ofTenant(String(object.tenantName), view)).unfit.filter(({ of }) => of !== 'aciGw');
  const known = new Set(unfitIn(world).map(textOf));
  const unfit = unfitIn(withObject(kind, key, object, world)).find((each) => !known.has(textOf(each)));
  if (unfit === undefined) return undefined;
  const { of, field, problem, remedy } = unfit;
  return { ...(Object.hasOwn(object, field) && { field }), message: `${of}: ${problem}: ${remedy}` };
}

const textOf = ({ of, problem }: Unfit): string => `${of}: ${problem}`;

/** Of application profiles those of one tenant alone: others are not looked at. */
const ofTenant = (tenant: string, world: World): World => ({
  ...world,
  list: <T>(kind: string) =>
    kind === 'appProfile' ? world.users<T>('tenant', tenant, kind) : world.list<T>(kind),
});

/** As it is to be. Rules are found by their policy, profiles by their tenant, all others by their key. */
function withObject(kind: string, key: string, object: Plain, world: World): World {
  const before = world.get<StoredEndpointGroup>(kind, key);
  // What was given to it stays.
  const after = kind === 'endpointGroup' && before?.vlan ? { ...object, vlan: before.vlan } : object;
  const among = <T>(all: readonly T[]): readonly T[] => [
    ...all.filter((each) => each !== before),
    after as unknown as T,
  ];
  const isOfIt = (of: string, name: string): boolean =>
    of === 'tenant'
      ? name === object.tenantName
      : kind === 'rule' && of === 'policy' && name === `${object.tenantName}:${object.policyName}`;
  return {
    ...world,
    get: <T>(of: string, name: string) =>
      of === kind && name === key ? (after as unknown as T) : world.get<T>(of, name),
    users: <T>(of: string, name: string, users: string) => {
      const all = world.users<T>(of, name, users);
      return users === kind && isOfIt(of, name) ? among(all) : all;
    },
  };
}
