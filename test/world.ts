/** The other objects of a cluster, for checks of the model, without a netmaster. */
import type { Index, World } from '../src/model/kind.ts';
import { keyOf, kindByName, relationsOf } from '../src/model/kinds.ts';

export function worldOf(objects: Readonly<Record<string, readonly object[]>>): World {
  const list = (kind: string): readonly object[] => objects[kind] ?? [];
  return {
    list: <T>(kind: string) => list(kind) as readonly T[],
    get<T>(name: string, key: string) {
      const kind = kindByName.get(name);
      return list(name).find((o) => kind !== undefined && keyOf(kind, o) === key) as T | undefined;
    },
    where: <T>(kind: string, index: Index<T>, value: string) =>
      (list(kind) as readonly T[]).filter((object) => index(object).includes(value)),
    users<T>(kind: string, key: string, of: string) {
      const relations = (relationsOf.get(of) ?? []).filter((r) => r.reference.kind === kind);
      return list(of).filter((o) => relations.some((r) => r.reference.keys(o).includes(key))) as T[];
    },
  };
}
