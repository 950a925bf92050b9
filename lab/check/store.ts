import type { Cluster, Comparison } from './world.ts';

export const store: Comparison<Cluster> = ({ problem }, say) => {
  if (problem !== undefined) say(`netmaster: the store cannot be written: ${problem}`);
};
