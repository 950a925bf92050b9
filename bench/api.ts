/**
 * Rates of netmaster's API, each against what this machine gives at most without netmaster, and against another checkout's netmaster where
 * one is named. wrk asks; contestants are asked right after each other, and begin by turns.
 *
 *   ours      this checkout's netmaster, on SQLite as hosts have it
 *   before    the netmaster of the checkout that --against names
 *   original  the netmaster of contiv/netplugin 1.x that --original names, on an etcd of its own. It has the smaller list, and one
 *             client that writes, whatever ours has: with 16 at once it fails
 *   bare      reads: a server of Node's own that has the same bytes ready; writes: SQLite alone, a row and its sync for each
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { Worker } from 'node:worker_threads';
import { median, shown, textTable } from './numbers.ts';

/** Groups in a list. */
const SIZES = [900, 4900] as const;
const SCRIPT = path.join(import.meta.dirname, 'api.lua');

interface Row {
  readonly title: string;
  readonly unit: 'MB/s' | '1/s';
  readonly connections: number;
  /** undefined: it writes. */
  readonly path?: string;
  /** Whose groups: a netmaster for each number. */
  readonly groups: (typeof SIZES)[number];
}
const ROWS: readonly Row[] = [
  ...SIZES.map(
    (groups): Row => ({
      title: `list of ${groups} groups, 4 connections`,
      unit: 'MB/s',
      connections: 4,
      path: '/api/v1/endpointGroups/',
      groups,
    }),
  ),
  ...[1, 16].map(
    (connections): Row => ({
      title: `a group, ${connections} connection${connections === 1 ? '' : 's'}`,
      unit: '1/s',
      connections,
      path: '/api/v1/endpointGroups/default:g450/',
      groups: 900,
    }),
  ),
  ...[1, 64].map(
    (connections): Row => ({
      title: `writes of ${connections} client${connections === 1 ? '' : 's'}`,
      unit: '1/s',
      connections,
      groups: 900,
    }),
  ),
];

/** By row's title, then by contestant, in the order of the rounds: MB/s or requests a second. */
export type Rates = ReadonlyMap<string, ReadonlyMap<string, readonly number[]>>;

export interface RateOptions {
  readonly rounds: number;
  readonly seconds: number;
  /** Folder of another checkout. */
  readonly against?: string | undefined;
  /** Path of a netmaster of the original project. */
  readonly original?: string | undefined;
  /** Says what comes next; throws where the user has had enough. */
  step(words: string): void;
}

interface Contestant {
  readonly name: string;
  /** Value of a row in one round; undefined where it has none. */
  measure(row: Row, seconds: number, round: number): Promise<number | undefined>;
  close(): Promise<void>;
}

export async function measureRates({
  rounds,
  seconds,
  against,
  original,
  step,
}: RateOptions): Promise<Rates> {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-bench-'));
  const contestants: Contestant[] = [];
  try {
    step(`  netmasters with ${SIZES.join(' and ')} groups ... \n`);
    const own = await openNetmasters('ours', path.join(import.meta.dirname, '..'), folder);
    contestants.push(own);
    if (against !== undefined) contestants.push(await openNetmasters('before', against, folder));
    if (original !== undefined) {
      step(`  the original with ${SIZES[0]} groups ... \n`);
      contestants.push(await openOriginal(original, folder));
    }
    contestants.push(openBare(folder, own.urls));
    const found = new Map<string, Map<string, number[]>>();
    for (const row of ROWS) {
      const values = new Map<string, number[]>(contestants.map(({ name }) => [name, []]));
      found.set(row.title, values);
      for (let round = 0; round < rounds; round++) {
        step(`  ${row.title}, round ${round + 1}:`);
        for (let turn = 0; turn < contestants.length; turn++) {
          const one = contestants[(round + turn) % contestants.length] as Contestant;
          const value = await one.measure(row, seconds, round);
          if (value !== undefined) values.get(one.name)?.push(value);
          step(` ${one.name} ${shown(value)}`);
        }
        step(` ${row.unit}\n`);
      }
    }
    return found;
  } finally {
    for (const one of contestants) await one.close();
    fs.rmSync(folder, { recursive: true, force: true });
  }
}

/** Asks for so long; throws where an answer was no success. */
async function ask(
  url: string,
  { connections, path: asked, unit }: Row,
  seconds: number,
  prefix: string,
): Promise<number> {
  const args = asked === undefined ? ['write', prefix] : ['read'];
  const child = spawn(
    'wrk',
    [
      '-t1',
      `-c${connections}`,
      `-d${seconds}s`,
      '--timeout',
      '10s',
      '-s',
      SCRIPT,
      url + (asked ?? '/'),
      '--',
      ...args,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  const [status] = await once(child, 'close');
  const { requests, bytes, duration, failed } = JSON.parse(text.trim().split('\n').at(-1) ?? '');
  if (status !== 0 || failed > 0)
    throw new Error(`wrk ${url}: exit status ${status}, ${failed} answers failed`);
  return unit === 'MB/s' ? bytes / duration : (requests / duration) * 1e6;
}

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

type Netmasters = Contestant & { readonly urls: ReadonlyMap<number, string> };

/** Until it answers with success; throws where it ends before, or takes a minute. */
async function answering(name: string, url: string, child: ChildProcess): Promise<void> {
  for (const deadline = performance.now() + 60_000; ; ) {
    const answers = await fetch(url).catch(() => undefined);
    if (answers?.ok) return;
    if (performance.now() > deadline || child.exitCode !== null) throw new Error(`${name} does not start`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

async function killed(children: readonly ChildProcess[]): Promise<void> {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = once(child, 'close');
    child.kill('SIGKILL');
    await ended;
  }
}

/**
 * It has the API's second version of etcd, and a port for each of its two kinds of callers. In Swarm's mode it keeps and answers as in
 * Docker's, but makes no networks in a Docker on its own host, which would be measured too.
 */
async function openOriginal(program: string, folder: string): Promise<Contestant> {
  const [client, peer, external, internal] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  const at = (port: number): string => `http://127.0.0.1:${port}`;
  const children: ChildProcess[] = [];
  try {
    const data = path.join(folder, 'original');
    const etcd = spawn(
      'etcd',
      [
        `--data-dir=${data}`,
        '--enable-v2',
        '--log-level=error',
        `--listen-client-urls=${at(client)}`,
        `--advertise-client-urls=${at(client)}`,
        `--listen-peer-urls=${at(peer)}`,
        `--initial-advertise-peer-urls=${at(peer)}`,
        `--initial-cluster=default=${at(peer)}`,
      ],
      { stdio: 'ignore' },
    );
    children.push(etcd);
    await answering('etcd', `${at(client)}/health`, etcd);
    const netmaster = spawn(
      program,
      [
        `--etcd=${at(client)}`,
        `--listen-url=127.0.0.1:${external}`,
        `--control-url=127.0.0.1:${internal}`,
        '--cluster-mode=swarm-mode',
        '--netmode=vxlan',
        '--fwdmode=routing',
        '--log-level=ERROR',
      ],
      { stdio: 'ignore' },
    );
    children.push(netmaster);
    const url = at(external);
    await answering('the original netmaster', `${url}/api/v1/endpointGroups/`, netmaster);
    const made = async (kind: string, key: string, object: object): Promise<void> => {
      const answer = await fetch(`${url}/api/v1/${kind}/${key}/`, {
        method: 'POST',
        body: JSON.stringify({ tenantName: 'default', ...object }),
      });
      if (!answer.ok) throw new Error(`the original: ${answer.status} ${await answer.text()}`);
    };
    await made('networks', 'default:net', {
      networkName: 'net',
      subnet: '10.0.0.0/16',
      gateway: '10.0.0.1',
      encap: 'vxlan',
      nwType: 'data',
    });
    await made('policys', 'default:web', { policyName: 'web' });
    for (let i = 0; i < SIZES[0]; i++)
      await made('endpointGroups', `default:g${i}`, {
        groupName: `g${i}`,
        networkName: 'net',
        policies: ['web'],
      });
    return {
      name: 'original',
      async measure(row, seconds, round) {
        if (row.groups !== SIZES[0]) return undefined;
        const asked = row.path === undefined ? { ...row, connections: 1 } : row;
        return ask(url, asked, seconds, `w${row.connections}r${round}n`);
      },
      close: () => killed(children),
    };
  } catch (error) {
    await killed(children);
    throw error;
  }
}

/** One for each number of groups, of a checkout. */
async function openNetmasters(name: string, checkout: string, folder: string): Promise<Netmasters> {
  const children: ChildProcess[] = [];
  const urls = new Map<number, string>();
  const close = (): Promise<void> => killed(children);
  try {
    for (const groups of SIZES) {
      const listen = `127.0.0.1:${await freePort()}`;
      const store = `sqlite:${path.join(folder, `${name}${groups}.db`)}`;
      const child = spawn(
        path.join(checkout, 'bin/netmaster'),
        ['--listen', listen, '--store', store, '--log-level', 'error'],
        { stdio: ['ignore', 'ignore', 'inherit'] },
      );
      children.push(child);
      const url = `http://${listen}`;
      await answering(`${name}: netmaster`, `${url}/healthz`, child);
      await declare(url, groups);
      urls.set(groups, url);
    }
  } catch (error) {
    await close();
    throw error;
  }
  return {
    name,
    urls,
    measure: (row, seconds, round) =>
      ask(urls.get(row.groups) as string, row, seconds, `w${row.connections}r${round}n`),
    close,
  };
}

async function declare(url: string, groups: number): Promise<void> {
  const objects = [
    { kind: 'network', networkName: 'net', subnet: '10.0.0.0/8', gateway: '10.0.0.1', encap: 'vxlan' },
    { kind: 'policy', policyName: 'web' },
    ...Array.from({ length: groups }, (_, i) => ({
      kind: 'endpointGroup',
      groupName: `g${i}`,
      networkName: 'net',
      policies: ['web'],
    })),
  ];
  const answer = await fetch(`${url}/api/v1/apply?wait=0`, {
    method: 'POST',
    body: JSON.stringify({ objects }),
  });
  if (!answer.ok) throw new Error(`${url}: ${answer.status} ${await answer.text()}`);
}

/** In a thread of its own, as netmaster is in a process of its own: the reader of wrk's output must not take its time. */
const BARE = `
  const http = require('node:http');
  const { parentPort, workerData } = require('node:worker_threads');
  const answers = new Map(workerData);
  const server = http.createServer((request, response) => {
    const body = answers.get(request.url);
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length }).end(body);
  });
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
`;

function openBare(folder: string, urls: ReadonlyMap<number, string>): Contestant {
  const workers = new Map<number, { worker: Worker; url: string }>();
  const db = new DatabaseSync(path.join(folder, 'bare.db'));
  db.exec(
    'PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE entry (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID',
  );
  const insert = db.prepare('INSERT INTO entry VALUES (?, ?)');
  let rows = 0;

  /** With the bytes that a netmaster answers. */
  async function serverOf(groups: number): Promise<string> {
    const known = workers.get(groups);
    if (known !== undefined) return known.url;
    const paths = [...new Set(ROWS.flatMap((row) => (row.groups === groups ? (row.path ?? []) : [])))];
    const answers = await Promise.all(
      paths.map(async (asked) => [asked, await bytesOf(`${urls.get(groups)}${asked}`)] as const),
    );
    const worker = new Worker(BARE, { eval: true, workerData: answers });
    const [port] = await once(worker, 'message');
    const url = `http://127.0.0.1:${port}`;
    workers.set(groups, { worker, url });
    return url;
  }

  return {
    name: 'bare',
    async measure(row, seconds) {
      if (row.path !== undefined) return ask(await serverOf(row.groups), row, seconds, '');
      const value = JSON.stringify({ tenantName: 'default', policyName: 'w' });
      const start = performance.now();
      const before = rows;
      while (performance.now() < start + seconds * 1000) insert.run(String(rows++), value);
      return ((rows - before) / (performance.now() - start)) * 1000;
    },
    async close() {
      for (const { worker } of workers.values()) await worker.terminate();
      db.close();
    },
  };
}

const bytesOf = (url: string): Promise<Buffer> =>
  new Promise((done, fail) => {
    http
      .get(url, async (response) => {
        const chunks: Buffer[] = [];
        for await (const chunk of response) chunks.push(chunk);
        done(Buffer.concat(chunks));
      })
      .on('error', fail);
  });

/** Median of the rounds' ratios; undefined where one was not measured. */
function ratio(values: ReadonlyMap<string, readonly number[]>, other: string): number | undefined {
  const [ours = [], others = []] = [values.get('ours'), values.get(other)];
  return others.length === 0 ? undefined : median(ours.map((value, i) => value / (others[i] as number)));
}

export function rateTable(rates: Rates): string {
  const head = [
    '',
    'ours / bare',
    'ours / before',
    'ours / original',
    '|',
    'ours',
    'before',
    'original',
    'bare',
    'unit',
  ];
  const rows = ROWS.map(({ title, unit }) => {
    const values = rates.get(title) ?? new Map<string, number[]>();
    const middle = (name: string): string => shown(median(values.get(name) ?? []));
    return [
      title,
      shown(ratio(values, 'bare')),
      shown(ratio(values, 'before')),
      shown(ratio(values, 'original')),
      '|',
      middle('ours'),
      middle('before'),
      middle('original'),
      middle('bare'),
      unit,
    ];
  });
  const rounds = rates.get(ROWS[0]?.title ?? '')?.get('ours')?.length ?? 0;
  return [
    `netmaster's API, medians of ${rounds} rounds; bare: the same bytes from Node alone, or a row a sync from SQLite alone.`,
    '',
    textTable([head, ...rows], 1),
  ].join('\n');
}

export const rateResults = (rates: Rates): unknown =>
  Object.fromEntries(
    ROWS.map(({ title, unit }) => {
      const values = rates.get(title) ?? new Map<string, number[]>();
      return [title, { unit, ratio: ratio(values, 'bare'), samples: Object.fromEntries(values) }];
    }),
  );
