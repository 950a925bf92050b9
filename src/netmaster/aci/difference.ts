/**
 * What is to be written so that a fabric has what is wanted: pure. What somebody else has made stays as it is (tree.ts, `markOf`): of that the
 * containers are used, such as a tenant that is there, and what else would have to be another is a problem.
 */
import type { Problem } from '../../protocol/hosts.ts';
import { ancestorsOf, type ManagedObject, parentOf, type Tree } from './tree.ts';

export interface Change {
  readonly action: 'create' | 'change' | 'delete';
  readonly object: ManagedObject;
  /** Of a change: what is another, as it was. */
  readonly was?: Readonly<Record<string, string>>;
}

export interface Difference {
  /** What lies in another comes behind it. Of what is deleted with what it lies in nothing is said. */
  readonly changes: readonly Change[];
  readonly problems: readonly Problem[];
}

/** What others may have made before, and build upon afterwards. */
export const SHARED: ReadonlySet<string> = new Set(['fvTenant', 'fvCtx', 'fvBD', 'fvAp']);
/** Those that come with what they lie in, and say nothing then. */
const IMPLICIT: ReadonlySet<string> = new Set(['fvRsBd', 'fvRsCtx', 'vzAny']);
/** What belongs to a bridge domain, and is whose that is. */
const OF_DOMAIN: ReadonlySet<string> = new Set(['fvRsCtx', 'fvSubnet']);

/** APIC names ports that are well known (vzEntry, `dFromPort`). */
const PORT_NAMES: Readonly<Record<string, string>> = {
  ftpData: '20',
  ssh: '22',
  smtp: '25',
  dns: '53',
  http: '80',
  pop3: '110',
  https: '443',
  rtsp: '554',
};
const plain = (attribute: string, value: string | undefined): string | undefined =>
  attribute.endsWith('Port') ? (PORT_NAMES[value ?? ''] ?? value) : value;

/** `keep`: DNs of what is not wanted any more, and stays, as somebody else has something in it. */
export function difference(
  wanted: Tree,
  actual: Tree,
  mark: string,
  keep: ReadonlySet<string> = new Set(),
): Difference {
  const changes: Change[] = [];
  const problems: Problem[] = [];
  const isOurs = (object: ManagedObject): boolean =>
    object.attributes.annotation === mark ||
    // It was ours when it was made: what it lies in is.
    (IMPLICIT.has(object.className) && actual.get(parentOf(object.dn))?.attributes.annotation === mark);
  /** DNs below which nothing can be had. */
  const blocked = new Set<string>();
  const foreignDomains = new Set<string>();

  for (const object of wanted.values()) {
    const { className, dn } = object;
    const above = parentOf(dn);
    if (blocked.has(above)) {
      blocked.add(dn);
      continue;
    }
    if (OF_DOMAIN.has(className) && foreignDomains.has(above)) continue;
    const marked: ManagedObject =
      className === 'vzAny' ? object : { ...object, attributes: { ...object.attributes, annotation: mark } };
    const there = actual.get(dn);
    if (there === undefined) {
      // It is there with its VRF, and is not made.
      if (className !== 'vzAny') changes.push({ action: 'create', object: marked });
      continue;
    }
    const was = differing(isOurs(there) ? marked : object, there);
    const fields = Object.keys(was);
    if (isOurs(there)) {
      if (fields.length > 0) changes.push({ action: 'change', object: marked, was });
      continue;
    }
    if (className === 'vzAny') continue;
    if (className === 'fvBD') foreignDomains.add(dn);
    const says = fields.map(
      (field) => `${field} is ${was[field] || 'unset'} and not ${object.attributes[field]}`,
    );
    if (SHARED.has(className)) {
      if (says.length > 0)
        problems.push({
          problem: `${dn} is in the fabric already, made by somebody else, and its ${says.join(', its ')}`,
          remedy: 'set that in the fabric by hand, or delete it there: it is made anew then',
        });
    } else if (says.length > 0 || !isRelation(className)) {
      problems.push({
        problem: `${dn} is in the fabric already, made by somebody else, and stays as it is`,
        remedy: 'delete it there, or give what is declared here another name',
      });
      blocked.add(dn);
    }
  }

  const gone = [...actual.values()].filter(
    (object) => object.attributes.annotation === mark && !wanted.has(object.dn) && !keep.has(object.dn),
  );
  const dns = new Set(gone.map(({ dn }) => dn));
  for (const object of gone)
    if (!ancestorsOf(object.dn).some((above) => dns.has(above))) changes.push({ action: 'delete', object });
  return { changes, problems };
}

const isRelation = (className: string): boolean => /^[a-z]+Rs[A-Z]/.test(className);

/** Attributes in which it is another than it is to be, as they are. */
function differing(object: ManagedObject, there: ManagedObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(object.attributes)
      .filter(([name, value]) => plain(name, there.attributes[name]) !== plain(name, value))
      .map(([name]) => [name, there.attributes[name] ?? '']),
  );
}

/** Of what is in a container: whether somebody put it there. Only what can be declared has an annotation, and relations come by themselves. */
export const isForeign = ({ className, attributes }: ManagedObject, mark: string): boolean =>
  attributes.annotation !== undefined &&
  attributes.annotation !== mark &&
  className !== 'vzAny' &&
  !isRelation(className);
