/** Hosts that die, come back, or are too slow for a write of intent. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { clear, differences, docker, inside, must, mustLab, netctl, on, pings, run, until } from './lab.ts';

let there = '';

beforeAll(async () => {
  await netctl('net create hosts --subnet=10.11.0.0/24 --gateway=10.11.0.254');
  await netctl('group create hosts team');
  await run('node1', 'here', 'team.hosts');
  there = await run('node2', 'there', 'team.hosts', '--restart=always', '--stop-signal=SIGKILL');
});
afterAll(clear);

const resolve = async (name: string): Promise<string[]> =>
  (await inside('node1', 'here', `dig +short ${name}`)).out.split('\n').filter((line) => line);
const hosts = async (): Promise<string> => must('node1', "sh -c 'curl -s $NETMASTER/api/v1/hosts/'");
const bothMembers = () => until('both members', async () => (await resolve('team')).length === 2);

/** Seconds for what is promised within 15: twice that, as the machine may be busy. */
const SOON = 30;

describe('a host whose agent is dead', () => {
  it('loses its names soon and keeps its traffic; they are back when it is', async () => {
    await bothMembers();
    await mustLab('kill netplugin node2');
    await until('name goes', async () => (await resolve('there')).length === 0, SOON);
    expect((await inside('node1', 'here', 'dig there')).out).toMatch(/NXDOMAIN/);
    expect(await resolve('team')).toHaveLength(1);
    expect(await hosts()).not.toMatch(/node2/);
    // Its containers run on: who knows the address, as an open connection does, still gets there.
    expect(await pings('node1', 'here', there)).toBe(true);
    await mustLab('start netplugin node2');
    await bothMembers();
    expect(await resolve('there')).toEqual([there]);
    expect(await differences()).toBe('');
  });

  it('and its Docker too: what starts again with it has its names again, everything else is gone', async () => {
    await run('node2', 'plain', 'hosts', '--stop-signal=SIGKILL');
    await until('name', () => pings('node1', 'here', 'plain'));
    await mustLab('kill dockerd node2');
    await mustLab('kill netplugin node2');
    await until(
      'names go',
      async () => (await resolve('there')).length + (await resolve('plain')).length === 0,
      SOON,
    );
    await mustLab('start netplugin node2');
    await mustLab('start dockerd node2');
    await until('name', () => pings('node1', 'here', 'there'));
    expect(await differences()).toBe('');
    expect(await resolve('plain')).toEqual([]);
    await docker('node2', 'rm -f plain');
  });

  it('is the same for one that is cut off, and for its own containers nothing changes', async () => {
    const target = await run('node2', 'beside', 'hosts');
    await until('name', () => pings('node1', 'here', 'beside'));
    await must('node2', 'ip link set eth0 down');
    await until('name goes', async () => (await resolve('beside')).length === 0, SOON);
    expect(await pings('node2', 'there', 'beside')).toBe(true);
    await must('node2', 'ip link set eth0 up');
    await must('node2', 'ip route add default via 192.168.50.1');
    await until('name', async () => (await resolve('beside')).includes(target));
    await until('ping', () => pings('node1', 'here', 'beside'));
    await docker('node2', 'rm -f beside');
    expect(await differences()).toBe('');
  });
});

describe('a write of intent', () => {
  const create = (name: string, i: number) =>
    on('node1', `netctl net create ${name} --subnet=10.13.${i}.0/24`);
  const stopped = async <T>(work: () => Promise<T>): Promise<T> => {
    const { processes } = JSON.parse(await mustLab('status --json')) as {
      processes: { name: string; host: string; pid: number }[];
    };
    const pid = processes.find((p) => p.name === 'netplugin' && p.host === 'node2')?.pid as number;
    process.kill(pid, 'SIGSTOP');
    try {
      return await work();
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  };

  /** A host that has just come back, or was too late once, is named until it has told what it has applied. */
  const caughtUp = () =>
    until('node2 has caught up', async () => {
      const { err } = await create('probe', 13);
      await netctl('net rm probe');
      return err === '';
    });

  it('is applied on every live host when it is answered', async () => {
    await caughtUp();
    let [i, onTime] = [0, 0];
    // On a busy machine a host may be too late to be waited for, which is said.
    await until('five that are', async () => {
      const name = `now${i}`;
      const { status, err } = await create(name, i++ % 10);
      expect([status, err]).toEqual([0, expect.stringMatching(/^(?:.*not yet applied on .*\n)?$/)]);
      if (err === '') await docker('node2', `run --rm --net=${name} contiv/lab true`);
      else await caughtUp();
      await netctl(`net rm ${name}`);
      if (err === '') onTime++;
      return onTime === 5;
    });
  });

  it('names the host that is too late, does not wait for it again, and does once it has caught up', async () => {
    await stopped(async () => {
      const first = await create('late1', 11);
      expect(first).toMatchObject({ status: 0, err: 'netctl: warning: not yet applied on node2\n' });
      // Asked to wait for ten minutes it answers all the same: node2 is not waited for.
      const answer = await must(
        'node1',
        'sh -c',
        `curl -si -X POST "$NETMASTER/api/v1/networks/default:late2/?wait=600" -d '{"subnet": "10.13.12.0/24"}'`,
      );
      expect(answer).toMatch(/^HTTP\/1.1 200[\s\S]*contiv-late-hosts: node2\r/i);
    });
    await caughtUp();
    for (const name of ['late1', 'late2']) await docker('node2', `run --rm --net=${name} contiv/lab true`);
    await stopped(async () => expect((await create('late4', 14)).err).toMatch(/node2/));
  });
});
