/** What the doctor asks of others on this host: the agent on its control socket, and Docker. */
import http from 'node:http';
import net from 'node:net';
import type { Examined } from '../control.ts';
import type { Attachment } from '../intent/view.ts';
import { openDocker } from '../runtimes/docker/engine.ts';
import { DRIVER, targetOf } from '../runtimes/docker/networks.ts';
import type { DockerEndpoint, DockerNetwork } from './endpoints.ts';

/** Milliseconds: who does not answer in that is as good as down. */
const PATIENCE = 10_000;

/** Of GET /health. */
export interface Health {
  readonly live: boolean;
  readonly revision: number;
  readonly underlay: { readonly address: string; readonly mtu: number; readonly problem: string };
}

export interface Agent {
  readonly health: Health;
  readonly examined: Examined;
  attachments(): Promise<readonly Attachment[]>;
}

function get<T>(socketPath: string, path: string): Promise<T> {
  return new Promise((done, fail) => {
    const request = http.get({ socketPath, path, agent: false, timeout: PATIENCE }, async (answer) => {
      try {
        let text = '';
        for await (const chunk of answer.setEncoding('utf8')) text += chunk;
        if (answer.statusCode === 200) done(JSON.parse(text) as T);
        else fail(new Error(`it answers ${path} with status ${answer.statusCode}`));
      } catch (error) {
        fail(error as Error);
      }
    });
    request.on('timeout', () => request.destroy(new Error(`no answer within ${PATIENCE / 1000} s`)));
    request.on('error', fail);
  });
}

/** Throws an Error that says why where it does not answer. */
export async function askAgent(socket: string): Promise<Agent> {
  const [health, examined] = await Promise.all([
    get<Health>(socket, '/health'),
    get<Examined>(socket, '/examined'),
  ]);
  return { health, examined, attachments: () => get(socket, '/attachments') };
}

/** Why a socket of this host does not answer, to people. */
export function whyNot(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT') return 'there is no such socket';
  if (code === 'ECONNREFUSED' || code === 'ECONNRESET') return 'nothing listens there any more';
  return message.split('\n', 1)[0] ?? '';
}

export interface AskedDocker {
  readonly networks: readonly DockerNetwork[];
  readonly endpoints: readonly DockerEndpoint[];
}

/** Undefined: there is no Docker here. Throws an Error that says why where it is there and does not answer. */
export async function askDocker(socket: string): Promise<AskedDocker | undefined> {
  try {
    await reach(socket);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const docker = openDocker(socket);
  const ask = async (): Promise<AskedDocker> => {
    const listed = await docker.listNetworks({ filters: { driver: [DRIVER] } });
    const inspected = await Promise.all(listed.map(({ Id }) => docker.getNetwork(Id).inspect()));
    return {
      networks: listed.map((network) => ({ name: network.Name, target: targetOf(network) })),
      endpoints: inspected.flatMap(({ Name, Containers = {} }) =>
        Object.entries<{ Name: string; EndpointID: string }>(Containers).map(([id, one]) => ({
          id: one.EndpointID,
          network: Name,
          // Docker calls one without a container after the endpoint (moby, daemon/network.go, buildNetworkResource).
          container: id.startsWith('ep-') ? '' : one.Name,
        })),
      ),
    };
  };
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no answer within ${PATIENCE / 1000} s`)), PATIENCE);
  });
  return Promise.race([ask(), late]).finally(() => clearTimeout(timer));
}

function reach(socket: string): Promise<void> {
  return new Promise((done, fail) => {
    const connection = net.connect(socket, () => {
      connection.destroy();
      done();
    });
    connection.once('error', fail);
  });
}
