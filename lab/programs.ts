/** All servers of a lab by name. */
import { requestOf } from '../src/protocol/wire.ts';
import { KUBERNETES } from './kubernetes/programs.ts';
import { curl, type Program } from './program.ts';
import { cgroup, hostFolder, NETMASTER_PORT, netmasterUrl, ROOT, UNDERLAY } from './state.ts';

const netmaster: Program = {
  command: (host, state) => [
    `${ROOT}/bin/netmaster`,
    '--listen',
    `${host.address}:${NETMASTER_PORT}`,
    '--store',
    state.store,
  ],
  answers: async (host, state) =>
    (await curl(host, state, netmasterUrl(state) + requestOf('health').url)) !== undefined,
};

const netplugin: Program = {
  command: (host, state) => [
    `${ROOT}/bin/netplugin`,
    '--netmaster',
    netmasterUrl(state),
    '--underlay',
    UNDERLAY,
    '--host',
    host.name,
    ...(state.kubernetes ? ['--cni-bin-dir', '/opt/cni/bin', '--cni-conf-dir', '/etc/cni/net.d'] : []),
  ],
  async answers(host, state) {
    const health = await curl(host, state, '--unix-socket', '/run/contiv/netplugin.sock', 'http://n/health');
    return health !== undefined && JSON.parse(health).live === true;
  },
};

const dockerd: Program = {
  command: (host, state) => [
    'dockerd',
    `--data-root=${hostFolder(state.name, host.name)}/docker`,
    '--exec-root=/run/docker',
    '--pidfile=/run/docker.pid',
    '--host=unix:///run/docker.sock',
    `--cgroup-parent=/${cgroup(state.name, host.name)}`,
    '--storage-driver=overlay2',
  ],
  answers: async (host, state) =>
    (await curl(host, state, '--unix-socket', '/run/docker.sock', 'http://d/_ping')) !== undefined,
  // Its containerd dies with it: the ids may belong to others by now.
  leftovers: ['/run/docker.pid', '/run/docker/containerd/containerd.pid'],
};

export const PROGRAMS = { netmaster, netplugin, dockerd, ...KUBERNETES };

export type ProgramName = keyof typeof PROGRAMS;
