/** Hosts have certificates, and learn of a tenant with its first container there: by when it is there, and what becomes of it when netmaster forgets. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clear, differences, echoes, lab, must, mustLab, netctl, on, pings, run, until } from './lab.ts';

const BACKUP = '/var/lib/contiv/scope.backup';
const HOST = 'https://192.168.50.11:9999/api/v1/watch?host=';

/** What the host is told by its certificate within two seconds. */
async function told(host: string): Promise<string> {
  const keys = '--cacert /var/lib/contiv/tls/ca.crt --cert /var/lib/contiv/host/host.pem';
  return (await on(host, `curl -q -s -N -m 2 ${keys}`, `${HOST}${host}`)).out;
}

beforeAll(async () => {
  for (const [i, tenant] of ['blue', 'red'].entries()) {
    await netctl(`tenant create ${tenant}`);
    await netctl(`net create -t ${tenant} net --subnet=20.1.${i + 1}.0/24 --gateway=20.1.${i + 1}.254`);
    await netctl(`policy create -t ${tenant} shut-${tenant}`);
    await netctl(`policy rule-add -t ${tenant} shut-${tenant} 1 --direction=out --action=deny`);
    await netctl(`group create -t ${tenant} net shut --policy=shut-${tenant}`);
  }
  for (const host of ['node1', 'node2'])
    await until(
      'Docker to have the networks',
      async () => (await on(host, 'docker network inspect net/blue shut.net/blue net/red')).status === 0,
    );
}, 120_000);
afterAll(async () => {
  await on('node1', `rm -f ${BACKUP}`);
  await lab('start netmaster');
  await clear();
});

it("a tenant's first container on a host is under its policy from the first packet, and its last one takes the tenant with it", async () => {
  const address = await run('node1', 'open', 'net/blue');
  expect(await told('node2')).not.toMatch(/shut-blue/);
  const tried = await on(
    'node2',
    `docker run --rm --net=shut.net/blue contiv/lab ping -c 30 -i 0.1 -W 1 ${address}`,
  );
  expect(tried.out).toMatch(/ 0 packets received/);
  await until('node2 to have no business with it', async () => !/shut-blue/.test(await told('node2')));
  expect(await told('node1')).toMatch(/shut-blue/);
  // Without policy it is reached at once.
  const open = await on(
    'node2',
    `docker run --rm --net=net/blue contiv/lab ping -c 5 -i 0.2 -W 2 ${address}`,
  );
  expect(open.out).toMatch(/ 5 packets received/);
  expect(await differences()).toBe('');
}, 180_000);

it('where netmaster has forgotten the addresses of a tenant, what runs of it goes on without losing a packet, and is known again', async () => {
  expect(await netctl(`backup ${BACKUP}`)).toMatch(/entries of revision \d+/);
  await run('node1', 'one', 'net/red');
  await run('node2', 'two', 'net/red');
  await run('node2', 'also', 'net/blue');
  for (const [from, to] of [
    ['one', 'two'],
    ['open', 'also'],
  ] as const)
    await until(`${from} to reach ${to}`, () => pings('node1', from, to));
  const counts = [echoes('node1', 'one', 'two'), echoes('node1', 'open', 'also')];
  await mustLab('kill netmaster');
  await must('node1', `netmaster restore ${BACKUP} --replace`);
  await mustLab('start netmaster');
  await until('what runs to be known again', async () => {
    const known = await netctl('endpoint ls -a');
    return ['also', 'one', 'open', 'two'].every((name) => known.includes(` ${name} `));
  });
  await until('nothing to differ', async () => (await differences()) === '');
  expect(await Promise.all(counts.map((count) => count()))).toEqual([0, 0]);
  for (const host of ['node1', 'node2']) expect(await told(host)).toMatch(/shut-red/);
  expect(await mustLab('logs netplugin node2')).toMatch(
    /netmaster does not know addresses in tenant (red|blue)/,
  );
}, 240_000);
