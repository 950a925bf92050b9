/** kill -9 of each server, ten times at random moments, while containers come and go. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clear, differences, docker, lab, mustLab, netctl, on, pings, run, until } from './lab.ts';

const KILLS = 10;
const HOSTS = ['node1', 'node2'];
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

let churning = false;
let started = 0;
let starters = 0;

/** Starts and removes containers over and over; while a server is dead a command may fail. */
async function churn(host: string): Promise<void> {
  const starter = ++starters;
  for (let round = 0; churning; round++) {
    const name = `chaos${starter}-${round}`;
    const flags = ['-d', `--name=${name}`, '--net=chaos'];
    if ((await on(host, 'docker', 'run', ...flags, 'contiv/lab', 'sleep', '100000')).status === 0) started++;
    else await pause(200);
    // Every third one stays for a while.
    const leaving = round % 3 !== 0 ? name : round > 6 ? `chaos${starter}-${round - 6}` : undefined;
    if (leaving !== undefined) await on(host, 'docker', 'rm', '-f', leaving);
  }
}

beforeAll(() => netctl('net', 'create', 'chaos', '--subnet=10.10.0.0/16', '--gateway=10.10.255.254'));
afterAll(clear);

describe('under churn', () => {
  it.each([
    ['netmaster', ['node1']],
    ['netplugin', HOSTS],
    ['dockerd', HOSTS],
  ] as const)(
    'kill -9 of %s ten times leaves no difference',
    async (process, hosts) => {
      churning = true;
      const churners = [...HOSTS, ...HOSTS].map(churn);
      try {
        for (let kill = 0; kill < KILLS; kill++) {
          const host = hosts[kill % hosts.length] as string;
          await pause(Math.random() * 1500);
          await lab('kill', process, host);
          await pause(Math.random() * 500);
          await mustLab('start', process, host);
        }
        const before = started;
        await until('containers start again', async () => started > before);
      } finally {
        churning = false;
        await Promise.all(churners);
      }
      expect(await differences(120)).toBe('');
      // What is there is not only consistent but works.
      for (const host of HOSTS) await run(host, `end-${host}`, 'chaos');
      await until('ping', () => pings('node1', 'end-node1', 'end-node2'));
      for (const host of HOSTS) await docker(host, 'rm', '-f', `end-${host}`);
    },
    600_000,
  );
});
