import net from 'node:net';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { freePort } from '../../../test/ports.ts';
import { state } from '../../../test/states.ts';
import type { ClusterService } from '../../model/clusterService.ts';
import type { ApplyReport } from '../dataplane/index.ts';
import type { Follower } from '../follower.ts';
import { type MutableView, openView } from '../intent/view.ts';
import type { HostState } from '../state.ts';
import { followHealth } from './health.ts';
import { followNodePorts } from './nodePorts.ts';

const log = pino({ level: 'silent' });
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

const report: ApplyReport = {
  writes: 0,
  reads: 0,
  repaired: [],
  lost: [],
  created: [],
  complete: true,
  awaited: false,
  failed: [],
};
function viewOf(...services: Partial<ClusterService>[]): MutableView {
  return openView(
    services.map((more, i) => ({
      kind: 'clusterService',
      key: `shop:web${i}`,
      object: {
        namespaceName: 'shop',
        serviceName: `web${i}`,
        tenantName: 'default',
        addresses: [],
        ports: [],
        ...more,
      },
    })),
  );
}
const passed = (follower: Follower, of: HostState): boolean =>
  follower.changed({ type: 'kernel', state: of, report, verified: false });

describe('node ports', () => {
  const PORTS = { ports: [{ protocol: 6, port: 80, nodePort: 30_080, backends: [] }] };
  const LED = state({
    entrances: [
      {
        protocol: 'tcp',
        hostAddress: '',
        hostPort: 30_080,
        transitPort: 30_080,
        address: '100.127.0.1',
        port: 30_080,
      },
    ],
  });

  function follow(view: MutableView, taken: readonly number[] = []) {
    const held: string[] = [];
    const said: string[] = [];
    const follower = followNodePorts({
      view: () => view,
      log: { warn: (_: object, text: string) => said.push(text) } as never,
      bind(protocol, _address, port) {
        if (taken.includes(port)) throw new Error('EADDRINUSE');
        return held.push(`${protocol} ${port}`);
      },
      close(fd) {
        held[fd - 1] = '';
      },
    });
    return { follower, said, held: () => held.filter((text) => text !== '') };
  }

  it('are held for as long as they lead to a service, and given back', () => {
    const view = viewOf(PORTS);
    const { follower, held, said } = follow(view);
    passed(follower, LED);
    passed(follower, LED);
    expect(held()).toEqual(['tcp 30080']);
    view.put({ kind: 'clusterService', key: 'shop:web0', object: null });
    passed(follower, state({}));
    expect(held()).toEqual([]);
    expect(said).toEqual([]);
  });

  it('that a container publishes, or another process has, are said once and stay theirs', () => {
    const view = viewOf(PORTS);
    const published = follow(view);
    passed(published.follower, state({}));
    passed(published.follower, state({}));
    expect(published.held()).toEqual([]);
    expect(published.said).toEqual(['node port: a container of this host publishes it, and keeps it']);
    const taken = follow(view, [30_080]);
    passed(taken.follower, LED);
    passed(taken.follower, LED);
    expect(taken.said).toEqual([
      'node port: another process of this host has it too, and gets nothing new by it',
    ]);
  });
});

describe('the health check of a service', () => {
  const backend = (address: string, host: string) => ({
    address,
    port: 8080,
    host,
    ready: true,
    serving: true,
    terminating: false,
  });

  it('counts the backends of this host once each, whatever their ports', async () => {
    const healthCheckNodePort = await freePort();
    const ports = (...hosts: string[]) =>
      [80, 81].map((port) => ({
        protocol: 6,
        port,
        backends: hosts.map((host, i) => backend(`20.1.1.${i + 2}`, host)),
      }));
    const service = { healthCheckNodePort, externalTraffic: 'local' as const };
    let view = viewOf({ ...service, ports: ports('node1', 'node1', 'node2') });
    const follower = followHealth({ host: 'node1', view: () => view, log });
    closing.push(() => follower.close());
    passed(follower, state({}));
    const ask = async () => {
      const answer = await fetch(`http://127.0.0.1:${healthCheckNodePort}/healthz`);
      return [answer.status, await answer.json(), answer.headers.get('x-load-balancing-endpoint-weight')];
    };
    const body = { service: { namespace: 'shop', name: 'web0' }, serviceProxyHealthy: true };
    await expect.poll(() => ask().catch(() => undefined)).toEqual([200, { ...body, localEndpoints: 2 }, '2']);
    view.put({ kind: 'draining', key: 'node1', object: { since: 1 } });
    expect(await ask(), 'it is drained: others are to be asked').toEqual([
      503,
      { ...body, localEndpoints: 0 },
      '0',
    ]);
    view = viewOf({ ...service, ports: ports('node2') });
    passed(follower, state({}));
    expect(await ask()).toEqual([503, { ...body, localEndpoints: 0 }, '0']);
    view = viewOf();
    passed(follower, state({}));
    await expect.poll(() => ask().catch((error) => error.cause.code)).toBe('ECONNREFUSED');
  });

  it('waits for its port where somebody has it', async () => {
    const server = net.createServer().listen(0, '::');
    await new Promise((done) => server.once('listening', done));
    const { port } = server.address() as net.AddressInfo;
    const view = viewOf({ healthCheckNodePort: port });
    const follower = followHealth({ host: 'node1', view: () => view, log });
    closing.push(() => follower.close());
    passed(follower, state({}));
    await new Promise((done) => server.close(done));
    await expect
      .poll(async () => {
        passed(follower, state({}));
        return (await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined))?.status;
      })
      .toBe(503);
  });
});
