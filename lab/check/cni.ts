/**
 * What runs by CNI, and bare namespaces: nobody but the agent has a list of all of them, which is the one thing that is taken from it. What
 * is in it is looked for in the namespaces, as of all containers, and of pods among what the CRI runs (sandboxes.ts).
 */
import { tryRun } from '../shell.ts';
import { onHost } from '../state.ts';
import { isV6, type Running } from './docker.ts';

/** Where there is no gateway, the nameserver's own address. */
const NAMESERVER = '169.254.53.53';
const NAMESERVER6 = 'fd6f:6e74:6976:53::53';

interface Saved {
  readonly attachments: readonly {
    readonly runtime: string;
    readonly sandbox: string;
    readonly endpoint: {
      readonly endpointID: string;
      readonly containerName?: string;
      readonly tenantName: string;
      readonly networkName: string;
      readonly groupName?: string;
      readonly workload?: string;
      readonly ipAddress: readonly string[];
      readonly macAddress: string;
    };
  }[];
}

export async function cniAttachments(lab: string, host: string): Promise<Running[]> {
  const text = await tryRun(...onHost(lab, host, 'cat', '/var/lib/contiv/attachments.json'));
  if (text === undefined) return [];
  return (JSON.parse(text) as Saved).attachments
    .filter((a) => a.runtime === 'cni')
    .map(({ sandbox, endpoint: e }) => ({
      host,
      endpoint: e.endpointID,
      container: e.containerName ?? e.endpointID,
      netns: sandbox,
      resolver: e.ipAddress.every(isV6) ? NAMESERVER6 : NAMESERVER,
      tenant: e.tenantName,
      network: e.networkName,
      group: e.groupName ?? '',
      ...(e.workload === undefined ? {} : { workload: e.workload }),
      addresses: e.ipAddress,
      mac: e.macAddress,
      answering: true,
      healthy: true,
      id: sandbox,
      labels: {},
    }));
}
