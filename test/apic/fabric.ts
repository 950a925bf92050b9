/** The objects of an ACI fabric, of which all of its controllers show the same: documents that are posted, and queries. */
import { CLASSES, shownValue } from './classes.ts';

export interface Stored {
  readonly className: string;
  readonly dn: string;
  readonly attributes: Readonly<Record<string, string>>;
}
export interface Imdata {
  [className: string]: { attributes: Record<string, string>; children?: Imdata[] };
}

/** As it is answered, with the numbers that APIC has. */
export class FabricError extends Error {
  readonly status: number;
  readonly code: string;
  constructor(code: string, text: string, status = 400) {
    super(text);
    this.code = code;
    this.status = status;
  }
}

/** The last slash that is not within brackets. */
function cut(dn: string): [parent: string, rn: string] {
  let depth = 0;
  for (let i = dn.length - 1; i >= 0; i--) {
    if (dn[i] === ']') depth++;
    if (dn[i] === '[') depth--;
    if (dn[i] === '/' && depth === 0) return [dn.slice(0, i), dn.slice(i + 1)];
  }
  return ['', dn];
}

const rnPattern = (rn: string): RegExp =>
  new RegExp(`^${rn.replace(/[[\]]/g, '\\$&').replace('{}', '(.+)')}$`);

function classOf(dn: string): string {
  if (dn === 'uni') return 'polUni';
  const [above, rn] = cut(dn);
  const parent = above === '' ? '' : classOf(above);
  const found = Object.entries(CLASSES).find(
    ([, model]) => model.in.includes(parent) && rnPattern(model.rn).test(rn),
  );
  if (found === undefined)
    throw new FabricError('104', `Invalid DN ${dn}, wrong rn prefix ${rn} at ${above}`);
  return found[0];
}

/** What has become of an object: as APIC tells those who subscribe, with what is another in it. */
export interface Change {
  readonly status: 'created' | 'modified' | 'deleted';
  readonly object: Stored;
  readonly attributes: Readonly<Record<string, string>>;
}

function changesOf(before: ReadonlyMap<string, Stored>, after: ReadonlyMap<string, Stored>): Change[] {
  const changes: Change[] = [];
  for (const [dn, object] of after) {
    const was = before.get(dn);
    const differing = Object.entries(object.attributes).filter(
      ([name, value]) => was?.attributes[name] !== value,
    );
    if (differing.length === 0) continue;
    const status = was === undefined ? 'created' : 'modified';
    changes.push({ status, object, attributes: Object.fromEntries(differing) });
  }
  for (const [dn, object] of before)
    if (!after.has(dn)) changes.push({ status: 'deleted', object, attributes: {} });
  return changes;
}

/** Whether the answer to a query may be another by it. */
export function concerns(path: string, query: URLSearchParams, { object }: Change): boolean {
  const [, kind, name = ''] = PATH.exec(path) ?? [];
  const { className, dn } = object;
  const classes = query.get('target-subtree-class')?.split(',');
  if (classes !== undefined && !classes.includes(className)) return false;
  if (kind === 'class') return className === name;
  return dn === name || ((query.get('query-target') ?? 'self') !== 'self' && dn.startsWith(`${name}/`));
}

/** Of a query for objects: by class or by DN. */
export const PATH = /^\/api\/(?:node\/)?(mo|class)\/(.+)\.json$/;

export function openFabric() {
  let objects = new Map<string, Stored>();
  const listeners = new Set<(changes: readonly Change[]) => void>();

  /** All of it or nothing, and who listens is told. */
  function change(write: () => void): void {
    const before = new Map(objects);
    try {
      write();
    } catch (error) {
      objects = before;
      throw error;
    }
    const changes = changesOf(before, objects);
    if (changes.length > 0) for (const listener of listeners) listener(changes);
  }

  function put(className: string, dn: string, given: Readonly<Record<string, string>>): void {
    const model = CLASSES[className];
    if (model === undefined) throw new FabricError('122', `unknown managed object class ${className}`);
    const [above, rn] = cut(dn);
    if (above !== 'uni' && !objects.has(above))
      throw new FabricError('102', `configured object (Dn0)=${dn}: parent ${above} does not exist`);
    if (!model.in.includes(classOf(above)))
      throw new FabricError('104', `${className} cannot be contained by ${classOf(above)}`);
    const name = rnPattern(model.rn).exec(rn);
    if (name === null) throw new FabricError('104', `Invalid RN ${rn} for ${className}`);
    const before = objects.get(dn);
    const attributes: Record<string, string> = {
      annotation: '',
      ...model.attributes,
      ...before?.attributes,
      ...(model.naming !== undefined && { [model.naming]: name[1] as string }),
      dn,
    };
    for (const [attribute, value] of Object.entries(given)) {
      if (['dn', 'rn', 'status'].includes(attribute)) continue;
      if (attribute !== 'annotation' && model.attributes[attribute] === undefined)
        throw new FabricError(
          '121',
          `unknown property value ${attribute}, name ${attribute}, class ${className}`,
        );
      if (typeof value !== 'string') throw new FabricError('122', `${attribute} of ${className} is no text`);
      const shown = shownValue(className, attribute, value);
      if (shown === undefined)
        throw new FabricError(
          '120',
          `property ${attribute} of ${className} failed validation for value '${value}'`,
        );
      if (attribute === model.naming && value !== name[1])
        throw new FabricError('103', `naming property ${attribute} of ${dn} cannot be modified`);
      attributes[attribute] = shown;
    }
    objects.set(dn, { className, dn, attributes });
    if (before === undefined)
      for (const implicit of model.implicit ?? []) put(implicit, `${dn}/${CLASSES[implicit]?.rn}`, {});
  }

  function remove(dn: string): void {
    for (const each of [...objects.keys()])
      if (each === dn || each.startsWith(`${dn}/`)) objects.delete(each);
  }

  function write(above: string, document: Imdata, dn?: string): void {
    for (const [className, { attributes = {}, children = [] }] of Object.entries(document)) {
      const model = CLASSES[className];
      const name = model?.naming === undefined ? '' : (attributes[model.naming] ?? '');
      const own =
        className === 'polUni'
          ? 'uni'
          : (dn ?? attributes.dn ?? `${above}/${attributes.rn ?? model?.rn.replace('{}', name)}`);
      if (attributes.status === 'deleted') {
        remove(own);
        continue;
      }
      if (attributes.status === 'created' && objects.has(own))
        throw new FabricError('103', `cannot create ${own}, object already exists`);
      if (className !== 'polUni') put(className, own, attributes);
      for (const child of children) write(own, child);
    }
  }

  /** A relation by name leads to what is in the tenant, else to what is in common. */
  function present({ className, dn, attributes }: Stored): Record<string, string> {
    const { leads } = CLASSES[className] ?? {};
    if (leads === undefined) return { ...attributes };
    const name = attributes[leads.attribute] ?? '';
    const rn = leads.rn.replace('{}', name);
    const tenant = /^uni\/tn-[^/]+/.exec(dn)?.[0];
    const tDn = [`${tenant}/${rn}`, `uni/tn-common/${rn}`].find((each) => objects.has(each)) ?? '';
    return {
      ...attributes,
      tRn: name === '' ? '' : rn,
      tDn,
      tCl: leads.to,
      state: tDn === '' ? 'missing-target' : 'formed',
    };
  }

  const imdata = (object: Stored, subtree: string, only?: ReadonlySet<string>): Imdata => {
    const children = subtree === 'no' ? [] : childrenOf(object.dn);
    const shown = children
      .filter((child) => only === undefined || only.has(child.className))
      .map((child) => imdata(child, subtree === 'full' ? 'full' : 'no', only));
    return {
      [object.className]: {
        attributes: present(object),
        ...(subtree !== 'no' && { children: shown }),
      },
    };
  };
  const childrenOf = (dn: string): Stored[] => [...objects.values()].filter((each) => cut(each.dn)[0] === dn);
  const below = (dn: string): Stored[] =>
    [...objects.values()].filter((each) => each.dn === dn || each.dn.startsWith(`${dn}/`));

  function filtered(all: readonly Stored[], filter: string | null): readonly Stored[] {
    if (filter === null) return all;
    const [, className, attribute, value] = /^eq\((\w+)\.(\w+),"([^"]*)"\)$/.exec(filter) ?? [];
    if (attribute === undefined) throw new FabricError('107', `Invalid query filter ${filter}`);
    return all.filter((each) => each.className === className && present(each)[attribute] === value);
  }

  function answer(found: readonly Stored[], query: URLSearchParams): Imdata[] {
    const target = query.get('query-target') ?? 'self';
    const classes = query.get('target-subtree-class')?.split(',');
    for (const name of classes ?? [])
      if (CLASSES[name] === undefined) throw new FabricError('122', `unknown managed object class ${name}`);
    const reached =
      target === 'self' && classes === undefined
        ? found
        : found.flatMap((each) => (target === 'children' ? childrenOf(each.dn) : below(each.dn)));
    const wanted = reached.filter((each) => classes === undefined || classes.includes(each.className));
    const only = query.get('rsp-subtree-class')?.split(',');
    return filtered(wanted, query.get('query-target-filter')).map((each) =>
      imdata(each, query.get('rsp-subtree') ?? 'no', only && new Set(only)),
    );
  }

  return {
    /** All of the document, or nothing. */
    post(dn: string, document: Imdata): void {
      change(() => write(cut(dn)[0], document, dn === 'uni' ? undefined : dn));
    },
    remove(dn: string): void {
      change(() => remove(dn));
    },
    onChange(listener: (changes: readonly Change[]) => void): void {
      listeners.add(listener);
    },
    ofDn(dn: string, query = new URLSearchParams()): Imdata[] {
      classOf(dn); // refuses what is none
      const at = objects.get(dn);
      if (dn !== 'uni') return at === undefined ? [] : answer([at], query);
      const root: Stored = { className: 'polUni', dn: 'uni', attributes: { dn } };
      return answer([root], query);
    },
    ofClass(name: string, query = new URLSearchParams()): Imdata[] {
      if (CLASSES[name] === undefined) throw new FabricError('122', `unknown managed object class ${name}`);
      return answer(
        [...objects.values()].filter((each) => each.className === name),
        query,
      );
    },
    get(dn: string): Readonly<Record<string, string>> | undefined {
      const object = objects.get(dn);
      return object && present(object);
    },
    /** Without what nobody has said, and what it is by itself. */
    posted(dn: string): Stored {
      const { className, attributes } = objects.get(dn) as Stored;
      const { attributes: defaults = {} } = CLASSES[className] ?? {};
      const said = Object.entries(attributes).filter(
        ([name, value]) => name !== 'dn' && value !== '' && defaults[name] !== value,
      );
      return { className, dn, attributes: Object.fromEntries(said) };
    },
    dns: (): string[] => [...objects.keys()].sort(),
  };
}
export type Fabric = ReturnType<typeof openFabric>;
