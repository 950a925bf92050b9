/**
 * Whether this kernel can do what the data plane needs: it is tried, by the data plane itself, on a host with a container, a service, a
 * tunnel, rules and an exit, in namespaces of their own. So nothing is asked by version, and what is asked cannot differ from what
 * is needed.
 *
 *   doctor --unshare(1)--> a process with its own network, and a /run of its own --> one pass, and what it could not establish
 *
 * With that process all of it is gone, also when it is killed. Modules that the kernel loaded for it stay loaded.
 */
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import { mount } from '../../linux/libc.ts';
import {
  exitDevice,
  exitMacs,
  peerDevice,
  portDevice,
  vtepLinkLocal,
  vtepMac,
} from '../compile/deviceNames.ts';
import { TRANSIT, TRANSIT6 } from '../constants.ts';
import { closeProgram, openProgram } from '../dataplane/fastpath/program.ts';
import { startDataplane } from '../dataplane/index.ts';
import type { HostState } from '../state.ts';
import { type Finding, ok, wrong } from './finding.ts';

/** Milliseconds: a pass takes some tens, loading modules more. */
const PATIENCE = 30_000;
const NAMESPACE = 'contiv-doctor';
const VNI = 1;

/** Documentation's addresses (RFC 5737): they are on no wire. */
const [HERE, THERE] = ['192.0.2.1', '192.0.2.2'];

/** What a host holds that has a bit of everything. */
export const SAMPLE: HostState = {
  routers: [
    {
      tenant: 'doctor',
      namespace: NAMESPACE,
      tunnels: [{ vni: VNI, device: `vx${VNI}`, local: HERE, mac: vtepMac(HERE), mtu: 1450 }],
      ports: [
        {
          endpoint: 'doctor',
          device: portDevice('doctor'),
          peer: peerDevice('doctor'),
          mac: '02:02:cb:00:71:02',
          mtu: 1450,
          addresses: ['203.0.113.2', 'fd00:d0c::2'],
          gateways: ['203.0.113.254', 'fd00:d0c::1'],
          network: VNI,
          alsoFrom: [],
          joined: false,
          group: 1,
          judgedIn: 1,
          judgedOut: 0,
          limit: { to: { bitsPerSecond: 1_000_000 }, from: { bitsPerSecond: 1_000_000 } },
          dscp: 10,
        },
      ],
      hosts: [
        {
          vtep: THERE,
          mac: vtepMac(THERE),
          linkLocal: vtepLinkLocal(THERE),
          devices: [`vx${VNI}`],
          endpoints: [{ address: '203.0.113.9', device: `vx${VNI}`, network: VNI, group: 2 }],
        },
      ],
      subnets: [
        { prefix: '203.0.113.0/24', network: VNI },
        { prefix: 'fd00:d0c::/64', network: VNI },
      ],
      gateways: ['203.0.113.254', 'fd00:d0c::1'],
      publications: [
        {
          protocol: 'tcp',
          hostAddress: '',
          hostPort: 8080,
          transitPort: 8080,
          address: '203.0.113.2',
          port: 80,
        },
      ],
      services: [
        {
          name: 'doctor',
          address: '203.0.113.100',
          ports: [{ protocol: 'tcp', port: 80, providerPort: 8080 }],
          providers: ['203.0.113.2', '203.0.113.9'],
        },
      ],
      clusterServices: [],
      ruleSets: [
        {
          id: 1,
          name: 'in doctor',
          narrowed: [],
          decisions: [
            { group: 2, protocol: 6, port: 80, rule: 1, action: 'allow', key: 'doctor:1' },
            { group: 0, rule: 2, action: 'deny', key: 'doctor:2' },
          ],
        },
      ],
      ranges: [],
      portRanges: [],
    },
  ],
  exits: [
    {
      namespace: NAMESPACE,
      device: exitDevice('doctor'),
      hostAddress: '100.127.0.0',
      routerAddress: '100.127.0.1',
      hostAddress6: 'fd6f:6e74:6976::',
      routerAddress6: 'fd6f:6e74:6976::1',
      ...exitMacs('doctor'),
      transit: TRANSIT,
      transit6: TRANSIT6,
      publications: [],
    },
  ],
  guarded: [{ address: HERE, protocol: 'tcp', port: 9999 }],
  underlay: HERE,
  members: [THERE],
};

/** In namespaces of this process's own. */
export async function tryKernel(): Promise<Finding[]> {
  const dataplane = startDataplane();
  const said = `Linux ${os.release()}`;
  try {
    const { failed } = await dataplane.apply(SAMPLE, { verify: true });
    const lines = [...new Set(failed.map(({ message }) => message))];
    return [
      ...lines.map((line) =>
        wrong(
          'kernel',
          `${said} cannot do what is needed: ${line}`,
          'load or build in what is missing: nf_tables, nf_conntrack, nft_nat, vxlan, veth, act_police, sch_htb (modprobe NAME)',
        ),
      ),
      ...(lines.length === 0
        ? [ok('kernel', `${said}: nf_tables, connection tracking, VXLAN and shaping do what is needed`)]
        : []),
      fastPathFinding(),
    ];
  } finally {
    await dataplane.close();
  }
}

function fastPathFinding(): Finding {
  try {
    closeProgram(openProgram(16));
    return ok('fast path', 'the kernel takes the eBPF program, and has the functions that it calls');
  } catch (error) {
    return wrong(
      'fast path',
      `the kernel does not take the eBPF program: ${(error as Error).message.split('\n', 1)[0]}; all works, slower`,
      'a kernel with types (CONFIG_DEBUG_INFO_BTF) whose nf_conntrack has functions for eBPF: 6.1 or newer',
    );
  }
}

/** The other process: `netplugin doctor --kernel`. */
export async function inNamespaces(): Promise<Finding[]> {
  mount('tmpfs', '/run', 'tmpfs', 0, null);
  fs.mkdirSync('/run/netns');
  execFileSync('ip', ['link', 'set', 'lo', 'up']);
  return tryKernel();
}

/** `program`: how this one is started. */
export function kernelFindings(program: readonly string[]): Promise<Finding[]> {
  const words = ['--net', '--mount', '--propagation', 'private', '--', ...program, 'doctor', '--kernel'];
  return new Promise((done) => {
    execFile('unshare', words, { timeout: PATIENCE, killSignal: 'SIGKILL' }, (error, out, err) => {
      try {
        return done(JSON.parse(out) as Finding[]);
      } catch {
        // It says why on its error output, or could not be started.
      }
      const why = err.trim().split('\n', 1)[0] || error?.message.split('\n', 1)[0] || 'it said nothing';
      done([
        wrong(
          'kernel',
          `network and mount namespaces to try it in cannot be had: ${why}`,
          'a kernel with CONFIG_NET_NS, unshare(1) of util-linux, and root with all capabilities',
        ),
      ]);
    });
  });
}
