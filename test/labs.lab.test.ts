/** Two labs beside each other, and what is left of one when it is down: nothing, whatever was killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isolateNetwork } from './isolation.ts';
import { clear, differences, docker, LAB, lab, mustLab, netctl, pings, run, until } from './lab.ts';
import { machine, processesOf } from './machine.ts';

const OTHER = `${LAB.slice(-10)}x2`;
const COMMAND = path.join(import.meta.dirname, '../bin/lab');
const other = (line: string) => lab(`--name ${OTHER} ${line}`);
const mustOther = (line: string) => mustLab(`--name ${OTHER} ${line}`);
const onOther = (host: string, line: string) => mustOther(`exec ${host} -- ${line}`);

beforeAll(isolateNetwork);
afterEach(async () => {
  await mustOther('down');
});
afterAll(clear);

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
    const before = machine(OTHER);
    await mustOther('up --quiet');
    await onOther('node1', 'netctl net create n --subnet=10.17.0.0/24 --gateway=10.17.0.254');
    for (const host of ['node1', 'node2'])
      await onOther(host, 'docker run -d -p 8080:80 --net=n contiv/lab sleep 100000');
    expect(machine(OTHER)).not.toEqual(before);
    await mustOther('down');
    expect(machine(OTHER)).toEqual(before);
    await mustOther('down');
    expect(machine(OTHER)).toEqual(before);
  });

  it.each(['netplugin', 'dockerd', 'containerd', 'every one'])(
    'does so after a kill -9 of %s',
    async (victim) => {
      const before = machine(OTHER);
      await mustOther('up --quiet');
      await onOther('node1', 'netctl net create n --subnet=10.17.0.0/24 --gateway=10.17.0.254');
      await onOther('node1', 'docker run -d --net=n contiv/lab sleep 100000');
      const victims = processesOf(OTHER, ['node1', 'node2'], victim === 'every one' ? '' : victim);
      expect(victims).not.toEqual([]);
      for (const pid of victims) process.kill(pid, 'SIGKILL');
      await mustOther('down');
      expect(machine(OTHER)).toEqual(before);
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
    const before = machine(OTHER);
    for (const ms of [200, 600, 1400]) {
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
      expect(machine(OTHER)).toEqual(before);
    }
  });

  it('that was killed is removed by down too', async () => {
    const before = machine(OTHER);
    const broken = upAlone();
    const ended = once(broken, 'close');
    await until('hosts', async () => fs.existsSync(`/run/contiv-lab/${OTHER}/node1.mnt`));
    broken.kill('SIGKILL');
    await ended;
    await mustOther('down');
    expect(machine(OTHER)).toEqual(before);
  });
});
