/**
 * How the tests of Kubernetes reach the cluster of their lab, which is up for all of them (kubernetesSetup.ts). A command is a line as
 * it is typed, as in lab.ts:
 *
 *   kubectl('get nodes')     await apply(`kind: Pod ...`)     inPod('web', 'curl -m 2', address)
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type Ended, LAB, openLab, until } from './lab.ts';

/** The image for pods: upstream's agnhost, with the tools of contiv/lab beside it. */
export const AGNHOST = 'registry.k8s.io/e2e-test-images/agnhost:2.66.1';

export interface PodOptions {
  readonly namespace?: string;
  /** The node that it runs on; by the scheduler's choice without it. */
  readonly node?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ports?: readonly object[];
  /** Of agnhost, e.g. `netexec --http-port=80`; it sleeps without it. */
  readonly args?: string;
  readonly hostNetwork?: boolean;
  readonly spec?: object;
}

/** A file of a module that the cluster's programs are built from, as Go's module cache has it beside them (lab/kubernetes/build.sh). */
export function moduleFile(module: string, file: string): string {
  const cache = process.env.CONTIV_CACHE ?? '/var/cache/contiv-lab';
  const build = path.join(path.dirname(import.meta.dirname), 'lab/kubernetes/build');
  const pinned = fs.globSync(`${build}/{,*/}go.mod`).map((each) => fs.readFileSync(each, 'utf8'));
  const version = new RegExp(`\\s${module} (v\\S+)`).exec(pinned.join('\n'))?.[1];
  const found = `${cache}/go/mod/${module}@${version}/${file}`;
  if (!fs.existsSync(found)) throw new Error(`${found} is not there: remove ${cache}, and it is built anew`);
  return found;
}

/** How upstream's specs ended, by name: passed, failed, timedout, panicked, ... */
export type Results = ReadonlyMap<string, string>;

interface GinkgoReport {
  readonly SpecReports: readonly {
    readonly LeafNodeType: string;
    readonly LeafNodeText: string;
    readonly ContainerHierarchyTexts: readonly string[] | null;
    readonly State: string;
  }[];
}

/** What tests do in the cluster of a lab of that name, as the functions beside this one do in the one that is up for all. */
export function openKubernetes(name: string) {
  const { must, on, feed } = openLab(name);

  /** Answers what it printed, throws where it fails. */
  const kubectl = (line: string, ...more: string[]): Promise<string> =>
    must('node1', `kubectl ${line}`, ...more);

  /** Answers however it ends. */
  const tryKubectl = (line: string, ...more: string[]): Promise<Ended> =>
    on('node1', `kubectl ${line}`, ...more);

  const apply = (yaml: string): Promise<string> => feed('node1', yaml, 'kubectl apply -f -');

  /** The object as it is in the API. */
  const get = async <T>(what: string): Promise<T> => JSON.parse(await kubectl(`get ${what} -o json`)) as T;

  /** A namespace of the test's own. Removed by removeNamespace, with all that is in it. */
  async function makeNamespace(name: string, labels: Readonly<Record<string, string>> = {}): Promise<void> {
    await apply(JSON.stringify({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }));
    await until(
      `the service account of namespace ${name}`,
      async () => (await tryKubectl(`-n ${name} get serviceaccount default`)).status === 0,
    );
  }

  const removeNamespace = (name: string): Promise<string> =>
    kubectl(`delete namespace ${name} --ignore-not-found --timeout=120s`);

  /** Makes a pod of agnhost. It is waited for by podsReady, so that several start at once. */
  async function pod(name: string, options: PodOptions = {}): Promise<void> {
    const {
      namespace = 'default',
      node,
      labels,
      annotations,
      ports,
      args = 'pause',
      hostNetwork,
      spec,
    } = options;
    const container = { name: 'main', image: AGNHOST, args: args.split(' '), ports };
    await apply(
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace, labels, annotations },
        spec: {
          containers: [container],
          nodeName: node,
          hostNetwork,
          terminationGracePeriodSeconds: 0,
          ...spec,
        },
      }),
    );
  }

  /** Waits until the pods, or all of the namespace, are ready. */
  async function podsReady(namespace: string, ...names: string[]): Promise<void> {
    const which = names.length === 0 ? ['--all'] : names;
    await kubectl(`-n ${namespace} wait pod --for=condition=Ready --timeout=120s`, ...which);
  }

  /** Waits until the cluster's nodes can run pods: each has a CNI configuration. */
  const nodesReady = (): Promise<string> => kubectl('wait node --all --for=condition=Ready --timeout=120s');

  /** Its addresses, IPv4 first where it has both. */
  async function addressesOf(name: string, namespace = 'default'): Promise<string[]> {
    const { status } = await get<{ status: { podIPs?: { ip: string }[] } }>(`pod ${name} -n ${namespace}`);
    return (status.podIPs ?? []).map(({ ip }) => ip);
  }

  /** A command in a pod (`name`, or `namespace/name`); answers however it ends. */
  function inPod(target: string, line: string, ...more: string[]): Promise<Ended> {
    const [name, namespace = 'default'] = target.split('/').reverse();
    return on('node1', `kubectl exec -n ${namespace} ${name} -- ${line}`, ...more);
  }

  /**
   * Upstream's CustomResourceDefinition of ClusterNetworkPolicy, which no API server has of its own: of the experimental channel, which alone
   * has nodes, domain names and named ports.
   */
  async function defineClusterNetworkPolicy(): Promise<void> {
    const file = moduleFile(
      'sigs.k8s.io/network-policy-api',
      'config/crd/experimental/policy.networking.k8s.io_clusternetworkpolicies.yaml',
    );
    await kubectl(`apply --server-side --force-conflicts -f ${file}`);
    // `kubectl wait` fails at one that has no conditions at all yet.
    await until(
      'ClusterNetworkPolicy is served',
      async () => (await tryKubectl('get clusternetworkpolicies')).status === 0,
    );
  }

  /**
   * Runs upstream's specs of networks (NetworkPolicy, Services, DNS, pods among each other) whose full names match (Go's regular
   * expressions); answers those that ran by that name, and what the suite printed. Of NetworkPolicy the same text stands in those of TCP
   * (`between server and client should`) and of UDP (`using UDP`).
   */
  async function networkSuite(focus: string, skip = 'SCTP'): Promise<{ results: Results; log: string }> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'e2e-'));
    try {
      const ended = await on(
        'node1',
        'sh -c',
        'exec e2e.test -kubeconfig "$KUBECONFIG" -provider skeleton -num-nodes 2 -test.timeout 0 "$@" 2>&1',
        'e2e',
        `-ginkgo.focus=${focus}`,
        `-ginkgo.skip=${skip}`,
        `-ginkgo.json-report=${folder}/report.json`,
        '-ginkgo.no-color',
      );
      if (!fs.existsSync(`${folder}/report.json`))
        throw new Error(`the suite has made no report: ${ended.out.slice(-2000)} ${ended.err}`);
      const [report] = JSON.parse(fs.readFileSync(`${folder}/report.json`, 'utf8')) as GinkgoReport[];
      const specs = (report?.SpecReports ?? []).filter(
        ({ LeafNodeType, State }) => LeafNodeType === 'It' && State !== 'skipped' && State !== 'pending',
      );
      const name = (spec: (typeof specs)[number]): string =>
        [...(spec.ContainerHierarchyTexts ?? []), spec.LeafNodeText].join(' ');
      return { results: new Map(specs.map((spec) => [name(spec), spec.State])), log: ended.out };
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  }

  /**
   * Runs upstream's conformance cases for ClusterNetworkPolicy whose names match, e.g. `CNPAdminTierIngressTCP`, but those that `skip` matches;
   * answers each case and what it is made of, by name: passed, failed, skipped. Its pods' servers of SCTP are none here (lab/kubernetes/images.ts).
   */
  async function clusterNetworkPolicySuite(
    name = '.*',
    skip = '',
  ): Promise<{ results: Results; log: string }> {
    await defineClusterNetworkPolicy();
    const { out } = await on(
      'node1',
      'sh -c',
      'exec policyapi.test -test.v -test.timeout 0 "$@" 2>&1',
      'policyapi',
      '-test.run',
      `TestConformance$/${name}`,
      ...(skip === '' ? [] : ['-test.skip', `TestConformance$/${skip}`]),
      `-supported-features=${['', 'NamedPorts', 'EgressNodePeers'].map((each) => `ClusterNetworkPolicy${each}`)}`,
    );
    const words: Readonly<Record<string, string>> = { PASS: 'passed', FAIL: 'failed', SKIP: 'skipped' };
    const found = [...out.matchAll(/^ *--- (PASS|FAIL|SKIP): TestConformance\/(\S+) \(/gm)];
    return {
      results: new Map(found.map(([, how = '', which = '']) => [which, words[how] ?? how])),
      log: out,
    };
  }

  return {
    kubectl,
    tryKubectl,
    apply,
    get,
    makeNamespace,
    removeNamespace,
    pod,
    podsReady,
    nodesReady,
    addressesOf,
    inPod,
    defineClusterNetworkPolicy,
    networkSuite,
    clusterNetworkPolicySuite,
  };
}

export const {
  kubectl,
  tryKubectl,
  apply,
  get,
  makeNamespace,
  removeNamespace,
  pod,
  podsReady,
  nodesReady,
  addressesOf,
  inPod,
  defineClusterNetworkPolicy,
  networkSuite,
  clusterNetworkPolicySuite,
} = openKubernetes(LAB);
