/**
 * How soon one more netmaster serves, beside one that has much: both as the programs that they are, on an etcd of one member. From the start of its
 * process until its first answer to a list of all rules, and until a watch has all there is.
 *
 *   node bench/replica.ts [OBJECTS]      (default 100000)
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { type Client, connect } from '../src/client/client.ts';
import type { DeclaredObject } from '../src/protocol/declared.ts';
import { startEtcd } from '../test/etcd.ts';
import { freePort } from '../test/ports.ts';
import { median, processorTime } from './numbers.ts';

const COMMAND = path.join(import.meta.dirname, '../bin/netmaster');
/** Of a policy; with it and its group so many objects and two. */
const RULES = 98;
/** Policies that are declared at once: a transaction of etcd's is a megabyte, and the larger one's pieces are written one after the other. */
const AT_ONCE = 20;
const ROUNDS = 5;

interface Netmaster {
  readonly process: ChildProcess;
  readonly client: Client;
  readonly began: number;
}

async function begin(store: string): Promise<Netmaster> {
  const listen = `127.0.0.1:${await freePort()}`;
  const began = performance.now();
  const flags = ['--listen', listen, '--store', store, '--log-level', 'error'];
  const child = spawn(COMMAND, flags, { stdio: ['ignore', 'inherit', 'inherit'] });
  return { process: child, client: connect({ urls: [`http://${listen}`], timeoutMs: 600_000 }), began };
}

async function end({ process, client }: Netmaster): Promise<void> {
  client.close();
  const ended = once(process, 'close');
  process.kill('SIGTERM');
  await ended;
}

async function untilItAnswers<T>({ process }: Netmaster, ask: () => Promise<T>): Promise<T> {
  for (;;)
    try {
      return await ask();
    } catch (error) {
      if (process.exitCode !== null) throw error;
      await new Promise((done) => setTimeout(done, 5));
    }
}

async function watched({ client }: Netmaster): Promise<number> {
  const stop = new AbortController();
  let objects = 0;
  for await (const message of client.watch({ signal: stop.signal }))
    if (message.type === 'object') objects++;
    else if (message.type === 'synced') stop.abort();
  return objects;
}

const wanted = Number(process.argv[2] ?? 100_000);
if (!Number.isInteger(wanted) || wanted < 1) {
  process.stderr.write(`replica: OBJECTS: '${process.argv[2]}' must be a number of objects, 1 or more\n`);
  process.exit(2);
}
const policies = Math.ceil(wanted / (RULES + 2));
const etcd = await startEtcd(1);
const store = `etcd://${etcd.endpoints.join()}`;
const first = await begin(store);
try {
  await untilItAnswers(first, () => first.client.call('version'));
  await first.client.call(
    'apply',
    {},
    { objects: [{ kind: 'network', networkName: 'n', subnet: '10.0.0.0/8' }] },
  );
  for (let p = 0; p < policies; ) {
    const objects: DeclaredObject[] = [];
    for (const until = Math.min(policies, p + AT_ONCE); p < until; p++) {
      objects.push({ kind: 'policy', policyName: `p${p}` });
      objects.push({ kind: 'endpointGroup', groupName: `g${p}`, networkName: 'n', policies: [`p${p}`] });
      for (let i = 0; i < RULES; i++) {
        const of = { policyName: `p${p}`, ruleId: `${i}`, direction: 'in', action: 'allow' } as const;
        objects.push({ kind: 'rule', ...of, protocol: 'tcp', port: 1000 + i });
      }
    }
    await first.client.call('apply', {}, { objects });
  }
  const there = await watched(first);
  console.log(
    `${there} objects; until one more netmaster has answered, in ms (and seconds of processor time until then):`,
  );
  const [lists, watches]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    const next = await begin(store);
    try {
      const { body } = await untilItAnswers(next, () => next.client.call('list', { collection: 'rules' }));
      const list = performance.now() - next.began;
      const processor = processorTime(next.process.pid);
      if (body.length !== policies * RULES) throw new Error(`its list has ${body.length} rules`);
      const objects = await watched(next);
      const watch = performance.now() - next.began;
      if (objects !== there) throw new Error(`its watch has ${objects} objects, and the other's ${there}`);
      lists.push(list);
      watches.push(watch);
      console.log(
        `  list ${Math.round(list)} (${processor}), watch ${Math.round(watch)} (${processorTime(next.process.pid)})`,
      );
    } finally {
      await end(next);
    }
  }
  console.log(`median: list ${Math.round(median(lists))} ms, watch ${Math.round(median(watches))} ms`);
} finally {
  await end(first);
  await etcd.close();
}
