/**
 * Virtual hosts: namespaces on one bridge, which is in a namespace of its own.
 *
 *   node1 eth0 192.168.50.11 --+
 *   node2 eth0 192.168.50.12 --+-- bridge (lab-NAME-switch) -- outside 192.168.50.1: router, resolver, stranger
 *   plain machines (fabric.ts), router (router.ts) +
 *
 * A host has its own network, mounts and host name, a /run of its own, and keeps its namespaces without any process.
 */
import fs from 'node:fs';
import path from 'node:path';
import { run, tryRun } from './shell.ts';
import {
  hostFolder,
  namespaceFolder,
  networkNamespace,
  OUTSIDE,
  OUTSIDE_ADDRESS,
  OUTSIDE_ADDRESS6,
  onHost,
  prefixLength,
} from './state.ts';

/** Addresses in the world, which `outside` has. */
export const WORLD = '198.51.100.1';
export const WORLD6 = '2001:db8:198::1';

export const switchOf = (lab: string): string => networkNamespace(lab, 'switch');

export async function makeSwitch(lab: string): Promise<void> {
  const folder = namespaceFolder(lab);
  fs.mkdirSync(folder, { recursive: true });
  // Mount namespaces can be kept as files only where mounts do not propagate (unshare(1)).
  await run('mount', ['--bind', folder, folder]);
  await run('mount', ['--make-private', folder]);
  await run('ip', ['netns', 'add', switchOf(lab)]);
  await inSwitch(lab, 'link', 'set', 'lo', 'up');
  await inSwitch(lab, 'link', 'add', 'br0', 'type', 'bridge');
  await inSwitch(lab, 'link', 'set', 'br0', 'up');
}

const wireOf = (host: string): string => `w-${host}`;

export const inSwitch = (lab: string, ...args: string[]): Promise<string> =>
  run('ip', ['-n', switchOf(lab), ...args]);

export interface HostOptions {
  readonly resolver: string;
  /** It forwards IPv4 from the start, as an administrator sets it. */
  readonly forwards?: boolean;
  /** Folders of which the host has one of its own, empty, with what is mounted in it seen by its containers. */
  readonly folders?: readonly string[];
  /** Files that read otherwise there than on the machine, by their text. */
  readonly files?: Readonly<Record<string, string>>;
}

/** `addresses`: one of each family that it has. */
export async function makeHost(
  lab: string,
  host: string,
  addresses: readonly string[],
  options: HostOptions,
): Promise<void> {
  await makeNamespaces(lab, host, options);
  await plug(lab, host);
  const set = (...args: string[]): Promise<string> => inHost(lab, host, ...args);
  await set('link', 'set', 'eth0', 'up');
  for (const address of addresses) {
    const six = address.includes(':');
    const add = (what: string, device: string): Promise<string> =>
      set('addr', 'add', what, 'dev', device, ...(six ? ['nodad'] : []));
    await add(`${address}/${prefixLength(address)}`, 'eth0');
    if (host !== OUTSIDE)
      await set('route', 'add', 'default', 'via', six ? OUTSIDE_ADDRESS6 : OUTSIDE_ADDRESS);
    // A place in the world, to be reached and seen by.
    else await add(`${six ? WORLD6 : WORLD}/${six ? 128 : 32}`, 'lo');
  }
  if (options.forwards) await run(...onHost(lab, host, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'));
}

export const inHost = (lab: string, host: string, ...args: string[]): Promise<string> =>
  run('ip', ['-n', networkNamespace(lab, host), ...args]);

/** A cable from the switch; eth0 at the host's end, which is down. */
export async function plug(lab: string, host: string): Promise<void> {
  const end = ['type', 'veth', 'peer', 'name', 'eth0', 'netns', networkNamespace(lab, host)];
  await inSwitch(lab, 'link', 'add', wireOf(host), ...end);
  await inSwitch(lab, 'link', 'set', wireOf(host), 'master', 'br0', 'up');
}

/** Of a host on no network yet. */
export async function makeNamespaces(
  lab: string,
  host: string,
  { resolver, folders = [], files = {} }: HostOptions,
): Promise<void> {
  const namespace = networkNamespace(lab, host);
  const at = `${namespaceFolder(lab)}/${host}`;
  const data = hostFolder(lab, host);
  fs.mkdirSync(`${data}/contiv`, { recursive: true });
  fs.mkdirSync(`${data}/docker`, { recursive: true });
  fs.writeFileSync(`${data}/resolv.conf`, `nameserver ${resolver}\n`);
  const own = (name: string): string => `${data}/mounts${name}`;
  for (const folder of folders) {
    fs.mkdirSync(own(folder), { recursive: true });
    fs.mkdirSync(folder, { recursive: true }); // which stays on the machine: another lab may have it as its own
  }
  for (const [file, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(own(file)), { recursive: true });
    fs.writeFileSync(own(file), `${text}\n`);
  }
  await run('ip', ['netns', 'add', namespace]);
  for (const kind of ['net', 'mnt', 'uts']) fs.writeFileSync(`${at}.${kind}`, '');
  await run('mount', ['--bind', `/run/netns/${namespace}`, `${at}.net`]);
  const inside = [
    'mount -t tmpfs -o mode=755 tmpfs /run',
    'mkdir -p /run/docker/plugins /run/netns /run/lock /run/contiv /var/lib/contiv',
    // With systemd-resolved it is a link into /run, which the host has just got an empty one of.
    'names=$(readlink -m /etc/resolv.conf)',
    'case $names in /run/*) mkdir -p "$(dirname "$names")" && touch "$names" ;; esac',
    `mount --bind ${data}/resolv.conf "$names"`,
    `mount --bind ${data}/contiv /var/lib/contiv`,
    ...[...folders, ...Object.keys(files)].map((name) => `mount --bind ${own(name)} ${name}`),
    ...folders.map((name) => `mount --make-shared ${name}`),
    `hostname ${host}`,
  ].join(' && ');
  await run('nsenter', [
    `--net=${at}.net`,
    '--',
    'unshare',
    `--mount=${at}.mnt`,
    `--uts=${at}.uts`,
    '--propagation',
    'private',
    'sh',
    '-c',
    inside,
  ]);
  await inHost(lab, host, 'link', 'set', 'lo', 'up');
}

/** The one that it was made with. */
export const resolverOf = (lab: string, host: string): string =>
  fs.readFileSync(`${hostFolder(lab, host)}/resolv.conf`, 'utf8').replace(/^nameserver\s+|\s+$/g, '');

/** What the kernel holds of one host. What is on its disk stays. */
export async function removeHost(lab: string, host: string): Promise<void> {
  for (const kind of ['net', 'mnt', 'uts']) {
    const file = `${namespaceFolder(lab)}/${host}.${kind}`;
    await tryRun('umount', ['-l', file]);
    fs.rmSync(file, { force: true });
  }
  await tryRun('ip', ['netns', 'delete', networkNamespace(lab, host)]);
  // It would go by itself a moment after its namespace.
  await tryRun('ip', ['-n', switchOf(lab), 'link', 'delete', wireOf(host)]);
}

/** Everything of the lab's that the kernel holds, also what a broken `up` left. */
export async function removeHosts(lab: string): Promise<void> {
  const folder = namespaceFolder(lab);
  if (fs.existsSync(folder)) {
    for (const file of fs.readdirSync(folder))
      if (/\.(net|mnt|uts)$/.test(file)) await tryRun('umount', ['-l', `${folder}/${file}`]);
    await tryRun('umount', ['-l', folder]);
    fs.rmSync(folder, { recursive: true, force: true });
  }
  const prefix = `lab-${lab}-`;
  for (const line of ((await tryRun('ip', ['netns', 'list'])) ?? '').split('\n')) {
    const name = line.split(' ')[0] ?? '';
    if (name.startsWith(prefix)) await tryRun('ip', ['netns', 'delete', name]);
  }
}

const NAMESPACES = '/run/netns';

/**
 * `ip netns add` made the folder a mount; with nothing in it, it is the machine's again. Another lab may be coming up: `ip` holds this very
 * lock while it makes the mount, and fails where that is taken away meanwhile.
 */
export async function giveBackNamespaces(): Promise<void> {
  const script = `[ -n "$(ls -A ${NAMESPACES})" ] || umount -l ${NAMESPACES}`;
  if (fs.existsSync(NAMESPACES)) await tryRun('flock', [NAMESPACES, 'sh', '-c', script]);
}
