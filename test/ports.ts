/** Ports for servers that are killed and started again on them. */
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import net from 'node:net';

/**
 * Where nobody listens now, below what the kernel gives to connections (ip_local_port_range begins at 32768). While the server is away, one that is
 * tried there again and again would in the end be given the server's own port, reach itself, and keep the server from it.
 */
export async function freePort(): Promise<number> {
  for (let tries = 0; ; tries++) {
    const port = randomInt(12_000, 32_000);
    const listener = net.createServer().listen(port, '127.0.0.1');
    try {
      await once(listener, 'listening');
    } catch (error) {
      if (tries === 100) throw error;
      continue;
    }
    listener.close();
    await once(listener, 'close');
    return port;
  }
}
