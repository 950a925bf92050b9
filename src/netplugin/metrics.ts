/** What the agent counts, for Prometheus: GET /metrics of its control socket. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { NeighborState } from '../protocol/hosts.ts';
import type { Spent } from './clock.ts';
import type { DroppedWay, TimedReport } from './dataplane/index.ts';
import type { Health } from './nameservers/protocol.ts';

export interface Metrics {
  /** After a pass: what compile took, what the kernel did and what came of it. */
  passed(compiled: Spent, report: TimedReport, verified: boolean): void;
  /** Of a tenant, or of the host ('': nobody's), by reason: those of the guide, docs/guide/explaining.md. */
  refused(tenant: string, reason: string, packets: number): void;
  text(): Promise<string>;
  readonly contentType: string;
}

/** Seconds: from what one changed element takes to a whole verification of a large host. */
const BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];

/** What is asked for when metrics are read. */
export interface Measured {
  attached(): number;
  revision(): number;
  dropped(): readonly DroppedWay[];
  /** Of the process that answers names; undefined while there is none. */
  names(): Health | undefined;
  /** Sessions of BGP. */
  neighbors(): readonly NeighborState[];
}

export function openMetrics({ attached, revision, dropped, names, neighbors }: Measured): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, prefix: 'contiv_netplugin_' });
  const compile = new Histogram({
    name: 'contiv_netplugin_compile_seconds',
    help: 'time from what is known to what the kernel must hold, of a pass',
    buckets: BUCKETS,
    registers,
  });
  const compileCpu = new Counter({
    name: 'contiv_netplugin_compile_cpu_seconds_total',
    help: 'processor time of the same',
    registers,
  });
  const apply = new Histogram({
    name: 'contiv_netplugin_apply_seconds',
    help: 'time in which the kernel was made equal to it; verify: with all of the kernel read',
    labelNames: ['verify'],
    buckets: BUCKETS,
    registers,
  });
  const applyCpu = new Counter({
    name: 'contiv_netplugin_apply_cpu_seconds_total',
    help: 'processor time of the same',
    labelNames: ['verify'],
    registers,
  });
  const writes = new Counter({
    name: 'contiv_netplugin_kernel_writes_total',
    help: 'kernel objects written: links, addresses, routes, neighbours, forwarding entries, nft elements and tables',
    registers,
  });
  const reads = new Counter({
    name: 'contiv_netplugin_kernel_reads_total',
    help: 'routers of which all entries were read: at the start, after changes by others, and once a minute',
    registers,
  });
  const repairs = new Counter({
    name: 'contiv_netplugin_kernel_repairs_total',
    help: 'differences in the kernel, none of our doing, that were put right',
    registers,
  });
  const refused = new Counter({
    name: 'contiv_netplugin_refused_packets_total',
    help: 'packets dropped whatever policy says: source (not the container’s address), connections, queries, fragments (too many), behind (not behind that tunnel), errors (not on the connection’s way); of no tenant: strangers (frames of no host of ours), guarded (from a container to the control plane or a tunnel)',
    labelNames: ['tenant', 'reason'],
    registers,
  });
  const failed = new Gauge({
    name: 'contiv_netplugin_not_established',
    help: 'what the last pass could not establish',
    registers,
  });
  new Gauge({
    name: 'contiv_netplugin_endpoints',
    help: 'endpoints of containers on this host',
    registers,
    collect() {
      this.set(attached());
    },
  });
  new Gauge({
    name: 'contiv_netplugin_revision',
    help: 'revision of the store that this host knows',
    registers,
    collect() {
      this.set(revision());
    },
  });
  new Gauge({
    name: 'contiv_netplugin_dropped_by_firewall',
    help: '1: this chain of another firewall drops what containers send out, or what comes in to published ports or tunnels',
    labelNames: ['way', 'family', 'table', 'chain'],
    registers,
    collect() {
      this.reset();
      for (const { way, family, table, chain } of dropped()) this.set({ way, family, table, chain }, 1);
    },
  });
  for (const [name, help, value] of [
    [
      'up',
      '1: the session of BGP with this neighbour is established',
      (n) => Number(n.state === 'Established'),
    ],
    ['routes_sent', 'routes that this neighbour is told', (n) => n.sent],
    ['routes_received', 'routes that are taken from it', (n) => n.received],
  ] as const satisfies readonly (readonly [string, string, (neighbor: NeighborState) => number])[])
    new Gauge({
      name: `contiv_netplugin_bgp_neighbor_${name}`,
      help,
      labelNames: ['neighbor'],
      registers,
      collect() {
        this.reset();
        for (const neighbor of neighbors()) this.set({ neighbor: neighbor.address }, value(neighbor));
      },
    });
  // Of the process that answers names; 0 while there is none.
  for (const [name, help, value] of [
    ['nameservers', 'routers in which names are answered', (h: Health) => h.routers.length],
    ['names_resident_memory_bytes', 'memory of the process that does it', (h: Health) => h.residentBytes],
    ['names_cpu_seconds', 'processor time of the same', (h: Health) => h.cpuSeconds],
  ] as const)
    new Gauge({
      name: `contiv_netplugin_${name}`,
      help,
      registers,
      collect() {
        const health = names();
        this.set(health === undefined ? 0 : value(health));
      },
    });
  return {
    passed(compiled, report, verified) {
      const verify = String(verified);
      compile.observe(compiled.seconds);
      compileCpu.inc(compiled.cpuSeconds);
      apply.observe({ verify }, report.seconds);
      applyCpu.inc({ verify }, report.cpuSeconds);
      writes.inc(report.writes);
      reads.inc(report.reads);
      repairs.inc(report.repaired.length);
      failed.set(report.failed.length);
    },
    refused: (tenant, reason, packets) => refused.inc({ tenant, reason }, packets),
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
