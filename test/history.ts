/**
 * Histories of what clients of netmaster asked and were answered, and whether they are linearisable: whether there is one order of all requests, each at
 * one moment between its being sent and its answer, in which every answer is what a single register for each object would have answered. A
 * write that was acknowledged and lost, one that was refused and done, two that both made an object, a read that shows what was
 * over before it began: none of them has such an order. porcupine judges (lab/history).
 *
 * An object is a network profile, of which nothing else depends; its register is `burst`, and no two writes write the same.
 */
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

import { hostFolder, netmasterUrls, readState } from '../lab/state.ts';
import { type Background, backgroundIn } from './lab.ts';

const ROOT = path.dirname(import.meta.dirname);

/** A line of the file: a request that was sent. Times are milliseconds of the machine's monotonic clock. */
export interface Sent {
  readonly n: number;
  readonly client: number;
  readonly key: string;
  readonly do: 'read' | 'write' | 'delete';
  /** What a write writes: from 1 on. */
  readonly value?: number;
  /** The netmaster that is asked. */
  readonly to: string;
  readonly sent: number;
}

/**
 * A line of the file: what came of one. `before` is what was there, 0 for nothing, -1 for something that is not said (lab/history/build/main.go).
 * `failed`: it was not done. `lost`: nobody knows. Without such a line its client was ended before the answer.
 */
export interface Answered {
  readonly n: number;
  readonly answered: number;
  readonly is: { readonly before: number } | 'failed' | 'lost';
  /** netmaster said that this may be of an earlier time. */
  readonly stale?: true;
  /** Of what was not done, or is not known: why. */
  readonly why?: string;
}

export type Operation = Sent & Partial<Answered>;

/** Whole lines alone: who writes may have been ended. */
export function readHistory(text: string): Operation[] {
  const operations = new Map<number, Operation>();
  for (const line of text.split('\n').slice(0, -1)) {
    const said = JSON.parse(line) as Sent | Answered;
    const known = operations.get(said.n);
    operations.set(said.n, { ...(known as Operation), ...said });
  }
  return [...operations.values()];
}

/**
 * As porcupine takes it, in microseconds. What was not done is left out: if it was done nevertheless, nobody wrote what others read. A read
 * that netmaster itself calls stale may be of any time before its answer, and so may its word that there is nothing to delete.
 */
function judged({ key, do: done, value = 0, sent, answered, is, stale }: Operation): object | undefined {
  const known = typeof is === 'object' && answered !== undefined;
  if (is === 'failed' || (done === 'read' && !known)) return undefined;
  const call = stale && known ? 0 : Math.floor(sent * 1000);
  if (!known) return { key, call, do: done, value };
  return {
    ...{ key, call, return: Math.ceil(answered * 1000), value, before: is.before },
    do: done === 'delete' && is.before === 0 ? 'read' : done,
  };
}

/** Keys for which there is no such order, or it was not found in a minute, each with all that was asked of it. None: it holds. */
export async function violations(history: readonly Operation[]): Promise<string[]> {
  const build = `${ROOT}/lab/history/build.sh`;
  await promisify(execFile)(build);
  const folder = (await promisify(execFile)(build, ['where'])).stdout.trim();
  const child = spawn(`${folder}/history`, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((done) => child.once('close', done));
  for (const operation of history) {
    const line = judged(operation);
    if (line !== undefined) child.stdin.write(`${JSON.stringify(line)}\n`);
  }
  child.stdin.end();
  let text = '';
  for await (const chunk of child.stdout) text += chunk;
  const status = await ended;
  if (status !== 0) throw new Error(`lab/history: exit status ${status}`);
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const { key, result } = JSON.parse(line) as { key: string; result: string };
      const its = history.filter((operation) => operation.key === key).toSorted((a, b) => a.sent - b.sent);
      return [`${key}: ${result === 'Illegal' ? 'no order explains it' : result}`, ...its.map(told)].join(
        '\n  ',
      );
    });
}

function told(operation: Operation): string {
  const { client, do: done, value, to, sent, answered, is, stale, why } = operation;
  const came =
    is === undefined
      ? 'no answer'
      : typeof is === 'string'
        ? `${is}: ${why ?? ''}`
        : `${is.before === 0 ? 'nothing' : is.before === -1 ? 'something' : is.before} was there${stale ? ', stale' : ''}`;
  return `${sent.toFixed(1)} to ${answered?.toFixed(1) ?? '?'} client ${client} at ${to}: ${done}${value === undefined ? '' : ` ${value}`}: ${came}`;
}

/** How many there are of each, for who reads what a run printed. */
export function outcomes(
  history: readonly Operation[],
): Record<'done' | 'failed' | 'lost' | 'stale', number> {
  const count = (holds: (operation: Operation) => boolean): number => history.filter(holds).length;
  return {
    done: count(({ is }) => typeof is === 'object'),
    failed: count(({ is }) => is === 'failed'),
    lost: count(({ is }) => is === 'lost' || is === undefined),
    stale: count(({ stale }) => stale === true),
  };
}

/** Refusals that say that netmaster itself is broken: there is none. */
export const broken = (history: readonly Operation[]): string[] =>
  history.flatMap(({ why, to }) => (why?.startsWith('500 ') ? [`${to}: ${why}`] : []));

export const readHistoryFile = (file: string): Operation[] =>
  fs.existsSync(file) ? readHistory(fs.readFileSync(file, 'utf8')) : [];

/** Clients of all netmasters of a lab that write and read objects, on a host of it; SIGTERM ends them (historyClient.ts). */
export function startClients(name: string, at: string, file: string, seed: number): Background {
  const state = readState(name);
  if (state === undefined) throw new Error(`lab '${name}' is not up`);
  const certificates = path.join(hostFolder(name, 'node1'), 'contiv/tls');
  const program = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    `${ROOT}/test/historyClient.ts`,
  ];
  // The first word is taken for a line.
  return backgroundIn(
    name,
    at,
    'env',
    ...program,
    file,
    certificates,
    netmasterUrls(state).join(),
    String(seed),
  );
}
