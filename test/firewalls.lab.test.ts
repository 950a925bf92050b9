/** Other firewalls on a host: what they drop is said, and what the guide says to allow is enough. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { layOver, takeAway, unpackPackages } from './debian.ts';
import { block, placed } from './guides.ts';
import {
  type Background,
  background,
  clear,
  DOCKER_USER,
  differences,
  docker,
  inside,
  lab,
  must,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

const HOST = '192.168.50.11';
const PORT = 8085;
const OUT = 'drops what containers send out, IPv4';
const IN = 'drops what comes in to published ports, IPv4';
const TUNNEL = 'drops what other hosts send to tunnels (UDP 4789), IPv4';
/** The guide's commands for a program, with this lab's addresses. */
const guide = (name: string): string => placed(block('docs/guide/hosts.md', name).join('\n'));

let saved = '';

beforeAll(async () => {
  await netctl('net create walled --subnet=10.22.0.0/24 --gateway=10.22.0.254');
  await run('node1', 'here', 'walled', '-p', `${PORT}:80`);
  await docker('node1', 'exec -d here httpd -f -p 80 -h /www');
  await run('node2', 'there', 'walled');
  saved = await must('node1', 'iptables-save');
  await until('all passes', async () => (await passing()) === 'out in tunnel');
});
afterAll(async () => {
  await restore();
  await clear();
});

/** Of a table that Docker has nothing in, as with nftables, nothing is saved. */
const restore = async (): Promise<void> => {
  const open = ['INPUT', 'FORWARD'].flatMap((chain) =>
    ['iptables', 'ip6tables'].map((command) => `${command} -P ${chain} ACCEPT`),
  );
  await must('node1', 'sh -c', `${open.join('; ')}; echo '${saved}' | iptables-restore`);
};

const health = async (path: string): Promise<string> =>
  must('node1', `curl -s --unix-socket /run/contiv/netplugin.sock http://host/${path}`);
const dropped = async (): Promise<string[]> => JSON.parse(await health('health')).dropped.sort();
const logged = async (): Promise<string[]> =>
  (await mustLab('logs netplugin node1')).split('\n').filter((line) => line.includes('another firewall'));

/** What really passes. Outside nothing listens on port 9, and says so (curl: 7). */
async function passing(): Promise<string> {
  const out = await inside('node1', 'here', 'curl -s -m 2 http://192.168.50.1:9/');
  const published = await on('outside', `curl -s -m 2 http://${HOST}:${PORT}/`);
  const ways = [
    ['out', out.status === 7],
    ['in', published.status === 0],
    ['tunnel', await pings('node2', 'there', 'here')],
  ] as const;
  return ways.flatMap(([way, passes]) => (passes ? [way] : [])).join(' ');
}

const untilDropped = (...expected: string[]): Promise<unknown> =>
  until(
    `${expected.join('; ') || 'nothing'} dropped`,
    async () => (await dropped()).join() === expected.sort().join(),
  );

describe('another firewall of the host', () => {
  it('that drops all is named in the log, in health and metrics, and seen by lab check; what it lets through again too', async () => {
    const before = (await logged()).length;
    await must('node1', "sh -c 'iptables -F; iptables -X; iptables -P FORWARD DROP'");
    const chain = 'table ip filter, chain FORWARD (its policy)';
    await untilDropped(`${chain} ${OUT}`, `${chain} ${IN}`);
    expect(await passing()).toBe('tunnel');
    expect(await health('metrics')).toMatch(
      /contiv_netplugin_dropped_by_firewall\{way="out",family="IPv4",table="ip filter",chain="FORWARD"\} 1/,
    );
    expect((await lab('check')).out).toContain('node1: router contiv-default: no way out');
    const lines = (await logged()).slice(before);
    expect(lines.map((line) => JSON.parse(line).dropping).sort()).toEqual([
      `${chain} ${IN}`,
      `${chain} ${OUT}`,
    ]);
    await restore();
    await untilDropped();
    expect(await passing()).toBe('out in tunnel');
    expect((await logged()).slice(before)).toHaveLength(4);
    expect(await differences()).toBe('');
  });

  it("of one's own, in nftables, lets all pass with what the guide says", async () => {
    const table = (rules: string): Promise<string> =>
      must(
        'node1',
        'nft',
        `table inet own { chain passing { type filter hook forward priority 10; policy drop; ${rules} }; }`,
      );
    await table('');
    await untilDropped(...[IN, OUT].map((what) => `table inet own, chain passing (its policy) ${what}`));
    await must('node1', "nft 'delete table inet own'");
    await must(
      'node1',
      'sh -c',
      `cat > /run/own.nft <<'END'\n${guide('nftables')}\nEND\nnft -f /run/own.nft`,
    );
    await untilDropped();
    expect(await passing()).toBe('out in tunnel');
    expect((await on('node2', `curl -s -m 3 https://${HOST}:9999/healthz`)).status).toBe(0);
    expect((await on('node1', 'nft list chain inet own passing')).out).toContain('policy drop');
    await must('node1', "nft 'delete table inet own'");
  });

  it.runIf(DOCKER_USER)("that has no DOCKER-USER, as Docker's with nftables, needs nothing", async () => {
    await must('node1', "sh -c 'iptables -F; iptables -X; iptables -P FORWARD ACCEPT'");
    const chain = (name: string, hook: string, ...rules: string[]): string =>
      `chain ${name} { type filter hook ${hook}; policy accept; ${rules.join('; ')}; }`;
    await must(
      'node1',
      'nft',
      `table ip docker-bridges {
        ${chain('filter-FORWARD', 'forward priority 0', 'ct state established,related accept', 'iifname docker0 accept', 'oifname docker0 drop')}
        ${chain('raw-PREROUTING', 'prerouting priority -300', 'iifname != docker0 ip daddr 172.17.0.0/16 drop')}
      }`,
    );
    await untilDropped();
    expect(await passing()).toBe('out in tunnel');
    expect(await differences()).toBe('');
    await must('node1', "nft 'delete table ip docker-bridges'");
    await restore();
  });
});

describe('of Debian', () => {
  let daemons: Background[] = [];
  beforeAll(async () => {
    const root = unpackPackages('node1', 'firewalld', 'ufw', 'dbus');
    // What ufw's installation does.
    await must(
      'node1',
      'sh -ec',
      `[ ! -d ${root}/usr/share/ufw ] || cp ${root}/usr/share/ufw/*.rules ${root}/usr/share/ufw/*.init ${root}/usr/share/ufw/ufw.conf ${root}/etc/ufw/`,
    );
    await layOver('node1', root);
  });
  afterAll(async () => {
    for (const daemon of daemons) await daemon.end('SIGTERM');
    daemons = [];
    await takeAway('node1');
    await restore();
    await untilDropped();
  });

  it('ufw: tunnels are closed, and ways out where Docker keeps no chain for others; the guide opens them', async () => {
    if (DOCKER_USER) await must('node1', 'iptables -D FORWARD -j DOCKER-USER');
    await must('node1', 'ufw --force enable');
    await untilDropped(
      `table ip filter, chain INPUT (its policy) ${TUNNEL}`,
      ...[IN, OUT].map((what) => `table ip filter, chain FORWARD (its policy) ${what}`),
    );
    await must('node1', 'sh -ec', guide('ufw'));
    await untilDropped();
    expect(await passing()).toBe('out in tunnel');
    expect(await differences()).toBe('');
    await must('node1', 'ufw --force reset');
  });

  it('firewalld: tunnels and ways out are closed; the guide opens them', async () => {
    const bus =
      '<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth><policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>';
    await must('node1', 'sh -ec', `mkdir -p /run/dbus; echo '${bus}' > /run/dbus.conf`);
    daemons.push(background('node1', 'dbus-daemon --nofork --nopidfile --config-file=/run/dbus.conf'));
    await until('D-Bus', async () => (await on('node1', 'test -S /run/dbus/system_bus_socket')).status === 0);
    const start = () => background('node1', '/usr/bin/python3 /usr/sbin/firewalld --nofork --nopid');
    daemons.unshift(start());
    await untilDropped(
      `table inet firewalld, chain filter_IN_public (a rule) ${TUNNEL}`,
      `table inet firewalld, chain filter_FWD_public (a rule) ${OUT}`,
    );
    // Its own command needs polkit beside it: what it would keep is written, and read when the program starts.
    await daemons.shift()?.end('SIGTERM');
    const commands = guide('firewalld')
      .replaceAll('firewall-cmd --permanent', 'firewall-offline-cmd')
      .replace('firewall-cmd --reload', '');
    await must('node1', 'sh -ec', commands);
    daemons.unshift(start());
    await until(
      'its rules',
      async () => (await on('node1', 'nft list chain inet firewalld filter_FWD_contiv')).status === 0,
    );
    await until('all passes', async () => (await passing()) === 'out in tunnel');
    await untilDropped();
    expect(await differences()).toBe('');
  });
});
