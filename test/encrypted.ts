/**
 * Two virtual hosts with real agents and a netmaster, without a container runtime: containers are namespaces (`netplugin endpoint`), and what goes
 * between the hosts is recorded where a stranger would, on the switch. For tests that need a kernel with WireGuard.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import { makeHost, makeSwitch, removeHosts, switchOf } from '../lab/hosts.ts';
import { run, until } from '../lab/shell.ts';
import { dataFolder, hostAddress, hostFolder, OUTSIDE_ADDRESS, onHost, ROOT } from '../lab/state.ts';
import { inject } from '../src/linux/inject.ts';
import { inNamespace, namespacePath } from '../src/linux/netns.ts';
import { vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import { VXLAN_PORT } from '../src/netplugin/constants.ts';
import { sh } from './isolation.ts';
import { ethernet, udp, vxlan } from './packet.ts';

const LAB = 'encrypted';
/** An emulated processor, of a machine that others use too. */
const SECONDS = 300;

export type Node = 'node1' | 'node2' | 'node3';
export const ADDRESSES: Readonly<Record<Node, string>> = {
  node1: hostAddress(1),
  node2: hostAddress(2),
  node3: hostAddress(3),
};
const NETMASTER = `http://${ADDRESSES.node1}:9999`;

export interface Recording {
  /** Packets that the filter of pcap-filter(7) takes, of those until now. */
  count(filter: string): Promise<number>;
  end(): Promise<void>;
}

export interface Encrypted {
  on(node: Node, line: string): Promise<string>;
  /** The same where it may fail: with its exit status. */
  attempt(node: Node, line: string): Promise<{ readonly status: number; readonly out: string }>;
  netctl(line: string): Promise<string>;
  start(node: Node): Promise<void>;
  kill(node: Node): Promise<void>;
  /** Of its agent, as a service is stopped. */
  end(node: Node): Promise<void>;
  /** A container on the network; answers its address. */
  attach(node: Node, name: string, network: string): Promise<string>;
  inside(node: Node, name: string, line: string): Promise<string>;
  log(node: Node): string;
  /** All that passes the switch. */
  record(): Promise<Recording>;
  /** Three VXLAN frames that arrive at a host in the clear with the address of another one, as between those containers there. */
  forge(at: Node, as: Node, inner: { readonly from: string; readonly to: string }): Promise<void>;
  /** Pings a second that go on until it is ended; answers how many came back of those up to the last that did. */
  pings(node: Node, name: string, to: string): { end(): Promise<{ sent: number; received: number }> };
  down(): Promise<void>;
}

/** `family` 6: the hosts' underlay is IPv6; netmaster stays where it is. */
export async function openEncrypted(nodes: readonly Node[], family: 4 | 6 = 4): Promise<Encrypted> {
  await removeHosts(LAB);
  fs.rmSync(dataFolder(LAB), { recursive: true, force: true });
  await makeSwitch(LAB);
  for (const node of nodes) await makeHost(LAB, node, [ADDRESSES[node]], { resolver: OUTSIDE_ADDRESS });
  const six = (node: Node): string => `2001:db8::${node.at(-1)}`;
  if (family === 6)
    for (const node of nodes)
      await run(...onHost(LAB, node, 'ip', 'addr', 'add', `${six(node)}/64`, 'dev', 'eth0', 'nodad'));
  const processes = new Map<string, ChildProcess>();
  const logFile = (name: string): string => `${hostFolder(LAB, 'node1')}/${name}.log`;
  const files = new Set<string>();

  function serve(name: string, node: Node, command: readonly string[]): void {
    const out = fs.openSync(logFile(name), 'a');
    const [program, args] = onHost(LAB, node, ...command);
    const child = spawn(program, args, { stdio: ['ignore', out, out] });
    fs.closeSync(out);
    processes.set(name, child);
  }
  const on = (node: Node, line: string): Promise<string> => run(...onHost(LAB, node, 'sh', '-ec', line));
  const netctl = (line: string): Promise<string> =>
    on('node1', `NETMASTER=${NETMASTER} ${ROOT}/bin/netctl ${line}`);
  async function end(name: string, signal: NodeJS.Signals): Promise<void> {
    const child = processes.get(name);
    if (child === undefined) return;
    processes.delete(name);
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }
  async function start(node: Node): Promise<void> {
    const flags = ['--netmaster', NETMASTER, '--underlay', family === 6 ? six(node) : 'eth0', '--host', node];
    serve(node, node, [`${ROOT}/bin/netplugin`, ...flags]);
    await until(`netplugin on ${node}`, SECONDS, async () => {
      const health = await on(
        node,
        'curl -sf -m 2 --unix-socket /run/contiv/netplugin.sock http://n/health || true',
      );
      return health !== '' && JSON.parse(health).live === true;
    });
  }

  serve('netmaster', 'node1', [
    `${ROOT}/bin/netmaster`,
    ...['--listen', `${ADDRESSES.node1}:9999`, '--store', 'memory', '--insecure'],
  ]);
  await until('netmaster', SECONDS, () => netctl('tenant ls').then(Boolean, () => false));
  // One after the other: an emulated processor has no room for two that start.
  for (const node of nodes) await start(node);

  return {
    on,
    netctl,
    async attempt(node, line) {
      const child = spawn(...onHost(LAB, node, 'sh', '-ec', line), { stdio: ['ignore', 'pipe', 'pipe'] });
      let out = '';
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (out += data));
      const [status] = await once(child, 'close');
      return { status: status ?? -1, out };
    },
    start,
    kill: (node) => end(node, 'SIGKILL'),
    end: (node) => end(node, 'SIGTERM'),
    async attach(node, name, network) {
      await on(node, `ip netns add ${name}`);
      await on(
        node,
        `${ROOT}/bin/netplugin endpoint add --netns /run/netns/${name} --network ${network} --name ${name}`,
      );
      const line = await on(node, `ip netns exec ${name} ip -4 -o addr show dev eth0`);
      return /inet ([\d.]+)/.exec(line)?.[1] ?? '';
    },
    inside: (node, name, line) => on(node, `ip netns exec ${name} ${line}`),
    log: (node) => fs.readFileSync(logFile(node), 'utf8'),
    async record() {
      const file = `${dataFolder(LAB)}/${files.size}.pcap`;
      files.add(file);
      const args = ['netns', 'exec', switchOf(LAB), 'tcpdump', '-i', 'br0', '-U', '-s', '120', '-w', file];
      const child = spawn('ip', [...args, '-Z', 'root'], { stdio: ['ignore', 'ignore', 'pipe'] });
      let said = '';
      child.stderr.on('data', (data) => (said += data));
      await until('tcpdump', SECONDS, () => said.includes('listening'));
      return {
        async count(filter) {
          const lines = await run('tcpdump', ['-nn', '-r', file, filter]);
          return lines.split('\n').filter((line) => line !== '').length;
        },
        async end() {
          child.kill('SIGINT');
          await once(child, 'exit');
        },
      };
    },
    async forge(at, as, { from, to }) {
      const of = (node: Node, address: string) => ({ mac: vtepMac(ADDRESSES[node]), address });
      const frame = vxlan({ vni: 1, from: of(as, from), to: of(at, to) });
      const own = JSON.parse(await on(at, 'ip -j link show eth0'))[0].address as string;
      const packet = udp(ADDRESSES[as], ADDRESSES[at], 50_000, VXLAN_PORT, frame);
      inNamespace(namespacePath(switchOf(LAB)), () => {
        const wire = JSON.parse(sh(`ip -j link show w-${at}`))[0].ifindex as number;
        inject(wire, Array(3).fill(ethernet('02:00:00:00:00:09', own, packet)), 'sent');
      });
    },
    pings(node, name, to) {
      const command = ['ip', 'netns', 'exec', name, 'busybox', 'ping', '-i', '0.1', to];
      const child = spawn(...onHost(LAB, node, ...command), { stdio: ['ignore', 'pipe', 'pipe'] });
      let out = '';
      child.stdout.on('data', (data) => (out += data));
      return {
        async end() {
          child.kill('SIGINT');
          await once(child, 'close');
          // The last one may not have had its answer yet.
          const answers = [...out.matchAll(/seq=(\d+)/g)].map((m) => Number(m[1]));
          return { sent: Math.max(-1, ...answers) + 1, received: new Set(answers).size };
        },
      };
    },
    async down() {
      for (const name of [...processes.keys()]) await end(name, 'SIGTERM');
      // The process of names outlives its agent.
      for (const node of nodes)
        await on(node, 'kill $(cat /run/contiv/names.pid) 2>/dev/null || true').catch(() => {});
      await removeHosts(LAB);
      fs.rmSync(dataFolder(LAB), { recursive: true, force: true });
    },
  };
}
