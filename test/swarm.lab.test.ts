/** Docker's Swarm on three hosts, from empty ones, as the guide has it typed: a lab of its own. */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Ended, LAB, openLab, until } from './lab.ts';

const OWN = `${LAB.slice(-10)}sw`;
const HOSTS = ['node1', 'node2', 'node3'];
const { lab, mustLab, on, must, background, differences } = openLab(OWN);

/** A line as a shell takes it. */
const type = (host: string, line: string): Promise<Ended> => on(host, 'sh -c', line);
const done = (host: string, line: string): Promise<string> => must(host, 'sh -c', line);

beforeAll(async () => {
  await mustLab('down');
  // What a Swarm that has ended kept is waited for: not for a minute.
  await mustLab('up --quiet --hosts 3 --address-grace 20');
}, 600_000);
afterAll(async () => {
  if (process.env.KEEP_LAB === undefined) await lab('down');
}, 120_000);

/** By the virtual address from one host, by names of tasks from another. */
const CLIENT = { host: 'node1', container: 'client', name: 'front' };
const CLIENTS = [CLIENT, { host: 'node2', container: 'guest', name: 'tasks.front' }];

/** As the client's resolver answers. */
const resolve = async (name: string, { host, container } = CLIENT): Promise<string[]> =>
  (await done(host, `docker exec ${container} dig +short ${name}`)).split('\n').filter((line) => line !== '');

/** Where the tasks of front run that are wanted and run, by what Swarm says. */
async function running({ host } = CLIENT): Promise<string[]> {
  const format = '{{.CurrentState}} {{.Node}}';
  const listed = await done(host, `docker service ps front -f desired-state=running --format '${format}'`);
  return listed.split('\n').filter((line) => line.startsWith('Running '));
}

const isWhole = (tasks: number, by = CLIENT) =>
  until(
    `${tasks} tasks, and their names`,
    async () => (await running(by)).length === tasks && (await resolve('tasks.front', by)).length === tasks,
    90,
  );

/** Docker says nothing of an update until a manager has begun it. */
const isUpdated = (service: string) =>
  until(
    'the update',
    async () => {
      const state = `docker service inspect ${service} -f '{{with .UpdateStatus}}{{.State}}{{end}}'`;
      return (await done('node1', state)) === 'completed';
    },
    120,
  );

let runs = 0;
/**
 * Connects a hundred times a second from each container while something is done; answers what they got that was no answer of the service:
 * HTTP's number, who was asked, and why. Names are asked for anew each half second, and after each failure;
 * `perName` connections by one answer: where hosts die fewer, as each of them waits for the dead before it takes the next address.
 */
async function whileConnecting(
  work: () => Promise<unknown>,
  clients = CLIENTS,
  perName = 50,
): Promise<string[]> {
  const each = `-w '%{http_code} %{remote_ip} %{errormsg}\\n'`;
  const curl = `curl -s -m 5 --fail-early --rate 100/s -H 'Connection: close' -o /dev/null ${each}`;
  const over = `/over-${++runs}`;
  const loops = clients.map(({ host, container, name }) => {
    const loop = `until [ -e ${over} ]; do ${curl} 'http://${name}/?[1-${perName}]'; done`;
    return background(host, `docker exec ${container} sh -c`, loop);
  });
  const some = (count: number) =>
    Promise.all(
      loops.map(({ lines }) => {
        const wanted = lines.length + count;
        return until(`${wanted} connections`, async () => lines.length >= wanted);
      }),
    );
  try {
    await some(100);
    await work();
    await some(100);
  } finally {
    // What is killed here goes on in its container.
    for (const { host, container } of clients) await type(host, `docker exec ${container} touch ${over}`);
    await Promise.all(loops.map((loop) => loop.end()));
  }
  return loops.flatMap(({ lines }) => lines.filter((line) => !line.startsWith('200 ')));
}

/** Of each task of front that runs, by its id: how many segments it has sent that refuse, as its own kernel counts them. */
async function refusals(hosts: readonly string[]): Promise<Map<string, number>> {
  const counted = new Map<string, number>();
  for (const host of hosts)
    for (const id of (await tasksOn(host)).split('\n').filter((line) => line !== '')) {
      const { status, out } = await type(host, `docker exec ${id} grep Tcp: /proc/net/snmp`);
      const [names = [], values = []] = out.split('\n').map((line) => line.split(' '));
      if (status === 0) counted.set(id, Number(values[names.indexOf('OutRsts')]));
    }
  return counted;
}
const tasksOn = (host: string): Promise<string> =>
  done(host, 'docker ps -q --filter label=com.docker.swarm.service.name=front');

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
        return status === 0 && out.trim();
      });
      expect(said).toBe('hello from contiv');
    } else await done(host, typed);
    if (line.startsWith('docker swarm init')) token = await done(host, 'docker swarm join-token -q manager');
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
  expect(await differences(120)).toBe('');
});

it('a scale down, an update and a plugin that is away, and one that is exchanged: no connection fails', async () => {
  const failed = await whileConnecting(async () => {
    await done('node1', 'docker service scale --detach front=3');
    await isWhole(3);
    await Promise.all(HOSTS.map((host) => done(host, 'docker plugin disable -f contiv:latest')));
    await done('node1', 'docker service scale --detach front=4');
    await Promise.all(HOSTS.map((host) => done(host, 'docker plugin enable contiv:latest')));
    await isWhole(4);
    // As one of another version would be: it is known by its description.
    await done('node2', 'netplugin swarm folder /run/another');
    await done('node2', `sed -i 's/"description": "/&another, /' /run/another/config.json`);
    await done('node2', 'docker plugin rm -f contiv:latest');
    await done('node2', 'docker plugin create contiv:latest /run/another');
    await done('node2', 'docker plugin enable contiv:latest');
    await done('node1', 'docker service scale --detach front=5');
    expect(await done('node2', 'netplugin swarm install')).toBe('Exchanged contiv:latest');
    await isWhole(5);
    await done('node1', 'docker service scale --detach front=4');
    await isWhole(4);
    const flags = '--update-order start-first --update-parallelism 0 --update-monitor 1s';
    await done('node1', `docker service update --detach ${flags} --env-add A=B front`);
    await isUpdated('front');
    await isWhole(4);
  });
  expect(failed).toEqual([]);
  expect(await differences(120)).toBe('');
});

it('a node is drained and comes back: no connection fails', async () => {
  const failed = await whileConnecting(async () => {
    await done('node1', 'docker node update --availability drain node3');
    await until('node3 is empty', async () => !(await running()).some((line) => line.endsWith(' node3')));
    await isWhole(4);
    await done('node1', 'docker node update --availability active node3');
  });
  expect(failed).toEqual([]);
  expect(await differences(120)).toBe('');
});

it('dockerd killed of the manager that leads, then that whole host: another one leads, and no task that lives refuses anybody', async () => {
  const leads = 'docker node ls --format \'{{if eq .ManagerStatus "Leader"}}{{.Hostname}}{{end}}\'';
  await done('node1', 'docker service scale --detach front=6');
  await isWhole(6);
  const leader = (await done('node2', leads)).trim();
  const others = HOSTS.filter((host) => host !== leader);
  const [other = ''] = others;
  // By the virtual address and by names of tasks, of other hosts than those that die.
  const clients = CLIENTS.filter(({ host }) => host !== leader).flatMap(({ host, container }) =>
    ['front', 'tasks.front'].map((name) => ({ host, container, name })),
  );
  const anotherLeads = () =>
    until('another one leads', async () => {
      const { status, out } = await type(other, leads);
      return status === 0 && out.trim() !== '' && out.trim() !== leader;
    });
  const isManager = () =>
    until('the manager', async () => (await type(leader, 'docker node ls')).status === 0, 120);
  const before = await refusals(others);

  await whileConnecting(
    async () => {
      await mustLab(`kill dockerd ${leader}`);
      await anotherLeads();
      await done(other, 'docker service update --detach --label-add a=b front');
      await mustLab(`start dockerd ${leader}`);
      await isManager();
      await isWhole(6, clients[0]);
    },
    clients,
    10,
  );
  expect(await whileConnecting(async () => {}, clients)).toEqual([]);

  await whileConnecting(
    async () => {
      await mustLab(`reboot ${leader}`);
      await anotherLeads();
      await isManager();
      await isWhole(6, clients[0]);
    },
    clients,
    10,
  );
  for (const { host, container } of CLIENTS)
    if (host === leader) await done(host, `docker start ${container}`);
  expect(await whileConnecting(async () => {})).toEqual([]);

  // Who died with its dockerd refused until that was known; who lives refused nobody.
  const lived = [...(await refusals(others))].filter(([id]) => before.has(id));
  expect(lived.length).toBeGreaterThan(0);
  for (const [id, count] of lived) expect(count).toBe(before.get(id));
  expect(await differences(120)).toBe('');
  for (const host of HOSTS)
    expect(await done(host, "docker plugin ls --format '{{.Name}} {{.Enabled}}'")).toBe('contiv:latest true');
}, 400_000);

it('one that is as it should be stays, and one that is away is waited for by the calls of a start', async () => {
  expect(await done('node2', 'netplugin swarm install')).toBe('contiv:latest is up to date');
  await mustLab('stop netplugin node2');
  const started = done('node2', 'docker run -d --name=late --net=web_shop contiv/lab sleep 100000');
  await mustLab('start netplugin node2');
  await started;
  await done('node2', 'docker rm -f late');
});

it('published ports: of hosts, through an update too; of Docker’s mesh, which comes to tasks by a network of its own', async () => {
  // httpd is its container's first process, which the kernel takes no other signal to.
  const create = 'docker service create --detach --network web_shop --no-resolve-image --stop-signal KILL';
  const httpd = 'contiv/lab httpd -f -p 80 -h /www';
  await done(
    'node1',
    `${create} --name onhosts --mode global -p mode=host,published=8082,target=80 ${httpd}`,
  );
  await done('node1', `${create} --name meshed --replicas 3 -p published=8083,target=80 ${httpd}`);
  const answers = async (at: string, from = 'node1') =>
    (await type(from, `curl -sf -m 3 -o /dev/null http://${at}/`)).status === 0;
  const everyHost = async (port: number) => {
    for (const i of HOSTS.keys())
      await until(`${HOSTS[i]}:${port}`, () => answers(`192.168.50.1${i + 1}:${port}`));
  };
  await everyHost(8082);
  const update = 'docker service update --detach --update-parallelism 0 --update-monitor 1s';
  await done('node1', `${update} --env-add A=B onhosts`);
  await isUpdated('onhosts');
  await everyHost(8082);

  // Its own policy is as it was: by the virtual address port 80 alone.
  await until('the name', async () => (await resolve('meshed')).length === 1);
  await until(
    'an answer',
    async () => (await type('node1', 'docker exec client curl -sf http://meshed/')).status === 0,
  );
  expect((await type('node1', 'docker exec client curl -s -m 2 http://meshed:8083/')).status).toBe(28);
  const address = "-f '{{.NetworkSettings.Networks.ingress.IPAddress}}'";
  const listed = HOSTS.map((host) =>
    done(
      host,
      `docker ps -q --filter label=com.docker.swarm.service.name=meshed | xargs -r docker inspect ${address}`,
    ),
  );
  const tasks = (await Promise.all(listed)).flatMap((out) => out.split('\n')).filter((line) => line !== '');
  expect(tasks.length).toBe(3);
  // From where Docker's mesh is on each host; it chooses among them by IPVS, which a kernel may lack: then it does for no service.
  for (const host of HOSTS)
    for (const task of tasks)
      await until(`${task} from ${host}`, async () => {
        const mesh = 'nsenter --net=/run/docker/netns/ingress_sbox';
        return (await type(host, `${mesh} curl -sf -m 3 -o /dev/null http://${task}:8083/`)).status === 0;
      });
  if (fs.existsSync('/proc/net/ip_vs')) await everyHost(8083);
  await done('node1', 'docker service rm onhosts meshed');
  expect(await differences(120)).toBe('');
}, 400_000);

it('in a network with IPv6 tasks and services have an address of either family, and answer by either', async () => {
  const subnets = '--subnet=20.6.1.0/24 --gateway=20.6.1.254 --subnetv6=fd06::/64 --gatewayv6=fd06::1';
  await done('node1', `netctl net create six ${subnets}`);
  const service =
    'docker service create --detach --name sixes --stop-signal KILL --replicas 3 --network six__default';
  const httpd = '--no-resolve-image contiv/lab httpd -f -h /www';
  await until('the network', async () => (await type('node1', `${service} ${httpd}`)).status === 0);
  const client = { host: 'node1', container: 'six', name: 'tasks.sixes' };
  await done(client.host, `docker run -d --name=${client.container} --net=six contiv/lab sleep 100000`);
  for (const family of ['A', 'AAAA']) {
    await until(
      `tasks, ${family}`,
      async () => (await resolve(`${family} tasks.sixes`, client)).length === 3,
    );
    const virtual = await until(`an address, ${family}`, async () => {
      const found = await resolve(`${family} sixes`, client);
      return found.length === 1 && found[0];
    });
    expect(await resolve(`${family} tasks.sixes`, client)).not.toContain(virtual);
  }
  for (const family of ['-4', '-6'])
    for (const name of ['sixes', 'tasks.sixes'])
      await done(client.host, `docker exec ${client.container} curl -sf -m 5 ${family} http://${name}/`);
  expect(await differences(120)).toBe('');
  const given = async () =>
    JSON.parse(await done('node1', 'netctl get swarmService -o json')).find(
      (s: { serviceName: string }) => s.serviceName === 'sixes',
    )?.ipv6VirtualAddress;
  const before = await given();
  expect(await resolve('AAAA sixes', client)).toEqual([before]);
  await done('node1', 'docker service update --detach --label-add a=b sixes');
  await done('node1', 'docker service scale --detach sixes=1');
  await until('one task', async () => (await resolve('AAAA tasks.sixes', client)).length === 1);
  expect(await given()).toBe(before);
  await done('node1', 'docker service rm sixes; docker rm -f six');
  await until('no task', async () => (await type('node1', 'netctl net rm six')).status === 0);
});

it('a service on two groups of one network is told of at once, with what to do, and starts when it has one', async () => {
  await done('node1', 'netctl group create shop db');
  const service = 'docker service create --detach --name both --stop-signal KILL --restart-delay 1s';
  const on = '--network web_shop --network db_shop --no-resolve-image contiv/lab sleep 100000';
  await until('the network', async () => (await type('node1', `${service} ${on}`)).status === 0);
  // In which of the two orders Docker lists them is its own affair.
  const line =
    /service both is on (?:web_shop and db_shop|db_shop and web_shop), and its tasks can be on one group of network default:shop only, so none starts: leave one out, docker service update --network-rm (web_shop|db_shop) both/;
  await until('it is told', async () => line.test(await done('node1', 'netctl events')));
  const errors = "docker service ps both --no-trunc --format '{{.Error}}'";
  await until('the task says so too', async () =>
    (await done('node1', errors)).includes('one group of network default:shop only'),
  );
  await done('node1', 'docker service update --detach --network-rm db_shop both');
  await until('the task runs', async () =>
    (
      await done('node1', "docker service ps both -f desired-state=running --format '{{.CurrentState}}'")
    ).startsWith('Running '),
  );
  await done('node1', 'docker service rm both');
  await until('the group goes', async () => (await type('node1', 'netctl group rm db')).status === 0);
});

it('what is declared is a network of Swarm’s on every manager; what stands for nothing is removed, and it is said why', async () => {
  const drivers = '-d contiv:latest -o network=no --ipam-driver contiv:latest --ipam-opt network=no';
  const names = (host: string) =>
    done(host, "docker network ls --filter scope=swarm --format '{{.Name}}' | grep -v ingress | sort");
  await done('node2', `docker network create ${drivers} undeclared`);
  await until('it is told', async () =>
    (await done('node1', 'netctl events')).includes(
      "undeclared is removed from Docker's Swarm: network default:no does not exist: create it with",
    ),
  );
  await done('node1', 'netctl group create shop db');
  for (const host of HOSTS)
    await until(
      'the group',
      async () => (await names(host)) === 'db_shop\nshop__default\nstorefronts\nweb_shop',
    );
  await done('node1', 'netctl group rm db');
  await until('it goes', async () => (await names('node3')) === 'shop__default\nstorefronts\nweb_shop');
});

it('a network of IPv6 alone is none of Swarm’s: it is told, and who makes it by hand or asks for it is refused', async () => {
  await done('node1', 'netctl net create alone --subnetv6=fd00:66::/64');
  const told = (line: string) => async () => (await done('node1', 'netctl events')).includes(line);
  const why = "it has no IPv4 subnet, and Docker's Swarm gives each of its networks IPv4: make it anew with";
  await until('it is told', told(`network default:alone is not offered to Docker's Swarm: ${why}`));
  const drivers = '-d contiv:latest -o network=alone --ipam-driver contiv:latest --ipam-opt network=alone';
  await done('node2', `docker network create ${drivers} --ipv6 mine`);
  await until('it goes', told(`mine is removed from Docker's Swarm: network default:alone: ${why}`));
  const asked = await type(
    'node1',
    'docker service create --detach --network alone__default contiv/lab true',
  );
  expect(asked.err).toContain('network alone__default not found');
  await done('node1', 'netctl net rm alone');
});

it('with the service and the network everything goes that was theirs', async () => {
  await done('node1', 'docker service rm front');
  await done('node1', 'docker stack rm store');
  await done('node1', 'docker rm -f client');
  await done('node2', 'docker rm -f guest');
  await until('no task', async () => {
    const left = await Promise.all(HOSTS.map((host) => done(host, 'docker ps -aq')));
    return left.join('') === '';
  });
  await until(
    'the network goes',
    async () => (await type('node1', 'docker network rm storefronts')).status === 0,
  );
  expect(await differences(120)).toBe('');
  expect(await done('node1', 'netctl get swarmService -o name')).toBe('');
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
  await done(
    'node1',
    'docker service create --detach --name last --stop-signal KILL --network web_shop --no-resolve-image contiv/lab sleep 100000',
  );
  const services = () => done('node1', 'netctl get swarmService -o name');
  await until('it is known', async () => (await services()) !== '');
  await done('node1', 'docker swarm leave --force');
  await until('it is gone', async () => (await services()) === '');
  expect(await differences(120)).toBe('');
});

it('a host gives its plugin away, and is asked to before it leaves', async () => {
  await done('node1', 'netctl group rm web');
  await done('node1', 'netctl net rm shop');
  await mustLab('stop netplugin node3');
  const { err } = await type('node3', 'netplugin leave');
  expect(err).toContain('remove it first, netplugin swarm remove');
  await mustLab('start netplugin node3');
  for (const host of HOSTS)
    await until('the plugin goes', async () => (await type(host, 'netplugin swarm remove')).status === 0);
});
