/** A container's life, and that of the servers beside it: afterwards everything equals what runs. */
import fs from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostFolder } from '../lab/state.ts';
import {
  addressOf,
  background,
  clear,
  DOCKER_USER,
  differences,
  docker,
  inside,
  LAB,
  lab,
  must,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

let peer = '';

beforeAll(async () => {
  await netctl(
    'net create life --subnet=10.7.0.0/24 --gateway=10.7.0.254 --subnetv6=fd00:7::/64 --gatewayv6=fd00:7::fe',
  );
  await netctl('net create other --subnet=10.8.0.0/24 --gateway=10.8.0.254');
  peer = await run('node2', 'peer', 'life');
});
afterAll(clear);

const state = (name: string): Promise<string> => docker('node1', `inspect -f {{.State.Status}} ${name}`);
const pidOf = (name: string): Promise<string> => docker('node1', `inspect -f {{.State.Pid}} ${name}`);
const running = (name: string): Promise<boolean> => state(name).then((s) => s === 'running');
const networksOf = (name: string): Promise<string> =>
  docker('node1', `inspect -f '{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}' ${name}`);
const remove = (...names: string[]): Promise<string> => docker('node1', 'rm -f', ...names);
describe('a container', () => {
  it('is stopped, started and restarted, and reachable by name after each', async () => {
    await run('node1', 'web', 'life');
    await docker('node1', 'stop -t 0 web');
    expect(await differences()).toBe('');
    expect((await inside('node2', 'peer', 'dig +short web')).out).toBe('');
    await docker('node1', 'start web');
    await until('name', () => pings('node2', 'peer', 'web'));
    await docker('node1', 'restart -t 0 web');
    await until('name', () => pings('node2', 'peer', 'web'));
    expect(await differences()).toBe('');
    await remove('web');
    expect(await differences()).toBe('');
  });

  it('with a restart policy is back on its network after a kill -9 of its process', async () => {
    await run('node1', 'stubborn', 'life', '--restart=always');
    const pid = await pidOf('stubborn');
    await must('node1', `kill -9 ${pid}`);
    await until('restart', async () => (await running('stubborn')) && (await pidOf('stubborn')) !== pid);
    await until('ping', () => pings('node2', 'peer', 'stubborn'));
    expect(await differences()).toBe('');
    await remove('stubborn');
  });

  it('without one leaves nothing after a kill -9 of its process', async () => {
    const address = await run('node1', 'mortal', 'life');
    await must('node1', 'kill -9', await pidOf('mortal'));
    await until('exit', async () => (await state('mortal')) === 'exited');
    expect(await differences()).toBe('');
    expect(await pings('node2', 'peer', address)).toBe(false);
    await remove('mortal');
  });

  it('is connected to and disconnected from networks while it runs', async () => {
    await run('node1', 'nomad', 'life');
    await docker('node1', 'network connect --alias=wanderer other nomad');
    await run('node2', 'resident', 'other');
    // Sooner than the next comparison with Docker would tell (CONTAINERS_INTERVAL).
    await until('alias', () => pings('node2', 'resident', 'wanderer'), 15);
    await docker('node1', 'network disconnect life nomad');
    expect(await differences()).toBe('');
    await until('the other network', () => pings('node1', 'nomad', 'resident'));
    expect((await inside('node2', 'peer', 'dig +short nomad')).out).toBe('');
    await docker('node1', 'network connect life nomad');
    await until('again', () => pings('node2', 'peer', 'nomad'));
    expect(await differences()).toBe('');
    await remove('nomad');
    await docker('node2', 'rm -f resident');
  });

  it('is refused a second group of its network, and a network of the same subnet, and Docker keeps nothing of it', async () => {
    await netctl('group create life one');
    await netctl('group create life two');
    await netctl('tenant create twin');
    await netctl('net create same -t twin --subnet=10.7.0.0/24 --gateway=10.7.0.254');
    await run('node1', 'single', 'one.life');
    for (const [network, what] of [
      [
        'two.life',
        /can be on one group of network default:life only.*docker network disconnect one.life single/,
      ],
      [
        'same/twin',
        /can be on one network of subnet 10.7.0.0\/24 only.*docker network disconnect one.life single/,
      ],
    ] as const) {
      const { status, err } = await on('node1', `docker network connect ${network} single`);
      expect(status).not.toBe(0);
      expect(err).toMatch(what);
      await until('Docker has one network', async () => (await networksOf('single')) === 'one.life');
    }
    expect(await differences()).toBe('');
    await docker('node1', 'restart -t 0 single');
    await until('ping', () => pings('node2', 'peer', 'single'));
    // As the refusal says.
    await docker('node1', 'network disconnect one.life single');
    await docker('node1', 'network connect two.life single');
    await until('ping', () => pings('node2', 'peer', 'single'));
    expect(await differences()).toBe('');
    // One that does not run is refused at its start, and can be put right.
    await docker('node1', 'create --name=double --net=one.life contiv/lab sleep 100000');
    await docker('node1', 'network connect two.life double');
    expect((await on('node1', 'docker start double')).err).toMatch(/one group of network default:life only/);
    // Docker 29 has taken it out of what it keeps of the container itself by now, and refuses; older ones keep it.
    await on('node1', 'docker network disconnect two.life double');
    await until('Docker has one network', async () => (await networksOf('double')) === 'one.life');
    await docker('node1', 'start double');
    await until('ping', () => pings('node2', 'peer', 'double'));
    await remove('single', 'double');
    expect(await differences()).toBe('');
  });

  it('starts at once after Docker’s idle networks were pruned', async () => {
    await run('node1', 'busy', 'life');
    for (let round = 0; round < 5; round++) {
      expect(await docker('node1', 'network prune -f')).toContain('other');
      const start = 'docker run --rm --net=other contiv/lab true';
      await until('start', async () => (await on('node1', start)).status === 0, 30);
    }
    await remove('busy');
    expect(await differences()).toBe('');
  });

  it('takes the address that the user gives, and refuses one that is taken or foreign', async () => {
    expect(await run('node1', 'fixed', 'life', '--ip=10.7.0.77', '--ip6=fd00:7::77')).toBe('10.7.0.77');
    await until('ping', () => pings('node2', 'peer', 'fd00:7::77'));
    const second = 'docker run --rm --net=life --ip=10.7.0.77 contiv/lab true';
    const taken = await on('node2', second);
    expect(taken.status).not.toBe(0);
    expect(taken.err).toMatch(/10\.7\.0\.77.*fixed/);
    const foreign = await on('node1', second.replace('10.7.0.77', '10.9.0.1'));
    expect(foreign.status).not.toBe(0);
    const gateway = await on('node1', second.replace('10.7.0.77', '10.7.0.254'));
    expect(gateway.status).not.toBe(0);
    expect(gateway.err).toMatch(/gateway/);
    await remove('fixed');
    expect(await differences()).toBe('');
  });

  it('keeps the address that the user gave over a restart', async () => {
    await run('node1', 'kept', 'life', '--ip=10.7.0.78');
    await docker('node1', 'restart -t 0 kept');
    expect(await addressOf('node1', 'kept')).toBe('10.7.0.78');
    await until('ping', () => pings('node2', 'peer', 'kept'));
    await remove('kept');
  });

  it('takes the MAC address that the user gives', async () => {
    // By Docker's API, old and new place: a newer command line does not give it to an older dockerd.
    const mac = '02:aa:bb:cc:dd:ee';
    const body = {
      Image: 'contiv/lab',
      Cmd: ['sleep', '100000'],
      MacAddress: mac,
      HostConfig: { NetworkMode: 'life' },
      NetworkingConfig: { EndpointsConfig: { life: { MacAddress: mac } } },
    };
    const api = ['curl', '-sf', '--unix-socket', '/run/docker.sock', '-H', 'Content-Type: application/json'];
    await must('node1', ...api, '-d', JSON.stringify(body), 'http://d/containers/create?name=mac');
    await docker('node1', 'start mac');
    expect((await inside('node1', 'mac', 'cat /sys/class/net/eth0/address')).out.trim()).toBe(
      '02:aa:bb:cc:dd:ee',
    );
    await until('ping', () => pings('node2', 'peer', 'mac'));
    expect(await differences()).toBe('');
    await remove('mac');
  });

  it('is found by its new name after a rename, and no longer by the old one', async () => {
    await run('node1', 'before', 'life');
    await docker('node1', 'rename before after');
    await until('new name', () => pings('node2', 'peer', 'after'));
    expect((await inside('node2', 'peer', 'dig +short before')).out).toBe('');
    expect(await differences()).toBe('');
    await remove('after');
  });

  it('has no name while it is paused', async () => {
    await run('node1', 'sleepy', 'life');
    await until('name', () => pings('node2', 'peer', 'sleepy'));
    await docker('node1', 'pause sleepy');
    await until('paused', async () => (await inside('node2', 'peer', 'dig +short sleepy')).out === '');
    expect(await differences()).toBe('');
    await docker('node1', 'unpause sleepy');
    await until('back', () => pings('node2', 'peer', 'sleepy'));
    await remove('sleepy');
  });

  it('that fails to start leaves nothing', async () => {
    const { status } = await on('node1', 'docker run --name=broken --net=life contiv/lab /no/such');
    expect(status).not.toBe(0);
    await remove('broken');
    expect(await differences()).toBe('');
  });
});

describe('dockerd', () => {
  /** What a killed dockerd leaves running the next one ends, and waits 10 s for those that ignore SIGTERM. */
  const SOON = '--stop-signal=SIGKILL';

  it.each(['stop', 'kill'])(
    'is restarted (%s): containers with a restart policy come back, others are gone everywhere',
    async (how) => {
      await run('node1', 'always', 'life', '--restart=always', '-p', '8090:80', SOON);
      await docker('node1', 'network connect other always');
      await run('node1', 'never', 'life', SOON);
      await mustLab(how, 'dockerd', 'node1');
      await mustLab('start dockerd node1');
      await until('always', () => running('always'));
      expect(await running('never')).toBe(false);
      await until('ping', () => pings('node2', 'peer', 'always'));
      await docker('node1', 'exec -d always httpd -f -p 80 -h /www');
      await until(
        'port',
        async () => (await on('outside', 'curl -sf http://192.168.50.11:8090/')).status === 0,
      );
      expect(await differences()).toBe('');
      await remove('always', 'never');
      expect(await differences()).toBe('');
    },
  );

  it('starts while netplugin and netmaster are away, and is served when they are back', async () => {
    await run('node1', 'first', 'life', '--restart=always', SOON);
    for (const name of ['dockerd', 'netplugin', 'netmaster']) await mustLab(`kill ${name} node1`);
    const starting = mustLab('start dockerd node1');
    // dockerd asks for the plugin by now, again and again for 15 s.
    await until('call', async () =>
      (await lab('logs dockerd node1')).out
        .split('Loading containers: start')
        .at(-1)
        ?.includes('Unable to connect to plugin'),
    );
    await mustLab('start netmaster node1');
    await mustLab('start netplugin node1');
    await starting;
    await until('first', () => running('first'));
    await until('ping', () => pings('node2', 'peer', 'first'));
    expect(await differences()).toBe('');
    await remove('first');
  });

  it('starts while netmaster is away what ran before, with the addresses that it had, and what is new, from what the host has in reserve', async () => {
    const names = ['first', 'second'];
    const added = ['new1', 'new2', 'new3', 'new4'];
    for (const name of names) await run('node1', name, 'life', '--restart=always', SOON);
    const addresses = (of = names): Promise<string[]> =>
      Promise.all(of.map((name) => addressOf('node1', name)));
    const before = await addresses();
    const reserved = async (): Promise<string[]> => {
      const { Oper } = JSON.parse(await netctl('net inspect life')) as {
        Oper: { reservedIPAddresses?: Record<string, string> };
      };
      return (Oper.reservedIPAddresses?.node1 ?? '').split(', ');
    };
    const own = await until('the reserve', async () => {
      const found = await reserved();
      return found.length === 8 ? found : undefined; // of both families
    });
    expect(await differences()).toBe('');
    const reached = async (all: readonly string[]): Promise<void> => {
      for (const name of all) await until(name, () => running(name));
      for (const [i, name] of all.entries()) {
        const next = all[(i + 1) % all.length] as string;
        await until(`${name} to reach ${next}`, () => pings('node1', name, next));
      }
    };

    await mustLab('kill netmaster node1');
    await docker('node1', 'restart -t 0 first');
    expect(await addresses(), 'restarted by its user').toEqual(before);
    await must('node1', 'kill -9', await pidOf('second'));
    await reached(names);
    expect(await addresses(), 'restarted by its policy').toEqual(before);
    for (const address of before) await until(`${address} from node2`, () => pings('node2', 'peer', address));

    for (const name of added)
      expect(own).toContain(await run('node1', name, 'life', '--restart=always', SOON));
    await reached([...names, ...added]);
    const all = await addresses([...names, ...added]);

    await mustLab('kill dockerd node1');
    await mustLab('start dockerd node1');
    await reached([...names, ...added]);
    // Before 29 Docker does not say which of them it starts.
    expect((await addresses([...names, ...added])).sort(), 'restarted with dockerd').toEqual(all.toSorted());

    const held = await addresses();
    await docker('node1', 'stop -t 0', ...names);
    await mustLab('kill netplugin node1');
    const agent = lab('start netplugin node1'); // it waits for a while until it is live
    for (const name of names) await docker('node1', `start ${name}`);
    await reached([...names, ...added]);
    // Where Docker does not say in time which of them starts it has what another had.
    expect((await addresses()).sort(), 'started with an agent that is new').toEqual(held.toSorted());

    const { status, err } = await on(
      'node1',
      'docker run -d --restart=always --name=fifth --net=life contiv/lab sleep 100000',
    );
    expect([status, err]).toEqual([
      125,
      expect.stringMatching(/gave up waiting: netmaster cannot be reached/),
    ]);

    const then = await addresses([...names, ...added]);
    await mustLab('start netmaster node1');
    await agent;
    const everybody = [...names, ...added, 'fifth'];
    await reached(everybody);
    for (const name of everybody) await until(name, () => pings('node2', 'peer', name));
    expect(await differences()).toBe('');
    expect(await addresses([...names, ...added]), 'when netmaster is back').toEqual(then);
    expect(new Set(await addresses(everybody)).size).toBe(everybody.length);
    await until('another reserve', async () => {
      const found = await reserved();
      return found.length === 8 && !found.some((address) => then.includes(address));
    });
    await remove(...everybody);
    expect(await differences()).toBe('');
    await until('no reserve', async () => (await reserved()).join() === '');
  }, 300_000);
});

describe('netplugin', () => {
  /** Sequence numbers that a ping of 100 a second got answers for. */
  const answered = (lines: readonly string[]): number[] =>
    lines.flatMap((line) => /seq=(\d+)/.exec(line)?.[1] ?? []).map(Number);

  it.each(['stop', 'kill'])('is restarted (%s): not one ping of 100 a second is lost', async (how) => {
    await run('node1', 'steady', 'life');
    await until('name', () => pings('node2', 'peer', 'steady'));
    // busybox counts replies by sequence number; the interval is 10 ms.
    const flood = background('node1', `docker exec steady ping -i 0.01 ${peer}`);
    const flood6 = background('node2', 'docker exec peer ping -6 -i 0.01 steady');
    await until('pings', async () => answered(flood.lines).length > 50 && answered(flood6.lines).length > 50);
    for (const host of ['node1', 'node2']) {
      await mustLab(how, 'netplugin', host);
      await mustLab(`start netplugin ${host}`);
    }
    const count = answered(flood.lines).length;
    await until('more pings', async () => answered(flood.lines).length > count + 200);
    for (const [host, container] of [
      ['node1', 'steady'],
      ['node2', 'peer'],
    ] as const)
      await inside(host, container, 'killall ping');
    await Promise.all([flood.end(), flood6.end()]);
    for (const { lines } of [flood, flood6]) {
      const numbers = answered(lines);
      const last = numbers.at(-1) as number;
      expect(Array.from({ length: last + 1 }, (_, i) => i).filter((i) => !numbers.includes(i))).toEqual([]);
    }
    expect(await differences()).toBe('');
    await remove('steady');
  });

  it.runIf(DOCKER_USER)('that ends where no container is leaves nothing in Docker’s firewall', async () => {
    const rules = (): Promise<string> => must('node1', 'iptables -S DOCKER-USER');
    await run('node1', 'last', 'life');
    await mustLab('stop netplugin node1');
    expect(await rules()).toContain('cx+');
    await mustLab('start netplugin node1');
    await remove('last');
    await until('its exit goes', async () => !/ cx\w/.test(await must('node1', 'ip -o link')));
    await mustLab('stop netplugin node1');
    expect(await rules()).not.toContain('cx+');
    await mustLab('start netplugin node1');
  });

  it('finds what started and died while it was away', async () => {
    await run('node1', 'dies', 'life');
    await run('node1', 'renamed', 'life');
    await mustLab('kill netplugin node1');
    await must('node1', 'kill -9', await pidOf('dies'));
    await docker('node1', 'rename renamed newname');
    // Docker calls the driver again and again: the start waits for netplugin.
    const starting = on('node1', 'docker run -d --name=late --net=life contiv/lab sleep 100000');
    await mustLab('start netplugin node1');
    expect((await starting).status).toBe(0);
    expect(await differences()).toBe('');
    expect(await pings('node2', 'peer', 'late')).toBe(true);
    expect(await pings('node2', 'peer', 'newname')).toBe(true);
    await remove('dies', 'newname', 'late');
    expect(await differences()).toBe('');
  });

  it('that is killed in the middle of a call starts what failed to start by that and is to run', async () => {
    await run('node1', 'asked', 'life', '--restart=always', '--stop-signal=SIGKILL');
    await docker('node1', 'stop asked');
    const { processes } = JSON.parse(await mustLab('status --json')) as {
      processes: { name: string; host: string; pid: number }[];
    };
    const { pid } = processes.find((p) => p.name === 'netplugin' && p.host === 'node1') as { pid: number };
    process.kill(pid, 'SIGSTOP');
    const starting = on('node1', 'docker start asked');
    // A connection, or what was sent by one, that nobody has taken: state, and how much, are ahead of the path.
    const waits = async (): Promise<boolean> =>
      /^u_str +\w+ +[1-9]\d* .*\/run\/docker\/plugins\//m.test(await must('node1', 'ss -xan'));
    await until('a call of Docker’s', waits);
    await mustLab('kill netplugin node1');
    await mustLab('start netplugin node1');
    // Docker repeats it, without its contents, and then gives up.
    expect((await starting).err).toContain('without its contents');
    await until('asked', () => running('asked'));
    await until('ping', () => pings('node2', 'peer', 'asked'));
    expect(await differences()).toBe('');
    await remove('asked');
  });

  it('goes on without netmaster, which finds everything as it is when it is back', async () => {
    await run('node1', 'alone', 'life');
    await until('name', () => pings('node2', 'peer', 'alone'));
    await mustLab('kill netmaster node1');
    expect(await pings('node2', 'peer', 'alone')).toBe(true);
    await mustLab('kill netplugin node2');
    // Without netmaster it is not live, but it serves: start would wait for that.
    const start = lab('start netplugin node2');
    await until('names without netmaster', () => pings('node2', 'peer', 'alone'));
    await mustLab('start netmaster node1');
    expect((await start).status).toBe(0);
    expect(await differences()).toBe('');
    await remove('alone');
  });
});

describe('netmaster', () => {
  it.each(['stop', 'kill'])('is restarted (%s): what started and ended meanwhile is found', async (how) => {
    const address = await run('node1', 'ends', 'life');
    await mustLab(how, 'netmaster', 'node1');
    await remove('ends');
    expect(await pings('node2', 'peer', peer)).toBe(true);
    // The start is held until an address can be had.
    const starting = run('node1', 'starts', 'life');
    await mustLab('start netmaster node1');
    expect(await starting).not.toBe(address);
    await until('ping', () => pings('node2', 'peer', 'starts'));
    expect(await differences(30)).toBe(''); // before addresses that nobody has are collected
    await remove('starts');
    expect(await differences()).toBe('');
  });
});

/** A host that has left, or that netmaster does not know any more. */
async function joins(host: string): Promise<void> {
  const url = (await must('node1', "sh -c 'echo $NETMASTER'")).trim();
  const token = await netctl(`token create --host=${host}`);
  await must(host, `netplugin join ${url} ${token} --host ${host}`);
}

describe('netmaster with an empty store', () => {
  it('ends nothing that runs; the applied export brings it all back', async () => {
    await netctl('policy create closed');
    await netctl('policy rule-add closed 1 -protocol=tcp -port=80 -action=deny');
    await netctl('group create life guarded -policy=closed');
    const address = await run('node1', 'runs', 'guarded.life');
    for (const port of ['80', '81']) await inside('node1', 'runs', `httpd -p ${port} -h /www`);
    const open = async (): Promise<string[]> => {
      const answers = async (port: string) =>
        (await inside('node2', 'peer', `nc -w ${port === '81' ? 5 : 1} ${address} ${port} -e true`))
          .status === 0;
      return [...((await answers('80')) ? ['80'] : []), ...((await answers('81')) ? ['81'] : [])];
    };
    await until('port 81', async () => (await open()).includes('81'));
    expect(await open()).toEqual(['81']);
    const exported = await netctl('export');
    const flood = background('node2', `docker exec peer ping -i 0.1 ${address}`);
    await mustLab('kill netmaster node1');
    for (const suffix of ['', '-wal', '-shm'])
      fs.rmSync(`${hostFolder(LAB, 'node1')}/contiv/netmaster.db${suffix}`, { force: true });
    await mustLab('start netmaster node1');
    // No host is known to it: they join anew, and what they run goes on.
    for (const host of ['node1', 'node2']) await joins(host);
    for (const host of ['node1', 'node2'])
      await until('the agent says so', async () =>
        (await lab(`logs netplugin ${host}`)).out.includes('netmaster does not know network default:life'),
      );
    // Not even with an agent that has lost its copy too.
    await mustLab('kill netplugin node1');
    for (const suffix of ['', '-wal', '-shm'])
      fs.rmSync(`${hostFolder(LAB, 'node1')}/contiv/view.db${suffix}`, { force: true });
    const starting = lab('start netplugin node1');
    const count = flood.lines.length;
    await until('pings', async () => flood.lines.length > count + 20);
    const numbers = flood.lines.flatMap((line) => /seq=(\d+)/.exec(line)?.[1] ?? []).map(Number);
    expect(numbers).toEqual(numbers.map((_, i) => i));
    expect(await open()).toEqual(['81']);
    await must('node1', 'sh -c', 'printf %s "$1" | netctl apply -f -', 'sh', exported);
    expect((await starting).status).toBe(0);
    expect(await differences()).toBe('');
    expect(await pings('node2', 'peer', 'runs')).toBe(true);
    expect(await open()).toEqual(['81']);
    await inside('node2', 'peer', 'killall ping');
    await flood.end();
    await remove('runs');
  });
});

describe('a host that leaves', () => {
  it('takes its networks from Docker in seconds, when no container is on them and netplugin has ended', async () => {
    await netctl('group create life left');
    const leave = (host: string) => on(host, 'netplugin leave');
    const ours = (host: string) => docker(host, 'network ls -q --filter driver=netplugin');
    expect((await leave('node1')).err).toContain('netplugin runs on this host: stop it first');
    for (const host of ['node1', 'node2']) await mustLab(`stop netplugin ${host}`);
    const before = await ours('node2');
    expect((await leave('node2')).err).toContain("containers are on this host's networks (peer on life)");
    expect(await ours('node2')).toBe(before);
    // What Docker waits for is told by its log: it asks again and again for a driver that is not there.
    const waits = async (): Promise<number> =>
      (await lab('logs dockerd node1')).out.split('Unable to connect to plugin').length;
    const had = await waits();
    const { status, out } = await leave('node1');
    expect([status, out.split('\n').filter((line) => line === 'Removed left.life')]).toEqual([
      0,
      ['Removed left.life'],
    ]);
    expect([await ours('node1'), await waits()]).toEqual(['', had]);
    expect((await on('node1', 'ls /run/docker/plugins')).out).toBe('');
    // Nothing of netplugin's is left; netmaster's own folder is another.
    const kept = await on(
      'node1',
      'sh -c',
      'ls -A /run/contiv /var/lib/contiv 2>/dev/null; ip netns list; nft list tables',
    );
    expect(kept.out).not.toMatch(/names|netplugin|\.json|view\.db|contiv-|inet contiv/);
    await netctl('host revoke node1');
    await joins('node1');
    for (const host of ['node1', 'node2']) await mustLab(`start netplugin ${host}`);
    await until('offered again', async () => (await ours('node1')) !== '');
    expect(await differences()).toBe('');
  });
});

describe('an entry changed by hand', () => {
  /** The exit's device in the host's namespace. */
  const EXIT = '$(ip -o link | grep -o "cx[0-9a-f]*" | head -1)';
  const router = (...command: string[]) => must('node1', 'ip netns exec contiv-default', ...command);
  const nft = (...command: string[]) => router('nft', ...command);
  const onHost = (command: string) => must('node1', 'sh -ec', command);
  /** Repairs in the log that say so. */
  const logged = async (text: string): Promise<number> =>
    (await lab('logs netplugin node1')).out
      .split('\n')
      .filter((line) => line.includes('"repaired"') && line.includes(text)).length;
  let mine = '';
  let device = '';

  beforeAll(async () => {
    mine = await run('node1', 'target', 'life');
    device = /dev (ct\w+)/.exec(await router('ip', 'route', 'get', mine))?.[1] as string;
  });
  afterAll(() => remove('target'));

  type Change = readonly [what: string, change: () => Promise<unknown>, logged: () => string];
  /** In Docker's own firewall, where that has a chain for us. */
  const ofDocker = (what: string, command: string, text: string): Change[] =>
    DOCKER_USER ? [[what, () => onHost(command), () => text]] : [];
  /** Rounds of what is changed at once: nothing in one is put right by what puts another right. */
  const rounds: readonly Change[][] = [
    [
      ['a deleted route', () => router('ip', 'route', 'del', `${peer}/32`), () => `route unicast ${peer}/32`],
      [
        'an added route',
        () => router('ip', 'route', 'add', '10.7.0.200/32', 'dev', device),
        () => '10.7.0.200/32',
      ],
      [
        'a deleted IPv6 route',
        () => router('ip', '-6', 'route', 'del', 'fd00:7::2/128'),
        () => 'fd00:7::2/128',
      ],
      [
        'a deleted nft element',
        () => nft('delete', 'element', 'inet', 'contiv', 'sources', `{ "${device}" . ${mine} }`),
        () => `${device} . ${mine}`,
      ],
      [
        'an added nft element',
        () => nft('add', 'element', 'inet', 'contiv', 'sources', `{ "${device}" . 10.7.0.201 : 1001 }`),
        () => '10.7.0.201',
      ],
      [
        'a deleted forwarding entry',
        () =>
          router(
            'sh',
            '-c',
            'bridge fdb show | awk \'/dst 192.168.50.12/ {print "bridge fdb del " $1 " dev " $3 " dst 192.168.50.12"}\' | sh -e',
          ),
        () => 'forwarding 02:ce:c0:a8:32:0c',
      ],
      [
        'an added neighbour',
        () =>
          router(
            'ip',
            'neigh',
            'add',
            '10.7.0.202',
            'lladdr',
            '02:00:00:00:00:01',
            'dev',
            device,
            'nud',
            'permanent',
          ),
        () => '10.7.0.202',
      ],
      [
        'the fast path taken from a device',
        () => router('tc', 'qdisc', 'del', 'dev', device, 'clsact'),
        () => `fast path: restored ${device}`,
      ],
      [
        'an nft element of the host’s',
        () => onHost('nft add element inet contiv transit { 100.127.9.9 }'),
        () => '100.127.9.9',
      ],
    ],
    [
      [
        'a flushed chain',
        () => nft('flush', 'chain', 'inet', 'contiv', 'guard'),
        () => 'contiv-default: rules of table inet contiv',
      ],
      [
        'a flushed chain of the host’s',
        () => onHost('nft flush chain inet contiv postrouting'),
        () => 'host: rules of table inet contiv',
      ],
      ...ofDocker(
        'a rule taken out of DOCKER-USER',
        'iptables -D DOCKER-USER -o cx+ -j ACCEPT',
        'restored iptables -I DOCKER-USER -o cx+ -j ACCEPT',
      ),
    ],
    [
      [
        'a deleted table',
        () => nft('delete', 'table', 'inet', 'contiv'),
        () => 'contiv-default: rules of table inet contiv',
      ],
      [
        'a deleted table of the host’s',
        () => onHost('nft delete table inet contiv'),
        () => 'host: rules of table inet contiv',
      ],
      ...ofDocker(
        'a flushed DOCKER-USER',
        'iptables -F DOCKER-USER',
        'restored iptables -I DOCKER-USER -i cx+ -j ACCEPT',
      ),
    ],
    [
      ['a deleted way out', () => router('ip', 'link', 'del', 'uplink'), () => 'uplink was gone'],
      [
        'a deleted tunnel',
        () =>
          router(
            'sh',
            '-c',
            'ip link del $(ip -o link show type vxlan | head -1 | cut -d: -f2 | cut -d@ -f1)',
          ),
        () => 'was gone',
      ],
    ],
    [['a deleted exit of the host’s', () => onHost(`ip link del ${EXIT}`), () => 'uplink was gone']],
    [
      ['an exit that is down', () => onHost(`ip link set ${EXIT} down`), () => 'was down'],
      [
        'an exit without its address',
        () => onHost(`ip addr flush dev ${EXIT} scope global`),
        () => 'restored address 100.127.',
      ],
    ],
  ];
  it.each(rounds.map((round) => [round.map(([what]) => what).join(', '), round] as const))(
    'is put right and logged: %s',
    async (_, round) => {
      expect(await differences()).toBe('');
      const before = await Promise.all(round.map(([, , text]) => logged(text())));
      for (const [, change] of round) await change();
      await Promise.all(
        round.map(([what, , text], i) =>
          until(`${what} in the log`, async () => (await logged(text())) > (before[i] as number), 30),
        ),
      );
      expect(await differences()).toBe('');
      await until('ping', () => pings('node2', 'peer', 'target'));
      await until('the way out', () => pings('node1', 'target', '198.51.100.1'));
    },
  );
});
