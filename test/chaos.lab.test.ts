/** kill -9 of each server, ten times at random moments, on both hosts where it runs on both, while containers come and go. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clear, differences, docker, lab, mustLab, netctl, on, pings, run, until } from './lab.ts';

const KILLS = 10;
const HOSTS = ['node1', 'node2'];
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

/** dockerd ends what a killed one left: at once, not after the 10 s that a process has which ignores SIGTERM. */
const KILLED = '--stop-signal=SIGKILL';

let churning = false;
let started = 0;
let starters = 0;

/** Starts and removes containers over and over; while a server is dead a command may fail. */
async function churn(host: string): Promise<void> {
  const starter = ++starters;
  for (let round = 0; churning; round++) {
    const name = `chaos${starter}-${round}`;
    const net = round % 2 === 0 ? 'chaos' : 'app.chaos';
    const flags = ['-d', `--name=${name}`, `--net=${net}`, KILLED];
    if ((await on(host, 'docker run', ...flags, 'contiv/lab', 'sleep', '100000')).status === 0) started++;
    else await pause(200);
    // Every third one stays for a while.
    const leaving = round % 3 !== 0 ? name : round > 6 ? `chaos${starter}-${round - 6}` : undefined;
    if (leaving !== undefined) await on(host, `docker rm -f ${leaving}`);
  }
}

beforeAll(async () => {
  await netctl('net create chaos --subnet=10.10.0.0/16 --gateway=10.10.255.254');
  await netctl('policy create some');
  await netctl('policy rule-add some ssh -protocol=tcp -port=22 -action=deny');
  await netctl('policy rule-add some near --from-network=chaos -action=allow -priority=5');
  await netctl('group create chaos app -policy=some');
  for (const host of HOSTS) await run(host, `stays-${host}`, 'app.chaos', '--restart=always', KILLED);
});
afterAll(clear);

describe('under churn', () => {
  it.each([
    ['netmaster', ['node1']],
    ['netplugin', HOSTS],
    ['names', HOSTS],
    ['dockerd', HOSTS],
  ] as const)(
    'kill -9 of %s ten times leaves no difference',
    async (process, hosts) => {
      churning = true;
      const churners = [...HOSTS, ...HOSTS].map(churn);
      try {
        await Promise.all(
          hosts.map(async (host) => {
            for (let kill = 0; kill < KILLS / hosts.length; kill++) {
              await pause(Math.random() * 1500);
              await lab(`kill ${process} ${host}`);
              await pause(Math.random() * 500);
              if (process !== 'names') await mustLab(`start ${process} ${host}`); // netplugin does it
            }
          }),
        );
        const before = started;
        await until('containers start again', async () => started > before);
      } finally {
        churning = false;
        await Promise.all(churners);
      }
      // An address whose release was lost is collected after a minute, the endpoint before it after another.
      expect(await differences(180)).toBe('');
      // What is there is not only consistent but works.
      for (const host of HOSTS) await run(host, `end-${host}`, 'chaos');
      for (const [from, to] of [
        ['end', 'end'],
        ['stays', 'end'],
        ['end', 'stays'],
        ['stays', 'stays'],
      ]) {
        await until('ping', () => pings('node1', `${from}-node1`, `${to}-node2`));
        await until('ping', () => pings('node2', `${from}-node2`, `${to}-node1`));
      }
      for (const host of HOSTS) await docker(host, `rm -f end-${host}`);
    },
    600_000,
  );
});
