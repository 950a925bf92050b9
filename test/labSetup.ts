/** Lab tests run on a few labs at once, each file on one of them (labUp.ts): none is there at the start, none is left at the end. */
import { allLabs, labOf } from './lab.ts';
import requireRoot from './root.ts';

export default async function setup(): Promise<() => Promise<void>> {
  requireRoot();
  for (const name of allLabs()) await labOf(name)('down');
  return async () => {
    if (process.env.KEEP_LAB !== undefined) return;
    for (const name of allLabs()) await labOf(name)('down');
  };
}
