/** What a fabric has of what concerns us: all in the tenants that are wanted, or in which something is ours. */
import type { Problem } from '../../protocol/hosts.ts';
import type { Apic } from './apic.ts';
import type { Wanted } from './compile.ts';
import { type Difference, difference, isForeign, SHARED } from './difference.ts';
import { hidingOf } from './external.ts';
import { ancestorsOf, CLASSES, dnOf, type ManagedObject, parentOf, ROOT, type Tree } from './tree.ts';

/** Where one of these is ours, the tenant is looked at: all others lie in them, or come with them. */
const LOOKED_FOR = ['fvTenant', 'fvCtx', 'fvBD', 'fvAp', 'fvAEPg', 'vzBrCP', 'vzFilter', 'vzTaboo'];
/** Others write those; one of a tenant's hides one of common (external.ts). */
const ALSO_READ = ['vzCPIf'];
const COMMON = dnOf('fvTenant', ROOT, 'common');

const tenantOf = (dn: string): string => ancestorsOf(dn)[0] ?? dn;

export async function observe(apic: Apic, wanted: Tree, mark: string): Promise<Tree> {
  const tenants = new Set([...wanted.keys()].map(tenantOf));
  for (const name of LOOKED_FOR)
    for (const { dn } of await apic.get(
      `class/${name}.json?query-target-filter=eq(${name}.annotation,"${mark}")`,
    ))
      tenants.add(tenantOf(dn));
  const actual = new Map<string, ManagedObject>();
  for (const tenant of tenants)
    for (const object of await apic.get(
      `mo/${tenant}.json?query-target=subtree&target-subtree-class=${[...CLASSES, ...ALSO_READ].join(',')}`,
      true,
    ))
      actual.set(object.dn, object);
  return actual;
}

/** What is wrong with the contracts of the fabric that groups refer to. `hasOwn`: whether there is a contract of a tenant's, by its DN. */
export async function wrongContracts(
  apic: Apic,
  relies: Wanted['relies'],
  hasOwn: (dn: string) => boolean,
): Promise<(Problem & { of: string })[]> {
  const problems: (Problem & { of: string })[] = [];
  const there = new Map<string, boolean>();
  for (const { dn, tenant, of } of relies) {
    if (!there.has(dn)) there.set(dn, (await apic.get(`mo/${dn}.json`)).length > 0);
    const hiding = hidingOf(dn, tenant);
    if (!there.get(dn))
      problems.push({
        of,
        problem: `the fabric has no contract ${dn}`,
        remedy: 'make it there, or name another one',
      });
    else if (hiding !== undefined && hasOwn(hiding))
      problems.push({
        of,
        problem: `the fabric takes ${hiding} for ${dn}: by that name what is the tenant's own goes first`,
        remedy: "give one of both another name, or name the tenant's own",
      });
  }
  return problems;
}

/** Without the bridge domains that the fabric's common tenant has: a relation by their name leads there, where the tenant has none. */
export async function lessCommon(apic: Apic, wanted: Tree): Promise<Tree> {
  const found = await apic.get(`mo/${COMMON}.json?query-target=subtree&target-subtree-class=fvBD`);
  const common = new Set(found.map(({ attributes }) => attributes.name));
  const isCommon = ({ className, attributes }: ManagedObject): boolean =>
    className === 'fvBD' && common.has(attributes.name);
  return new Map(
    [...wanted].filter(([dn, object]) => {
      const above = wanted.get(parentOf(dn));
      return !isCommon(object) && !(above !== undefined && isCommon(above));
    }),
  );
}

/** What is to be written. Before a container goes it is seen that nobody else has something in it; else it stays, and is ours still. */
export async function decide(apic: Apic, wanted: Tree, actual: Tree, mark: string): Promise<Difference> {
  const keep = new Set<string>();
  const empty = new Set<string>();
  for (;;) {
    const found = difference(wanted, actual, mark, keep);
    const going = found.changes.filter(
      ({ action, object }) => action === 'delete' && SHARED.has(object.className) && !empty.has(object.dn),
    );
    if (going.length === 0) return found;
    for (const {
      object: { dn },
    } of going) {
      const inside = await apic.get(`mo/${dn}.json?query-target=subtree`);
      if (inside.some((object) => object.dn !== dn && isForeign(object, mark))) keep.add(dn);
      else empty.add(dn);
    }
  }
}
