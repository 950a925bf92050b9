import { UNDERLAY } from '../state.ts';
import type { Cluster, Comparison } from './world.ts';

/** netmaster has each host, where it is. */
export const hosts: Comparison<Cluster> = ({ live, places }, say) => {
  for (const { name, has } of places) {
    const at = live.find((h) => h.name === name)?.underlay;
    if (at === undefined) say(`netmaster: host ${name} is not there`);
    else if (!has.includes(at))
      say(`netmaster: host ${name} is at ${at}, its ${UNDERLAY} has ${has.join() || 'no address'}`);
  }
};
