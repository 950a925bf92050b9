/** What runs, as Docker on each host has it: what everything else is compared with. */
import { run, tryRun } from '../shell.ts';
import { onHost } from '../state.ts';

/** A container's attachment. */
export interface Running {
  readonly host: string;
  readonly endpoint: string;
  readonly container: string;
  /** Path of its network namespace on its host. */
  readonly netns: string;
  /** Address that its processes ask for names. */
  readonly resolver: string;
  /** An orchestrator's: rules tell it by its labels. */
  readonly workload?: string;
  readonly tenant: string;
  readonly network: string;
  readonly group: string;
  readonly addresses: readonly string[];
  readonly mac: string;
  readonly answering: boolean;
  readonly healthy: boolean;
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** The networks of one host's Docker, and those of Swarm that tasks on it are in. */
const OURS = ['netplugin', 'contiv:latest'].flatMap((driver) => ['--filter', `driver=${driver}`]);

export async function attachments(lab: string, host: string): Promise<Running[]> {
  const ids = ((await tryRun(...onHost(lab, host, 'docker', 'ps', '-q', '--no-trunc'))) ?? '')
    .split('\n')
    .filter((id) => id);
  if (ids.length === 0) return [];
  const names = await run(...onHost(lab, host, 'docker', 'network', 'ls', ...OURS, '-q', '--no-trunc'));
  const targets = new Map<string, { tenant: string; network: string; group: string }>();
  const networkIds = names.split('\n').filter((id) => id);
  if (networkIds.length > 0)
    for (const n of JSON.parse(
      await run(...onHost(lab, host, 'docker', 'network', 'inspect', ...networkIds)),
    ))
      targets.set(n.Id, { tenant: 'default', group: '', ...n.Options });
  const inspected = JSON.parse(await run(...onHost(lab, host, 'docker', 'inspect', ...ids)));
  const found: Running[] = [];
  for (const container of inspected)
    for (const n of Object.values<Record<string, string>>(container.NetworkSettings.Networks)) {
      const target = targets.get(n.NetworkID ?? '');
      if (target === undefined || !container.State.Running) continue;
      const addresses = [n.IPAddress, n.GlobalIPv6Address].filter((a) => a) as string[];
      found.push({
        host,
        endpoint: n.EndpointID ?? '',
        container: container.Name.slice(1),
        netns: `/proc/${container.State.Pid}/ns/net`,
        resolver: '127.0.0.11', // Docker's, which leads to ours
        ...target,
        addresses,
        mac: n.MacAddress ?? '',
        answering: !container.State.Paused && !isComing(container),
        healthy: container.State.Health?.Status !== 'unhealthy',
        id: container.Id,
        labels: container.Config.Labels ?? {},
      });
    }
  return found;
}

/** A task of Swarm's that its first health check has not found well. */
const isComing = ({ State, Config }: Inspected): boolean =>
  State.Health?.Status === 'starting' && Config.Labels?.['com.docker.swarm.task.id'] !== undefined;

interface Inspected {
  readonly State: { readonly Health?: { readonly Status: string } };
  readonly Config: { readonly Labels?: Readonly<Record<string, string>> };
}

export const isV6 = (a: string): boolean => a.includes(':');
