/** Everybody shows a certificate: containers reach each other, and who may not ask is told so, by the programs as they are. */
import { afterAll, expect, it } from 'vitest';
import { clear, differences, type Ended, must, mustLab, netctl, on, pings, until } from './lab.ts';

const URL = 'https://192.168.50.11:9999';
const AUTHORITY = '--cacert /var/lib/contiv/tls/ca.crt';
const HOST = '--cert /var/lib/contiv/host/host.pem';

const stateOf = async (host: string): Promise<string | undefined> =>
  (JSON.parse(await netctl('host ls --json')) as { name: string; state: string }[]).find(
    ({ name }) => name === host,
  )?.state;

afterAll(clear);

it('containers reach each other, and what runs is as it is declared', async () => {
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await must('node1', 'docker run -d --name=web --net=contiv-net contiv/lab sleep 100000');
  await must('node2', 'docker run -d --name=db --net=contiv-net contiv/lab sleep 100000');
  await until('ping', () => pings('node1', 'web', 'db'));
  expect(await differences()).toBe('');
  await until(
    'nothing wrong',
    async () => /^all is well$/m.test((await on('node2', 'netctl doctor')).out),
    120,
  );
  const events = (await netctl('events -o json'))
    .split('\n')
    .map((line) => JSON.parse(line) as { by?: string; object?: string });
  // The newest: files before this one have left theirs, of other people too.
  expect(events.findLast(({ object }) => object === 'network')?.by).toMatch(/^admin admin \(netctl /);
  expect(events.findLast(({ object }) => object === 'endpoint')?.by).toMatch(/^host node\d \(netplugin /);
}, 120_000);

it('nobody asks without a certificate, and a host for itself alone', async () => {
  const status = (flags: string, where: string): Promise<string> =>
    must('node2', `curl -q -s -o /dev/null -w %{http_code} ${AUTHORITY} ${flags} ${URL}${where}`);
  expect(await status('', '/version')).toBe('200');
  expect(await status('', '/api/v1/export')).toBe('401');
  expect(await status(HOST, '/api/v1/export')).toBe('403');
  expect(await status(`${HOST} -X DELETE`, '/api/v1/networks/default:contiv-net')).toBe('403');
  expect(await status(`${HOST} -X POST -d {}`, '/api/v1/hosts/node1/applied')).toBe('403');
  expect((await on('outside', `curl -sk -f -m 5 ${URL}/api/v1/export`)).status).not.toBe(0);
  const token = await netctl('token create');
  const other = token.replace(/\.[^.]*$/, `.${'A'.repeat(43)}`);
  const refused = await on('node2', `netplugin join ${URL} ${other} --state-dir /run/other`);
  expect(refused).toMatchObject({ status: 3, err: expect.stringContaining('another authority') });
  const again = await on('node2', `netplugin join ${URL} ${token} --state-dir /run/other`);
  expect(again).toMatchObject({ status: 3, err: expect.stringContaining('has joined already') });
}, 60_000);

it("a tenant's operator has that tenant, and nobody else's containers", async () => {
  await netctl('tenant create violet');
  const token = await netctl('token create --role=operator --tenant=violet --name=alice');
  const [file, copy] = ['/run/alice.token', `printf %s ${token}`];
  await must('node2', `sh -c '${copy} > ${file}'`);
  const alice = (line: string): Promise<Ended> =>
    on('node2', `netctl --netmaster=${URL} --tls-ca=/var/lib/contiv/tls/ca.crt --token-file=${file} ${line}`);
  const done = async (line: string): Promise<string> => {
    const { status, out, err } = await alice(line);
    if (status !== 0) throw new Error(`${line}: ${err}`);
    return out.trim();
  };
  expect(await done('whoami')).toBe('operator alice, by token: may read and change what is of tenant violet');
  await done('net create -t violet own-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await done('group create -t violet own-net own');
  for (const [host, name] of [
    ['node1', 'seen'],
    ['node2', 'also'],
  ])
    await must(
      host as string,
      `docker run -d --name=${name} --net=own.own-net/violet contiv/lab sleep 100000`,
    );
  await until('ping', () => pings('node1', 'seen', 'also'));
  expect((await done('endpoint ls -a -q')).split('\n')).toHaveLength(2);
  for (const line of ['net ls -a', 'endpoint ls -a', 'tenant ls', 'events', 'export'])
    expect(await done(line), line).not.toMatch(/contiv-net|default:|\bdb\b/);
  expect(await done('policy trace -t violet --from=seen --to=also --port=80 --live')).toMatch(/agrees/);
  for (const line of [
    'net create -t violet wide --subnet=20.2.0.0/24 --encap=vlan --pkt-tag=7',
    'net rm contiv-net',
    'tenant create green',
    'host ls',
    'token ls',
    'status',
  ])
    expect((await alice(line)).err, line).toMatch(/operator alice (may not|has no rights)|must be vxlan/);
  await must('node1', 'docker rm -f seen');
  await must('node2', 'docker rm -f also');
  await until('endpoints to be gone', async () => (await done('endpoint ls -a -q')) === '');
  await done('group rm -t violet own');
  await done('net rm -t violet own-net');
  await netctl(`token rm ${token.split('.')[1]}`);
  expect((await alice('whoami')).err).toMatch(/was removed/);
  await netctl('tenant rm violet');
}, 180_000);

it('a host whose certificate is revoked is let in no more, until it has joined again; its containers go on', async () => {
  const said = async (): Promise<number> =>
    (await mustLab('logs netplugin node2')).split('is revoked').length;
  const before = await said();
  await netctl('host revoke node2');
  await until('node2 to be away', async () => (await stateOf('node2')) === 'away');
  await expect.poll(said).toBeGreaterThan(before);
  expect((await on('node2', 'docker exec db true')).status).toBe(0);
  const token = await netctl('token create --host=node2');
  await must('node2', `netplugin join ${URL} ${token}`);
  await mustLab('kill netplugin node2');
  await mustLab('start netplugin node2');
  await until('node2 to be ready', async () => (await stateOf('node2')) === 'ready');
  await until('ping', () => pings('node1', 'web', 'db'));
  expect(await differences()).toBe('');
}, 180_000);
