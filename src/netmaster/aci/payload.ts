/** Changes as what is posted to APIC: one document for each tenant, which is made true as a whole or refused as a whole. */
import type { Change } from './difference.ts';
import { ancestorsOf, type Tree } from './tree.ts';

/** `{"fvTenant": {"attributes": {...}, "children": [...]}}`. */
export interface Document {
  readonly [className: string]: {
    readonly attributes: Readonly<Record<string, string>>;
    readonly children?: readonly Document[];
  };
}

export interface Post {
  /** Of the object that the document is of. */
  readonly dn: string;
  readonly document: Document;
  readonly changes: readonly Change[];
}

interface Node {
  className: string;
  attributes: Record<string, string>;
  readonly children: Map<string, Node>;
}

const attributesOf = ({ action, object }: Change): Record<string, string> =>
  action === 'delete' ? { dn: object.dn, status: 'deleted' } : { dn: object.dn, ...object.attributes };

/** What lies between a tenant and what changes is named by its DN alone, which changes nothing of it. `classOf`: of what does not change. */
export function posts(changes: readonly Change[], classOf: (dn: string) => string): Post[] {
  const byTenant = Map.groupBy(changes, ({ object }) => ancestorsOf(object.dn)[0] ?? object.dn);
  return [...byTenant].map(([tenant, its]) => {
    const top: Node = { className: classOf(tenant), attributes: { dn: tenant }, children: new Map() };
    for (const change of its) {
      const { dn, className } = change.object;
      let node = top;
      for (const step of [...ancestorsOf(dn), dn].slice(1)) {
        const next = node.children.get(step) ?? {
          className: step === dn ? className : classOf(step),
          attributes: { dn: step },
          children: new Map(),
        };
        node.children.set(step, next);
        node = next;
      }
      node.attributes = attributesOf(change);
    }
    return { dn: tenant, document: documentOf(top), changes: its };
  });
}

/** Each change by itself: where APIC refuses them together, it is found out which. */
export const single = (change: Change): Post => ({
  dn: change.object.dn,
  document: { [change.object.className]: { attributes: attributesOf(change) } },
  changes: [change],
});

const documentOf = ({ className, attributes, children }: Node): Document => ({
  [className]: {
    attributes,
    ...(children.size === 0 ? {} : { children: [...children.values()].map(documentOf) }),
  },
});

/** From what is wanted and what is there. */
export const classes =
  (...trees: readonly Tree[]) =>
  (dn: string): string =>
    trees.map((tree) => tree.get(dn)?.className).find((name) => name !== undefined) ?? 'fvTenant';
