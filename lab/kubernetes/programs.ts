/** The servers of Kubernetes in a lab: the control plane on the first host, containerd and kubelet on each. */
import { NETKUBE_TOKEN } from '../certificates.ts';
import { curl, type Program } from '../program.ts';
import { tryRun } from '../shell.ts';
import { addressesOf, etcdHosts, etcdUrl, netmasterUrls, onHost, ROOT } from '../state.ts';
import {
  apiUrl,
  CONTAINERD_SOCKET,
  hostFile,
  kubeconfig,
  kubernetesFile,
  NETKUBE_PORT,
  programFile,
  RANGES,
} from './files.ts';

const healthAt =
  (url: string): Program['answers'] =>
  async (host, state) =>
    (await curl(host, state, '-k', url)) !== undefined;

const apiserver: Program = {
  command: (host, { name, ...state }) => [
    programFile(name, 'kube-apiserver'),
    `--etcd-servers=${etcdHosts({ name, ...state }).map(etcdUrl)}`,
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${kubernetesFile(name, 'sa.pub')}`,
    `--service-account-signing-key-file=${kubernetesFile(name, 'sa.key')}`,
    `--service-cluster-ip-range=${state.families.map((family) => RANGES[family].services)}`,
    `--cert-dir=${kubernetesFile(name, 'pki')}`,
    `--bind-address=${state.families.includes(6) ? '::' : '0.0.0.0'}`,
    `--advertise-address=${host.address}`,
    `--token-auth-file=${kubernetesFile(name, 'tokens.csv')}`,
    '--authorization-mode=Node,RBAC',
    '--allow-privileged=true',
    '--kubelet-preferred-address-types=InternalIP',
  ],
  answers: (host, state) => healthAt(`${apiUrl(state)}/readyz`)(host, state),
};

const controllerManager: Program = {
  command: (_, { name }) => [
    programFile(name, 'kube-controller-manager'),
    `--kubeconfig=${kubeconfig(name, 'kube-controller-manager')}`,
    `--service-account-private-key-file=${kubernetesFile(name, 'sa.key')}`,
    `--root-ca-file=${kubernetesFile(name, 'pki/apiserver.crt')}`,
    `--cert-dir=${kubernetesFile(name, 'pki')}`,
    '--use-service-account-credentials=true',
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
  ],
  answers: healthAt('https://127.0.0.1:10257/healthz'),
};

const scheduler: Program = {
  command: (_, { name }) => [
    programFile(name, 'kube-scheduler'),
    `--kubeconfig=${kubeconfig(name, 'kube-scheduler')}`,
    `--cert-dir=${kubernetesFile(name, 'pki')}`,
    '--leader-elect=false',
    '--bind-address=127.0.0.1',
  ],
  answers: healthAt('https://127.0.0.1:10259/healthz'),
};

/**
 * gRPC's frame of an empty message, to which the CRI answers its version. While containerd takes up again what ran before, it refuses,
 * and a kubelet that is refused so ends.
 */
const ASK_CRI = `head -c 5 /dev/zero | curl -s -m 2 --http2-prior-knowledge --unix-socket ${CONTAINERD_SOCKET} -H 'content-type: application/grpc' \
  -H 'te: trailers' --data-binary @- http://c/runtime.v1.RuntimeService/Version | grep -qa containerd`;

const containerd: Program = {
  command: (host, { name }) => ['containerd', '--config', hostFile(name, host.name, 'containerd.toml')],
  answers: async (host, { name }) =>
    (await tryRun(...onHost(name, host.name, 'sh', '-c', ASK_CRI))) !== undefined,
};

const kubelet: Program = {
  command: (host, { name }) => [
    programFile(name, 'kubelet'),
    `--config=${hostFile(name, host.name, 'kubelet.json')}`,
    `--kubeconfig=${kubeconfig(name, host.name)}`,
    `--hostname-override=${host.name}`,
    `--node-ip=${addressesOf(host)}`,
  ],
  answers: healthAt('http://127.0.0.1:10248/healthz'),
};

/** For comparison only: `up` does not start it. conntrack's size is the machine's. */
const proxy: Program = {
  command: (host, { name }) => [
    programFile(name, 'kube-proxy'),
    `--kubeconfig=${kubeconfig(name, 'kube-proxy')}`,
    `--hostname-override=${host.name}`,
    '--proxy-mode=nftables',
    '--conntrack-max-per-core=0',
  ],
  answers: healthAt('http://127.0.0.1:10256/livez'),
};

/** Contiv's controller. */
const netkube: Program = {
  command: (_, state) => [
    `${ROOT}/bin/netkube`,
    '--kubeconfig',
    kubeconfig(state.name, 'netkube'),
    '--netmaster',
    netmasterUrls(state).join(),
    ...(state.tls ? ['--tls-ca', '/var/lib/contiv/tls/ca.crt', '--token-file', NETKUBE_TOKEN] : []),
    ...state.families.flatMap((family) => [family === 6 ? '--subnet6' : '--subnet', RANGES[family].pods]),
    '--listen',
    `127.0.0.1:${NETKUBE_PORT}`,
  ],
  answers: healthAt(`http://127.0.0.1:${NETKUBE_PORT}/readyz`),
};

export const KUBERNETES = {
  'kube-apiserver': apiserver,
  'kube-controller-manager': controllerManager,
  'kube-scheduler': scheduler,
  containerd,
  kubelet,
  'kube-proxy': proxy,
  netkube,
};
