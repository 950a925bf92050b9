/**
 * How soon the fabric's router knows the way to a container: from the return of `docker run` until the route is in the router's kernel, in a lab
 * that is up, with --fabric. Less than 0: before it has returned.
 */
import { spawn } from 'node:child_process';
import { run } from '../lab/shell.ts';
import { onHost, readState } from '../lab/state.ts';
import { netctlOf } from './networks.ts';
import { median, quantile, shown } from './numbers.ts';

/** Milliseconds, of each round. */
export type Announced = readonly number[];

const BOUND = 50;
/** Seconds until a route that has not come never will. */
const PATIENCE = 30;

interface Options {
  readonly lab: string;
  readonly rounds: number;
  step(words: string): void;
}

export async function measureAnnounced({ lab, rounds, step }: Options): Promise<Announced> {
  const [first] = (readState(lab)?.hosts ?? []).map((h) => h.address);
  const on = (host: string, ...command: string[]): Promise<string> => run(...onHost(lab, host, ...command));
  const netctl = (line: string): Promise<string> => on('node1', ...netctlOf(lab), ...line.split(' '));
  await netctl(
    `bgp create node1 --router-ip=${first}/24 --as=65001 --neighbor=192.168.50.2 --neighbor-as=65000`,
  );
  await netctl('net create told --subnet=20.1.1.0/24 --gateway=20.1.1.254 --advertise');
  const samples: number[] = [];
  // The first container brings the session up with it, and does not count.
  for (let round = 0; round <= rounds; round++) {
    const address = `20.1.1.${10 + round}`;
    const known = heard(lab, address);
    const container = ['docker', 'run', '-d', `--name=told${round}`, '--net=told', `--ip=${address}`];
    await on('node1', ...container, 'contiv/lab', 'sleep', '100000');
    const returned = performance.now();
    const value = (await known) - returned;
    if (round > 0) {
      step(`  docker run to the route at the router, round ${round}: ${shown(value)}\n`);
      samples.push(value);
    }
  }
  return samples;
}

/** When the router's kernel has told of the route. */
function heard(lab: string, address: string): Promise<number> {
  const child = spawn(...onHost(lab, 'tor', 'ip', 'monitor', 'route'), {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return new Promise((done, fail) => {
    const late = setTimeout(() => {
      child.kill();
      fail(new Error(`the router has no route to ${address} after ${PATIENCE} s`));
    }, PATIENCE * 1000);
    child.stdout.on('data', (chunk) => {
      if (!String(chunk).includes(`${address} `)) return;
      clearTimeout(late);
      child.kill();
      done(performance.now());
    });
  });
}

export const announcedVerdict = (samples: Announced): string => {
  const [low, high] = [quantile(samples, 0.25), quantile(samples, 0.75)];
  const words = `docker run to the route at the fabric's router: ${shown(median(samples))} ms after it has returned (quartiles ${shown(low)}, ${shown(high)})`;
  return `${median(samples) <= BOUND ? 'pass' : 'FAIL'}  ${words}, wanted at most ${BOUND}`;
};
