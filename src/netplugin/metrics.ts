/** What the agent counts, for Prometheus: GET /metrics of its control socket. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { TimedReport } from './dataplane/index.ts';

export interface Metrics {
  /** After a pass: what it took, in seconds, and what came of it. */
  passed(compileSeconds: number, report: TimedReport, verified: boolean): void;
  text(): Promise<string>;
  readonly contentType: string;
}

/** Seconds: from what one changed element takes to a whole verification of a large host. */
const BUCKETS = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5];

export function openMetrics(attached: () => number, revision: () => number): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, prefix: 'contiv_netplugin_' });
  const compile = new Histogram({
    name: 'contiv_netplugin_compile_seconds',
    help: 'time from what is known to what the kernel must hold, of a pass',
    buckets: BUCKETS,
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
    help: 'processor time of the same, of the thread that owns the kernel',
    labelNames: ['verify'],
    registers,
  });
  const writes = new Counter({
    name: 'contiv_netplugin_kernel_writes_total',
    help: 'kernel objects written: links, addresses, routes, neighbours, forwarding entries, nft elements and tables',
    registers,
  });
  const repairs = new Counter({
    name: 'contiv_netplugin_kernel_repairs_total',
    help: 'differences in the kernel, none of our doing, that were put right',
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
  return {
    passed(compileSeconds, report, verified) {
      const verify = String(verified);
      compile.observe(compileSeconds);
      apply.observe({ verify }, report.seconds);
      applyCpu.inc({ verify }, report.cpuSeconds);
      writes.inc(report.writes);
      repairs.inc(report.repaired.length);
      failed.set(report.failed.length);
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
