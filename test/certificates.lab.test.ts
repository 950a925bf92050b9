/** A lab with certificates, a lab of its own: containers reach each other, and who may not ask is told so, by the programs as they are. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Ended, LAB, until } from './lab.ts';
import { shellWords } from './shellWords.ts';

const OWN = `${LAB.slice(-9)}tls`;
const URL = 'https://192.168.50.11:9999';
const AUTHORITY = '--cacert /var/lib/contiv/tls/ca.crt';
const HOST = '--cert /var/lib/contiv/host/host.pem';

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
const stateOf = async (host: string): Promise<string | undefined> =>
  (JSON.parse(await on('node1', 'netctl host ls --json')) as { name: string; state: string }[]).find(
    ({ name }) => name === host,
  )?.state;

beforeAll(async () => {
  await must('down');
  await must('up --quiet --tls');
}, 600_000);
afterAll(async () => {
  if (process.env.KEEP_LAB === undefined) await lab('down');
}, 120_000);

it('containers reach each other, and what runs is as it is declared', async () => {
  await on('node1', 'netctl net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await on('node1', 'docker run -d --name=web --net=contiv-net contiv/lab sleep 100000');
  await on('node2', 'docker run -d --name=db --net=contiv-net contiv/lab sleep 100000');
  await until(
    'ping',
    async () => (await lab('exec node1 -- docker exec web ping -c 1 -W 2 db')).status === 0,
  );
  expect(await must('check --wait 60')).toMatch(/no difference/);
  await until(
    'nothing wrong',
    async () => /^all is well$/m.test((await lab('exec node2 -- netctl doctor')).out),
    120,
  );
  const events = (await on('node1', 'netctl events -o json'))
    .split('\n')
    .map((line) => JSON.parse(line) as { by?: string; object?: string });
  expect(events.find(({ object }) => object === 'network')?.by).toMatch(/^admin admin \(netctl /);
  expect(events.find(({ object }) => object === 'endpoint')?.by).toMatch(/^host node\d \(netplugin /);
}, 120_000);

it('nobody asks without a certificate, and a host for itself alone', async () => {
  const status = (flags: string, where: string): Promise<string> =>
    on('node2', `curl -s -o /dev/null -w %{http_code} ${AUTHORITY} ${flags} ${URL}${where}`);
  expect(await status('', '/version')).toBe('200');
  expect(await status('', '/api/v1/export')).toBe('401');
  expect(await status(HOST, '/api/v1/export')).toBe('403');
  expect(await status(`${HOST} -X DELETE`, '/api/v1/networks/default:contiv-net')).toBe('403');
  expect(await status(`${HOST} -X POST -d {}`, '/api/v1/hosts/node1/applied')).toBe('403');
  expect((await lab('exec outside -- curl -s -m 5 http://192.168.50.11:9999/api/v1/export')).status).not.toBe(
    0,
  );
  const token = await on('node1', 'netctl token create');
  const other = token.replace(/\.[^.]*$/, `.${'A'.repeat(43)}`);
  const refused = await lab(`exec node2 -- netplugin join ${URL} ${other} --state-dir /run/other`);
  expect(refused).toMatchObject({ status: 3, err: expect.stringContaining('another authority') });
  const again = await lab(`exec node2 -- netplugin join ${URL} ${token} --state-dir /run/other`);
  expect(again).toMatchObject({ status: 3, err: expect.stringContaining('has joined already') });
}, 60_000);

it("a tenant's operator has that tenant, and nobody else's containers", async () => {
  await on('node1', 'netctl tenant create blue');
  const token = await on('node1', 'netctl token create --role=operator --tenant=blue --name=alice');
  const [file, copy] = ['/run/alice.token', `printf %s ${token}`];
  await on('node2', `sh -c '${copy} > ${file}'`);
  const alice = (line: string): Promise<Ended> =>
    lab(
      `exec node2 -- netctl --netmaster=${URL} --tls-ca=/var/lib/contiv/tls/ca.crt --token-file=${file} ${line}`,
    );
  const done = async (line: string): Promise<string> => {
    const { status, out, err } = await alice(line);
    if (status !== 0) throw new Error(`${line}: ${err}`);
    return out;
  };
  expect(await done('whoami')).toBe('operator alice, by token: may read and change what is of tenant blue');
  await done('net create -t blue own-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await done('group create -t blue own-net own');
  for (const [host, name] of [
    ['node1', 'seen'],
    ['node2', 'also'],
  ])
    await on(host as string, `docker run -d --name=${name} --net=own.own-net/blue contiv/lab sleep 100000`);
  await until(
    'ping',
    async () => (await lab('exec node1 -- docker exec seen ping -c 1 -W 2 also')).status === 0,
  );
  expect((await done('endpoint ls -a -q')).split('\n')).toHaveLength(2);
  for (const line of ['net ls -a', 'endpoint ls -a', 'tenant ls', 'events', 'export'])
    expect(await done(line), line).not.toMatch(/contiv-net|default:|\bdb\b/);
  expect(await done('policy trace -t blue --from=seen --to=also --port=80 --live')).toMatch(/agrees/);
  for (const line of [
    'net create -t blue wide --subnet=20.2.0.0/24 --encap=vlan --pkt-tag=7',
    'net rm contiv-net',
    'tenant create green',
    'host ls',
    'token ls',
    'status',
  ])
    expect((await alice(line)).err, line).toMatch(/operator alice (may not|has no rights)|must be vxlan/);
  await must('exec node1 -- docker rm -f seen');
  await must('exec node2 -- docker rm -f also');
  await until('endpoints to be gone', async () => (await done('endpoint ls -a -q')) === '');
  await done('group rm -t blue own');
  await done('net rm -t blue own-net');
  await on('node1', `netctl token rm ${token.split('.')[1]}`);
  expect((await alice('whoami')).err).toMatch(/was removed/);
  await on('node1', 'netctl tenant rm blue');
}, 180_000);

it('a host whose certificate is revoked is let in no more, until it has joined again; its containers go on', async () => {
  await on('node1', 'netctl host revoke node2');
  await until('node2 to be away', async () => (await stateOf('node2')) === 'away');
  expect(await must('logs netplugin node2')).toContain('is revoked');
  expect((await lab('exec node2 -- docker exec db true')).status).toBe(0);
  const token = await on('node1', 'netctl token create --host=node2');
  await on('node2', `netplugin join ${URL} ${token}`);
  await must('kill netplugin node2');
  await must('start netplugin node2');
  await until('node2 to be ready', async () => (await stateOf('node2')) === 'ready');
  await until(
    'ping',
    async () => (await lab('exec node1 -- docker exec web ping -c 1 -W 2 db')).status === 0,
  );
  expect(await must('check --wait 60')).toMatch(/no difference/);
}, 180_000);
