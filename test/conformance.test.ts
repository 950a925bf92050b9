/** Recordings of the original netctl and netmaster: netmaster answers as recorded, and netctl sends what was recorded and ends as it did. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { netctl } from '../src/netctl/run.ts';
import { type Exchange, recordings, replay } from './conformance/replay.ts';
import { startNetmaster } from './netmaster.ts';

const scenarios = recordings.map((recording) => [recording.scenario, recording] as const);

describe('recordings of Contiv 1.x', () => {
  it.each(scenarios)('netmaster answers as recorded: %s', async (_, recording) => {
    expect(await replay(recording, await startNetmaster('memory'))).toEqual([]);
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

    it.each(scenarios)('%s', async (_, { steps }) => {
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
