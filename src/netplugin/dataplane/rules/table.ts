/** An nftables table as a value, and the commands of nft(8) that make it and change its elements. */

/** Set name to elements, each as nft writes it in a command. */
export type Elements = ReadonlyMap<string, readonly string[]>;

export interface Table {
  /** `inet contiv`, `ip contiv`. */
  readonly name: string;
  /** Commands that make it, with empty sets, where it is not there. */
  readonly body: string;
  /** A second one, of a family that sees other packets: both change in one transaction, and are read together. */
  readonly beside?: { readonly name: string; readonly body: string; readonly sets: readonly string[] };
  /** By the part of the state that they follow from; no two parts have an element in common. */
  readonly parts: ReadonlyMap<object, Elements>;
  /** No packet is lost where it is made anew, so that an agent need not find out whether the one that it finds will do (tables.ts). */
  readonly renewable?: true;
}

/** Makes the whole table anew in one transaction: at no moment is there none. */
export function createCommands(table: Table): string {
  const parts = [table, ...(table.beside ? [table.beside] : [])].flatMap(({ name, body }) => [
    `add table ${name}`,
    `delete table ${name}`,
    `table ${name} {${body}}`,
  ]);
  const bySet = new Map<string, string[]>();
  for (const elements of table.parts.values())
    for (const [set, list] of elements) {
      const all = bySet.get(set);
      if (all === undefined) bySet.set(set, [...list]);
      else for (const element of list) all.push(element);
    }
  for (const [set, list] of bySet) parts.push(...elementCommands('add', table, set, list));
  return parts.join('\n');
}

/** Elements in commands of bounded length. */
export function elementCommands(
  verb: 'add' | 'delete',
  { name, beside }: Table,
  set: string,
  elements: Iterable<string>,
): string[] {
  const list = [...elements];
  const table = beside?.sets.includes(set) ? beside.name : name;
  const commands: string[] = [];
  for (let at = 0; at < list.length; at += 500)
    commands.push(`${verb} element ${table} ${set} { ${list.slice(at, at + 500).join(', ')} }`);
  return commands;
}
