/** Lists of a kind's objects as bytes, made once for all who ask while nothing has changed. */
import type { Kind } from '../../model/kind.ts';
import type { Plain } from '../fields.ts';
import { present } from '../intent.ts';
import type { Mirror } from '../mirror.ts';
import { Bytes } from './serve.ts';

/**
 * A list is megabytes where there is much, and nobody may ask for it again: it is kept for as long as an answer with it is on its way, and
 * then until the collector wants its memory.
 */
export function openLists(mirror: Mirror): (kind: Kind) => Bytes {
  const made = new Map<string, { readonly revision: number; readonly json: WeakRef<Buffer> }>();
  return (kind) => {
    const { revision } = mirror;
    const known = made.get(kind.name);
    const kept = known?.revision === revision ? known.json.deref() : undefined;
    if (kept !== undefined) return new Bytes(kept);
    const objects = mirror.list<Plain>(kind.name).map((object) => present(kind, object, mirror));
    const json = Buffer.from(JSON.stringify(objects));
    made.set(kind.name, { revision, json: new WeakRef(json) });
    return new Bytes(json);
  };
}
