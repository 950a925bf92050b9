/** One lab with a Kubernetes cluster for all its tests, fresh at the start, gone at the end. */
import { lab, mustLab } from './lab.ts';
import requireRoot from './root.ts';

export default async function setup(): Promise<() => Promise<void>> {
  requireRoot();
  await mustLab('down');
  await mustLab('up --quiet --kubernetes');
  return async () => {
    if (process.env.KEEP_LAB === undefined) await lab('down');
  };
}
