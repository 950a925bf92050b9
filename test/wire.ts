/** Hosts and machines on one wire, each a namespace, for kernel tests: this namespace is the first host, `switch` what joins them. */
import path from 'node:path';
import { echoes } from '../src/linux/echo.ts';
import { createNamespace, inNamespace, namespacePath } from '../src/linux/netns.ts';
import { sh } from './isolation.ts';

export const atSwitch = (command: string): string => inNamespace(namespacePath('switch'), () => sh(command));

/** Each has `link` to the switch, whose end there is w-NAME, and an address there where one is given. `''`: this namespace, w-host1. */
export function joinSwitch(link: string, members: Readonly<Record<string, string | undefined>>): void {
  createNamespace('switch');
  atSwitch('ip link add br0 type bridge; ip link set br0 up');
  for (const [name, address] of Object.entries(members)) {
    const end = `w-${name || 'host1'}`;
    if (name !== '') createNamespace(name);
    sh(`ip link add ${link} ${name && `netns ${name}`} type veth peer name ${end} netns switch`);
    atSwitch(`ip link set ${end} master br0 up`);
    const set = (): string =>
      sh(
        `ip link set lo up; ip link set ${link} up${address === undefined ? '' : `; ip addr add ${address}/24 dev ${link}`}`,
      );
    if (name === '') set();
    else inNamespace(namespacePath(name), set);
  }
}

/** Whether echoes of `size` bytes, in one packet, come back to whoever asks, who `from` says in which namespace and by which address that is. */
export function openPings<Who>(
  from: (who: Who, to: string) => { readonly namespace: string; readonly address: string },
  usual: number,
) {
  const echo = (who: Who, to: string, size: number): Promise<boolean> => {
    const { namespace, address } = from(who, to);
    return inNamespace(namespacePath(namespace), () => echoes({ from: address, to, size, patience: 500 }));
  };
  return {
    /** A device that has just come up may lose the first ones. */
    async pinged(who: Who, to: string, size = usual): Promise<boolean> {
      for (let i = 0; i < 20; i++) if (await echo(who, to, size)) return true;
      return false;
    },
    silent: async (who: Who, to: string, size = usual): Promise<boolean> => !(await echo(who, to, size)),
  };
}

/** Ethernet frames as they are, by a device of this namespace. */
export const sendFrames = (device: string, ...frames: Buffer[]): string =>
  sh(`node ${path.resolve('test/frames.ts')} ${device} ${frames.map((f) => f.toString('hex')).join(' ')}`);
