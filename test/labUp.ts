/** Before each file of lab tests: the lab of its worker is up, fresh for the first file and as the one before left it for the others. */
import { readState } from '../lab/state.ts';
import { LAB, mustLab } from './lab.ts';

// node2's resolver is on loopback, as on a host with a local unbound: names must work there too.
if (readState(LAB) === undefined) await mustLab('up', '--quiet', '--loopback-resolver', 'node2');
