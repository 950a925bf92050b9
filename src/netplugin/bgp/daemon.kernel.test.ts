/**
 * A host, here, and two routers of the fabric in namespaces of their own, all with real daemons:
 *
 *   here eth0 10.9.0.1, fd09::1 -- br0 -- bgp-one 10.9.0.2, fd09::2; bgp-two 10.9.0.3
 *
 * What the host announces are kernel routes as the data plane writes them (exits.ts).
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pino } from 'pino';
import { beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { exit, NOTHING } from '../../../test/states.ts';
import type { Bgp } from '../../model/bgp.ts';
import type { ApplyReport } from '../dataplane/index.ts';
import { type BgpService, endBgp, followBgp } from './daemon.ts';

const LIMIT = { timeout: 40_000, interval: 50 };
const ONE = '10.9.0.2';
const TWO = '10.9.0.3';
const SPEAKS: Bgp = {
  hostname: 'node1',
  routerip: '10.9.0.1/24',
  as: '65001',
  neighbor: ONE,
  'neighbor-as': '65000',
};
const REPORT: ApplyReport = {
  repaired: [],
  lost: [],
  created: [],
  awaited: false,
  complete: true,
  failed: [],
  writes: 0,
  reads: 0,
};

/** Of all tests here: the daemon goes on from one to the next, as it does from agent to agent. */
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'contiv-test-'));
let bgp: Bgp | undefined;
let events: string[] = [];

beforeAll(() => {
  isolate();
  sh('command -v bird || { echo "needs bird, of the package bird2" >&2; exit 1; }');
  sh(`ip link add br0 type bridge; ip link set br0 up
    for name in one two; do
      ip netns add bgp-$name
      ip link add to-$name type veth peer name eth0 netns bgp-$name
      ip link set to-$name master br0 up; ip -n bgp-$name link set eth0 up; ip -n bgp-$name link set lo up
    done
    ip addr add 10.9.0.1/24 dev br0; ip addr add fd09::1/64 dev br0 nodad
    ip -n bgp-one addr add ${ONE}/24 dev eth0; ip -n bgp-one addr add fd09::2/64 dev eth0 nodad
    ip -n bgp-two addr add ${TWO}/24 dev eth0
    ip link add cx0 type veth peer name behind; ip link set cx0 up; ip link set behind up
    ip addr add 100.127.0.0/31 dev cx0; ip addr add fd6f:6e74:6976::/127 dev cx0 nodad`);
  return async () => {
    await endBgp(folder);
    sh('for name in one two; do ip netns pids bgp-$name | xargs -r kill -9; ip netns delete bgp-$name; done');
    fs.rmSync(folder, { recursive: true, force: true });
  };
});
beforeEach(() => {
  events = [];
});

/** A router of the fabric, which tells the prefixes, and puts what it is told into its kernel. */
function router(name: string, as: number, told: readonly string[], more = ''): void {
  // One that has been killed is there for a moment yet, and the next does not start beside it.
  sh(
    `while ip netns pids bgp-${name} | xargs -r kill -9 && ip netns pids bgp-${name} | grep -q .; do sleep 0.01; done`,
  );
  const file = path.join(folder, `${name}.conf`);
  const routes = (six: boolean): string =>
    told.flatMap((p) => (p.includes(':') === six ? `route ${p} blackhole;` : [])).join(' ');
  const own = name === 'one' ? ONE : TWO;
  fs.writeFileSync(
    file,
    `router id ${own};
protocol device { }
protocol kernel { ipv4 { import none; export where source = RTS_BGP; }; }
protocol kernel { ipv6 { import none; export where source = RTS_BGP; }; }
protocol static { ipv4; ${routes(false)} }
protocol static { ipv6; ${routes(true)} }
protocol bgp v4 { local ${own} as ${as}; neighbor 10.9.0.1 as 65001; ${more}
  graceful restart; connect delay time 1; connect retry time 1; error wait time 1, 1;
  ipv4 { import all; export where source = RTS_STATIC; }; }
${name === 'one' ? `protocol bgp v6 { local fd09::2 as ${as}; neighbor fd09::1 as 65001; connect delay time 1; connect retry time 1; error wait time 1, 1; ipv6 { import all; export where source = RTS_STATIC; }; }` : ''}
`,
  );
  sh(`ip netns exec bgp-${name} bird -c ${file} -s ${folder}/${name}.ctl -P ${folder}/${name}.pid`);
}
const at = (name: string, family = '-4'): string => sh(`ip -n bgp-${name} ${family} route show proto bird`);
const here = (family = '-4'): string => sh(`ip ${family} route show proto bird`);
/** As the data plane does it. */
const announce = (address: string): string =>
  address.includes(':')
    ? sh(`ip -6 route add ${address}/128 via fd6f:6e74:6976::1 dev cx0 onlink proto 200`)
    : sh(`ip route add ${address}/32 via 100.127.0.1 dev cx0 onlink proto 200`);
const withdraw = (address: string): string =>
  sh(`ip ${address.includes(':') ? '-6' : '-4'} route del ${address}`);

function follow(of: Bgp): BgpService {
  bgp = of;
  const service = followBgp({
    folder,
    passwords: path.join(folder, 'passwords'),
    log: pino({ level: 'silent' }),
    bgp: () => bgp,
    known: () => true,
    happened: (line) => void events.push(line),
    changed() {},
  });
  onTestFinished(() => service.close());
  return service;
}
const upTo = (service: BgpService, count: number): Promise<unknown> =>
  vi.waitUntil(() => service.neighbors?.filter((n) => n.state === 'Established').length === count, LIMIT);
const stateWith = (...addresses: string[]) => ({
  type: 'kernel' as const,
  state: { ...NOTHING, exits: [exit({ announced: { addresses, services: [] } })] },
  report: REPORT,
  verified: false,
});

describe('the daemon of a host', () => {
  it('tells what is announced and nothing else, by each version of IP, and takes what neighbours tell', async () => {
    router('one', 65000, ['198.18.0.0/24', '100.127.0.0/24', '169.254.7.0/24', '0.0.0.0/0', 'fd18::/64']);
    const service = follow({
      ...SPEAKS,
      routerip: '10.9.0.1/24,fd09::1/64',
      neighbor: `${ONE},fd09::2`,
    });
    announce('20.1.1.2');
    announce('fd20::2');
    sh('ip route add 20.1.1.3/32 via 100.127.0.1 dev cx0 onlink proto 199');
    onTestFinished(() => void sh('ip route del 20.1.1.3'));
    service.changed(stateWith('20.1.1.2', 'fd20::2'));
    await upTo(service, 2);
    await vi.waitUntil(() => at('one').includes('20.1.1.2 via 10.9.0.1'), LIMIT);
    await vi.waitUntil(() => at('one', '-6').includes('fd20::2 via fd09::1'), LIMIT);
    await vi.waitUntil(
      () => here().includes('198.18.0.0/24 via 10.9.0.2') && here().includes('default'),
      LIMIT,
    );
    await vi.waitUntil(() => here('-6').includes('fd18::/64 via fd09::2'), LIMIT);
    expect(at('one')).not.toContain('20.1.1.3');
    expect(here()).toContain('realm 179');
    expect(here()).not.toContain('100.127');
    expect(here()).not.toContain('169.254');
    expect(service.problems).toEqual([]);
    for (const { address, as, since } of service.neighbors ?? [])
      expect(events).toContain(`BGP: neighbour ${address} (AS ${as}) is established since ${since}`);
  });

  it('has taken a route back at its neighbour when it has settled', async () => {
    const service = follow({ ...SPEAKS });
    await upTo(service, 1);
    for (let i = 10; i < 20; i++) announce(`20.1.1.${i}`);
    service.changed(stateWith(...Array.from({ length: 10 }, (_, i) => `20.1.1.${10 + i}`)));
    await vi.waitUntil(() => at('one').includes('20.1.1.19'), LIMIT);
    for (let i = 10; i < 20; i++) withdraw(`20.1.1.${i}`);
    expect(service.changed(stateWith('20.1.1.2'))).toBe(true);
    await service.settled();
    // Its TCP has all of it by now; the router's own kernel is a moment behind.
    await vi.waitUntil(() => !at('one').includes('20.1.1.1'), { timeout: 10_000, interval: 10 });
  });

  it('tells a new neighbour a thousand', async () => {
    const many = Array.from({ length: 1000 }, (_, i) => `20.7.${i >> 8}.${i & 255}`);
    const batch = (verb: string): string =>
      `ip -batch - <<EOF\n${many.map((a) => `route ${verb} ${a}/32 via 100.127.0.1 dev cx0 onlink proto 200`).join('\n')}\nEOF`;
    sh(batch('add'));
    onTestFinished(async () => {
      sh(batch('del'));
      await vi.waitUntil(() => !at('one').includes('20.7.'), LIMIT);
    });
    sh(`birdc -s ${folder}/bgp/bird.ctl restart neighbor1`);
    const service = follow({ ...SPEAKS });
    service.changed(stateWith('20.1.1.2', ...many));
    await upTo(service, 1);
    await vi.waitUntil(() => at('one').match(/^20\.7\./gm)?.length === 1000, LIMIT);
    await vi.waitUntil(() => service.neighbors?.[0]?.sent === 1001, LIMIT);
  });

  it('is started anew where it is killed, and the neighbour deletes nothing', async () => {
    const service = follow({ ...SPEAKS });
    await upTo(service, 1);
    await vi.waitUntil(() => at('one').includes('20.1.1.2'), LIMIT);
    const deleted: string[] = [];
    const pid = fs.readFileSync(path.join(folder, 'bgp/bird.pid'), 'utf8').trim();
    sh(`ip -n bgp-one monitor route > ${folder}/monitor 2>&1 & echo $! > ${folder}/monitor.pid`);
    onTestFinished(() => void sh(`kill $(cat ${folder}/monitor.pid) || true`));
    const before = service.neighbors?.[0]?.since;
    process.kill(Number(pid), 'SIGKILL');
    // It may have gone and come between two looks.
    await vi.waitUntil(() => {
      const [now] = service.neighbors ?? [];
      return now?.state === 'Established' && now.since !== before && now.sent === 1;
    }, LIMIT);
    expect(fs.readFileSync(path.join(folder, 'bgp/bird.pid'), 'utf8').trim()).not.toBe(pid);
    deleted.push(
      ...fs
        .readFileSync(`${folder}/monitor`, 'utf8')
        .split('\n')
        .filter((l) => l.includes('Deleted')),
    );
    expect(deleted).toEqual([]);
    expect(here()).toContain('198.18.0.0/24');
  });

  it('is found by an agent that starts, and goes on with the session that it has', async () => {
    const first = follow({ ...SPEAKS });
    await upTo(first, 1);
    const pid = fs.readFileSync(path.join(folder, 'bgp/bird.pid'), 'utf8');
    const since = first.neighbors?.[0]?.since;
    await first.close();
    const second = follow({ ...SPEAKS });
    await upTo(second, 1);
    expect(second.neighbors?.[0]?.since).toBe(since);
    expect(fs.readFileSync(path.join(folder, 'bgp/bird.pid'), 'utf8')).toBe(pid);
  });

  it('has several neighbours, goes to the other where one goes, and tells none what another says', async () => {
    router('two', 65009, ['198.18.0.0/24', '198.19.0.0/24']);
    const service = follow({ ...SPEAKS, neighbor: `${ONE},${TWO}`, 'neighbor-as': '65000,65009' });
    await upTo(service, 2);
    await vi.waitUntil(() => at('two').includes('20.1.1.2 via 10.9.0.1'), LIMIT);
    await vi.waitUntil(() => here().includes('198.19.0.0/24'), LIMIT);
    expect(at('one')).not.toContain('198.19');
    sh('ip link set to-one down');
    onTestFinished(() => void sh('ip link set to-one up'));
    await vi.waitUntil(() => here().includes('198.18.0.0/24 via 10.9.0.3'), LIMIT);
    const said = /neighbour 10\.9\.0\.2 \(AS 65000\) is not established any more/;
    // The daemon moves routes at once, and is looked at once a second.
    await vi.waitUntil(() => events.some((line) => said.test(line)), LIMIT);
  });

  it('takes so many routes from a neighbour, and says that there are more', async () => {
    router(
      'two',
      65009,
      Array.from({ length: 9 }, (_, i) => `198.19.${i}.0/24`),
    );
    const service = follow({ ...SPEAKS, neighbor: TWO, 'neighbor-as': '65009', maxPrefixes: 4 });
    await upTo(service, 1);
    await vi.waitUntil(() => service.problems.length > 0, LIMIT);
    expect(service.problems[0]?.problem).toBe(
      `BGP: neighbour ${TWO} tells more routes than are taken from it`,
    );
    await vi.waitUntil(() => here().match(/198\.19\./g)?.length === 4, LIMIT);
    expect(service.neighbors?.[0]?.received).toBe(4);
  });

  it('has a password that only the file and its own configuration have', async () => {
    const file = path.join(folder, 'passwords/tor');
    fs.mkdirSync(path.dirname(file), { recursive: true });
    router('two', 65009, ['198.19.0.0/24'], 'password "s3cret";');
    const service = follow({ ...SPEAKS, neighbor: TWO, 'neighbor-as': '65009', passwordFile: 'tor' });
    await vi.waitUntil(() => service.problems.length > 0, LIMIT);
    expect(service.problems[0]?.problem).toBe(`BGP: ${file} is not there, so no session is begun`);
    fs.writeFileSync(file, 's3cret\n', { mode: 0o600 });
    await upTo(service, 1);
    const config = path.join(folder, 'bgp/bird.conf');
    expect(fs.readFileSync(config, 'utf8')).toContain('s3cret');
    expect(fs.statSync(config).mode & 0o777).toBe(0o600);
    expect(fs.readFileSync(path.join(folder, 'bgp/bird.log'), 'utf8')).not.toContain('s3cret');
    const pid = fs.readFileSync(path.join(folder, 'bgp/bird.pid'), 'utf8').trim();
    expect(fs.readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain('s3cret');
    fs.writeFileSync(file, 'another\n');
    await vi.waitUntil(() => service.neighbors?.[0]?.state !== 'Established', LIMIT);
  });

  it('says of an address that the host does not have, and of a daemon that is not installed', async () => {
    const strange = follow({ ...SPEAKS, routerip: '10.9.0.99/24' });
    await vi.waitUntil(() => strange.problems.length > 0, LIMIT);
    expect(strange.problems[0]?.problem).toMatch(
      /^BGP: router-ip 10\.9\.0\.99 is not an address of this host/,
    );
    await strange.close();
    await endBgp(folder);
    const without = followBgp({
      folder,
      log: pino({ level: 'silent' }),
      bgp: () => SPEAKS,
      known: () => true,
      happened() {},
      changed() {},
      program: path.join(folder, 'no-bird'),
    });
    onTestFinished(() => without.close());
    await vi.waitUntil(() => without.problems.length > 0, LIMIT);
    expect(without.problems).toEqual([
      {
        problem: 'BGP: there is no routing daemon on this host (bird, version 2), so nothing is announced',
        remedy: 'install it: apt install bird2',
      },
    ]);
    expect(without.neighbors?.map((n) => n.state)).toEqual(['Down']);
  });

  it('ends where BGP is removed: the neighbour has none of its routes, the host none of the neighbour’s', async () => {
    router('one', 65000, ['198.18.0.0/24']);
    const service = follow({ ...SPEAKS });
    await upTo(service, 1);
    await vi.waitUntil(() => at('one').includes('20.1.1.2') && here().includes('198.18'), LIMIT);
    // Also where the daemon has just died.
    process.kill(Number(fs.readFileSync(path.join(folder, 'bgp/bird.pid'), 'utf8')), 'SIGKILL');
    bgp = undefined;
    service.changed({ type: 'view', objects: [{ kind: 'Bgp', key: 'node1', object: null }], listed: false });
    await service.settled();
    await vi.waitUntil(() => !fs.existsSync(path.join(folder, 'bgp')), LIMIT);
    expect(here()).toBe('');
    bgp = SPEAKS;
    service.changed({
      type: 'view',
      objects: [{ kind: 'Bgp', key: 'node1', object: SPEAKS }],
      listed: false,
    });
    await upTo(service, 1);
    await vi.waitUntil(() => at('one').includes('20.1.1.2'), LIMIT);
    bgp = undefined;
    service.changed({ type: 'view', objects: [{ kind: 'Bgp', key: 'node1', object: null }], listed: false });
    await service.settled();
    await vi.waitUntil(() => !at('one').includes('20.1.1.2'), LIMIT);
    expect(here()).toBe('');
    expect(service.neighbors).toBeUndefined();
  });
});
