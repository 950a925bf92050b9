/** A netmaster of a test's own, as the process that it is. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { onTestFinished, vi } from 'vitest';
import { freePort } from './ports.ts';

const COMMAND = path.join(import.meta.dirname, '../bin/netmaster');

export interface Netmaster {
  /** The same over restarts. */
  readonly url: string;
  /** Answers when it answers. Flags beside --listen and --store. */
  start(...flags: string[]): Promise<void>;
  /** kill -9; fine when it does not run. */
  kill(): Promise<void>;
}

/** A program that a test starts again and again; what it says on its standard error is there to be read. Ends with the test. */
export function restarted(command = COMMAND) {
  let server: ChildProcess | undefined;
  const kill = async (): Promise<void> => {
    if (server === undefined || server.exitCode !== null || server.signalCode !== null) return;
    const ended = once(server, 'close');
    server.kill('SIGKILL');
    await ended;
  };
  onTestFinished(kill);
  return {
    /** kill -9; fine when it does not run. */
    kill,
    begin(args: readonly string[]) {
      const started = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
      started.stderr.resume();
      server = started;
      return started;
    },
  };
}

/** On a free port, not yet started; ends with the test. */
export async function netmasterOn(store: string, command = COMMAND): Promise<Netmaster> {
  const listen = `127.0.0.1:${await freePort()}`;
  const url = `http://${listen}`;
  const { kill, begin } = restarted(command);
  return {
    url,
    kill,
    async start(...flags) {
      const started = begin(['--listen', listen, '--store', store, '--log-level', 'error', ...flags]);
      let said = '';
      started.stderr.setEncoding('utf8').on('data', (chunk) => {
        said += chunk;
      });
      const answers = async (): Promise<boolean> => {
        if (started.exitCode !== null) throw new Error(`netmaster ended with ${started.exitCode}: ${said}`);
        return fetch(`${url}/healthz`).then(
          (response) => response.ok,
          () => false,
        );
      };
      await vi.waitUntil(answers, { timeout: 60_000, interval: 20 });
    },
  };
}

/** URL of one that runs until the test ends. */
export async function startNetmaster(store: string): Promise<string> {
  const netmaster = await netmasterOn(store);
  await netmaster.start();
  return netmaster.url;
}
