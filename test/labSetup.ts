/** One lab for all lab tests, fresh at the start, gone at the end. */
import { lab, mustLab } from './lab.ts';
import requireRoot from './root.ts';

export default async function setup(): Promise<() => Promise<void>> {
  requireRoot();
  await mustLab('down');
  // node2's resolver is on loopback, as on a host with a local unbound: names must work there too.
  await mustLab('up', '--quiet', '--loopback-resolver', 'node2');
  return async () => {
    if (process.env.KEEP_LAB === undefined) await lab('down');
  };
}
