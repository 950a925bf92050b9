/** Three netmasters on three members of etcd, one of each on every host, with containers: a lab of its own. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Ended, LAB, until } from './lab.ts';
import { shellWords } from './shellWords.ts';

const OWN = `${LAB.slice(-10)}ha`;
const HOSTS = ['node1', 'node2', 'node3'];

function lab(line: string, ...more: string[]): Promise<Ended> {
  const command = path.join(import.meta.dirname, '../bin/lab');
  return new Promise((done) => {
    const args = [...shellWords(line), ...more];
    execFile(command, args, { env: { ...process.env, LAB: OWN }, maxBuffer: 1 << 26 }, (error, out, err) =>
      done({ status: error === null ? 0 : Number(error.code ?? 255), out: out.trim(), err: err.trim() }),
    );
  });
}
async function must(line: string, ...more: string[]): Promise<string> {
  const { status, out, err } = await lab(line, ...more);
  if (status !== 0) throw new Error(`lab ${line}: exit status ${status}: ${err || out}`);
  return out;
}
const on = (host: string, line: string): Promise<string> => must(`exec ${host} -- ${line}`);

beforeAll(async () => {
  await must('down');
  await must('up --quiet --hosts 3 --store etcd --netmasters 3');
}, 600_000);
afterAll(async () => {
  if (process.env.KEEP_LAB === undefined) await lab('down');
}, 120_000);

async function addressesOf(host: string): Promise<string[]> {
  const ids = (await on(host, 'docker ps -q')).split('\n').filter((id) => id !== '');
  if (ids.length === 0) return [];
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
  return (await must(`exec ${host} -- docker inspect -f`, format, ...ids)).split('\n');
}

it('a rule is in force on all hosts when the command answers, whichever netmaster each of them talks to', async () => {
  await on('node1', 'netctl net create contiv-net --subnet=20.1.0.0/16 --gateway=20.1.255.254');
  await on('node1', 'netctl policy create p');
  await on('node1', 'netctl group create contiv-net web -policy=p');
  for (const host of HOSTS)
    await on(host, `docker run -d --name=web-${host} --net=web.contiv-net contiv/lab sleep 100000`);
  expect((await lab('exec node1 -- docker exec web-node1 ping -c 1 -W 2 web-node3')).status).toBe(0);
  for (const [i, host] of HOSTS.entries()) {
    const at = `--netmaster https://192.168.50.1${i + 1}:9999`;
    const denied = await lab(
      `exec ${host} -- netctl ${at} policy rule-add p ${i + 1} -direction=in -protocol=icmp -action=deny`,
    );
    expect(denied).toMatchObject({ status: 0, err: '' });
    for (const [from, to] of [
      ['node1', 'node2'],
      ['node2', 'node3'],
      ['node3', 'node1'],
    ])
      expect((await lab(`exec ${from} -- docker exec web-${from} ping -c 1 -W 1 web-${to}`)).status).not.toBe(
        0,
      );
    await on(host, `netctl ${at} policy rule-rm p ${i + 1}`);
    expect((await lab('exec node1 -- docker exec web-node1 ping -c 1 -W 2 web-node2')).status).toBe(0);
  }
}, 300_000);

it('kill -9 of netmasters and members of etcd while containers come gives no address twice and loses none', async () => {
  let isOver = false;
  const made: string[] = [];
  const starting = HOSTS.map(async (host) => {
    for (let i = 0; !isOver; i++) {
      const name = `c${host}-${i}`;
      const { status } = await lab(
        `exec ${host} -- docker run -d --name=${name} --net=web.contiv-net contiv/lab sleep 100000`,
      );
      if (status === 0) made.push(name);
    }
  });
  for (const [name, host] of [
    ['netmaster', 'node1'],
    ['etcd', 'node2'],
    ['netmaster', 'node3'],
  ]) {
    const before = made.length;
    await must(`kill ${name} ${host}`);
    await until(`containers without ${name} on ${host}`, async () => made.length > before + 3, 120);
    await must(`start ${name} ${host}`);
  }
  isOver = true;
  await Promise.all(starting);
  const addresses = (await Promise.all(HOSTS.map(addressesOf))).flat();
  expect(addresses).not.toContain('');
  expect(new Set(addresses).size).toBe(addresses.length);
  const { status, out } = await lab('check --wait 60');
  expect(status, out).toBe(0);
}, 600_000);
