/**
 * VLANs with Open vSwitch for the switch, Debian's, by its datapath in user space (netdev), which needs no module of the kernel's. A functional test:
 * that switch checks no offloaded sums, so who sends to it fills them in himself (`ethtool -K ... tx off`).
 *
 *   box2 -- contiv-default -- this namespace -- trunk --+-- Open vSwitch --+-- access port of VLAN 100 -- access
 *                                                                          +-- access port of VLAN 200 -- other
 *                                                                          +-- trunk -- trunk, its device lan is VLAN 100's
 */
import { type ChildProcess, spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { tag } from '../lab/tagging.ts';
import { echoes } from '../src/linux/echo.ts';
import { createNamespace, deleteNamespace, inNamespace, namespacePath } from '../src/linux/netns.ts';
import { vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import { type Applier, openApplier } from '../src/netplugin/dataplane/applier.ts';
import type { HostState } from '../src/netplugin/state.ts';
import { applied, enter, LOCAL, NOTHING, state, VLAN, vlanOf, vlanPort } from './hostState.ts';
import { isolate, sh } from './isolation.ts';

beforeAll(isolate);

const { id: ID, network: NETWORK, uplink: UPLINK, prefixes: PREFIXES, at, six } = VLAN;
const CONTAINER = [at(2), six(2)] as const;
const MACHINES = {
  access: { port: `tag=${ID}`, addresses: [at(202), six(202)] },
  trunk: { port: '', addresses: [at(201), six(201)] },
  other: { port: `tag=${2 * ID}`, addresses: [at(203), six(203)] },
} as const;
type Machine = keyof typeof MACHINES;

const inside = <T>(name: string, use: () => T): T => inNamespace(namespacePath(name), use);
const filledIn = (device: string): string => sh(`ethtool -K ${device} tx off`);

const running: ChildProcess[] = [];
let applier: Applier;
let folder = '';

/** Of the switch. */
const vsctl = (line: string): string => sh(`ovs-vsctl --timeout=60 --db=unix:${folder}/db.sock ${line}`);

/** In the foreground, so that it ends with the test. */
function start(where: string, program: string, ...args: string[]): void {
  const log = fs.openSync(path.join(folder, `${where}-${program}.log`), 'w');
  running.push(
    spawn('nsenter', [`--net=${namespacePath(where)}`, program, ...args], {
      stdio: ['ignore', log, log],
      env: { ...process.env, OVS_RUNDIR: folder },
    }),
  );
}

function startSwitch(): void {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-test-'));
  const database = path.join(folder, 'conf.db');
  sh(`ovsdb-tool create ${database} /usr/share/openvswitch/vswitch.ovsschema`);
  start(
    'switch',
    'ovsdb-server',
    database,
    `--remote=punix:${folder}/db.sock`,
    '--no-chdir',
    `--unixctl=${folder}/db.control`,
  );
  sh(`for i in $(seq 600); do [ -S ${folder}/db.sock ] && exit 0; sleep 0.1; done; exit 1`);
  vsctl('--no-wait init');
  start('switch', 'ovs-vswitchd', `unix:${folder}/db.sock`, '--no-chdir', `--unixctl=${folder}/control`);
  vsctl('add-br br0 -- set bridge br0 datapath_type=netdev');
}

/** Its end here or in a namespace is called UPLINK. */
function plug(name: string, port: string): void {
  const wire = `w-${name}`;
  const where = name === 'host' ? '' : `netns ${name}`;
  sh(`ip link add ${UPLINK} ${where} type veth peer name ${wire} netns switch`);
  const up = (): string => sh(`ip link set lo up; ip link set ${UPLINK} up`) + filledIn(UPLINK);
  if (name === 'host') up();
  else inside(name, up);
  inside('switch', () => sh(`ip link set ${wire} up`));
  vsctl(`add-port br0 ${wire} ${port}`);
}

function hostState(): HostState {
  const base = state({ ports: [vlanPort(2)], remotes: [] });
  return {
    ...base,
    members: [],
    routers: base.routers.map((router) => ({
      ...router,
      vlans: [vlanOf(LOCAL, [at(91), six(91)])],
      subnets: PREFIXES.map((prefix) => ({ prefix, network: NETWORK, device: `vl${ID}` })),
      gateways: [at(254)],
    })),
  };
}

beforeAll(() => {
  for (const name of ['switch', ...Object.keys(MACHINES)]) createNamespace(name);
  startSwitch();
  plug('host', '');
  sh(`ip addr add ${LOCAL}/24 dev ${UPLINK}`);
  for (const [name, { port, addresses }] of Object.entries(MACHINES)) {
    plug(name, port);
    inside(name, () => {
      if (name === 'trunk') {
        tag(UPLINK, 'lan', ID);
        filledIn('lan');
      }
      const device = name === 'trunk' ? 'lan' : UPLINK;
      sh(`ip addr add ${addresses[0]}/24 dev ${device}; ip addr add ${addresses[1]}/64 dev ${device} nodad`);
    });
  }
  applier = openApplier();
  applied(applier, NOTHING);
  applied(applier, hostState());
  enter(vlanPort(2), 2);
});

afterAll(() => {
  for (const child of running) child.kill('SIGKILL');
  applier?.close();
  openApplier().apply(NOTHING, { verify: true });
  for (const name of ['box2', 'switch', ...Object.keys(MACHINES)]) deleteNamespace(name);
  fs.rmSync(folder, { recursive: true, force: true });
});

const echoed = (where: string, from: string, to: string, size: number): Promise<boolean> =>
  inside(where, () => echoes({ from, to, size, patience: 500 }));
/** In one packet of that size; a switch that has just been started takes a while. */
async function pinged(where: string, from: string, to: string, size = 100): Promise<boolean> {
  for (let i = 0; i < 60; i++) if (await echoed(where, from, to, size)) return true;
  return false;
}

it.each(['access', 'trunk'] as Machine[])(
  'a container and a machine behind port %s reach each other, with the whole MTU and by TCP',
  async (machine) => {
    const { addresses } = MACHINES[machine];
    for (const [i, own] of CONTAINER.entries()) {
      const theirs = addresses[i] as string;
      expect([theirs, await pinged('box2', own, theirs)]).toEqual([theirs, true]);
      expect([own, await pinged(machine, theirs, own, 1500)]).toEqual([own, true]);
    }
    const file = path.join(folder, 'file');
    fs.writeFileSync(file, Buffer.alloc(1 << 20, 'vlan'));
    start(machine, 'busybox', 'httpd', '-f', '-p', '80', '-h', folder);
    const got = inside('box2', () =>
      sh(
        `curl -s -m 60 --retry 60 --retry-connrefused --retry-delay 1 http://${addresses[0]}/file | sha256sum`,
      ),
    );
    expect(got).toBe(sh(`sha256sum < ${file}`));
  },
);

it('the switch has the host by its one MAC address in that VLAN, and a machine of another VLAN is reached by nobody', async () => {
  expect(await pinged('box2', at(2), MACHINES.access.addresses[0])).toBe(true);
  const known = sh(`ovs-appctl -t ${folder}/control fdb/show br0`).split('\n');
  const ours = known.filter((line) => line.includes(vtepMac(LOCAL)));
  expect(ours.map((line) => line.trim().split(/\s+/)[1])).toEqual([`${ID}`]);
  for (const [i, theirs] of MACHINES.other.addresses.entries()) {
    expect(await echoed('box2', CONTAINER[i] as string, theirs, 100)).toBe(false);
    expect(await echoed('other', theirs, CONTAINER[i] as string, 100)).toBe(false);
  }
});
