/** Watchers whose machine is gone without a word: power, a cable. */
import { once } from 'node:events';
import net from 'node:net';
import { beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { openApi } from '../../../test/apiServer.ts';
import { isolate, sh } from '../../../test/isolation.ts';

beforeAll(isolate);

/** Opens a watch and reads nothing yet. */
async function watcher(port: number): Promise<net.Socket> {
  const socket = net.connect({ port, host: '127.0.0.1' });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => {}).pause();
  await once(socket, 'connect');
  socket.write('GET /api/v1/watch HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
  return socket;
}

it('a watcher that is gone without a word is closed; one that reads slowly and one that waits are not', async () => {
  const api = await openApi();
  onTestFinished(() => api.close());
  const sent = await api.send('POST', '/api/v1/networks/default:a/', { subnet: '10.1.1.0/24' });
  expect(sent.status).toBe(200);
  // More than the buffers of a connection hold.
  for (let i = 0; i < 20; i++)
    await api.server.inject({
      method: 'PUT',
      url: `/api/v1/endpoints/e${i}`,
      payload: {
        endpointID: `e${i}`,
        tenantName: 'default',
        networkName: 'a',
        ipAddress: [`10.1.1.${9 + i}`],
        macAddress: '02:02:0a:01:01:09',
        homingHost: 'h',
        status: 'running',
        labels: { text: 'x'.repeat(1 << 19) },
      },
    });
  const [gone, goneFull, slow, waiting] = await Promise.all([1, 2, 3, 4].map(() => watcher(api.port)));
  const ended = new Set<net.Socket>();
  for (const socket of [slow, waiting] as net.Socket[]) socket.on('close', () => ended.add(socket));
  for (const socket of [gone, waiting] as net.Socket[]) {
    // All of it, so that nothing but pings waits.
    let text = '';
    socket.on('data', (data) => {
      text = `${text}${data}`.slice(-1000);
    });
    socket.resume();
    await vi.waitUntil(() => text.includes('"ping"'), { timeout: 60_000 });
  }
  let read = 0;
  const reading = setInterval(() => {
    read += slow?.read()?.length ?? 0;
  }, 300);
  onTestFinished(() => clearInterval(reading));
  const watches = async (): Promise<number> => {
    const { body } = await api.server.inject('/metrics');
    return Number(/^contiv_netmaster_watches (\d+)$/m.exec(body)?.[1]);
  };
  expect(await watches()).toBe(4);

  const ports = `{ ${gone?.localPort}, ${goneFull?.localPort} }`;
  sh(`nft 'table inet cut { chain input { type filter hook input priority 0;
    tcp sport ${ports} drop; tcp dport ${ports} drop; }; }'`);
  await vi.waitUntil(async () => (await watches()) <= 2, { timeout: 200_000, interval: 500 });
  expect(read).toBeGreaterThan(0);
  expect([...ended]).toEqual([]);
  expect(await watches()).toBe(2);
}, 300_000);
