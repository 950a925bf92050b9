/** Debian's packages on a Debian with systemd, as an operator has them: docs/operate/lifecycle.md. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, it, vi } from 'vitest';
import { type DebianHost, debianHost } from './debianHost.ts';

const ROOT = path.dirname(import.meta.dirname);
const PACKAGES = path.join(ROOT, 'dist/packages-tested');
const URL = 'https://10.9.0.1:9999';

/** A machine that is busy takes its time. */
const patient = { timeout: 60_000, interval: 500 };

/** Of this checkout, and a second one that dpkg takes for newer. */
const REVISIONS = ['1', '2'];
beforeAll(() => {
  for (const REVISION of REVISIONS)
    execFileSync(path.join(ROOT, 'packaging/package.sh'), [path.join(PACKAGES, REVISION)], {
      env: { ...process.env, REVISION },
    });
  return () => fs.rmSync(PACKAGES, { recursive: true, force: true });
});

function bring(host: DebianHost): void {
  for (const revision of REVISIONS) {
    host.run(`mkdir /root/${revision}`);
    const folder = path.join(PACKAGES, revision);
    for (const file of fs.readdirSync(folder).filter((name) => name.endsWith('.deb')))
      host.copy(path.join(folder, file), `/root/${revision}/${file}`);
  }
}

/** An interface towards others, which are not there: what two containers of one host say to each other needs none. */
const UNDERLAY = `ip link add eth0 type veth peer name wire
  ip link set wire up
  ip addr add 10.9.0.1/24 dev eth0
  ip link set eth0 up`;

/** Everything of ours on its disk and in what runs, but the packages themselves. */
const left = (host: DebianHost): string =>
  host.run(
    `find /usr /etc /var /run /opt -xdev \\( -name '*contiv*' -o -name 'netplugin*' -o -name 'netmaster*' -o -name 'netctl*' \\) ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' ! -path '/var/backups/*'
     nft list tables
     ls /run/netns 2>/dev/null || true`,
  );

it('packages are installed, upgraded while packets go, removed and purged', async () => {
  const host = await debianHost('packagetest');
  bring(host);
  expect(host.tryRun('command -v npm node').status).not.toBe(0);
  host.run(UNDERLAY);

  // Installed: there, and nothing of it runs before it is configured.
  host.run('dpkg -i /root/1/*.deb');
  expect(host.tryRun('systemctl is-enabled contiv-netmaster contiv-netplugin contiv-netkube').said).toBe(
    'disabled\ndisabled\ndisabled\n',
  );
  expect(host.run("ps ax -o args | grep -c '[/]usr/lib/contiv' || true")).toBe('0\n');
  expect(host.run('netctl version --help; dpkg --verify')).toContain('Usage: netctl version');

  // Secured and started, as the guide has it.
  const netctl = (line: string): string => host.run(`netctl --netmaster ${URL} ${line}`);
  host.run(`echo 'NETMASTER_FLAGS=--listen 10.9.0.1:9999' >> /etc/contiv/netmaster.conf
    systemctl enable --now contiv-netmaster`);
  await vi.waitFor(() => netctl('status'), patient);
  const token = netctl('token create').trim();
  host.run(`netplugin join ${URL} ${token}
    echo 'NETPLUGIN_FLAGS=--underlay eth0' >> /etc/contiv/netplugin.conf
    systemctl enable --now contiv-netplugin`);
  netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  for (const [name, address] of [
    ['web', '20.1.1.2'],
    ['db', '20.1.1.3'],
  ])
    expect(
      host.run(
        `ip netns add ${name}; netplugin endpoint add --netns /run/netns/${name} --network contiv-net --name ${name}`,
      ),
    ).toContain(address);
  const resolves = (): Promise<void> =>
    vi.waitFor(
      () =>
        expect(host.run('ip netns exec web busybox nslookup db.contiv-net 20.1.1.254')).toContain('20.1.1.3'),
      patient,
    );
  await resolves();

  // Upgraded: no packet is lost, names are answered, by a process of the new version; state and flags are as they were.
  const agent = (): string => host.run('systemctl show -p MainPID --value contiv-netplugin');
  const before = agent();
  const ping = host.start('echo $$; exec ip netns exec web ping -q -i 0.02 20.1.1.3');
  let said = '';
  ping.stdout?.setEncoding('utf8').on('data', (text) => {
    said += text;
  });
  await vi.waitFor(
    () => host.run("grep -q 'NETPLUGIN_FLAGS=--underlay eth0' /etc/contiv/netplugin.conf"),
    patient,
  );
  host.run('dpkg -i /root/2/*.deb');
  expect(agent()).not.toBe(before);
  await vi.waitFor(
    () =>
      expect(host.run('journalctl -u contiv-netplugin -o cat')).toMatch(
        /netplugin is ready[\s\S]*netplugin is ready/,
      ),
    patient,
  );
  await resolves();
  await vi.waitFor(() => expect(netctl('status')).toContain('all is well'), patient);
  const ended = once(ping, 'close');
  host.run(`kill -INT ${Number.parseInt(said, 10)}`);
  await ended;
  const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(said) ?? [];
  expect(Number(sent)).toBeGreaterThan(50);
  expect(received).toBe(sent);

  // Removed: not while containers would be left without anybody; then all but state and flags.
  const refused = host.tryRun('dpkg -r contiv-netplugin');
  expect(refused.status).not.toBe(0);
  expect(refused.said).toContain('there are containers on these networks still');
  expect(host.run('systemctl is-active contiv-netplugin')).toBe('active\n');
  host.run('ip netns delete web; ip netns delete db');
  await vi.waitFor(() => host.run('dpkg -r contiv-netplugin'), patient);
  expect(host.run('nft list tables; ls /run/netns; ls /run/contiv 2>&1 || true')).not.toMatch(
    /contiv-|inet contiv/,
  );
  expect(host.run('ls /etc/contiv /var/lib/contiv')).toMatch(/netplugin\.conf[\s\S]*host/);

  // Installed again: the same host, without another token.
  host.run('dpkg -i /root/2/contiv-netplugin*.deb && systemctl start contiv-netplugin');
  await vi.waitFor(() => expect(netctl('host ls')).toContain('ready'), patient);

  // netmaster's is kept over its removal too.
  host.run(
    'dpkg -r contiv-netmaster && dpkg -i /root/2/contiv-netmaster*.deb && systemctl start contiv-netmaster',
  );
  await vi.waitFor(() => expect(netctl('net ls -q')).toBe('contiv-net\n'), patient);

  // netmaster's machine is lost: docs/operate/backup.md and disaster.md, on the same one once nothing of netmaster is left there.
  host.run(`mkdir -p /var/backups
    tar -czf /var/backups/contiv-tls.tgz -C /var/lib/contiv-netmaster tls
    netctl --netmaster ${URL} backup /var/backups/contiv.backup
    dpkg -P contiv-netmaster
    dpkg -i /root/2/contiv-netmaster*.deb
    echo 'NETMASTER_FLAGS=--listen 10.9.0.1:9999' >> /etc/contiv/netmaster.conf
    mkdir -p /var/lib/contiv-netmaster
    tar -xzf /var/backups/contiv-tls.tgz -C /var/lib/contiv-netmaster
    netmaster restore /var/backups/contiv.backup --store sqlite:/var/lib/contiv-netmaster/netmaster.db
    systemctl enable --now contiv-netmaster`);
  await vi.waitFor(() => expect(netctl('net ls -q')).toBe('contiv-net\n'), patient);
  await vi.waitFor(() => expect(netctl('host ls')).toContain('ready'), patient);
  await vi.waitFor(() => expect(netctl('doctor')).toContain('all is well'), patient);

  host.run('dpkg -P contiv-netplugin contiv-netmaster && dpkg -P contiv-netctl');
  expect(left(host)).toBe('');
});

/** Out of 10, the less the better. Without a mount namespace, which an agent that keeps namespaces for others cannot have, no service of root's comes below 5. */
const EXPOSURE = { netmaster: 1.5, netkube: 1.5, netplugin: 5.4 };
it('a service may do what it needs and little else, as systemd-analyze counts it', async () => {
  const host = await debianHost('packagescore');
  bring(host);
  host.run('dpkg -i /root/1/*.deb');
  for (const [name, most] of Object.entries(EXPOSURE)) {
    const said = host.run(`systemd-analyze security --no-pager contiv-${name}.service | tail -1`);
    const level = Number(/exposure level for \S+ ([\d.]+)/.exec(said)?.[1]);
    expect(level, said).toBeGreaterThan(0);
    expect(level, said).toBeLessThanOrEqual(most);
  }
});

it('what make install has put there is not overlaid by a package', async () => {
  const host = await debianHost('packagemixed');
  bring(host);
  host.run('mkdir -p /usr/local/lib/contiv');
  const { status, said } = host.tryRun('dpkg -i /root/1/contiv-netctl*.deb');
  expect(status).not.toBe(0);
  expect(said).toContain('make uninstall first');
});
