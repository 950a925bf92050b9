/**
 * Where a lab's Kubernetes keeps things, and what it is configured by.
 *
 *   /var/lib/contiv-lab/NAME/kubernetes/      bin: the programs     USER.kubeconfig     tokens.csv, sa.key, sa.pub, pki/
 *   /var/lib/contiv-lab/NAME/HOST/            kubelet.json, containerd.toml, etcd/
 *   /var/lib/contiv-lab/NAME/HOST/mounts/     what the host has to itself of this machine's folders
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { cgroup, dataFolder, hostFolder, inUrl, type LabPlan } from '../state.ts';

export const PAUSE = 'registry.k8s.io/pause:3.10.2';
export const API_PORT = 6443;
export const CLUSTER_DOMAIN = 'cluster.local';
/** Addresses of a cluster's Services and pods, and where its nameserver answers, which is a Service's address. */
export const RANGES = {
  4: { services: '10.96.0.0/16', pods: '10.32.0.0/16', nameserver: '10.96.0.10' },
  6: { services: 'fd96::/112', pods: 'fd32::/64', nameserver: 'fd96::a' },
} as const;
/** Of upstream's manifest, whose Service has one family: the cluster's first. */
export const nameserverOf = ({ families }: Pick<LabPlan, 'families'>): string =>
  RANGES[families[0] ?? 4].nameserver;
export const NETKUBE_PORT = 9996;
/** Not where dockerd would find it: it takes a containerd at /run/containerd/containerd.sock for its own. */
export const CONTAINERD_SOCKET = '/run/kubernetes/containerd.sock';

/** What kubelet, containerd and CNI plugins keep where they always do: each host has its own. */
export const FOLDERS = [
  ...['/var/lib/kubelet', '/var/lib/containerd', '/var/lib/cni', '/var/log/pods', '/var/log/containers'],
  ...['/etc/cni/net.d', '/opt/cni/bin'],
];

/**
 * What kubelet sets on the machine where it is otherwise (kubelet's kernel tunables). A host shows these values in
 * files of its own: kubelet finds what it wants, and the machine keeps what it has.
 */
export const TUNABLES: Readonly<Record<string, string>> = {
  '/proc/sys/vm/overcommit_memory': '1',
  '/proc/sys/vm/panic_on_oom': '0',
  '/proc/sys/kernel/panic': '10',
  '/proc/sys/kernel/panic_on_oops': '1',
  '/proc/sys/kernel/keys/root_maxkeys': '1000000',
  '/proc/sys/kernel/keys/root_maxbytes': '25000000',
};

/** Who may speak to the API, and the groups that give each its rights; netkube has those that its manifest binds. */
const USERS: Readonly<Record<string, { user: string; groups?: string }>> = {
  admin: { user: 'admin', groups: 'system:masters' },
  'kube-controller-manager': { user: 'system:kube-controller-manager' },
  'kube-scheduler': { user: 'system:kube-scheduler' },
  'kube-proxy': { user: 'system:kube-proxy' },
  netkube: { user: 'netkube' },
};

export const kubernetesFolder = (lab: string): string => path.join(dataFolder(lab), 'kubernetes');
export const kubernetesFile = (lab: string, name: string): string => path.join(kubernetesFolder(lab), name);
export const programFile = (lab: string, name: string): string => kubernetesFile(lab, `bin/${name}`);
export const kubeconfig = (lab: string, user: string): string => kubernetesFile(lab, `${user}.kubeconfig`);
export const hostFile = (lab: string, host: string, name: string): string =>
  path.join(hostFolder(lab, host), name);
/** Where a host's kubelet finds the pods that no API server tells it of. */
export const staticPods = (lab: string, host: string): string => hostFile(lab, host, 'static');
export const apiUrl = ({ hosts }: Pick<LabPlan, 'hosts'>): string =>
  `https://${inUrl(hosts[0]?.address ?? '')}:${API_PORT}`;

/** Everything that the servers read when they start. */
export function writeFiles(state: LabPlan, programs: string): void {
  const lab = state.name;
  fs.mkdirSync(kubernetesFolder(lab), { recursive: true, mode: 0o700 });
  fs.symlinkSync(programs, kubernetesFile(lab, 'bin'));
  const { privateKey, publicKey } = crypto.generateKeyPairSync('rsa', { modulusLength: 2048 });
  fs.writeFileSync(kubernetesFile(lab, 'sa.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  fs.writeFileSync(kubernetesFile(lab, 'sa.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
  const nodes = state.hosts.map(({ name }) => [
    name,
    { user: `system:node:${name}`, groups: 'system:nodes' },
  ]);
  const users = Object.entries({ ...USERS, ...(Object.fromEntries(nodes) as typeof USERS) });
  const tokens = users.map(([name, { user, groups }], i) => {
    const token = crypto.randomBytes(16).toString('hex');
    fs.writeFileSync(kubeconfig(lab, name), JSON.stringify(access(state, name, token), null, 2));
    return `${token},${user},${i + 1}${groups === undefined ? '' : `,"${groups}"`}\n`;
  });
  fs.writeFileSync(kubernetesFile(lab, 'tokens.csv'), tokens.join(''));
  for (const { name } of state.hosts) {
    fs.mkdirSync(staticPods(lab, name), { recursive: true });
    fs.writeFileSync(hostFile(lab, name, 'containerd.toml'), CONTAINERD);
    fs.writeFileSync(hostFile(lab, name, 'kubelet.json'), JSON.stringify(kubelet(state, name), null, 2));
  }
}

/** A kubeconfig. The API server makes its certificate when it first starts. */
const access = (state: LabPlan, user: string, token: string): object => ({
  apiVersion: 'v1',
  kind: 'Config',
  clusters: [
    {
      name: 'lab',
      cluster: {
        server: apiUrl(state),
        'certificate-authority': kubernetesFile(state.name, 'pki/apiserver.crt'),
      },
    },
  ],
  users: [{ name: user, user: { token } }],
  contexts: [{ name: 'lab', context: { cluster: 'lab', user } }],
  'current-context': 'lab',
});

/**
 * restrict_oom_score_adj: without CAP_SYS_RESOURCE, as in a container, no sandbox would start. The folder of `opt` would be made on
 * the machine.
 */
const CONTAINERD = `version = 2
root = "/var/lib/containerd"
state = "/run/kubernetes/containerd"
[grpc]
  address = "${CONTAINERD_SOCKET}"
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
`;

/** Without certificates: the API server reaches it for exec and logs because anybody may. */
const kubelet = (state: LabPlan, host: string): object => ({
  apiVersion: 'kubelet.config.k8s.io/v1beta1',
  kind: 'KubeletConfiguration',
  containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
  clusterDNS: [nameserverOf(state)],
  clusterDomain: CLUSTER_DOMAIN,
  cgroupDriver: 'cgroupfs',
  cgroupRoot: `/${cgroup(state.name, host)}`,
  failCgroupV1: false,
  failSwapOn: false,
  authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
  authorization: { mode: 'AlwaysAllow' },
  // Host folders, as seen by kubelet, are on a disk that it cannot measure; images are never deleted for want of space.
  localStorageCapacityIsolation: false,
  imageGCHighThresholdPercent: 100,
  staticPodPath: staticPods(state.name, host),
  volumePluginDir: '/var/lib/kubelet/volume-plugins',
});
