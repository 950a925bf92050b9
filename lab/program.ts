/** A server of the lab: how it is started on a host, and how it is known to answer. */
import { tryRun } from './shell.ts';
import { type LabHost, type LabPlan, onHost } from './state.ts';

export interface Program {
  command(host: LabHost, state: LabPlan): string[];
  answers(host: LabHost, state: LabPlan): Promise<boolean>;
  /** Files on the host with which a killed one would stop the next. */
  readonly leftovers?: readonly string[];
}

/** What a server on the host answers; undefined where it does not, or with an error. */
export const curl = (
  host: LabHost,
  state: LabPlan,
  ...args: readonly string[]
): Promise<string | undefined> => tryRun(...onHost(state.name, host.name, 'curl', '-sf', '-m', '2', ...args));
