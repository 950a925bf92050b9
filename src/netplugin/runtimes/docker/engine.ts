/**
 * What the agent asks of Docker, by its Engine API on its socket (docs.docker.com/reference/api/engine): a connection each, so
 * that none is used that a dockerd has closed which ended. Paths are without a version: Docker answers by its newest.
 */
import http from 'node:http';
import type {
  ContainerInfo,
  ContainerInspectInfo,
  NetworkConnectOptions,
  NetworkCreateOptions,
  NetworkInfo,
  NetworkInspectInfo,
} from 'dockerode'; // types only, of what the API answers

type Filters = Readonly<Record<string, readonly string[]>>;

export interface Docker {
  listContainers(options?: { all?: boolean; filters?: Filters }): Promise<ContainerInfo[]>;
  getContainer(id: string): { inspect(): Promise<ContainerInspectInfo>; start(): Promise<void> };
  listNetworks(options?: { filters?: Filters }): Promise<NetworkInspectInfo[]>;
  getNetwork(id: string): DockerNetwork;
  /** Managed ones. */
  listPlugins(): Promise<readonly { readonly Name: string; readonly Enabled: boolean }[]>;
  info(): Promise<{ readonly Swarm?: SwarmState }>;
  /** `28.5.2`, and the newest version of its API, `1.51`. */
  version(): Promise<{ readonly Version: string; readonly ApiVersion: string }>;
  /** One JSON object of the cluster's each: of managers only. */
  listServices(): Promise<readonly SwarmService[]>;
  listTasks(): Promise<readonly SwarmTask[]>;
  getNode(id: string): Promise<{ readonly ManagerStatus?: { readonly Leader?: boolean } }>;
  createNetwork(
    options: NetworkCreateOptions & { readonly EnableIPv4?: boolean },
  ): Promise<{ readonly id: string }>;
  /** One JSON object a line, until it is destroyed or Docker ends. */
  getEvents(options: { filters: Filters }): Promise<http.IncomingMessage>;
}

export interface SwarmState {
  readonly NodeID?: string;
  /** It is a manager. */
  readonly ControlAvailable?: boolean;
  /** Of managers. */
  readonly Cluster?: { readonly ID?: string } | null;
  /** `inactive`: it is in no Swarm. */
  readonly LocalNodeState?: string;
  /** How many there are. */
  readonly Managers?: number;
}

export interface SwarmService {
  readonly ID: string;
  readonly Spec: {
    readonly Name: string;
    readonly EndpointSpec?: { readonly Mode?: string };
    readonly TaskTemplate: {
      /** `Target`: id of the network. */
      readonly Networks?: readonly { readonly Target: string; readonly Aliases?: readonly string[] | null }[];
    };
  };
  readonly Endpoint?: {
    /** With the length of the prefix. */
    readonly VirtualIPs?: readonly { readonly NetworkID: string; readonly Addr?: string }[];
  };
}

export interface SwarmTask {
  readonly Status: { readonly State: string };
  readonly NetworksAttachments?: readonly {
    readonly Network: { readonly ID: string };
    /** With the length of the prefix. */
    readonly Addresses?: readonly string[];
  }[];
}

export interface DockerNetwork {
  inspect(): Promise<NetworkInspectInfo>;
  connect(options: NetworkConnectOptions): Promise<void>;
  disconnect(options: { readonly Container: string; readonly Force?: boolean }): Promise<void>;
  remove(): Promise<void>;
}

export type { ContainerInspectInfo, NetworkInfo, NetworkInspectInfo };

/** Docker refused, with its own words and HTTP's number. */
export class DockerError extends Error {
  readonly statusCode: number;
  constructor(what: string, statusCode: number, reason: string) {
    super(`Docker refuses ${what}: ${reason} (${statusCode})`);
    this.statusCode = statusCode;
  }
}

export function openDocker(socketPath: string): Docker {
  async function ask(method: string, path: string, body?: object): Promise<http.IncomingMessage> {
    const answer = await new Promise<http.IncomingMessage>((done, fail) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/json' };
      http
        .request({ socketPath, method, path, headers, agent: false }, done)
        .on('error', fail)
        .end(body === undefined ? undefined : JSON.stringify(body));
    });
    const status = answer.statusCode ?? 0;
    if (status < 400) return answer;
    throw new DockerError(`${method} ${path.replace(/\?.*/, '')}`, status, reasonOf(await textOf(answer)));
  }
  const get = async <T>(path: string): Promise<T> => JSON.parse(await textOf(await ask('GET', path))) as T;
  /** Read to its end, so that its connection is closed. */
  const act = async (method: string, path: string, body?: object): Promise<string> =>
    textOf(await ask(method, path, body));

  return {
    listContainers: (options) => get(`/containers/json${queryOf(options)}`),
    getContainer: (id) => ({
      inspect: () => get(`/containers/${id}/json`),
      start: async () => void (await act('POST', `/containers/${id}/start`)),
    }),
    listNetworks: (options) => get(`/networks${queryOf(options)}`),
    getNetwork: (id) => ({
      inspect: () => get(`/networks/${id}`),
      connect: async (options) => void (await act('POST', `/networks/${id}/connect`, options)),
      disconnect: async (options) => void (await act('POST', `/networks/${id}/disconnect`, options)),
      remove: async () => void (await act('DELETE', `/networks/${id}`)),
    }),
    listPlugins: () => get('/plugins'),
    info: () => get('/info'),
    version: () => get('/version'),
    listServices: () => get('/services'),
    listTasks: () => get('/tasks'),
    getNode: (id) => get(`/nodes/${id}`),
    async createNetwork(options) {
      const { Id } = JSON.parse(await act('POST', '/networks/create', options)) as { Id: string };
      return { id: Id };
    },
    getEvents: (options) => ask('GET', `/events${queryOf(options)}`),
  };
}

function queryOf({ all, filters }: { all?: boolean; filters?: Filters } = {}): string {
  const query = new URLSearchParams();
  if (all !== undefined) query.set('all', String(all));
  if (filters !== undefined) query.set('filters', JSON.stringify(filters));
  return query.size === 0 ? '' : `?${query}`;
}

async function textOf(answer: http.IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Of an answer that is an error: `{"message": ...}`. */
function reasonOf(text: string): string {
  try {
    return (JSON.parse(text) as { message?: string }).message ?? text;
  } catch {
    return text;
  }
}
