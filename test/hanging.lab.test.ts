/** Of what follows a host's state, what hangs holds up only what concerns it. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clear, differences, inside, mustLab, netctl, on, run, until } from './lab.ts';

const LATE = 'netctl: warning: not yet applied on node2';

beforeAll(async () => {
  await netctl('net create early --subnet=10.23.0.0/24 --gateway=10.23.0.254');
  await netctl('policy create guard');
  await run('node1', 'asks', 'early');
});
afterAll(clear);

async function pidOf(name: string): Promise<number> {
  const { processes } = JSON.parse(await mustLab('status --json')) as {
    processes: { name: string; host: string; pid: number }[];
  };
  return processes.find((p) => p.name === name && p.host === 'node2')?.pid as number;
}
/** What netctl warns of. */
const warned = async (...args: string[]): Promise<string> => {
  const { status, err } = await on('node1', 'netctl', ...args);
  expect([status, args]).toEqual([0, args]);
  return err.trim();
};
const addRule = (n: number): Promise<string> =>
  warned('policy', 'rule-add', 'guard', `${n}`, '-direction=in', '-action=allow', `-priority=${n}`);

it('a Docker that hangs makes its host late for a new network, not for rules, and has the network when it goes on', async () => {
  const docker = await pidOf('dockerd');
  process.kill(docker, 'SIGSTOP');
  try {
    let n = 1;
    await until('a rule on time', async () => (await addRule(n++)) === '');
    expect(await warned('net', 'create', 'late', '--subnet=10.24.0.0/24')).toBe(LATE);
    // Four in a row: one may be late by chance where the machine is busy.
    let inRow = 0;
    await until('rules are on time', async () => {
      inRow = (await addRule(n++)) === '' ? inRow + 1 : 0;
      return inRow === 4;
    });
  } finally {
    process.kill(docker, 'SIGCONT');
  }
  await run('node2', 'answers', 'late');
});

const service = (name: string, port: number): Promise<string> =>
  warned('service', 'create', name, '--network=early', '--selector=app=none', `--port=${port}:80:TCP`);
const asked = async (name: string): Promise<string> =>
  (await inside('node2', 'beside', `dig +short +time=5 +tries=1 ${name}`)).out.trim();

it('a name is not said to be there while the process that answers names hangs, and is answered by the next one', async () => {
  await run('node2', 'beside', 'early');
  process.kill(await pidOf('names'), 'SIGSTOP');
  expect(await service('hung', 1)).toBe(LATE);
  await until('the name', async () => /^10\.23\./.test(await asked('hung')));
  let n = 50;
  await until('names are on time', async () => (await addRule(n++)) === '');
});

it('a name that is said to be there while that process is started anew is answered', async () => {
  process.kill(await pidOf('names'), 'SIGKILL');
  const told = await service('shop', 2);
  expect(told !== '' || /^10\.23\./.test(await asked('shop'))).toBe(true);
  await until('the name', async () => /^10\.23\./.test(await asked('shop')));
  expect(await differences()).toBe('');
});
