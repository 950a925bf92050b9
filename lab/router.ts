/**
 * A physical network behind a top-of-rack router (`up --fabric`), none of which has anything of ours:
 *
 *   hosts, switch --eth0-- tor 192.168.50.2 --rack-- beyond 198.18.0.10
 *
 * The router is FRR as Debian has it, with the configuration of docs/guide/bgp.md and nothing else: the first two hosts may be its
 * neighbours. `beyond` is a machine that knows no other way than by the router.
 */
import fs from 'node:fs';
import path from 'node:path';
import { inHost, makeNamespaces, plug } from './hosts.ts';
import { run } from './shell.ts';
import { hostFolder, networkNamespace, OUTSIDE_ADDRESS, onHost, ROOT, ROUTER_ADDRESS } from './state.ts';

const PROGRAMS = '/usr/lib/frr';
const CONFIGURATION = path.join(ROOT, 'docs/guide/bgp-router.conf');
/** As a switch has it, an address of the link in each. */
const RACK = ['198.18.0.1/24', 'fd00:18::1/64'];
const BEYOND = ['198.18.0.10/24', 'fd00:18::10/64'];

/** Throws one line where FRR or the hosts' routing daemon is missing. */
export function requireRouter(): void {
  for (const [file, name] of [
    [`${PROGRAMS}/bgpd`, 'frr'],
    ['/usr/sbin/bird', 'bird2'],
  ] as const)
    if (!fs.existsSync(file)) throw new Error(`--fabric: needs ${file}: apt install ${name}`);
}

export async function makeRouter(lab: string): Promise<void> {
  for (const name of ['tor', 'beyond']) await makeNamespaces(lab, name, { resolver: OUTSIDE_ADDRESS });
  const tor = (...command: string[]) => run(...onHost(lab, 'tor', ...command));
  const addresses = async (host: string, device: string, list: readonly string[]): Promise<void> => {
    await inHost(lab, host, 'link', 'set', device, 'up');
    for (const address of list) {
      const lasting = address.includes(':') ? ['nodad'] : [];
      await inHost(lab, host, 'addr', 'add', address, 'dev', device, ...lasting);
    }
  };
  await plug(lab, 'tor');
  const end = ['peer', 'name', 'eth0', 'netns', networkNamespace(lab, 'beyond')];
  await inHost(lab, 'tor', 'link', 'add', 'rack', 'type', 'veth', ...end);
  await addresses('tor', 'eth0', [`${ROUTER_ADDRESS}/24`, 'fd00:50::2/64']);
  await addresses('tor', 'rack', RACK);
  await addresses('beyond', 'eth0', BEYOND);
  for (const address of RACK)
    await inHost(lab, 'beyond', 'route', 'add', 'default', 'via', address.split('/')[0] as string);
  await tor('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');

  const file = `${hostFolder(lab, 'tor')}/frr.conf`;
  fs.copyFileSync(CONFIGURATION, file);
  await tor(
    'sh',
    '-c',
    `mkdir -p /run/frr && cp ${file} /run/frr/ && chown -R frr:frr /run/frr && chmod 640 /run/frr/frr.conf`,
  );
  for (const daemon of ['zebra', 'bgpd']) {
    const places = ['-f', '/run/frr/frr.conf', '-i', `/run/frr/${daemon}.pid`, '-z', '/run/frr/zserv.api'];
    await tor(
      `${PROGRAMS}/${daemon}`,
      ...['-d', '--vty_socket', '/run/frr', '--log', `file:/run/frr/${daemon}.log`, ...places],
    );
  }
}
