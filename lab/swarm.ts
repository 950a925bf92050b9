/** Docker's Swarm mode on the lab's hosts, as docs/guide/swarm.md has it typed. */
import { run } from './shell.ts';
import { type LabHost, onHost, ROOT } from './state.ts';

/** As many that one may be missed. */
const MANAGERS = 3;

/** The plugin first: a node tells of its plugins when it joins, and else some time later. */
export async function startSwarm(lab: string, hosts: readonly LabHost[]): Promise<void> {
  const at = (host: LabHost, ...command: string[]): Promise<string> =>
    run(...onHost(lab, host.name, ...command));
  await Promise.all(hosts.map((host) => at(host, `${ROOT}/bin/netplugin`, 'swarm', 'install')));
  const [first, ...others] = hosts;
  if (first === undefined) return;
  await at(first, 'docker', 'swarm', 'init', '--advertise-addr', first.address);
  for (const [i, host] of others.entries()) {
    const role = i + 1 < MANAGERS ? 'manager' : 'worker';
    const token = (await at(first, 'docker', 'swarm', 'join-token', '-q', role)).trim();
    const flags = ['--token', token, '--advertise-addr', host.address];
    await at(host, 'docker', 'swarm', 'join', ...flags, `${first.address}:2377`);
  }
}
