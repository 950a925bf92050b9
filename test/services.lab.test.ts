/** A service, as a user makes it: containers with labels on two hosts, in two networks of a tenant. */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import {
  background,
  clear,
  differences,
  docker,
  inside,
  must,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

const VIP = '20.1.1.100';
/** Where each container runs. */
const HOST: Readonly<Record<string, string>> = {
  web1: 'node1',
  web2: 'node2',
  web3: 'node2',
  client1: 'node1',
  client2: 'node2',
  far: 'node2',
  stranger: 'node1',
};
const hostOf = (name: string): string => HOST[name] as string;

/** A container that answers its name on TCP 8080, and then echoes; and its name to each line on UDP 5353. */
async function provider(name: string, network: string, ...flags: string[]): Promise<void> {
  const host = hostOf(name);
  await run(host, name, network, '--label=app=web', '--label=tier=front', ...flags);
  const listen = (at: string, command: string) =>
    docker(host, `exec -d ${name} socat -T 100 ${at},fork,reuseaddr`, `system:${command}`);
  await listen('tcp-listen:8080', `echo ${name}; exec cat`);
  await listen('udp-listen:5353', `while read line; do echo ${name}; done`);
  for (const [protocol, port] of [
    ['TCP', 8080],
    ['UDP', 5353],
  ] as const)
    await until(`${name} listens`, async () => (await ask(name, protocol, '127.0.0.1', port)) === name);
}

/** Who answers from a container: the first line, or what socat says. UDP is asked more than once. */
async function ask(from: string, protocol: 'TCP' | 'UDP', target: string, port: number): Promise<string> {
  const command =
    protocol === 'TCP'
      ? `echo | socat -t 5 -T 10 - TCP:${target}:${port},connect-timeout=10 | head -1`
      : `for i in 1 2 3 4; do echo; sleep 0.5; done | socat -t 2 -T 10 - UDP:${target}:${port} | head -1`;
  const { out, err } = await inside(hostOf(from), from, 'sh -c', command);
  return out.trim() || err.trim().replace(/.*: /, '');
}

/** Who answers many connections. */
async function answering(from: string, target = 'lb', count = 24): Promise<string[]> {
  const command = `for i in $(seq ${count}); do echo | socat -t 5 -T 10 - TCP:${target}:80,connect-timeout=10 2>&1 | head -1; done`;
  const { out } = await inside(hostOf(from), from, 'sh -c', command);
  return [...new Set(out.trim().split('\n'))].map((line) => line.replace(/.*: /, '')).sort();
}

/** As many as make it all but certain that none is missed: (2/3)^60 of three is one in ten thousand million. */
const everyone = (from: string, target?: string): Promise<string[]> => answering(from, target, 60);

beforeAll(async () => {
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await netctl('net create other --subnet=20.1.2.0/24 --gateway=20.1.2.254');
  await netctl('group create contiv-net front');
  await netctl('tenant create blue');
  await netctl('net create blue-net -t blue --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await run('node1', 'client1', 'contiv-net');
  await run('node2', 'client2', 'front.contiv-net', '--label=app=web');
  await run('node2', 'far', 'other');
  await run('node1', 'stranger', 'blue-net/blue');
  await provider('web1', 'contiv-net');
  await provider('web2', 'front.contiv-net');
});
afterAll(clear);

describe('a service', () => {
  it('refuses at once while it has no provider', async () => {
    await netctl(
      'service create lb --network=contiv-net --preferred-ip=20.1.1.100 --selector=app=none --port=80:8080:TCP',
    );
    for (const from of ['client1', 'client2', 'far'])
      expect(await ask(from, 'TCP', VIP, 80)).toBe('Connection refused');
  });

  it('leads to the containers that carry all its labels, by a second create, from every host and network', async () => {
    await netctl(
      `service create lb --network=contiv-net --preferred-ip=${VIP} --selector=app=web --selector=tier=front --port=80:8080:TCP --port=5000:5353:UDP`,
    );
    for (const [from, name] of [
      ['client1', 'lb'],
      ['client2', 'lb'],
      ['far', 'lb.contiv-net'],
    ] as const)
      for (const target of [name, VIP]) {
        expect(await answering(from, target), `${from} to ${target}`).toEqual(['web1', 'web2']);
        expect(await ask(from, 'UDP', target, 5000)).toMatch(/^web[12]$/);
      }
    expect(await differences()).toBe('');
  });

  it('is reached by its providers, also each by itself', async () => {
    for (const from of ['web1', 'web2']) {
      expect(await everyone(from)).toEqual(['web1', 'web2']);
      const told = new Set<string>();
      await until('UDP to oneself', async () => told.add(await ask(from, 'UDP', 'lb', 5000)).has(from));
    }
  });

  it('answers pings, has its name as a container has, and nothing on other ports', async () => {
    for (const [from, host] of [
      ['client1', 'node1'],
      ['client2', 'node2'],
    ] as const) {
      expect(await pings(host, from, 'lb')).toBe(true);
      expect((await inside(host, from, 'dig +short lb.contiv-net')).out.trim()).toBe(VIP);
      expect((await inside(host, from, `dig +short -x ${VIP}`)).out.trim()).toBe('lb.contiv-net.');
      for (const port of [81, 53]) expect(await ask(from, 'TCP', VIP, port)).toBe('Connection refused');
    }
  });

  it('is nothing to another tenant', async () => {
    expect(await pings('node1', 'stranger', VIP)).toBe(false);
    expect((await inside('node1', 'stranger', 'dig +short lb')).out.trim()).toBe('');
    expect(await ask('stranger', 'TCP', VIP, 80)).not.toMatch(/web/);
  });
});

describe('when providers come and go', () => {
  it('connections go on, and a new one takes its share', async () => {
    const open = background(
      'node1',
      "docker exec client1 sh -c 'while :; do echo tick; sleep 0.1; done | socat - TCP:lb:80'",
    );
    const mine = await until('an open connection', async () => open.lines.includes('tick') && open.lines[0]);
    const other = mine === 'web1' ? 'web2' : 'web1';
    await provider('web3', 'other');
    await until('all three', async () => (await everyone('client1')).length === 3);
    await until('on the other host too', async () => (await everyone('client2')).join() === 'web1,web2,web3');
    await docker(hostOf(other), `rm -f ${other}`);
    const rest = [mine, 'web3'].sort().join();
    await until('two are left', async () => (await everyone('client1')).join() === rest);
    const count = open.lines.length;
    await until('the open connection goes on', async () => open.lines.length > count + 20);
    expect(open.lines.filter((line) => line !== 'tick')).toEqual([mine]);
    await inside('node1', 'client1', 'killall socat');
    await open.end('SIGKILL');
    await provider(other, 'contiv-net');
    await until('all three', async () => (await everyone('client1')).length === 3);
    expect(await differences()).toBe('');
  });

  it('one that is killed, paused or stopped takes no new ones, on either host', async () => {
    const left = async (...names: string[]): Promise<void> => {
      for (const from of ['client1', 'client2'])
        await until(
          `${names.join()} are left for ${from}`,
          async () => (await everyone(from)).join() === names.join(),
        );
    };
    const pid = await docker('node2', 'inspect -f {{.State.Pid}} web2');
    await must('node2', `kill -9 ${pid}`);
    await left('web1', 'web3');
    await docker('node1', 'pause web1');
    await left('web3');
    expect(await differences()).toBe('');
    await docker('node1', 'unpause web1');
    await left('web1', 'web3');
    await docker('node2', 'stop -t 0 web3');
    await left('web1');
    await docker('node2', 'rm web2 web3');
    expect(await differences()).toBe('');
  });

  it('one that is unhealthy takes none, unless no other is left', async () => {
    await provider(
      'web2',
      'contiv-net',
      '--health-cmd=test ! -e /tmp/sick',
      '--health-interval=1s',
      '--health-retries=1',
    );
    await until('both', async () => (await everyone('client1')).length === 2);
    await inside('node2', 'web2', 'touch /tmp/sick');
    await until('web1 only', async () => (await everyone('client1')).join() === 'web1');
    expect(await differences()).toBe('');
    await docker('node1', 'pause web1');
    await until('web2 all the same', async () => (await everyone('client1')).join() === 'web2');
    expect(await differences()).toBe('');
    await docker('node1', 'unpause web1');
    await inside('node2', 'web2', 'rm /tmp/sick');
    await until('both', async () => (await everyone('client1')).length === 2);
  });

  it('those of a host that is drained take no new ones from anywhere, theirs go on, and take them again', async () => {
    await until('both', async () => (await everyone('client1')).length === 2);
    const held = () =>
      background(
        'node1',
        "docker exec client1 sh -c 'while :; do echo tick; sleep 0.1; done | socat - TCP:lb:80'",
      );
    const connections = [held()];
    onTestFinished(async () => void (await Promise.all(connections.map((each) => each.end('SIGKILL')))));
    const to = (name: string) => connections.find(({ lines }) => lines[0] === name);
    await until('one to web2', async () => {
      if (to('web2') !== undefined) return true;
      if (connections.every(({ lines }) => lines.length > 0)) connections.push(held());
      return false;
    });
    await netctl('host drain node2');
    // Effective where the command has answered, as with any declaration: no polls.
    for (const from of ['client1', 'client2', 'far'])
      expect(await everyone(from, from === 'far' ? 'lb.contiv-net' : 'lb'), from).toEqual(['web1']);
    expect(await ask('web2', 'TCP', 'lb', 80)).toBe('web1');
    const { Oper } = JSON.parse(await netctl('service inspect lb'));
    expect(
      Object.fromEntries(
        Oper.providers.map((p: Record<string, string>) => [p.containerName, p.leftOut ?? 'takes them']),
      ),
    ).toEqual({ web1: 'takes them', web2: 'host node2 is being drained' });
    expect((await on('node1', 'netctl policy trace --from=client1 --to=lb --port=80')).err).toMatch(
      /new connections do not go to .*\(web2, .*\), as host node2 is being drained/,
    );
    const going = to('web2');
    const count = going?.lines.length ?? 0;
    await until('its connection goes on', async () => (going?.lines.length ?? 0) > count + 20);
    expect(going?.lines.filter((line) => line !== 'tick')).toEqual(['web2']);
    await inside('node1', 'client1', 'killall socat');

    await docker('node1', 'pause web1');
    await until('web2 where no other is left', async () => (await everyone('client1')).join() === 'web2');
    await docker('node1', 'unpause web1');
    await until('web1 alone again', async () => (await everyone('client1')).join() === 'web1');
    await netctl('host undrain node2');
    expect(await everyone('client1')).toEqual(['web1', 'web2']);
    expect(await everyone('client2')).toEqual(['web1', 'web2']);
    expect(await differences()).toBe('');
  });

  it('a UDP client that keeps its port goes on with another', async () => {
    const open = background(
      'node1',
      "docker exec client1 sh -c 'while :; do echo hello; sleep 0.2; done | socat - UDP:lb:5000,bind=:4444'",
    );
    const first = await until('an answer', async () => open.lines.at(-1));
    await docker(hostOf(first), `pause ${first}`);
    const other = first === 'web1' ? 'web2' : 'web1';
    await until('the other answers', async () => open.lines.at(-1) === other);
    await docker(hostOf(first), `unpause ${first}`);
    await inside('node1', 'client1', 'killall socat');
    await open.end('SIGKILL');
  });
});

describe('a service that changes', () => {
  const create = (...flags: string[]) =>
    netctl(`service create lb --network=contiv-net --preferred-ip=${VIP}`, ...flags);

  it('has its new ports and providers when the command answers', async () => {
    await create('--selector=app=web', '--port=81:8080:TCP');
    for (const from of ['client1', 'far']) {
      expect(await ask(from, 'TCP', VIP, 80)).toBe('Connection refused');
      expect(await ask(from, 'UDP', VIP, 5000)).toBe('Connection refused');
      expect(await ask(from, 'TCP', VIP, 81)).toMatch(/^web|^Connection refused$/);
    }
    // client2 carries app=web too, and nothing listens there.
    expect(await differences()).toBe('');
    await create('--selector=tier=front', '--port=81:8080:TCP');
    expect(await ask('client2', 'TCP', 'lb', 81)).toMatch(/^web/);
  });

  it('survives an agent that is killed, and what changed meanwhile is right afterwards', async () => {
    await mustLab('kill netplugin node1');
    await docker('node2', 'rm -f web2');
    await mustLab('start netplugin node1');
    await until('web1 only', async () => {
      const all = new Set<string>();
      for (let i = 0; i < 10; i++) all.add(await ask('client1', 'TCP', VIP, 81));
      return all.size === 1 && all.has('web1');
    });
    expect(await differences()).toBe('');
  });

  it('leaves nothing when it is deleted', async () => {
    await netctl('service rm lb');
    expect(await pings('node1', 'client1', VIP)).toBe(false);
    expect((await inside('node1', 'client1', 'dig +short lb')).out.trim()).toBe('');
    for (const host of ['node1', 'node2']) {
      const held = () =>
        must(
          host,
          "ip netns exec contiv-default sh -c 'nft list table inet contiv; ip addr; ip route; cat /proc/net/nf_conntrack'",
        );
      await expect.poll(held, { message: host }).not.toContain(VIP);
    }
    expect((await on('node1', 'netctl service inspect lb')).status).not.toBe(0);
    expect(await differences()).toBe('');
  });
});
