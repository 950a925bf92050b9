/** Objects and lists of them as the JSON that is answered, made once for all who ask while nothing has changed. */
import type { Kind } from '../../model/kind.ts';
import { keyOf } from '../../model/kinds.ts';
import type { Plain } from '../fields.ts';
import { present } from '../intent.ts';
import type { Mirror } from '../mirror.ts';
import { type Scope, viewOf } from '../scope.ts';
import { Bytes } from './serve.ts';

/** Of an object that the mirror has; what it makes is kept until the object changes, or who refers to it. */
export const jsonOf = (kind: Kind, object: Plain, mirror: Mirror): string =>
  mirror.shown.of(kind.name, keyOf(kind, object), () => JSON.stringify(present(kind, object, mirror)));

/**
 * A list is megabytes where there is much, and nobody may ask for it again: it is kept for as long as an answer with it is on its way, and
 * then until the collector wants its memory. It is made anew when something of its own kind is another, or who refers to that, whatever
 * else is written. Who has some tenants only is answered with a list of his own, of which nothing is kept.
 */
export function openLists(mirror: Mirror): (kind: Kind, scope?: Scope) => Bytes {
  const made = new Map<string, { readonly changes: number; readonly json: WeakRef<Buffer> }>();
  const listIn = (kind: Kind, view: Mirror): string =>
    `[${view
      .list<Plain>(kind.name)
      .map((object) => jsonOf(kind, object, view))
      .join(',')}]`;
  return (kind, scope) => {
    if (scope !== undefined) return new Bytes(listIn(kind, viewOf(mirror, scope)));
    const changes = mirror.shown.changes(kind.name);
    const known = made.get(kind.name);
    const kept = known?.changes === changes ? known.json.deref() : undefined;
    if (kept !== undefined) return new Bytes(kept);
    const json = Buffer.from(listIn(kind, mirror));
    made.set(kind.name, { changes, json: new WeakRef(json) });
    return new Bytes(json);
  };
}
