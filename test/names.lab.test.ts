/**
 * Groups as names, over two hosts: ten members of group `web` in network `names`, five a host, whose addresses are the
 * group's pool. How long a change takes to show is noted with each test; limits are generous.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  addressOf,
  background,
  clear,
  differences,
  docker,
  inside,
  must,
  mustLab,
  netctl,
  on,
  run,
  until,
} from './lab.ts';

const POOL = Array.from({ length: 10 }, (_, i) => `10.30.0.${100 + i}`);
const HOSTS = ['node1', 'node2'] as const;
/** Container w0, w2, ... on node1, w1, w3, ... on node2. */
const members = POOL.map((_, i) => ({ name: `w${i}`, host: HOSTS[i % 2] as string }));
const LOOKUPS = [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  `${import.meta.dirname}/lookups.ts`,
];

beforeAll(async () => {
  const dual = ['--subnetv6=fd00:30::/64', '--gatewayv6=fd00:30::fe'];
  await netctl('net create names --subnet=10.30.0.0/24 --gateway=10.30.0.254', ...dual);
  await netctl('net create away --subnet=10.31.0.0/24 --gateway=10.31.0.254');
  await netctl('group create names web --ip-pool=10.30.0.100-10.30.0.109');
  await netctl('tenant create blue');
  await netctl('net create names -t blue --subnet=10.30.0.0/24 --gateway=10.30.0.254');
  await netctl('group create names web -t blue');
  await run('node1', 'near', 'names');
  await run('node1', 'far', 'away');
  // A dockerd that is started anew ends what a killed one left: at once, not after the 10 s of who ignores SIGTERM.
  const flags = ['--restart=always', '--stop-signal=SIGKILL'];
  await Promise.all(
    // Both names by which Docker knows the group.
    members.map(({ name, host }, i) => run(host, name, i < 5 ? 'web.names' : 'web', ...flags)),
  );
  await until('all members', async () => (await near('web')).length === POOL.length);
});
afterAll(clear);

/** What a container's resolver answers, in order of address. */
const resolve = async (host: string, from: string, name: string, ...more: string[]): Promise<string[]> =>
  (await inside(host, from, 'dig +short +tries=2 +time=2', ...more, name)).out
    .split('\n')
    .filter((line) => line)
    .sort();
const near = (name: string, ...more: string[]): Promise<string[]> => resolve('node1', 'near', name, ...more);
const status = async (name: string): Promise<string> =>
  /status: (\w+)/.exec((await inside('node1', 'near', `dig ${name}`)).out)?.[1] ?? '';

async function lookups(from: string, ...args: string[]): Promise<string[]> {
  const pid = await docker('node1', `inspect -f {{.State.Pid}} ${from}`);
  return ['nsenter', '-t', pid, '-n', ...LOOKUPS, ...args];
}

describe('a group’s name', () => {
  it('is all members, from the same network, the tenant’s others, and in any case of letters', async () => {
    for (const name of ['web', 'web.names', 'web.names.default', 'WEB.Names'])
      expect(await near(name)).toEqual(POOL);
    expect(await resolve('node1', 'far', 'web.names')).toEqual(POOL);
    expect((await near('web', '-t', 'AAAA')).length).toBe(10);
    // The bare name is the caller's own network's.
    expect((await inside('node1', 'far', 'dig web')).out).toMatch(/NXDOMAIN/);
  });

  it('of another tenant is its own group, joined by both of Docker’s names', async () => {
    const first = await run('node1', 'b1', 'web.names/blue');
    const second = await run('node2', 'b2', 'web/blue');
    for (const [host, from, name] of [
      ['node1', 'b1', 'web'],
      ['node2', 'b2', 'web.names.blue'],
    ] as const)
      await until(
        `both at ${host}`,
        async () => (await resolve(host, from, name)).join() === [first, second].sort().join(),
      );
    expect(await near('web')).toEqual(POOL);
    await docker('node1', 'rm -f b1');
    await docker('node2', 'rm -f b2');
  });

  it('is shared evenly by ten members: each first within 10% over 10,000 lookups', async ({ annotate }) => {
    const out = await must('node1', ...(await lookups('near', 'count', 'web', '10000')));
    const counts = JSON.parse(out) as Record<'A' | 'AAAA', Record<string, number>>;
    await annotate(`first of 10,000: ${out}`);
    expect(Object.keys(counts.A).sort()).toEqual(POOL);
    for (const type of ['A', 'AAAA'] as const) {
      const each = Object.values(counts[type]);
      expect(each).toHaveLength(10);
      for (const count of each) {
        expect(count).toBeGreaterThanOrEqual(900);
        expect(count).toBeLessThanOrEqual(1100);
      }
    }
  });
});

/** The addresses of a name as a container on node1 sees them, asked for every 50 ms. */
async function follow(name: string) {
  const watch = background('node1', ...(await lookups('near', 'watch', name)));
  await until(`first answer for ${name}`, async () => watch.lines.length > 0);
  return {
    /** Answers when it was so, in milliseconds since the epoch. */
    async shows(what: string, look: (addresses: string[]) => boolean, seconds = 60): Promise<number> {
      const line = await until(
        `${what} (${name} is ${watch.lines.at(-1)})`,
        async () => {
          const last = watch.lines.at(-1) as string;
          return look((last.split(' ')[1] ?? '').split(',').filter((a) => a)) && last;
        },
        seconds,
      );
      return Number(line.split(' ')[0]);
    },
    end: () => watch.end('SIGTERM'),
  };
}

/** When Docker says that it happened, in milliseconds since the epoch. */
async function eventAt(host: string, name: string, action: string, since: number): Promise<number> {
  const found = await until(`Docker's event ${action} of ${name}`, async () => {
    const text = await docker(
      host,
      ...['events', '--since', String(since / 1000), '--until', String(Date.now() / 1000)],
      ...['--filter', `container=${name}`, '--format', '{{.TimeNano}} {{.Action}}'],
    );
    return text.split('\n').find((line) => line.endsWith(` ${action}`)) ?? false;
  });
  return Number(found.split(' ')[0]) / 1e6;
}

describe('left out of a group’s name is who', () => {
  it.for([
    { what: 'is stopped', leave: ['stop', '-t', '0'], left: 'die', returned: 'start' },
    { what: 'is paused', leave: ['pause'], left: 'pause', returned: 'unpause' },
  ])('$what, on either host, until it is back', async ({ what, leave, left, returned }, { annotate }) => {
    const web = await follow('web');
    for (const { name, host } of members.slice(0, 2)) {
      const before = Date.now();
      const address = await addressOf(host, name);
      await docker(host, ...leave, name);
      const gone = await web.shows(`${name} ${what}`, (a) => a.length === 9 && !a.includes(address));
      const between = Date.now();
      await docker(host, returned, name);
      const back = await web.shows(`${name} is back`, (a) => a.length === 10);
      const [leftAt, backAt] = [
        await eventAt(host, name, left, before),
        await eventAt(host, name, returned, between),
      ];
      await annotate(
        `${name} on ${host} ${what}: gone ${Math.round(gone - leftAt)} ms, back ${Math.round(back - backAt)} ms after Docker's event`,
      );
    }
    await web.end();
  });

  it('is unhealthy by its health check, until it is healthy; but all where all are', async ({ annotate }) => {
    await netctl('group create names checked');
    const check = ['--health-cmd=test ! -e /tmp/sick', '--health-interval=1s', '--health-retries=1'];
    const checked = [
      { name: 'c1', host: 'node1' },
      { name: 'c2', host: 'node2' },
    ];
    for (const { name, host } of checked) await run(host, name, 'checked.names', ...check);
    const name = await follow('checked');
    await name.shows('both', (a) => a.length === 2);
    for (const { name: container, host } of checked) {
      const before = Date.now();
      const address = await addressOf(host, container);
      await docker(host, `exec ${container} touch /tmp/sick`);
      const gone = await name.shows(`${container} is unhealthy`, (a) => a.length === 1 && a[0] !== address);
      await docker(host, `exec ${container} rm /tmp/sick`);
      const back = await name.shows(`${container} is healthy`, (a) => a.length === 2);
      const at = (status: string) => eventAt(host, container, `health_status: ${status}`, before);
      await annotate(
        `${container} on ${host}: gone ${Math.round(gone - (await at('unhealthy')))} ms, back ${Math.round(back - (await at('healthy')))} ms after Docker's event`,
      );
    }
    // One after the other: with the second there is no healthy one left.
    for (const { name: container, host } of checked) {
      const before = Date.now();
      await docker(host, `exec ${container} touch /tmp/sick`);
      await eventAt(host, container, 'health_status: unhealthy', before);
    }
    await name.shows('both, of which none is healthy', (a) => a.length === 2);
    await name.end();
    for (const { name: container, host } of checked) await docker(host, `rm -f ${container}`);
  });

  it('is on a host that died, until that is back', async ({ annotate }) => {
    const web = await follow('web');
    const staying = members.filter((m) => m.host === 'node1');
    const stay = await Promise.all(staying.map((m) => addressOf(m.host, m.name)));
    const start = Date.now();
    await mustLab('kill netplugin node2');
    await mustLab('kill dockerd node2');
    const gone = await web.shows('node2 is dead', (a) => a.join() === stay.toSorted().join());
    const again = Date.now();
    // dockerd waits 15 s for an absent driver, at each network of it.
    await mustLab('start netplugin node2');
    await mustLab('start dockerd node2');
    const back = await web.shows('node2 is back', (a) => a.length === members.length);
    await annotate(`gone ${gone - start} ms after the kill, back ${back - again} ms after its start`);
    await web.end();
    expect(await differences()).toBe('');
  });
});

describe('a name that could mean several things', () => {
  it('is the container, then the alias, then the group', async () => {
    await netctl('group create names many');
    const group = await run('node1', 'm1', 'many.names');
    await until('group', async () => (await near('many')).join() === group);
    const alias = await run('node2', 'm2', 'names', '--network-alias=many');
    await until('alias', async () => (await near('many')).join() === alias);
    const container = await run('node2', 'many', 'names');
    await until('container', async () => (await near('many')).join() === container);
    await docker('node2', 'rm -f many');
    await until('alias again', async () => (await near('many')).join() === alias);
    await docker('node2', 'rm -f m2');
    await until('group again', async () => (await near('many')).join() === group);
    await docker('node1', 'rm -f m1');
    await until('nobody', async () => (await near('many')).length === 0);
    // The group is still there: a name without an address.
    expect(await status('many')).toBe('NOERROR');
    expect(await status('nobody')).toBe('NXDOMAIN');
  });
});

describe('a container’s name', () => {
  it('and its aliases have its address, and the address has its name, from the other host too', async () => {
    const address = await run('node2', 'lone', 'names', '--network-alias=other', '--network-alias=third');
    for (const name of ['lone', 'other', 'third', 'lone.names', 'other.names.default'])
      await until(name, async () => (await near(name)).join() === address);
    const reverse = async (container: string, asked: string): Promise<string> =>
      (await inside('node1', container, `dig +short -x ${asked}`)).out.trim();
    expect(await reverse('near', address)).toBe('lone.names.');
    expect(await reverse('far', address)).toBe('lone.names.');
    const address6 = (await near('lone', '-t', 'AAAA'))[0] as string;
    expect(await reverse('near', address6)).toBe('lone.names.');
    await docker('node2', 'rm -f lone');
    await until('gone', async () => (await status('lone')) === 'NXDOMAIN');
    expect(await reverse('near', address)).toBe('');
  });
});

describe('a container that is on Docker’s bridge too', () => {
  it('has names where that has its default route, asked from whatever loopback address', async () => {
    await run('node1', 'hybrid', 'names');
    await docker('node1', 'network connect bridge hybrid');
    const from = async (...more: string[]) => resolve('node1', 'hybrid', 'near', ...more);
    // As Docker does it from its version 28 on, by --gw-priority.
    const bridge = await docker('node1', "inspect -f '{{.NetworkSettings.Networks.bridge.Gateway}}' hybrid");
    const pid = await docker('node1', 'inspect -f {{.State.Pid}} hybrid');
    await must('node1', `nsenter -t ${pid} -n ip route replace default via ${bridge}`);
    const near = [await addressOf('node1', 'near')];
    expect(await from()).toEqual(near);
    expect(await from('+tcp')).toEqual(near);
    expect(await from('-b', '127.0.0.2')).toEqual(near);
    await docker('node1', 'rm -f hybrid');
  });
});

describe('a group’s pool', () => {
  const start = (host: string, network: string, ...flags: string[]) =>
    on(host, `docker run -d --label=pool --net=${network}`, ...flags, 'contiv/lab', 'sleep', '100000');

  it('is where all its members’ addresses come from; one more is refused, with the pool in the message', async () => {
    expect((await near('web')).sort()).toEqual(POOL);
    const { status, err } = await start('node2', 'web.names');
    expect(status).not.toBe(0);
    expect(err).toMatch(/all addresses of 10\.30\.0\.100-10\.30\.0\.109 of group web are taken/);
  });

  it('is for its members only, also where the network has nothing else left', async () => {
    // .4 to .9, of which .5 to .8 are the group's.
    await netctl('net create small --subnet=10.32.0.4-10.32.0.9/24 --gateway=10.32.0.254');
    await netctl('group create small pooled --ip-pool=10.32.0.5-10.32.0.8');
    await netctl('group create small plain');
    expect(await run('node1', 'p1', 'small')).toBe('10.32.0.4');
    expect(await run('node2', 'p2', 'plain.small')).toBe('10.32.0.9');
    for (const network of ['small', 'plain']) {
      const { status, err } = await start('node1', network);
      expect(status).not.toBe(0);
      expect(err).toMatch(/all addresses of 10\.32\.0\.4-10\.32\.0\.9\/24 are taken/);
    }
    const foreign = await start('node1', 'small', '--ip=10.32.0.6');
    expect(foreign.status).not.toBe(0);
    expect(foreign.err).toMatch(/10\.32\.0\.6 is in the pool 10\.32\.0\.5-10\.32\.0\.8 of a group/);
    expect(await run('node2', 'p3', 'pooled')).toBe('10.32.0.5');
    expect(await run('node2', 'p4', 'pooled', '--ip=10.32.0.7')).toBe('10.32.0.7');
    await docker('node1', 'rm -f p1');
    const outside = await start('node1', 'pooled', '--ip=10.32.0.4');
    expect(outside.status).not.toBe(0);
    expect(outside.err).toMatch(/10\.32\.0\.4 is not in the group's pool 10\.32\.0\.5-10\.32\.0\.8/);
  });
});
