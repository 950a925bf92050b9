/** netmaster's API in this process, and what every answer to bad input must be. */

import { pino } from 'pino';
import { expect } from 'vitest';
import { trackAcknowledgements } from '../src/netmaster/acknowledgements.ts';
import { createServer, type Parts as ServerParts, type Timeouts } from '../src/netmaster/api/server.ts';
import { closeCluster, openCluster, type Parts } from './cluster.ts';

export interface Api extends Parts {
  readonly server: Awaited<ReturnType<typeof createServer>>;
  readonly port: number;
  /** Refused or done, and judged: a refusal is one line and changes nothing. */
  send(method: string, url: string, body?: unknown): Promise<Judged>;
  close(): Promise<void>;
}

export interface Judged {
  readonly status: number;
  readonly message: string;
  readonly field: string | undefined;
  readonly text: string;
}

export async function openApi(timeouts?: Timeouts, more: Partial<ServerParts> = {}): Promise<Api> {
  const parts = await openCluster();
  const server = await createServer({
    ...parts,
    acknowledgements: trackAcknowledgements(parts.mirror),
    version: 'test',
    names: ['x', 'netmaster.example', '192.0.2.7'],
    log: pino({ level: 'silent' }),
    ...(timeouts ? { timeouts } : {}),
    ...more,
  });
  await server.listen({ host: '127.0.0.1', port: 0 });
  return {
    ...parts,
    server,
    port: (server.server.address() as { port: number }).port,
    async send(method, url, body) {
      const before = parts.mirror.revision;
      const payload = body === undefined || typeof body === 'string' ? body : JSON.stringify(body);
      const { statusCode, body: text } = await server.inject({
        method: method as 'POST',
        url,
        ...(payload === undefined ? {} : { payload, headers: { 'content-type': 'application/json' } }),
      });
      const what = `${method} ${url.slice(0, 200)} ${payload?.slice(0, 300)}`;
      const judged = judge(statusCode, text, what);
      if (statusCode >= 400) expect(parts.mirror.revision, what).toBe(before);
      return judged;
    },
    async close() {
      await server.close();
      await closeCluster(parts);
    },
  };
}

/** Throws where an answer to anything at all is not as it must be. */
export function judge(status: number, text: string, what: string): Judged {
  expect(status, `${what}: ${text.slice(0, 400)}`).toBeLessThan(500);
  if (status < 400) return { status, message: '', field: undefined, text };
  const { error, ...rest } = JSON.parse(text);
  expect(rest, what).toEqual({});
  expect(error, what).toEqual({
    code: expect.stringMatching(/^[a-z_]+$/),
    message: expect.stringMatching(/^[^\p{Cc}\p{Cs}]{5,400}$/u),
    ...('field' in error ? { field: expect.stringMatching(/^.{0,64}$/) } : {}),
    ...('position' in error ? { position: expect.any(Number) } : {}),
  });
  expect(error.message, what).not.toMatch(/\.[tj]s:\d/);
  return { status, message: error.message, field: error.field, text };
}
