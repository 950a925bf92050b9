/** All servers of a lab by name. */
import { requestOf } from '../src/protocol/wire.ts';
import { curlFlags } from './certificates.ts';
import { firewallFlags } from './docker/versions.ts';
import { KUBERNETES } from './kubernetes/programs.ts';
import { curl, type Program } from './program.ts';
import {
  cgroup,
  ETCD_PORT,
  etcdHosts,
  etcdUrl,
  hostFolder,
  inUrl,
  type LabHost,
  type LabPlan,
  NETMASTER_PORT,
  netmasterUrl,
  netmasterUrls,
  ROOT,
  UNDERLAY,
  UNDERLAY_PREFIX,
} from './state.ts';

const peerUrl = (address: string): string => `http://${inUrl(address)}:${ETCD_PORT + 1}`;

const etcd: Program = {
  command: (host, state) => [
    'etcd',
    `--name=${host.name}`,
    `--data-dir=${hostFolder(state.name, host.name)}/etcd`,
    `--listen-client-urls=${etcdUrl(host)}`,
    `--advertise-client-urls=${etcdUrl(host)}`,
    `--listen-peer-urls=${peerUrl(host.address)}`,
    `--initial-advertise-peer-urls=${peerUrl(host.address)}`,
    `--initial-cluster=${etcdHosts(state).map((h) => `${h.name}=${peerUrl(h.address)}`)}`,
    '--auto-compaction-retention=1',
    '--logger=zap',
  ],
  answers: async (host, state) => (await curl(host, state, `${etcdUrl(host)}/health`)) !== undefined,
};

const netmaster: Program = {
  command: (host, state) => [
    `${ROOT}/bin/netmaster`,
    '--listen',
    `${inUrl(host.address)}:${NETMASTER_PORT}`,
    '--store',
    state.store,
    ...(state.tls ? [] : ['--insecure']),
    ...(state.addressGrace === undefined ? [] : ['--address-grace', state.addressGrace]),
  ],
  answers: async (host, state) =>
    (await curl(
      host,
      state,
      ...curlFlags(state),
      netmasterUrl(host.address, state) + requestOf('health').url,
    )) !== undefined,
};

/** Each host asks another netmaster first. */
function urlsFor(host: LabHost, state: LabPlan): string[] {
  const urls = netmasterUrls(state);
  const first = state.hosts.indexOf(host) % urls.length;
  return [...urls.slice(first), ...urls.slice(0, first)];
}

const netplugin: Program = {
  command: (host, state) => [
    `${ROOT}/bin/netplugin`,
    '--netmaster',
    urlsFor(host, state).join(),
    '--underlay',
    UNDERLAY,
    '--host',
    host.name,
    ...(state.fabric ? ['--uplink', UNDERLAY] : []),
    ...(state.kubernetes ? ['--cni-bin-dir', '/opt/cni/bin', '--cni-conf-dir', '/etc/cni/net.d'] : []),
  ],
  async answers(host, state) {
    const health = await curl(host, state, '--unix-socket', '/run/contiv/netplugin.sock', 'http://n/health');
    return health !== undefined && JSON.parse(health).live === true;
  },
};

const dockerd: Program = {
  command: (host, state) => [
    // Swarm asks a registry at each start of a task, which here is none: it is told so at once, and not after seconds of name lookups.
    ...['env', 'HTTPS_PROXY=http://127.0.0.1:9', `NO_PROXY=${UNDERLAY_PREFIX}`],
    'dockerd',
    `--data-root=${hostFolder(state.name, host.name)}/docker`,
    '--exec-root=/run/docker',
    '--pidfile=/run/docker.pid',
    '--host=unix:///run/docker.sock',
    `--cgroup-parent=/${cgroup(state.name, host.name)}`,
    '--storage-driver=overlay2',
    ...firewallFlags(state),
  ],
  answers: async (host, state) =>
    (await curl(host, state, '--unix-socket', '/run/docker.sock', 'http://d/_ping')) !== undefined,
  // Its containerd dies with it: the ids may belong to others by now.
  leftovers: ['/run/docker.pid', '/run/docker/containerd/containerd.pid'],
};

export const PROGRAMS = { etcd, netmaster, netplugin, dockerd, ...KUBERNETES };

export type ProgramName = keyof typeof PROGRAMS;
