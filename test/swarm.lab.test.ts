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
    async () => (await running()).length === tasks && (await resolve('tasks.front')).length === tasks,
    90,
  );

const differences = async (): Promise<string> => {
  const { status, out, err } = await lab('check', '--wait', '120');
  return status === 0 ? '' : out || err;
};

/** By the virtual address from one host, by names of tasks from another. */
const CLIENTS = [
  { host: 'node1', container: 'client', name: 'front' },
  { host: 'node2', container: 'guest', name: 'tasks.front' },
];

/**
 * Connects twenty times a second from containers while something is done; answers what they got that was no answer of the service: HTTP's
 * number, who was asked, and why.
 */
async function whileConnecting(done: () => Promise<unknown>, clients = CLIENTS): Promise<string[]> {
  const loops = clients.map(({ host, container, name }) => {
    const loop = `while :; do curl -s -m 5 -o /dev/null -w '%{http_code} %{remote_ip} %{errormsg}\\n' http://${name}/; sleep 0.05; done`;
    const child = spawn(COMMAND, ['exec', host, '--', 'docker', 'exec', container, 'sh', '-c', loop], {
      env,
    });
    let text = '';
    child.stdout.on('data', (chunk) => {
      text += chunk;
    });
    return { host, container, child, lines: () => text.split('\n').slice(0, -1) };
  });
  const some = (count: number) =>
    Promise.all(
      loops.map(({ lines }) => {
        const wanted = lines().length + count;
        return until(`${wanted} connections`, async () => lines().length >= wanted);
      }),
    );
  try {
    await some(20);
    await done();
    await some(20);
  } finally {
    for (const { host, container, child } of loops) {
      child.kill('SIGKILL');
      await on(host, `docker exec ${container} pkill curl || true`);
    }
  }
  return loops.flatMap(({ lines }) => lines().filter((line) => !line.startsWith('200 ')));
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
  const virtual = await resolve('front');
  expect(virtual.length).toBe(1);
  expect(await resolve('storefront')).toEqual(virtual);
  const tasks = (await resolve('tasks.front')).sort();
  expect((await resolve('tasks.storefront')).sort()).toEqual(tasks);
  expect(tasks).not.toContain(virtual[0]);
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

it('a node is drained and comes back: no connection fails', async () => {
  const failed = await whileConnecting(async () => {
    await on('node1', 'docker node update --availability drain node3');
    await until('node3 is empty', async () => !(await running()).some((line) => line.endsWith(' node3')));
    await isWhole(4);
    await on('node1', 'docker node update --availability active node3');
  });
  expect(failed).toEqual([]);
  expect(await differences()).toBe('');
});

it('dockerd killed of the manager that leads: another one leads, whom others run answers on, and nothing else is left', async () => {
  // Clients of other hosts than those that die.
  const leads = 'docker node ls --format \'{{if eq .ManagerStatus "Leader"}}{{.Hostname}}{{end}}\'';
  const leader = (await on('node2', leads)).trim();
  await on('node1', 'docker service scale --detach front=6');
  await isWhole(6);
  const here = (await on(leader, 'docker ps -q --filter label=com.docker.swarm.service.name=front')).split(
    '\n',
  );
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
  const dying = (await on(leader, `docker inspect ${here.join(' ')} -f '${format}'`)).split('\n');
  const clients = CLIENTS.filter(({ host }) => host !== leader).map((c) => ({ ...c, name: 'tasks.front' }));
  const other = HOSTS.find((host) => host !== leader) as string;
  const failed = await whileConnecting(async () => {
    await must('kill', 'dockerd', leader);
    await until('another one leads', async () => {
      const { status, out } = await type(other, leads);
      return status === 0 && out.trim() !== '' && out.trim() !== leader;
    });
    await on(other, 'docker service update --detach --label-add a=b front');
    await must('start', 'dockerd', leader);
    await until('the manager', async () => (await type(leader, 'docker node ls')).status === 0);
  }, clients);
  // Who was killed with its dockerd refuses until that is known.
  expect(failed.filter((line) => !dying.some((address) => line.split(' ')[1] === address))).toEqual([]);
  for (const { host, container } of CLIENTS) if (host === leader) await on(host, `docker start ${container}`);
  await isWhole(6);
  expect(await whileConnecting(async () => {})).toEqual([]);
  expect(await differences()).toBe('');
  for (const host of HOSTS)
    expect(await on(host, "docker plugin ls --format '{{.Name}} {{.Enabled}}'")).toBe('contiv:latest true');
});

it('one that differs is exchanged, and one that is away is waited for by the calls of a start', async () => {
  expect(await on('node2', 'netplugin swarm install')).toBe('contiv:latest is up to date');
  await must('stop', 'netplugin', 'node2');
  const started = on('node2', 'docker run -d --name=late --net=web_shop contiv/lab sleep 100000');
  await must('start', 'netplugin', 'node2');
  await started;
  await on('node2', 'docker rm -f late');
});

it('what is declared is a network of Swarm’s on every manager; what stands for nothing is removed, and it is said why', async () => {
  const drivers = '-d contiv:latest -o network=no --ipam-driver contiv:latest --ipam-opt network=no';
  const names = (host: string) =>
    on(host, "docker network ls --filter scope=swarm --format '{{.Name}}' | grep -v ingress | sort");
  await on('node2', `docker network create ${drivers} undeclared`);
  await until('it is told', async () =>
    (await on('node1', 'netctl events')).includes(
      "undeclared is removed from Docker's Swarm: network default:no does not exist: create it with",
    ),
  );
  await on('node1', 'netctl group create shop db');
  for (const host of HOSTS)
    await until(
      'the group',
      async () => (await names(host)) === 'db_shop\nshop__default\nstorefronts\nweb_shop',
    );
  await on('node1', 'netctl group rm db');
  await until('it goes', async () => (await names('node3')) === 'shop__default\nstorefronts\nweb_shop');
});

it('with the service and the network everything goes that was theirs', async () => {
  await on('node1', 'docker service rm front');
  await on('node1', 'docker stack rm store');
  await on('node1', 'docker rm -f client');
  await on('node2', 'docker rm -f guest');
  await until('no task', async () => {
    const left = await Promise.all(HOSTS.map((host) => on(host, 'docker ps -aq')));
    return left.join('') === '';
  });
  await until(
    'the network goes',
    async () => (await type('node1', 'docker network rm storefronts')).status === 0,
  );
  expect(await differences()).toBe('');
  expect(await on('node1', 'netctl get swarmService -o name')).toBe('');
});

it('with its only manager a Swarm ends: nothing that it kept is left', async () => {
  // A manager whose dockerd was killed may not have caught up yet.
  const demote = 'docker node demote node2 node3';
  await until('node1 to be the only manager', async () => (await type('node1', demote)).status === 0);
  await Promise.all(
    ['node2', 'node3'].map((host) =>
      until('it leaves', async () => (await type(host, 'docker swarm leave')).status === 0),
    ),
  );
  await on(
    'node1',
    'docker service create --detach --name last --network web_shop --no-resolve-image contiv/lab sleep 100000',
  );
  const services = () => on('node1', 'netctl get swarmService -o name');
  await until('it is known', async () => (await services()) !== '');
  await on('node1', 'docker swarm leave --force');
  await until('it is gone', async () => (await services()) === '');
  expect(await differences()).toBe('');
});

it('a host gives its plugin away, and is asked to before it leaves', async () => {
  await on('node1', 'netctl group rm web');
  await on('node1', 'netctl net rm shop');
  await must('stop', 'netplugin', 'node3');
  const { err } = await type('node3', 'netplugin leave');
  expect(err).toContain('remove it first, netplugin swarm remove');
  await must('start', 'netplugin', 'node3');
  for (const host of HOSTS)
    await until('the plugin goes', async () => (await type(host, 'netplugin swarm remove')).status === 0);
});
