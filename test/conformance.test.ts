/**
 * Recordings of the original netctl and netmaster, where they lie beside the checkout: netmaster answers as recorded,
 * and netctl sends what was recorded and ends as it did.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { netctl } from '../src/netctl/run.ts';

interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly request: unknown;
  readonly status: number;
  readonly response: unknown;
}
interface Step {
  readonly netctl: readonly string[];
  readonly exit: number;
  readonly http: readonly Exchange[];
}

const ROOT = join(import.meta.dirname, '..');
const FOLDER = join(ROOT, '..', 'shared', 'conformance');
const RECORDINGS = join(FOLDER, 'contiv-1.x');
const files = existsSync(RECORDINGS)
  ? readdirSync(RECORDINGS)
      .filter((f) => f.endsWith('.json'))
      .map((f) => join(RECORDINGS, f))
  : [];
if (files.length === 0) console.log('conformance: the recordings are not there, nothing is replayed');

describe.skipIf(files.length === 0)('recordings of Contiv 1.x', () => {
  it('netmaster answers as recorded', async () => {
    const start = `exec '${join(ROOT, 'bin/netmaster')}' --store memory --log-level error --listen 127.0.0.1:$PORT`;
    const replay = spawn(
      process.execPath,
      [join(FOLDER, 'replay.mjs'), '--start', start, '--json', ...files],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    let text = '';
    for await (const chunk of replay.stdout) text += chunk;
    const { held, total, failures } = JSON.parse(text);
    expect(failures).toEqual([]);
    expect(held).toBe(total);
    expect(total).toBeGreaterThan(files.length);
  });

  describe('netctl sends what was recorded and ends as it did', () => {
    let server: Server;
    let sent: Omit<Exchange, 'status' | 'response'>[] = [];
    let answers: readonly Exchange[] = [];

    beforeAll(async () => {
      server = createServer(async (request, response) => {
        let body = '';
        for await (const chunk of request) body += chunk;
        const answer = answers[sent.length];
        sent.push({
          method: request.method ?? '',
          path: request.url ?? '',
          request: body === '' ? null : JSON.parse(body),
        });
        response.writeHead(answer?.status ?? 500, { 'content-type': 'application/json' });
        response.end(JSON.stringify(answer?.response ?? { error: { code: 'refused', message: 'refused' } }));
      });
      await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    });
    afterAll(() => server.close());

    async function run(words: readonly string[]): Promise<{ exit: number; out: string[]; err: string[] }> {
      const out: string[] = [];
      const err: string[] = [];
      const exit = await netctl(words, {
        env: { NETMASTER: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
        print: (line) => out.push(line),
        printError: (line) => err.push(line),
      });
      return { exit, out, err };
    }

    it.each(files.map((file) => [basename(file, '.json'), file]))('%s', async (_name, file) => {
      const { steps } = JSON.parse(readFileSync(file, 'utf8')) as { steps: Step[] };
      for (const step of steps) {
        sent = [];
        answers = step.http;
        const { exit, out, err } = await run(step.netctl);
        const line = `netctl ${step.netctl.join(' ')}`;
        expect(sent, line).toEqual(step.http.map(({ method, path, request }) => ({ method, path, request })));
        expect(exit, `${line}: ${err}`).toBe(step.exit);
        // One line that says why, and nothing else, where it failed.
        expect(err, line).toHaveLength(exit === 0 ? 0 : 1);
        if (exit !== 0) expect(out, line).toEqual([]);
      }
    });
  });
});
