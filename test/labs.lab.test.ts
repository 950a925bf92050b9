/** Two labs beside each other, and what is left of one when it is down: nothing, whatever was killed. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isolateNetwork } from './isolation.ts';
import { clear, differences, docker, LAB, lab, mustLab, netctl, pings, run, until } from './lab.ts';

const OTHER = `${LAB.slice(0, 10)}x2`;
const COMMAND = path.join(import.meta.dirname, '../bin/lab');
const other = (line: string) => lab(`--name ${OTHER} ${line}`);
const mustOther = (line: string) => mustLab(`--name ${OTHER} ${line}`);
const onOther = (host: string, line: string) => mustOther(`exec ${host} -- ${line}`);

beforeAll(isolateNetwork);
afterEach(async () => {
  await mustOther('down');
});
afterAll(clear);

const sh = (command: string): string[] =>
  execFileSync('sh', ['-c', command], { encoding: 'utf8', maxBuffer: 1 << 26 }).split('\n');

/** What of this machine a lab could change: the network that labs are made from, which is this test's, and what has the lab's name. */
function machine(): Record<string, string[]> {
  const own = (command: string): string[] => sh(command).filter((line) => line.includes(OTHER));
  return {
    namespaces: own('ip netns list'),
    links: sh('ip -o -d link | sed "s/^[0-9]*: //"'),
    addresses: sh('ip -o addr | sed "s/valid_lft .*//"'),
    routes: sh('ip route show table all; ip -6 route show table all').map((l) =>
      l.replace(/ expires .*/, ''),
    ),
    mounts: own('cut -d" " -f5- /proc/self/mountinfo'),
    firewall: sh('nft list ruleset; iptables-save; ip6tables-save').filter((l) => !/^[#:]|counter/.test(l)),
    sysctls: sh('sysctl -a 2>/dev/null | grep "^net\\." | grep -v "conntrack_count\\|\\.stable_secret"'),
    cgroups: own('find /sys/fs/cgroup -maxdepth 2 -name "lab-*"'),
    files: own('find /run/contiv-lab /var/lib/contiv-lab -maxdepth 1'),
    // Without those that have ended, for which init has not asked yet.
    processes: sh(
      `grep -l "lab-${OTHER}-" /proc/[0-9]*/cgroup 2>/dev/null | while read f; do grep -H "^State:.[^Z]" $(dirname $f)/status; done || true`,
    ),
  };
}

function upAlone(): ChildProcess {
  return spawn(COMMAND, ['--name', OTHER, 'up', '--quiet'], { stdio: 'ignore', env: process.env });
}

describe('two labs', () => {
  it('with the same tenant, network, tag and names do not meet', async () => {
    await mustOther('up --quiet');
    const create = 'net create same --subnet=10.16.0.0/24 --gateway=10.16.0.254 --pkt-tag=1616';
    await netctl(create);
    await onOther('node1', `netctl ${create}`);
    await run('node1', 'web', 'same');
    await run('node2', 'db', 'same');
    for (const [host, name] of [
      ['node1', 'web'],
      ['node2', 'db'],
    ] as const)
      await onOther(host, `docker run -d --name=${name} --net=same contiv/lab sleep 100000`);
    const ping = 'exec node1 -- docker exec web ping -c 1 -W 2 db';
    await until('ping', () => pings('node1', 'web', 'db'));
    await until('ping', async () => (await other(ping)).status === 0);
    // The same address answers in each from a container of its own.
    await docker('node2', 'rm -f db');
    expect(await pings('node1', 'web', '10.16.0.3')).toBe(false);
    expect((await other(ping)).status).toBe(0);
    expect(await differences()).toBe('');
    expect(await mustOther('check --wait 60')).toMatch(/no difference/);
    await mustOther('down');
    expect(await differences()).toBe('');
    expect(
      JSON.parse(await mustLab('status --json')).processes.map((p: { running: boolean }) => p.running),
    ).toEqual([true, true, true, true, true, true, true]);
  });
});

describe('down', () => {
  it('leaves the machine as it was, and may be repeated', async () => {
    const before = machine();
    await mustOther('up --quiet');
    await onOther('node1', 'netctl net create n --subnet=10.17.0.0/24 --gateway=10.17.0.254');
    for (const host of ['node1', 'node2'])
      await onOther(host, 'docker run -d -p 8080:80 --net=n contiv/lab sleep 100000');
    expect(machine()).not.toEqual(before);
    await mustOther('down');
    expect(machine()).toEqual(before);
    await mustOther('down');
    expect(machine()).toEqual(before);
  });

  it.each(['netplugin', 'dockerd', 'containerd', 'every one'])(
    'does so after a kill -9 of %s',
    async (victim) => {
      const before = machine();
      await mustOther('up --quiet');
      await onOther('node1', 'netctl net create n --subnet=10.17.0.0/24 --gateway=10.17.0.254');
      await onOther('node1', 'docker run -d --net=n contiv/lab sleep 100000');
      // Of this lab only: by its mount namespaces, and its control groups for what is in containers.
      const spaces = ['node1', 'node2'].map((h) => fs.statSync(`/run/contiv-lab/${OTHER}/${h}.mnt`).ino);
      const victims = fs
        .readdirSync('/proc')
        .filter((pid) => /^\d+$/.test(pid))
        .filter((pid) => {
          try {
            const line = fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
            const inLab =
              spaces.includes(fs.statSync(`/proc/${pid}/ns/mnt`).ino) ||
              fs.readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`lab-${OTHER}-`);
            return inLab && (victim === 'every one' || line.includes(victim));
          } catch {
            return false; // it has ended
          }
        })
        .map(Number);
      expect(victims).not.toEqual([]);
      for (const pid of victims) process.kill(pid, 'SIGKILL');
      await mustOther('down');
      expect(machine()).toEqual(before);
    },
  );
});

describe('up', () => {
  it('is refused while another up runs, and where the lab is up', async () => {
    const first = upAlone();
    const ended = once(first, 'close');
    await until('start', async () => fs.existsSync(`/var/lib/contiv-lab/${OTHER}/starting.json`));
    const second = await other('up');
    expect([second.status, second.err]).toEqual([
      3,
      `lab: lab '${OTHER}' is starting: end it with bin/lab down\n`,
    ]);
    expect(await ended).toEqual([0, null]);
    const third = await other('up');
    expect([third.status, third.err]).toEqual([3, `lab: lab '${OTHER}' is up: end it with bin/lab down\n`]);
  });

  it('of several at once is one', async () => {
    for (let round = 0; round < 3; round++) {
      const all = await Promise.all([1, 2, 3, 4].map(() => other('up --quiet --hosts 1')));
      expect(all.map(({ status }) => status).sort()).toEqual([0, 3, 3, 3]);
      for (const { status, err } of all) if (status !== 0) expect(err).toMatch(/ is (starting|up): /);
      expect(await mustOther('check --wait 60')).toMatch(/no difference/);
      await mustOther('down');
    }
  });

  it('cleans what an up left that was killed, wherever that was, and is whole', async () => {
    const before = machine();
    for (const ms of [200, 500, 900, 1400]) {
      const broken = upAlone();
      const ended = once(broken, 'close');
      await new Promise((done) => setTimeout(done, ms));
      broken.kill('SIGKILL');
      await ended;
      await other('up --quiet').then(({ status, err }) => {
        // One that was quick enough to be done is up.
        if (status !== 0) expect(err).toMatch(/ is up/);
      });
      expect(await mustOther('check --wait 60')).toMatch(/no difference/);
      await mustOther('down');
      expect(machine()).toEqual(before);
    }
  });

  it('that was killed is removed by down too', async () => {
    const before = machine();
    const broken = upAlone();
    const ended = once(broken, 'close');
    await until('hosts', async () => fs.existsSync(`/run/contiv-lab/${OTHER}/node1.mnt`));
    broken.kill('SIGKILL');
    await ended;
    await mustOther('down');
    expect(machine()).toEqual(before);
  });
});
