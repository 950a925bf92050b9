/** Docker's Swarm on three hosts, from empty ones, as the guide has it typed: a lab of its own. */
import { execFile, spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Ended, LAB, until } from './lab.ts';

const OWN = `${LAB.slice(-10)}sw`;
const HOSTS = ['node1', 'node2', 'node3'];
const COMMAND = path.join(import.meta.dirname, '../bin/lab');
const env = { ...process.env, LAB: OWN };

function lab(...args: string[]): Promise<Ended> {
  return new Promise((done) => {
    execFile(COMMAND, args, { env, maxBuffer: 1 << 26 }, (error, out, err) =>
      done({ status: error === null ? 0 : Number(error.code ?? 255), out: out.trim(), err: err.trim() }),
    );
  });
}
async function must(...args: string[]): Promise<string> {
  const { status, out, err } = await lab(...args);
  if (status !== 0) throw new Error(`lab ${args.join(' ')}: exit status ${status}: ${err || out}`);
  return out;
}
/** A line as a shell takes it. */
const type = (host: string, line: string): Promise<Ended> => lab('exec', host, '--', 'sh', '-c', line);
const on = (host: string, line: string): Promise<string> => must('exec', host, '--', 'sh', '-c', line);

beforeAll(async () => {
  await must('down');
  await must('up', '--quiet', '--hosts', '3');
}, 600_000);
afterAll(async () => {
  if (process.env.KEEP_LAB === undefined) await lab('down');
}, 120_000);

/** As the client's resolver answers. */
const resolve = async (name: string): Promise<string[]> =>
  (await on('node1', `docker exec client dig +short ${name}`)).split('\n').filter((line) => line !== '');

/** Where the tasks of front run that are wanted and run, by what Swarm says. */
async function running(): Promise<string[]> {
  const format = '{{.CurrentState}} {{.Node}}';
  const listed = await on('node1', `docker service ps front -f desired-state=running --format '${format}'`);
  return listed.split('\n').filter((line) => line.startsWith('Running '));
}

const isWhole = (tasks: number) =>
  until(
    `${tasks} tasks, and their names`,
    async () => (await running()).length === tasks && (await resolve('front')).length === tasks,
    90,
  );

const differences = async (): Promise<string> => {
  const { status, out, err } = await lab('check', '--wait', '120');
  return status === 0 ? '' : out || err;
};

/** Connects twenty times a second from a container on node1 while something is done; answers what it got that was no answer of the service. */
async function whileConnecting(done: () => Promise<unknown>): Promise<string[]> {
  const loop =
    "while :; do curl -s -m 5 -o /dev/null -w '%{http_code} %{remote_ip} %{errormsg}\\n' http://front/; sleep 0.05; done";
  const child = spawn(COMMAND, ['exec', 'node1', '--', 'docker', 'exec', 'client', 'sh', '-c', loop], {
    env,
  });
  let text = '';
  child.stdout.on('data', (chunk) => {
    text += chunk;
  });
  const lines = (): string[] => text.split('\n').slice(0, -1);
  const some = (count: number) => until(`${count} connections`, async () => lines().length >= count);
  try {
    await some(20);
    await done();
    await some(lines().length + 20);
  } finally {
    child.kill('SIGKILL');
    await on('node1', 'docker exec client pkill curl || true');
  }
  return lines().filter((line) => !line.startsWith('200 '));
}

it('the guide, line by line, ends with a service that its policy protects', async () => {
  const guide = fs.readFileSync(path.join(import.meta.dirname, '../docs/guide/swarm.md'), 'utf8');
  const lines = [...guide.matchAll(/^ {4}\[(node\d)\]\$ (.*)$/gm)];
  expect(lines.length).toBeGreaterThan(15);
  let token = '';
  for (const [, host = '', line = ''] of lines) {
    const typed = line.replace('TOKEN', token);
    // What is asked of tasks that have just been wanted.
    if (line.startsWith('docker exec')) {
      const said = await until(line, async () => {
        const { status, out } = await type(host, typed);
        return status === 0 && out;
      });
      expect(said).toBe('hello from contiv');
    } else await on(host, typed);
    if (line.startsWith('docker swarm init')) token = await on(host, 'docker swarm join-token -q manager');
  }
  await isWhole(5);
  expect(new Set((await running()).map((line) => line.split(' ').at(-1)))).toEqual(new Set(HOSTS));
  expect((await resolve('tasks.front')).sort()).toEqual((await resolve('front')).sort());
  // 28: nobody answers, as the rule has it; where nothing listens and no rule is in between it is refused, 7.
  for (const host of ['node1', 'node2']) {
    const name = host === 'node1' ? 'client' : 'guest';
    expect((await type(host, `docker exec ${name} curl -s -m 2 http://front:81/`)).status).toBe(28);
  }
  expect((await type('node2', 'docker exec guest curl -s -m 2 http://client:81/')).status).toBe(7);
  expect(await differences()).toBe('');
});

it('a scale down, an update and a plugin that is away: no connection fails', async () => {
  const failed = await whileConnecting(async () => {
    await on('node1', 'docker service scale --detach front=3');
    await isWhole(3);
    await Promise.all(HOSTS.map((host) => on(host, 'docker plugin disable -f contiv:latest')));
    await on('node1', 'docker service scale --detach front=4');
    await Promise.all(HOSTS.map((host) => on(host, 'docker plugin enable contiv:latest')));
    await isWhole(4);
    const flags = '--update-order start-first --update-parallelism 0 --update-monitor 1s';
    await on('node1', `docker service update --detach ${flags} --env-add A=B front`);
    await until(
      'the update',
      async () => {
        const state = await on('node1', "docker service inspect front -f '{{.UpdateStatus.State}}'");
        return state === 'completed';
      },
      120,
    );
    await isWhole(4);
  });
  expect(failed).toEqual([]);
  expect(await differences()).toBe('');
});

it('dockerd killed on one of the managers: what it ran is there again, and nothing else', async () => {
  await must('kill', 'dockerd', 'node3');
  await must('start', 'dockerd', 'node3');
  await until('the manager', async () => (await type('node3', 'docker node ls')).status === 0);
  await isWhole(4);
  expect(await differences()).toBe('');
  for (const host of HOSTS)
    expect(await on(host, "docker plugin ls --format '{{.Name}} {{.Enabled}}'")).toBe('contiv:latest true');
});

it('one that differs is exchanged, and one that is away is waited for by the calls of a start', async () => {
  expect(await on('node2', 'netplugin swarm install')).toBe('contiv:latest is up to date');
  await must('stop', 'netplugin', 'node2');
  const started = on('node2', 'docker run -d --name=late --net=web-swarm contiv/lab sleep 100000');
  await must('start', 'netplugin', 'node2');
  await started;
  await on('node2', 'docker rm -f late');
  // Swarm allocates by and by, and tells nobody but its log what it was refused.
  const drivers = '-d contiv:latest -o network=no --ipam-driver contiv:latest --ipam-opt network=no';
  await on('node1', `docker network create ${drivers} undeclared`);
  await until('it is told', async () =>
    (await on('node1', 'netctl events')).includes('network default:no does not exist: create it with'),
  );
  await on('node1', 'docker network rm undeclared');
});

it('with the service and the network everything goes that was theirs', async () => {
  await on('node1', 'docker service rm front');
  await on('node1', 'docker rm -f client');
  await on('node2', 'docker rm -f guest');
  await until('no task', async () => {
    const left = await Promise.all(HOSTS.map((host) => on(host, 'docker ps -aq')));
    return left.join('') === '';
  });
  await until(
    'the network goes',
    async () => (await type('node1', 'docker network rm web-swarm')).status === 0,
  );
  expect(await differences()).toBe('');
  await on('node1', 'netctl group rm web');
  await on('node1', 'netctl net rm shop');
  for (const host of HOSTS)
    await until('the plugin goes', async () => (await type(host, 'netplugin swarm remove')).status === 0);
});
