/**
 * Docker in Swarm mode, which takes no driver from a socket of the host: it wants a plugin that it runs itself. Ours hands each call over to a
 * socket of this agent's (src/swarm/contiv-swarm.c), in a folder that stays over boots, since dockerd starts the plugin with what is mounted in
 * it, often before this agent runs. What is asked is answered by the same driver as for Docker's own networks.
 */
import path from 'node:path';
import type { Options } from '../../options.ts';

/** The plugin's name, and so the driver's: short, as people type it, with the tag that Docker puts behind it. */
export const SWARM_DRIVER = 'contiv:latest';
/** Address space of what managers allocate; of each node's own it is another (src/swarm/contiv-swarm.c). */
export const SWARM_SPACE = 'contiv-swarm';

/** What the plugin sees of this host. */
export const swarmFolder = ({ stateDir }: Pick<Options, 'stateDir'>): string => path.join(stateDir, 'swarm');
export const swarmSocket = (options: Pick<Options, 'stateDir'>): string =>
  path.join(swarmFolder(options), 'netplugin.sock');

/**
 * Further names of a task, from the labels that Swarm gives its container: those that Docker's own resolver has on such networks, for those
 * that ask netplugin alone. A service's own name stands for its tasks.
 */
export function namesOfTask(labels: Readonly<Record<string, string>>): string[] {
  const service = labels['com.docker.swarm.service.name'];
  return service === undefined ? [] : [service, `tasks.${service}`];
}
