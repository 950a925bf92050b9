/** What netctl doctor says on a host when something is wrong there, and that it is mended; and a host that is drained. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import {
  background,
  clear,
  differences,
  docker,
  LAB,
  lab,
  must,
  mustLab,
  netctl,
  on,
  run,
  until,
} from './lab.ts';

const NETMASTER = 'https://192.168.50.11:9999';
const doctor = (host = 'node1') => on(host, 'netctl doctor');

/** It says all of these, each on a line of its own, with a remedy where something is wrong. */
const says = (host: string, ...lines: RegExp[]): Promise<string> =>
  until(`${host}: ${lines.join(', ')}`, async () => {
    const { status, out } = await doctor(host);
    const said = out.split('\n');
    for (const line of said) if (line.startsWith('wrong')) expect(line).toMatch(/^wrong {4}[^:]+: .+ -> .+$/);
    return status === 1 && lines.every((line) => said.some((text) => line.test(text))) && out;
  });
/** What was changed by hand and put right it finds for a minute, of the file before too. */
const isWell = (host = 'node1'): Promise<string> =>
  until(
    `${host} is well`,
    async () => {
      const { status, out } = await doctor(host);
      return status === 0 && /^all is well$/m.test(out) && out;
    },
    150,
  );

const wire = (host: string, mtu: number): void =>
  void execFileSync('ip', ['-n', `lab-${LAB}-switch`, 'link', 'set', `w-${host}`, 'mtu', String(mtu)]);

/** What looking could leave on the host; namespaces of other labs come and go in the same folder. */
const traces = (host: string): Promise<string> =>
  must(host, 'sh -c', 'ip -o link | cut -d: -f2; nft list tables; grep doctor /proc/self/mountinfo; true');

beforeAll(async () => {
  await netctl('net create seen --subnet=10.23.0.0/24 --gateway=10.23.0.254');
  await run('node1', 'here', 'seen', '-p', '8080:80');
  await run('node2', 'there', 'seen');
  await isWell();
});
afterAll(async () => {
  await lab('start netmaster node1');
  await lab('start netplugin node1');
  wire('node2', 1500);
  await on('node1', 'netctl host undrain node2');
  await clear();
});

it('where nothing is wrong each check is a line, ten at once too, and nothing of them is left', async () => {
  const before = await traces('node1');
  const out = await isWell();
  for (const line of [
    /^ok {7}kernel: Linux \S+: nf_tables, connection tracking, VXLAN and shaping do what is needed$/,
    /^ok {7}fast path: /,
    /^ok {7}agent: live, at revision \d+$/,
    /^ok {7}drift: /,
    /^ok {7}firewalls: /,
    /^ok {7}host node1: netmaster has it as ready$/,
    /^ok {7}clock: /,
    /^ok {7}way to node2: 192\.168\.50\.12 answers, packets of 1500 bytes arrive$/,
    /^ok {7}addresses: 1 container attached/,
    /^ok {7}Docker: /,
  ])
    expect(
      out.split('\n').filter((text) => line.test(text)),
      String(line),
    ).toHaveLength(1);
  // On a busy machine one of them may be told late what it asks.
  const one = async (): Promise<[number, string]> => {
    const { status, out: json } = await on('node1', 'netctl doctor -o json');
    return [status, JSON.parse(json).summary];
  };
  await expect
    .poll(() => Promise.all(Array.from({ length: 10 }, one)))
    .toEqual(Array.from({ length: 10 }, () => [0, 'all is well']));
  expect(await traces('node1')).toBe(before);
});

it('who is not root is told so, with another exit status than what is wrong with the host', async () => {
  expect(await on('node1', 'setpriv --reuid 65534 --clear-groups netctl doctor')).toMatchObject({
    status: 2,
    out: '',
    err: expect.stringMatching(/^netctl: doctor: must run as root\b.*\n$/),
  });
});

it('a way that is narrower than the MTU is named with what fits, on both hosts', async () => {
  wire('node2', 1400);
  onTestFinished(() => wire('node2', 1500));
  const narrow = (to: string) =>
    new RegExp(
      `^wrong {4}way to ${to}: packets of 1500 bytes, the MTU, do not arrive at .*: only up to 1[34]\\d\\d -> `,
    );
  await says('node1', narrow('node2'));
  await says('node2', narrow('node1'));
  wire('node2', 1500);
  await isWell();
  await isWell('node2');
});

it("another firewall's drops, and what somebody changes of ours, are named", async () => {
  await must(
    'node1',
    'nft',
    'table inet own { chain passing { type filter hook forward priority 10; policy drop; }; }',
  );
  onTestFinished(async () => void (await on('node1', 'nft delete table inet own')));
  await says(
    'node1',
    /^wrong {4}firewalls: .*table inet own, chain passing \(its policy\) drops .* -> let through/,
  );
  await must('node1', 'nft delete table inet own');
  await must('node1', 'ip netns exec contiv-default ip route flush 10.23.0.0/24');
  await says('node1', /^wrong {4}drift: within the last minute somebody changed what is ours, .* -> /);
});

it('without its agent that, a leaked address and what Docker has left are named; with it they go by themselves', async () => {
  await netctl('net create gone --subnet=10.24.0.0/24');
  await until('offered', async () => (await on('node1', 'docker network inspect gone')).status === 0);
  // Killed while doctors look: each says something, none hangs or fails.
  const looking = Array.from({ length: 3 }, () => doctor());
  await mustLab('kill netplugin node1');
  for (const { status, err } of await Promise.all(looking)) {
    expect(err).toBe('');
    expect([0, 1]).toContain(status);
  }
  await netctl('net rm gone');
  const lost = {
    endpointID: 'lost',
    tenantName: 'default',
    networkName: 'seen',
    homingHost: 'node1',
    macAddress: '02:02:0a:17:00:42',
    ipAddress: ['10.23.0.66'],
    containerName: 'lost',
    status: 'running',
  };
  await must(
    'node1',
    `curl -sf -X PUT -H 'content-type: application/json' '${NETMASTER}/api/v1/endpoints/lost?wait=0' -d`,
    JSON.stringify(lost),
  );
  await says(
    'node1',
    /^wrong {4}agent: does not answer at \/run\/contiv\/netplugin\.sock: .* -> start it: systemctl start contiv-netplugin/,
    /^unknown {2}drift: /,
    /^wrong {4}host node1: netmaster has it as away: .* -> /,
    /^ok {7}way to node2: /,
    /^wrong {4}leaked address: address 10\.23\.0\.66 of default:seen is kept for container lost, .* -> /,
    /^wrong {4}Docker's leftover: network gone was made for network default:gone, .* docker network rm gone$/,
  );
  await mustLab('start netplugin node1');
  await isWell();
  // The runtime would: until then, or for a minute, the address is kept for the host.
  await must(
    'node1',
    `curl -sf -X DELETE '${NETMASTER}/api/v1/addresses/default:seen/10.23.0.66?host=node1'`,
  );
});

it('without netmaster that is named, and the rest is looked at', async () => {
  await mustLab('kill netmaster node1');
  await says(
    'node1',
    /^wrong {4}netmaster: netmaster cannot be reached at .* -> start it /,
    /^wrong {4}agent: runs, and does not follow netmaster/,
    /^unknown {2}clock: /,
    /^unknown {2}addresses: netmaster does not answer$/,
    /^ok {7}way to node2: /,
  );
  await mustLab('start netmaster node1');
  await isWell();
});

it('a host that is drained takes no new containers, of no runtime, until they may come again', async () => {
  const left = (await netctl('host drain node2')).split('\n');
  expect(left).toContain('1 container left on node2:');
  expect(left.find((line) => line.startsWith('there '))).toMatch(/^there +Docker +docker rm -f there$/);
  const refusal = 'host node2: takes no new containers, it is being drained';
  const attempt = () => on('node2', 'docker run --rm --name=late --net=seen contiv/lab true');
  expect((await attempt()).err).toContain(refusal);
  await must('node2', 'ip netns add box');
  onTestFinished(async () => void (await on('node2', 'ip netns delete box')));
  expect(
    (await on('node2', 'netplugin endpoint add --netns /run/netns/box --network seen --name box')).err,
  ).toContain(refusal);
  // Those that are killed forget nothing.
  for (const server of ['netmaster node1', 'netplugin node2']) {
    await mustLab(`kill ${server}`);
    await mustLab(`start ${server}`);
  }
  const row = async () => (await netctl('host ls')).split('\n').find((line) => line.startsWith('node2 '));
  await until('draining', async () =>
    / draining: it takes no new containers since /.test((await row()) ?? ''),
  );
  expect((await attempt()).err).toContain(refusal);
  await expect
    .poll(async () => (await on('node1', 'netctl status')).out)
    .toMatch(/^hosts .*, 1 draining \(node2\)$/m);
  await expect
    .poll(async () => JSON.parse(await netctl('host inspect node2')))
    .toMatchObject({ state: 'draining', containers: 1 });
  expect(await isWell('node2')).toMatch(/^ok {7}host node2: netmaster has it as draining: /m);

  const waiting = background('node1', 'netctl host drain node2 --wait');
  onTestFinished(() => waiting.end());
  await until('it waits', async () => waiting.lines.some((line) => line.startsWith('1 container left')));
  await docker('node2', 'rm -f there');
  const done = 'Nothing of ours is left on node2: netplugin leave may follow there';
  await until('nothing is left', async () => waiting.lines.includes(done));

  await netctl('host undrain node2');
  await docker('node2', 'run --rm --name=late --net=seen contiv/lab true');
  const events = () => netctl('events --kind host,denial');
  expect(await events()).toMatch(
    / draining host node2: it takes no new containers \(admin admin \(netctl root@node1/,
  );
  expect(await events()).toMatch(/ undrained host node2: it takes new containers again /);
  await expect.poll(events).toContain(`denial Docker's RequestAddress: ${refusal}`);
});

it('afterwards kernel, names and netmaster are as they should be', async () => {
  await until('no differences', async () => (await differences()) === '');
});
