/** What netkube counts, for Prometheus. */
import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';

export interface Metrics {
  wrote(kind: string, created: number, deleted: number): void;
  text(): Promise<string>;
  readonly contentType: string;
}

/** What is asked for when metrics are read. */
export interface Measured {
  readonly followed: readonly { readonly name: string; readonly objects: { readonly size: number } }[];
  waiting(): number;
  refused(): number;
  leads(): boolean;
}

export function openMetrics({ followed, waiting, refused, leads }: Measured): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry, prefix: 'contiv_netkube_' });
  const writes = new Counter({
    name: 'contiv_netkube_writes_total',
    help: 'objects written to netmaster: created or changed (put), or deleted',
    labelNames: ['kind', 'write'],
    registers,
  });
  new Gauge({
    name: 'contiv_netkube_objects',
    help: 'objects of the cluster that are known',
    labelNames: ['resource'],
    registers,
    collect() {
      for (const { name, objects } of followed) this.set({ resource: name }, objects.size);
    },
  });
  for (const [name, help, value] of [
    ['waiting', 'objects to be compared with what netmaster has', waiting],
    [
      'refused',
      'objects that netmaster refuses, or has not applied everywhere: they are tried again',
      refused,
    ],
    ['leads', '1: it is this process that writes', () => Number(leads())],
  ] as const)
    new Gauge({
      name: `contiv_netkube_${name}`,
      help,
      registers,
      collect() {
        this.set(value());
      },
    });
  return {
    wrote(kind, put, deleted) {
      if (put > 0) writes.inc({ kind, write: 'put' }, put);
      if (deleted > 0) writes.inc({ kind, write: 'delete' }, deleted);
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
