/**
 * Where load balancers ask whether this host has backends of a service whose clients' addresses are kept (externalTraffic local): HTTP on
 * the service's healthCheckNodePort, 200 where there are some and else 503, with what kube-proxy answers
 * (pkg/proxy/healthcheck/service_health.go), since load balancers are made for that.
 */
import http from 'node:http';
import type { Logger } from 'pino';
import { select } from '../../model/backends.ts';
import type { ClusterService } from '../../model/clusterService.ts';
import type { Follower } from '../follower.ts';
import type { View } from '../intent/view.ts';

export interface HealthOptions {
  readonly host: string;
  view(): View;
  readonly log: Logger;
}

/** Backends here that are ready, whatever their port: where all end, or the host is drained, others are to be sent to. */
export function localBackends(service: ClusterService, host: string, draining: View['draining']): number {
  const backends = service.ports.flatMap((port) => port.backends);
  return select(backends, host, undefined, draining).localReady;
}

export function followHealth({ host, view, log }: HealthOptions): Follower {
  const servers = new Map<number, http.Server>();
  /** By port, as declared now. */
  let services = new Map<number, ClusterService>();
  const failed = new Set<number>();

  function answer(port: number, response: http.ServerResponse): void {
    const service = services.get(port);
    if (service === undefined) {
      response.writeHead(404).end();
      return;
    }
    const localEndpoints = localBackends(service, host, view().draining);
    const { namespaceName: namespace, serviceName: name } = service;
    response.writeHead(localEndpoints > 0 ? 200 : 503, {
      'content-type': 'application/json',
      'x-content-type-options': 'nosniff',
      'x-load-balancing-endpoint-weight': String(localEndpoints),
    });
    response.end(JSON.stringify({ service: { namespace, name }, localEndpoints, serviceProxyHealthy: true }));
  }

  function listen(port: number): void {
    const server = http.createServer((_, response) => answer(port, response));
    server.on('error', (error) => {
      servers.delete(port);
      if (failed.has(port)) return;
      failed.add(port);
      log.warn({ err: error, port }, "a service's health check is not answered; it is tried again");
    });
    server.on('listening', () => failed.delete(port));
    servers.set(port, server);
    server.listen(port, '::');
  }

  function end(server: http.Server): void {
    server.close();
    server.closeAllConnections();
  }

  return {
    name: 'health checks of services',
    awaited: 'never',
    changed(news) {
      // After each pass of the kernel's: so it is tried again, and nothing is promised that is not so.
      if (news.type !== 'kernel') return false;
      const declared = news.state.routers.flatMap(({ tenant }) => view().of(tenant).clusterServices);
      services = new Map(
        declared.flatMap((s) => (s.healthCheckNodePort === undefined ? [] : [[s.healthCheckNodePort, s]])),
      );
      for (const [port, server] of servers)
        if (!services.has(port)) {
          servers.delete(port);
          end(server);
        }
      for (const port of services.keys()) if (!servers.has(port)) listen(port);
      return false;
    },
    settled: () => Promise.resolve(),
    close() {
      for (const server of servers.values()) end(server);
    },
  };
}
