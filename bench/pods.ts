/** Pods as places where programs are run: those of the lab's cluster, with upstream's image. */
import { CONTAINERD_SOCKET, kubeconfig, programFile } from '../lab/kubernetes/files.ts';
import { run } from '../lab/shell.ts';
import { onHost } from '../lab/state.ts';
import type { Place } from './networks.ts';

/** Where kubectl is. */
export const HOST = 'node1';
const IMAGE = 'registry.k8s.io/e2e-test-images/agnhost:2.66.1';

/** `input`: an object for its standard input. */
export type Kubectl = (input: object | undefined, ...args: string[]) => Promise<string>;

/** kubectl as an administrator calls it in the lab. */
export const kubectlLine = (lab: string, ...args: string[]): [string, string[]] =>
  onHost(lab, HOST, programFile(lab, 'kubectl'), `--kubeconfig=${kubeconfig(lab, 'admin')}`, ...args);

export const kubectlOf =
  (lab: string): Kubectl =>
  (input, ...args) =>
    run(...kubectlLine(lab, ...args), input === undefined ? undefined : JSON.stringify(input));

/** Makes the pod, with its name as the label app, on that node; resolves when it is ready. */
export async function containerPlace(
  lab: string,
  kubectl: Kubectl,
  name: string,
  host: string,
): Promise<Place> {
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name } },
    spec: { nodeName: host, containers: [{ name: 'main', image: IMAGE, args: ['pause'] }] },
  };
  await kubectl(pod, 'apply', '-f', '-');
  await kubectl(undefined, 'wait', 'pod', name, '--for=condition=Ready', '--timeout=120s');
  const list = ['ctr', '--address', CONTAINERD_SOCKET, '--namespace', 'k8s.io', 'tasks', 'ls'];
  const tasks = await run(...onHost(lab, host, ...list));
  const path = 'jsonpath={.status.containerStatuses[0].containerID}';
  const id = (await kubectl(undefined, 'get', 'pod', name, '-o', path)).replace('containerd://', '').trim();
  const pid = new RegExp(`^${id}\\s+(\\d+)`, 'm').exec(tasks)?.[1];
  if (pid === undefined) throw new Error(`pod ${name}: containerd has no task ${id}`);
  return { host, namespace: `/proc/${pid}/ns/net` };
}
