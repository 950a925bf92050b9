/**
 * Docker's side of the agent:
 *
 *   driver.ts      answers dockerd's calls on the plugin socket        networks.ts   offers networks to Docker
 *   containers.ts  learns names, labels and health from Docker's API   publish.ts    claims host ports
 *   remains.ts     clears away what Docker keeps of connections that failed
 */
import http from 'node:http';
import path from 'node:path';
import Dockerode from 'dockerode';
import type { Logger } from 'pino';
import { listenOnSocket } from '../../control.ts';
import type { Options } from '../../options.ts';
import type { Endpoints } from '../runtime.ts';
import { followContainers } from './containers.ts';
import { createDriver } from './driver.ts';
import { startOffer } from './networks.ts';
import { openPublications } from './publish.ts';
import { openRemains } from './remains.ts';

const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.1+json';
/**
 * Bytes. A driver call of dockerd is a few kilobytes, and 120 bytes for each published port, ranges too: all ports of three
 * protocols are 24 MB.
 */
const BODY_LIMIT = 32 << 20;

export interface DockerRuntime {
  /** Networks or groups changed. */
  intentChanged(): void;
  /** When Docker offers all networks that are known, or cannot be reached. */
  settled(): Promise<void>;
  close(): Promise<void>;
}

export interface DockerOptions {
  readonly endpoints: Endpoints;
  readonly options: Options;
  readonly log: Logger;
}

export async function startDocker({ endpoints, options, log }: DockerOptions): Promise<DockerRuntime> {
  const docker = new Dockerode({ socketPath: options.dockerSocket });
  const driver = createDriver({ endpoints, publications: openPublications(), folder: options.stateDir, log });

  const server = http.createServer(async (request, response) => {
    const name = (request.url ?? '').replace(/^\//, '');
    let answer: unknown;
    try {
      const call = driver.calls.get(name);
      if (call === undefined) {
        response.statusCode = 404; // dockerd takes this as: the driver does not have the call
        answer = refusal(`netplugin has no call ${name}`);
      } else answer = await call((await readBody(request, name)) as never);
    } catch (error) {
      const { message } = error as Error;
      log.warn({ call: name, err: error }, 'a call of Docker is refused');
      answer = refusal(message);
      containers.refused(message);
    }
    response.setHeader('content-type', CONTENT_TYPE);
    response.end(JSON.stringify(answer));
  });
  await listenOnSocket(server, options.pluginSocket);

  const offer = startOffer(docker, endpoints, log, driver.learn);
  const containers = followContainers({
    docker,
    endpoints,
    offer,
    remains: openRemains({ docker, endpoints, driver, log }),
    pluginSocket: path.basename(options.pluginSocket),
    log,
  });
  return {
    intentChanged: () => offer.changed(),
    settled: () => offer.settled(),
    close() {
      offer.close();
      containers.close();
      return new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      });
    },
  };
}

/** Network drivers fail with `Err`, IPAM drivers with `Error` (moby, libnetwork/drivers/remote/api, ipams/remote/api). */
const refusal = (message: string) => ({ Err: message, Error: message });

/** Calls without contents. */
const BARE = /^(Plugin\.Activate|\w+\.GetCapabilities|IpamDriver\.GetDefaultAddressSpaces)$/;

async function readBody(request: http.IncomingMessage, call: string): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_LIMIT) throw new Error(`the call is larger than ${BODY_LIMIT} bytes`);
    chunks.push(chunk);
  }
  const text = Buffer.concat(chunks).toString();
  // Docker reads the contents for the first attempt only (moby, pkg/plugins/client.go): taken as an empty object, a
  // DeleteEndpoint would have deleted nothing, and said that it had.
  if (text === '' && !BARE.test(call))
    throw new Error(
      `Docker repeated ${call} without its contents, since netplugin was restarted meanwhile: try again`,
    );
  return text === '' ? {} : JSON.parse(text);
}
