/** The socket where Docker finds a driver (moby, docs/extend/plugin_api.md): calls by name, JSON in and out. */
import http from 'node:http';
import { REPEATED } from '../../constants.ts';

type Json = Record<string, unknown>;
export type Call = (request: never) => Promise<Json> | Json;

const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.1+json';
/**
 * Bytes. A driver call of dockerd is a few kilobytes, and 120 bytes for each published port, ranges too: all ports of three
 * protocols are 24 MB.
 */
const BODY_LIMIT = 32 << 20;

/** `refused` hears of each call that throws, with what was asked where that could be read; Docker is told the Error's message. */
export function pluginServer(
  calls: ReadonlyMap<string, Call>,
  refused: (call: string, error: Error, asked: unknown) => void,
): http.Server {
  return http.createServer(async (request, response) => {
    const name = (request.url ?? '').replace(/^\//, '');
    let answer: unknown;
    let asked: unknown;
    try {
      const call = calls.get(name);
      if (call === undefined) {
        response.statusCode = 404; // dockerd takes this as: the driver does not have the call
        answer = refusal(`netplugin has no call ${name}`);
      } else {
        asked = await readBody(request, name);
        answer = await call(asked as never);
      }
    } catch (error) {
      answer = refusal((error as Error).message);
      refused(name, error as Error, asked);
    }
    response.setHeader('content-type', CONTENT_TYPE);
    response.end(JSON.stringify(answer));
  });
}

export function closeServer(server: http.Server): Promise<void> {
  return new Promise((done) => {
    server.close(() => done());
    server.closeAllConnections();
  });
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
    throw new Error(`Docker repeated ${call} without its contents, ${REPEATED}: try again`);
  return text === '' ? {} : JSON.parse(text);
}
