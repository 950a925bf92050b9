import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openKubernetes, type WatchEvent } from './api.ts';

const EVENT = JSON.stringify({ type: 'ADDED', object: { metadata: { resourceVersion: '7' } } });

/** Watches somebody who sends an event and then does as is said, to the end; answers how many came. */
async function watched(then: (response: http.ServerResponse) => void): Promise<number> {
  const server = http.createServer((_, response) => {
    response.write(`${EVENT}\n`);
    then(response);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => void server.close());
  const config = new KubeConfig();
  const { port } = server.address() as AddressInfo;
  config.loadFromClusterAndUser(
    { name: 'it', server: `http://127.0.0.1:${port}`, skipTLSVerify: true },
    { name: 'us' },
  );
  const api = openKubernetes(config, 200);
  onTestFinished(() => api.close());
  const events: WatchEvent[] = [];
  for await (const event of api.watch('/api/v1/pods?watch=true', new AbortController().signal))
    events.push(event);
  return events.length;
}

describe('a watch', () => {
  it('that says nothing for long ends, as one that the server ends: of what never changes there is nothing to say', async () => {
    expect(await watched(() => {})).toBe(1);
    expect(await watched((response) => response.end())).toBe(1);
  });

  it('that breaks off is a failure', async () => {
    const broken = watched((response) => setTimeout(() => response.destroy(), 20));
    await expect(broken).rejects.toThrow('the watch broke off');
  });
});
