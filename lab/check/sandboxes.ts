import { tryRun } from '../shell.ts';
import { onHost } from '../state.ts';
import type { Comparison, Host } from './world.ts';

/** Where the containerd of the lab's Kubernetes keeps what runs, a folder each. */
const BUNDLES = '/run/kubernetes/containerd/io.containerd.runtime.v2.task/k8s.io';

/** As it is handed to the OCI runtime, with the CRI's annotations. */
interface Bundle {
  readonly annotations?: Readonly<Record<string, string>>;
  readonly linux?: { readonly namespaces: readonly { readonly type: string; readonly path?: string }[] };
}

interface Sandbox {
  /** namespace:name */
  readonly workload: string;
  /** '' for the host's own. */
  readonly netns: string;
}

const CRI = 'io.kubernetes.cri.';

/** The CRI's sandboxes: pods' containers are in their namespaces. */
async function sandboxesOf({ name: host, cluster }: Host): Promise<Sandbox[]> {
  const text = await tryRun(...onHost(cluster.lab, host, 'sh', '-c', `awk 1 ${BUNDLES}/*/config.json`));
  return (text ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Bundle)
    .filter(({ annotations }) => annotations?.[`${CRI}container-type`] === 'sandbox')
    .map(({ annotations = {}, linux }) => ({
      workload: `${annotations[`${CRI}sandbox-namespace`]}:${annotations[`${CRI}sandbox-name`]}`,
      netns: linux?.namespaces.find(({ type }) => type === 'network')?.path ?? '',
    }));
}

const inRun = (file: string): string => file.replace(/^\/var\/run\//, '/run/');

/** Each sandbox of the CRI with a network of its own is attached once, each pod that is attached has its sandbox, each namespace its pod. */
export const sandboxes: Comparison<Host> = async (host, say) => {
  const { name, here, cluster } = host;
  if (!cluster.kubernetes) return;
  const left = new Map(here.flatMap((r) => (r.workload === undefined ? [] : [[inRun(r.netns), r.workload]])));
  const listed = (await host.at('ip', 'netns', 'list')).match(/^cni-\S+/gm) ?? [];
  const spaces = new Set(listed.map((space) => `/run/netns/${space}`));
  for (const { workload, netns } of await sandboxesOf(host)) {
    if (netns === '') continue;
    const attached = left.get(inRun(netns));
    left.delete(inRun(netns));
    spaces.delete(inRun(netns));
    if (attached !== workload)
      say(
        `${name}: the sandbox of pod ${workload} in ${netns} ${attached === undefined ? 'is not attached' : `is attached as ${attached}`}`,
      );
  }
  for (const [netns, workload] of left) say(`${name}: pod ${workload} is attached in ${netns}: no sandbox`);
  for (const space of spaces) say(`${name}: network namespace ${space} of no sandbox`);
};
