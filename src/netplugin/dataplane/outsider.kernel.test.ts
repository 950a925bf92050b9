/** Who comes to a published port from outside, and says that it is a container. */
import dgram from 'node:dgram';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { applied, clean, MAP, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { attach, inBox, v4 } from '../../../test/twoHosts.ts';
import { close, received } from '../../linux/libc.ts';
import { bindPort } from '../../linux/netns.ts';
import { openApplier } from './applier.ts';

beforeAll(isolate);
afterEach(clean);

it('is not taken for it: what has an address of a container and comes by the way out goes nowhere', async () => {
  const applier = openApplier();
  const published = { ...MAP, protocol: 'udp' } as const;
  const given = (joined: boolean) =>
    state({ ports: [2, 4].map((n) => port(n, { joined })), publications: [published] });
  applied(applier, given(false));
  for (const n of [2, 4]) attach(n);
  applied(applier, given(true));
  const fd = inBox(2, () => bindPort('udp', v4(2), published.port, { nonblocking: true }));
  const [exit] = given(true).exits;
  sh(`ip addr add ${v4(4)}/32 dev lo`);
  const send = async (from: string): Promise<void> => {
    const socket = dgram.createSocket('udp4');
    await new Promise<void>((done) => socket.bind(0, from, done));
    await new Promise((done) =>
      socket.send(from, published.transitPort, exit?.routerAddress ?? '', () => done(undefined)),
    );
    socket.close();
  };
  const arrived = new Set<string>();
  const buffer = Buffer.alloc(64);
  await send(v4(4));
  await expect
    .poll(
      async () => {
        await send(exit?.hostAddress ?? '');
        for (let n = received(fd, buffer); typeof n === 'number'; n = received(fd, buffer))
          arrived.add(buffer.toString('latin1', 0, n));
        return arrived.size;
      },
      { timeout: 20_000 },
    )
    .toBeGreaterThan(0);
  expect([...arrived]).toEqual([exit?.hostAddress]);
  close(fd);
});
