/**
 * A device that speaks in a VLAN, as `ip link add link UPLINK name NAME type vlan id ID` where the kernel has 8021q: for machines on the
 * wire beside our hosts, and for a switch's access ports. `node tagging.ts UPLINK NAME ID`, in the namespace of the machine; all of it lives in the kernel.
 */
import { execFileSync } from 'node:child_process';
import { updateMap } from '../src/linux/bpf.ts';
import { openNetlink } from '../src/linux/netlink.ts';
import { listLinks } from '../src/linux/route.ts';
import { addClassAction, setProgram } from '../src/linux/traffic.ts';
import {
  arrivalValue,
  closePrograms,
  numbers,
  openPrograms,
} from '../src/netplugin/dataplane/vlan/program.ts';

/** In the thread's current namespace. */
export function tag(uplink: string, name: string, id: number): void {
  const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });
  const behind = `${name}-tag`;
  ip('link', 'add', name, 'type', 'veth', 'peer', 'name', behind);
  ip('link', 'set', name, 'up');
  ip('link', 'set', uplink, 'promisc', 'on');
  const netlink = openNetlink();
  const programs = openPrograms();
  try {
    const index = (of: string): number => listLinks(netlink).find((l) => l.name === of)?.index ?? 0;
    updateMap(programs.arriving.map, { keys: numbers(id), values: arrivalValue(index(behind)), count: 1 });
    updateMap(programs.leaving.map, {
      keys: numbers(index(behind)),
      values: numbers(id, index(uplink), 0),
      count: 1,
    });
    // Several of them share an uplink: each at a priority of its own.
    netlink.batch([addClassAction(index(behind)), addClassAction(index(uplink))]);
    netlink.request(setProgram(index(behind), programs.leaving.program, 'tagging'));
    netlink.request(setProgram(index(uplink), programs.arriving.program, 'tagging', id));
  } finally {
    closePrograms(programs);
    netlink.close();
  }
  ip('link', 'set', behind, 'up');
}

if (process.argv[1] === import.meta.filename) {
  const [uplink = '', name = '', id = ''] = process.argv.slice(2);
  tag(uplink, name, Number(id));
}
