/** Before each file of lab tests: the lab of its worker is up, fresh for the first file and as the one before left it for the others. */
import { readState } from '../lab/state.ts';
import { LAB, mustLab } from './lab.ts';

// node2's resolver is on loopback, as on a host with a local unbound: names must work there too.
if (readState(LAB) === undefined)
  try {
    await mustLab('up', '--quiet', '--loopback-resolver', 'node2');
  } catch (error) {
    // At once: the files after this one meet a lab that is half up.
    process.stderr.write(`lab ${LAB} does not come up: ${(error as Error).message}\n`);
    throw error;
  }
