/** Three netmasters on three members of etcd, one of each on every host, with containers: a lab of its own. */
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from './folder.ts';
import { broken, outcomes, readHistoryFile, startClients, violations } from './history.ts';
import { LAB, openLab, until } from './lab.ts';

const OWN = `${LAB.slice(-10)}ha`;
const HOSTS = ['node1', 'node2', 'node3'];
const { lab, mustLab, on, must, differences } = openLab(OWN);

beforeAll(async () => {
  await mustLab('down');
  await mustLab('up --quiet --hosts 3 --store etcd --netmasters 3');
}, 600_000);
afterAll(async () => {
  if (process.env.KEEP_LAB === undefined) await lab('down');
}, 120_000);

async function addressesOf(host: string): Promise<string[]> {
  const ids = (await must(host, 'docker ps -q')).split('\n').filter((id) => id !== '');
  if (ids.length === 0) return [];
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
  return (await must(host, 'docker inspect -f', format, ...ids)).split('\n');
}

const PAIRS = [
  ['node1', 'node2'],
  ['node2', 'node3'],
  ['node3', 'node1'],
] as const;
const ping = async (from: string, to: string): Promise<number> =>
  (await on(from, `docker exec web-${from} ping -c 1 -W 2 web-${to}`)).status;

it('a rule is in force on all hosts when the command answers, whichever netmaster each of them talks to', async () => {
  await must('node1', 'netctl net create contiv-net --subnet=20.1.0.0/16 --gateway=20.1.255.254');
  await must('node1', 'netctl policy create p');
  await must('node1', 'netctl group create contiv-net web -policy=p');
  for (const host of HOSTS)
    await must(host, `docker run -d --name=web-${host} --net=web.contiv-net contiv/lab sleep 100000`);
  // Docker says a moment after the start whose name it is.
  for (const [from, to] of PAIRS)
    await until(`${from} to reach ${to}`, async () => (await ping(from, to)) === 0);
  for (const [i, host] of HOSTS.entries()) {
    const at = `--netmaster https://192.168.50.1${i + 1}:9999`;
    const rule = `p ${i + 1}`;
    // On a busy machine a host may be too late to be waited for: that is said, and then it is tried again.
    await until(`a rule by the netmaster of ${host}`, async () => {
      const denied = await on(
        host,
        `netctl ${at} policy rule-add ${rule} -direction=in -protocol=icmp -action=deny`,
      );
      expect(denied).toMatchObject({
        status: 0,
        err: expect.stringMatching(/^(?:.*not yet applied on .*\n)?$/),
      });
      if (denied.err === '') for (const [from, to] of PAIRS) expect(await ping(from, to)).not.toBe(0);
      await must(host, `netctl ${at} policy rule-rm ${rule}`);
      await until('pings pass again', async () => (await ping('node1', 'node2')) === 0);
      return denied.err === '';
    });
  }
}, 300_000);

it('kill -9 of netmasters and members of etcd while containers come and objects are written gives no address twice and loses nothing', async () => {
  const file = `${temporaryFolder()}/history.ndjson`;
  const clients = startClients(OWN, 'outside', file, 1);
  onTestFinished(() => clients.end('SIGKILL'));
  let isOver = false;
  const made: string[] = [];
  const starting = HOSTS.map(async (host) => {
    for (let i = 0; !isOver; i++) {
      const name = `c${host}-${i}`;
      const { status } = await on(
        host,
        `docker run -d --name=${name} --net=web.contiv-net contiv/lab sleep 100000`,
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
    await mustLab(`kill ${name} ${host}`);
    await until(`containers without ${name} on ${host}`, async () => made.length > before + 3, 120);
    await mustLab(`start ${name} ${host}`);
  }
  isOver = true;
  await Promise.all(starting);
  await clients.end('SIGTERM');
  const history = readHistoryFile(file);
  expect(await violations(history)).toEqual([]);
  expect(broken(history)).toEqual([]);
  expect(outcomes(history).done).toBeGreaterThan(0);
  const addresses = (await Promise.all(HOSTS.map(addressesOf))).flat();
  expect(addresses).not.toContain('');
  expect(new Set(addresses).size).toBe(addresses.length);
  // An address whose release was lost is collected after a minute, the endpoint before it after another.
  expect(await differences(180)).toBe('');
}, 900_000);
