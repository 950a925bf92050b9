/**
 * Machines beside our hosts on the switch (`up --fabric`), which have nothing of ours:
 *
 *   trunk    behind a tagged port: eth0 has all that is on the wire, its device lan is VLAN 100's. It has an address beside, for who takes it
 *            for a router that leads there
 *   access   behind an access port of VLAN 100: eth0, where nobody knows of tags
 *
 * The bridge passes tags as they are; what an access port does with them, a device between the bridge and the machine does (tagging.ts).
 */
import path from 'node:path';
import { inHost, inSwitch, makeNamespaces, plug, switchOf } from './hosts.ts';
import { run } from './shell.ts';
import { networkNamespace, OUTSIDE_ADDRESS, onHost } from './state.ts';

const ID = 100;
/** Beside those that docs/guide/vlan.md has given out. */
const MACHINES = {
  trunk: ['10.100.0.201/24', 'fd00:100::201/64'],
  access: ['10.100.0.202/24', 'fd00:100::202/64'],
} as const;

/** Of `trunk` beside, outside of the VLAN (docs/guide/vlan.md). */
export const BEHIND_TRUNK = { 4: '198.51.100.7', 6: '2001:db8:7::7' } as const;

/** Nobody else has it: there is no wait until it is used. */
const quiet = (address: string): string[] => (address.includes(':') ? ['nodad'] : []);

const tagging = (uplink: string, name: string): string[] => [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  path.join(import.meta.dirname, 'tagging.ts'),
  uplink,
  name,
  `${ID}`,
];

export async function makeMachines(lab: string): Promise<void> {
  for (const name of Object.keys(MACHINES)) await makeNamespaces(lab, name, { resolver: OUTSIDE_ADDRESS });

  await plug(lab, 'trunk');
  await inHost(lab, 'trunk', 'link', 'set', 'eth0', 'up');
  await run(...onHost(lab, 'trunk', ...tagging('eth0', 'lan')));
  for (const address of MACHINES.trunk)
    await inHost(lab, 'trunk', 'addr', 'add', address, 'dev', 'lan', ...quiet(address));

  for (const address of [`${BEHIND_TRUNK[4]}/32`, `${BEHIND_TRUNK[6]}/128`])
    await inHost(lab, 'trunk', 'addr', 'add', address, 'dev', 'lo', ...quiet(address));
  // As a router it asks by its address in the VLAN, whatever it sends.
  await run(...onHost(lab, 'trunk', 'sysctl', '-qw', 'net.ipv4.conf.all.arp_announce=2'));

  const port = ['link', 'add', 'w-access', 'type', 'veth', 'peer', 'name', 'access-port'];
  await inSwitch(lab, ...port);
  await inSwitch(lab, 'link', 'set', 'w-access', 'master', 'br0', 'up');
  await inSwitch(lab, 'link', 'set', 'access-port', 'up');
  await run('ip', ['netns', 'exec', switchOf(lab), ...tagging('access-port', 'access')]);
  const place = ['netns', networkNamespace(lab, 'access'), 'name', 'eth0'];
  await inSwitch(lab, 'link', 'set', 'access', ...place);
  for (const address of MACHINES.access)
    await inHost(lab, 'access', 'addr', 'add', address, 'dev', 'eth0', ...quiet(address));
  await inHost(lab, 'access', 'link', 'set', 'eth0', 'up');
}
