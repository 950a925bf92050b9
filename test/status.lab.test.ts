/** What an operator sees with netctl status when something is wrong: what and where, with what mends it; and that it is mended. */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { clear, differences, docker, LAB, lab, must, mustLab, netctl, on, run, until } from './lab.ts';

const status = () => on('node1', 'netctl status');
interface Wrong {
  readonly of: string;
  readonly problem: RegExp;
  readonly remedy: RegExp;
}

/** Seconds for what an operator is to see within 15, whatever is wrong: twice that, as the machine may be busy. */
const NAMED_WITHIN = 30;

/** netctl names it in time, with its remedy, and its exit status says that something is wrong. */
const named = ({ of, problem, remedy }: Wrong): Promise<unknown> =>
  until(
    `${of}: ${problem}`,
    async () => {
      const { status: exit, out } = await status();
      const lines = out.split('\n');
      const at = lines.findIndex((line) => line.startsWith(`  ${of}: `) && problem.test(line));
      return exit === 2 && at >= 0 && remedy.test(lines[at + 1] ?? '');
    },
    NAMED_WITHIN,
  );
const isWell = (): Promise<unknown> =>
  until('all is well', async () => {
    const { status: exit, out } = await status();
    return exit === 0 && /^all is well$/m.test(out);
  });
const hostRow = async (name: string): Promise<string> =>
  (await netctl('host ls')).split('\n').find((line) => line.startsWith(`${name} `)) ?? '';
const logged = async (text: string): Promise<number> =>
  (await mustLab('logs netmaster node1')).split('\n').filter((line) => line.includes(text)).length;

let firewall = '';

beforeAll(async () => {
  await netctl('net create seen --subnet=10.23.0.0/24 --gateway=10.23.0.254');
  await run('node1', 'here', 'seen');
  await run('node2', 'there', 'seen');
  firewall = await must('node1', 'iptables-save');
  await isWell();
});
afterAll(async () => {
  await lab('start netplugin node2');
  await lab('start netmaster node1');
  wire('node2', 1500);
  await clear();
});

it('with all that should be there it says so, and shows hosts, networks and the store', async () => {
  const { out } = await status();
  expect(out).toMatch(
    /^netmaster {2}\S+, up .*, store sqlite \S+netmaster\.db \d+(\.\d)? [KM]B, revision \d+$/m,
  );
  expect(out).toMatch(/^hosts {6}2 ready, 0 late, 0 away, 0 refused$/m);
  expect(out).toMatch(/^default:seen +10\.23\.0\.0\/24 +253 +2 \(0 %\)(, \d in reserve)?$/m);
  // Whether the fast path is on its agent tells with a heartbeat.
  const row = /^node1 +192\.168\.50\.11 +\S+ +1 +\S+Z +\d+ +on +ready$/;
  await until('node1 has told all', async () => row.test(await hostRow('node1')));
  const json = JSON.parse(await netctl('status -o json'));
  expect(json).toMatchObject({ hosts: { ready: 2 }, problems: [] });
});

it('a host whose agent was killed is away, its containers are unreachable, and both are over when it is back', async () => {
  const [gone, back] = [await logged('host node2 is away'), await logged('host node2 is back')];
  await mustLab('kill netplugin node2');
  const away: Wrong = {
    of: 'host node2',
    problem: /away: nothing is heard of it since .*; 1 container there unreachable/,
    remedy: /start its agent .* netctl host rm node2/,
  };
  await named(away);
  // Its container runs on by what was applied there last.
  const write = await on('node1', 'netctl policy create unheard');
  const warning =
    'netctl: warning: hosts that are away have not applied it, and containers there go on as before: node2\n';
  expect(write).toMatchObject({ status: 0, err: warning });
  await netctl('policy rm unheard');
  // A netmaster that has just been started has heard of nobody, and names it all the same.
  await mustLab('kill netmaster node1');
  await mustLab('start netmaster node1');
  await named(away);
  expect(await hostRow('node2')).toMatch(/ away: nothing is heard of it since \S+Z$/);
  expect(await netctl('endpoint ls')).toMatch(/^default +there .* unreachable$/m);
  expect(await netctl('endpoint ls')).toMatch(/^default +here .* running$/m);
  expect(await on('node1', 'netctl host rm node1')).toMatchObject({
    status: 3,
    err: expect.stringContaining('host node1: is alive'),
  });
  await mustLab('start netplugin node2');
  await isWell();
  await expect.poll(() => netctl('endpoint ls')).toMatch(/^default +there .* running$/m);
  // Each of the two netmasters has said once that it is away.
  await expect
    .poll(async () => [await logged('host node2 is away'), await logged('host node2 is back')])
    .toEqual([gone + 2, back + 1]);
});

it('a netmaster that is not there is one line that says what to start; restarted, all is well', async () => {
  await mustLab('kill netmaster node1');
  const { status: exit, err } = await status();
  expect(exit).toBe(3);
  expect(err).toMatch(
    /^netctl: netmaster cannot be reached at .*: start it \(systemctl start contiv-netmaster\)/,
  );
  await mustLab('start netmaster node1');
  await isWell();
});

it('a name that Docker has already is named until the other network goes, and then offered', async () => {
  await docker('node2', 'network create taken');
  await netctl('net create taken --subnet=10.24.0.0/24');
  await named({
    of: 'host node2',
    problem: /Docker has another network named taken/,
    remedy: /docker network rm taken/,
  });
  await docker('node2', 'network rm taken');
  await isWell();
  await expect.poll(() => docker('node2', "network inspect -f '{{.Driver}}' taken")).toBe('netplugin');
});

it('a full disk under the store is named until there is room', async () => {
  const { place } = JSON.parse(await netctl('status -o json')).netmaster;
  const move = (from: string, to: string): string => `for f in ${from}*; do mv $f ${to}\${f#${from}}; done`;
  // Ended in order, SQLite leaves no journal, in whose pages it would go on writing for a long time.
  await mustLab('stop netmaster node1');
  await must(
    'node1',
    'sh -c',
    `mkdir -p /run/small && mount -t tmpfs -o size=64m tmpfs /run/small && ${move(place, '/run/small/db')} && ln -s /run/small/db ${place}`,
  );
  onTestFinished(async () => {
    await mustLab('kill netmaster node1');
    await must(
      'node1',
      'sh -c',
      `rm -f /run/small/filling ${place} && ${move('/run/small/db', place)} && umount /run/small`,
    );
    await mustLab('start netmaster node1');
    await isWell();
  });
  await mustLab('start netmaster node1');
  await isWell();
  await on('node1', 'dd if=/dev/zero of=/run/small/filling bs=64k');
  await named({ of: 'netmaster', problem: /the disk of the store .* has \d+ KB left/, remedy: /free some/ });
  // What fits in what SQLite has already is still written.
  await until('a write fails', async () => {
    const name = `t${Math.random().toString(36).slice(2)}`.padEnd(60, 'x');
    return (await on('node1', `netctl tenant create ${name}`)).status !== 0;
  });
  await named({
    of: 'netmaster',
    problem: /the store cannot be written: no space is left on the disk of/,
    remedy: /mend the store/,
  });
  const ready = await must('node1', 'curl -s -w %{http_code} https://192.168.50.11:9999/readyz');
  expect(ready).toMatch(/no space is left on the disk of .*503$/s);
  expect(await must('node1', 'curl -s -o /dev/null -w %{http_code} https://192.168.50.11:9999/healthz')).toBe(
    '200',
  );
  await must('node1', 'rm /run/small/filling');
  await isWell();
});

const wire = (host: string, mtu: number): void =>
  void execFileSync('ip', ['-n', `lab-${LAB}-switch`, 'link', 'set', `w-${host}`, 'mtu', String(mtu)]);

it('a way between hosts that is narrower than their MTU is named on both, with what fits', async () => {
  wire('node2', 1400);
  for (const [from, to] of [
    ['node1', 'node2'],
    ['node2', 'node1'],
  ] as const)
    await named({
      of: `host ${from}`,
      problem: new RegExp(
        `packets of 1500 bytes, the MTU of eth0, do not arrive at host ${to}: only up to 1[34]\\d\\d`,
      ),
      remedy: /ip link set eth0 mtu 1[34]\d\d/,
    });
  wire('node2', 1500);
  await isWell();
});

it('another firewall that drops what is ours is named with chain and host', async () => {
  await must('node1', 'iptables -P FORWARD DROP');
  await must('node1', 'iptables -F DOCKER-USER');
  await must(
    'node1',
    'nft',
    'table inet own { chain passing { type filter hook forward priority 10; policy drop; }; }',
  );
  await named({
    of: 'host node1',
    problem:
      /another firewall drops what is ours: table inet own, chain passing \(its policy\) drops what containers send out/,
    remedy: /let through there .*hosts\.md/,
  });
  await must('node1', "nft 'delete table inet own'");
  await must('node1', 'sh -c', `echo '${firewall}' | iptables-restore`);
  await isWell();
});

it('afterwards kernel, names and netmaster are as they should be', async () => {
  await until('no differences', async () => (await differences()) === '');
});
