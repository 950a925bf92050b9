/**
 * Names, answered by a process of their own that outlives the agent (nameservers/): found or started here, told what the agent
 * knows, and started again where it has ended or does not answer.
 *
 *   view, routers --feed.ts--> nameservers/main.ts --> a nameserver in each router
 *
 * The process stays when the agent ends, however it ends, and goes on with what it was told last. An agent that starts finds it. One
 * that was started from another file, such as an older version's, is followed by a new one, which ends it when it serves the
 * routers itself: there is no moment without a nameserver.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as after } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { WatchedObject } from '../../protocol/messages.ts';
import { inTurn, openProgress } from '../../turns.ts';
import { NAMED } from '../dns/lookup.ts';
import type { Follower } from '../follower.ts';
import { NAMES_INTERVAL, RETRY_DELAY } from '../intervals.ts';
import { askHealth, type Feed, openFeed } from './feed.ts';
import { openPacker, type ServedRouter } from './parcel.ts';
import type { Health } from './protocol.ts';

/** Milliseconds: one that ends sooner is not followed by another at once. */
const BRIEF = 5000;
const START = 20_000;
/** Looks without an answer after which it counts as stuck. */
const MISSES = 3;

/** Settled: each router has a nameserver, as far as that can be, which goes by all that is known. Names stay when it closes. */
export interface NameService extends Follower {
  /** As it said last. */
  readonly health: Health | undefined;
  /** When a process has answered for the first time, or could not be started. */
  readonly started: Promise<void>;
}

export interface NamesOptions {
  /** For its socket and its id. */
  readonly folder: string;
  readonly host: string;
  readonly logLevel: string;
  readonly log: Logger;
  /** All objects; undefined: not known yet, and what an earlier agent told holds. */
  known(): readonly WatchedObject[] | undefined;
  readonly program?: string;
}

/** Beside the agent's own file, as bin/.bundle puts them. */
const PROGRAM = path.join(import.meta.dirname, 'names.cjs');

/** Of a file: other contents are another one. */
function stampOf(file: string): string {
  const { ino, size, mtimeMs } = fs.statSync(file);
  return `${ino}.${size}.${mtimeMs}`;
}

const inodeOf = (file: string): number | undefined => fs.statSync(file, { throwIfNoEntry: false })?.ino;

export function followNames(options: NamesOptions): NameService {
  const { folder, host, logLevel, log, known, program = PROGRAM } = options;
  const socket = path.join(folder, 'names.sock');
  const progress = openProgress();
  /** What it has been asked to confirm, by `progress`. */
  let asked = 0;
  let closed = false;
  let health: Health | undefined;
  let feed: Feed | undefined;
  /** Whether it has been told all that is known. */
  let listed = false;
  /** The last one did not answer any more. */
  let stuck = false;
  /** undefined: the kernel is not known to have them yet. */
  let routers: readonly ServedRouter[] | undefined;
  /** Those, with parts by number: what nameservers do not go by is not in it. */
  let served = '';
  const pack = openPacker();

  /** One that runs the file as it is now. */
  async function find(): Promise<void> {
    const stamp = stampOf(program);
    // One that is stuck has been asked often enough.
    health = stuck ? undefined : await askHealth(socket);
    stuck = false;
    if (health?.program === stamp) return;
    const before = inodeOf(socket);
    const flags = ['--folder', folder, '--host', host, '--log-level', logLevel, '--program', stamp];
    const child = spawn(process.execPath, [...process.execArgv, program, ...flags], {
      detached: true,
      stdio: ['ignore', 'ignore', 'inherit'],
      cwd: '/',
    });
    child.on('error', () => {}); // seen below: it has no pid
    child.unref();
    for (const deadline = performance.now() + START; performance.now() < deadline; await after(20)) {
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null)
        throw new Error(`it ended as it started (${child.signalCode ?? child.exitCode ?? 'no process'})`);
      if (inodeOf(socket) === before) continue; // not bound yet; who has it is not the one to be asked
      health = await askHealth(socket);
      if (health?.pid === child.pid) return;
    }
    throw new Error(`process ${child.pid} does not answer`);
  }

  function list(): void {
    const objects = known();
    listed = objects !== undefined;
    if (objects !== undefined) feed?.list(objects.filter(({ kind }) => NAMED.has(kind)));
  }

  /** What was told until now: the process says when it goes by that. */
  function confirm(): void {
    if (feed === undefined || routers === undefined) return;
    const upTo = progress.asked;
    asked = upTo;
    void feed.serve(routers).then((holds) => {
      if (holds) progress.done(upTo);
    });
  }

  /** Until it has ended, or does not answer. */
  async function follow(): Promise<void> {
    const open = openFeed(socket);
    feed = open;
    list();
    confirm();
    let misses = 0;
    async function look(): Promise<void> {
      const found = await askHealth(socket);
      misses = found === undefined ? misses + 1 : 0;
      if (found !== undefined) health = found;
      stuck = misses >= MISSES;
      if (stuck) open.close();
    }
    const looks = inTurn(look, {
      every: NAMES_INTERVAL,
      due: () => misses === 0,
      again: () => (misses > 0 && !stuck ? 0 : undefined), // an answer that has not come has taken its time
    });
    await open.ended;
    void looks.close();
    feed = undefined;
    health = undefined;
  }

  const { promise: started, resolve: answered } = Promise.withResolvers<void>();
  let brief = false;
  const processes = inTurn(
    async () => {
      await find().finally(answered);
      if (closed) return;
      const began = performance.now();
      await follow();
      brief = performance.now() - began <= BRIEF;
      if (!closed) log.warn('the process that answers names has ended or does not answer: starting another');
    },
    {
      again: (failures) => (failures > 0 || brief ? RETRY_DELAY : 0),
      failed(error, first) {
        if (first) log.error({ err: error }, 'no process that answers names; it is tried again');
      },
    },
  );
  processes.ask();

  return {
    name: 'names',
    awaited: 'briefly',
    changed(news) {
      if (news.type === 'kernel') {
        routers = news.state.routers;
        const text = JSON.stringify(pack(routers).routers);
        if (text === served && news.report.created.length === 0) return false;
        served = text;
        progress.ask();
        confirm();
        return feed !== undefined; // where no process goes by what it is told nobody is asked, and the next one is told all
      }
      const named = news.objects.filter(({ kind }) => NAMED.has(kind));
      if (listed && named.length === 0) return false;
      progress.ask();
      if (listed) feed?.change(named);
      else list();
      return true;
    },
    settled() {
      if (asked < progress.asked) confirm();
      return progress.settled();
    },
    get health() {
      return health;
    },
    started,
    close() {
      closed = true;
      void processes.close();
      feed?.close();
    },
  };
}
