/** What netmaster has of this host's endpoints, what its agent has attached, and what Docker runs: each against the others. */
import type { Endpoint as Stored } from '../../model/endpoint.ts';
import type { Attachment } from '../intent/view.ts';
import { type Finding, wrong } from './finding.ts';

/** As netmaster tells it: of a host that is away without status. */
type Endpoint = Omit<Stored, 'status'>;

/** Of Docker, in one of our networks. */
export interface DockerEndpoint {
  readonly id: string;
  readonly network: string;
  /** Name of the container; '' where Docker has the endpoint and no container. */
  readonly container: string;
}

export interface Compared {
  /** Undefined where netmaster does not answer. */
  readonly known: readonly Endpoint[] | undefined;
  readonly attached: readonly Attachment[] | undefined;
  /** Undefined where Docker does not answer, or there is none. */
  readonly docker: readonly DockerEndpoint[] | undefined;
  /** The path of a namespace leads to one. */
  exists(sandbox: string): boolean;
}

const AGENT = 'the agent takes it back within seconds where it runs (journalctl -u contiv-netplugin)';

const addressesOf = ({ ipAddress }: Endpoint): string =>
  `${ipAddress.length === 1 ? 'address' : 'addresses'} ${ipAddress.join(', ')}`;
const nameOf = ({ workload, containerName, endpointID }: Endpoint): string =>
  workload?.replace(':', '/') ?? containerName ?? endpointID.slice(0, 12);
const networkOf = ({ tenantName, networkName }: Endpoint): string => `${tenantName}:${networkName}`;

/** Those that are wrong, by a key that stays the same from one look to the next. */
export function compareEndpoints({ known, attached, docker, exists }: Compared): Map<string, Finding> {
  const found = new Map<string, Finding>();
  const here = new Map(attached?.map((one) => [one.endpoint.endpointID, one]));
  const runs = docker && new Set(docker.filter(({ container }) => container !== '').map(({ id }) => id));
  const add = (id: string, finding: Finding): void => void found.set(`${finding.of} ${id}`, finding);

  if (attached !== undefined)
    for (const endpoint of known ?? [])
      if (endpoint.ofHost !== true && !here.has(endpoint.endpointID))
        add(
          endpoint.endpointID,
          wrong(
            'leaked address',
            `${addressesOf(endpoint)} of ${networkOf(endpoint)} is kept for container ${nameOf(endpoint)}, which is not attached here`,
            AGENT,
          ),
        );
  for (const { endpoint, phase, runtime, sandbox } of attached ?? []) {
    if (endpoint.ofHost === true || phase === 'joining') continue;
    const id = endpoint.endpointID;
    const gone =
      runtime === 'docker' ? runs !== undefined && !runs.has(id) : sandbox !== undefined && !exists(sandbox);
    if (gone)
      add(
        id,
        wrong(
          'leaked address',
          `${addressesOf(endpoint)} of ${networkOf(endpoint)} is attached for container ${nameOf(endpoint)}, which runs no more`,
          AGENT,
        ),
      );
    else if (known !== undefined && !known.some(({ endpointID }) => endpointID === id))
      add(
        id,
        wrong(
          `container ${nameOf(endpoint)}`,
          'is attached here, and netmaster does not know it: other hosts do not reach it',
          AGENT.replace('takes it back', 'registers it'),
        ),
      );
  }
  for (const { id, network, container } of docker ?? [])
    if (container === '')
      add(
        id,
        wrong(
          "Docker's leftover",
          `network ${network} has an endpoint ${id.slice(0, 12)} of no container`,
          `remove it: docker network disconnect -f ${network} NAME (docker network inspect ${network} has its name), or restart dockerd`,
        ),
      );
    else if (attached !== undefined && !here.has(id))
      add(
        id,
        wrong(
          `container ${container}`,
          `Docker has it on network ${network}, and it is not attached here: nothing reaches it there`,
          `docker restart ${container}`,
        ),
      );
  return found;
}

export interface DockerNetwork {
  readonly name: string;
  /** Tenant, network and group that it was made for; undefined: not by the agent. */
  readonly target: { readonly tenant: string; readonly network: string; readonly group: string } | undefined;
}

/** Networks of ours that nothing stands behind. */
export const leftNetworks = (
  networks: readonly DockerNetwork[],
  declared: { readonly networks: ReadonlySet<string>; readonly groups: ReadonlySet<string> },
): Finding[] =>
  networks.flatMap(({ name, target }) => {
    if (target === undefined) return [];
    const { tenant, network, group } = target;
    const missing = !declared.networks.has(`${tenant}:${network}`)
      ? `network ${tenant}:${network}`
      : group !== '' && !declared.groups.has(`${tenant}:${group}`)
        ? `group ${tenant}:${group}`
        : undefined;
    return missing === undefined
      ? []
      : wrong(
          "Docker's leftover",
          `network ${name} was made for ${missing}, which does not exist any more`,
          `the agent removes it where it runs and no container is on it; by hand: docker network rm ${name}`,
        );
  });
