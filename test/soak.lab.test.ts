/**
 * Containers that come and go, many of them, over four hosts: of none is anything left, and what the programs hold is after all of them what it was
 * after a tenth of them. SOAK_LIVES says how many (`make soak`: 10,000).
 *
 * One in five is Docker's: `docker run --rm`, which asks for a name, connects and pings. The others are namespaces by CNI's ADD and DEL,
 * which come faster; they connect and ping by address. All hosts have some of both at the same time.
 */
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LAB, openLab } from './lab.ts';

const LIVES = Number(process.env.SOAK_LIVES ?? 160);
/** With fewer the programs' memory is that of a start, and tells nothing. */
const ENOUGH = 5000;
const HOSTS = ['node1', 'node2', 'node3', 'node4'] as const;
/** Of how many one is Docker's. */
const BY_DOCKER = 5;
/** Of each of both kinds on a host, after which others have their turn and a line is printed. */
const BATCH = 50;
const PROGRAM = path.join(path.dirname(import.meta.dirname), 'dist/contiv-cni');

const { mustLab, must, netctl, differences, serving } = openLab(`${LAB.slice(-10)}so`);
const say = (line: string): void => void process.stdout.write(`soak: ${line}\n`);
const standing = (i: number) => ({
  name: `standing${i % HOSTS.length}`,
  address: `10.30.0.${(i % HOSTS.length) + 1}`,
});

/** What fails says on its standard error which step it was. */
const BY_CNI = `tried() { said=$("$@" 2>&1) && return; echo "$*: exit status $?: $said" >&2; exit 1; }
cni() { printf %s '{"cniVersion":"1.1.0","name":"soak","type":"contiv-cni","network":"soak","group":"app"}' |
  env CNI_COMMAND=$1 CNI_CONTAINERID=$2 CNI_NETNS=/run/netns/$2 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin ${PROGRAM}; }
i=$1; while [ $i -lt $2 ]; do name=soak-$4-$i; i=$((i + 1))
  tried ip netns add $name; tried cni ADD $name
  tried ip netns exec $name busybox nc -w 30 $3 80 -e true
  tried ip netns exec $name busybox ping -q -c 1 -W 30 $3
  tried cni DEL $name; tried ip netns delete $name
done`;
const OF_DOCKER = `set -e
i=$1; while [ $i -lt $2 ]; do
  docker run --rm --name=soaked-$i --net=app.soak contiv/lab sh -c "nc -w 30 $3 80 -e true && ping -q -c 1 -W 30 $3" >/dev/null; i=$((i + 1))
done`;

/** Lives on all hosts at once; names are numbers from the first one on. */
async function live(from: number, to: number): Promise<void> {
  const turn = HOSTS.length * BY_DOCKER * BATCH;
  for (let at = from; at < to; at += turn) {
    const share = Math.ceil(Math.min(turn, to - at) / HOSTS.length);
    const docker = Math.ceil(share / BY_DOCKER);
    await Promise.all(
      HOSTS.flatMap((host, i) => {
        const other = standing(i + 1);
        const [first, last] = [String(at), String(at + share - docker)];
        return [
          must(host, 'sh -c', BY_CNI, 'sh', first, last, other.address, host),
          must(host, 'sh -c', OF_DOCKER, 'sh', String(at), String(at + docker), other.name),
        ];
      }),
    );
    say(`${Math.min(at + turn, to)} of ${LIVES}`);
  }
}

/** What is there on a host of all that a life makes, each as a number. */
const COUNTS = `set -eo pipefail
count() { echo "$1 $(wc -l)"; }
each() { "$@"; for n in $(ls /run/netns | grep ^contiv-); do ip netns exec $n "$@"; done; }
ip netns list | count namespaces
each ip -o link | count devices
for n in $(ls /run/netns | grep ^contiv-); do ip netns exec $n ip neigh; done | count neighbours
each bridge fdb | count 'FDB entries'
each ip -4 route show table all | count 'IPv4 routes'
each ip -6 route show table all | count 'IPv6 routes'
each ip rule | count 'rules of routing'
each nft list ruleset | tr -s ' ,' '\\n\\n' | count 'words of rules and sets'
for n in $(ls /run/netns | grep ^contiv-); do ip netns exec $n cat /proc/sys/net/netfilter/nf_conntrack_count; done |
  awk '{ n += $1 } END { print "connections", n + 0 }'
find /var/lib/contiv /run/contiv -type f ! -name '*.db-*' | count files
docker ps -aq | count containers
docker network ls -q | count 'networks of Docker'`;

/** All but connections, of which a host that nobody asks has none. */
const COUNTED = [...COUNTS.matchAll(/ count '?([^'\n]+)'?$/gm)].map(([, what]) => what as string);

type Counts = Readonly<Record<string, number>>;
const countsOf = async (host: string): Promise<Counts> =>
  Object.fromEntries(
    (await must(host, 'bash -c', COUNTS)).split('\n').map((line) => {
      const at = line.lastIndexOf(' ');
      return [line.slice(0, at), Number(line.slice(at + 1))];
    }),
  );
const counted = async (): Promise<Record<string, Counts>> => ({
  ...Object.fromEntries(await Promise.all(HOSTS.map(async (h) => [h, await countsOf(h)]))),
  netmaster: {
    endpoints: JSON.parse(await netctl('endpoint ls --json')).length,
    objects: JSON.parse(await netctl('export -o json')).length,
  },
});

/** What there is more of. Less is no leak: what ends after a while was still there at first. */
const more = (before: Record<string, Counts>, now: Record<string, Counts>): string[] =>
  Object.entries(now).flatMap(([of, counts]) =>
    Object.entries(counts).flatMap(([what, number]) => {
      const was = before[of]?.[what] ?? 0;
      return number > was ? [`${of}: ${number} ${what}, ${was} before`] : [];
    }),
  );

/** Of a program on a host: memory in kB (PSS), and its descriptors. */
interface Held {
  readonly memory: number;
  readonly descriptors: number;
}
const PROGRAMS = ['netplugin', 'names', 'netmaster'];
/** The least of some readings: collections of garbage come when they come. */
async function held(): Promise<Map<string, Held>> {
  const { processes } = JSON.parse(await mustLab('status --json')) as {
    processes: { name: string; host: string; pid: number }[];
  };
  const least = new Map<string, Held>();
  for (let i = 0; i < 10; i++) {
    for (const { name, host, pid } of processes.filter((p) => PROGRAMS.includes(p.name))) {
      const [, kB] = /^Pss:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8')) ?? [];
      const before = least.get(`${name} on ${host}`);
      least.set(`${name} on ${host}`, {
        memory: Math.min(Number(kB), before?.memory ?? Number.POSITIVE_INFINITY),
        descriptors: Math.min(
          fs.readdirSync(`/proc/${pid}/fd`).length,
          before?.descriptors ?? Number.POSITIVE_INFINITY,
        ),
      });
    }
    await new Promise((done) => setTimeout(done, 3000));
  }
  return least;
}
/** Of the store and of what hosts keep, in kB; SQLite's logs are as long as they ever had to be. */
const disk = async (): Promise<number[]> =>
  Promise.all(
    HOSTS.map(async (host) =>
      Number((await must(host, 'sh -c', 'du -sk --exclude=*.db-* /var/lib/contiv')).split('\t')[0]),
    ),
  );

describe(`${LIVES} containers that come and go (SOAK_LIVES)`, () => {
  let before: Record<string, Counts>;
  beforeAll(async () => {
    await mustLab('up --quiet --hosts 4');
    await netctl('net create soak --subnet=10.30.0.0/16 --gateway=10.30.255.254');
    await netctl('policy create soak');
    await netctl('group create soak app -policy=soak');
    await netctl('policy rule-add soak none -action=deny');
    await netctl('policy rule-add soak ping -protocol=icmp -action=allow -priority=10');
    await netctl(
      'policy rule-add soak web -protocol=tcp -port=80 --from-group=app -action=allow -priority=10',
    );
    for (const [i, host] of HOSTS.entries())
      await serving(host, standing(i).name, 'app.soak', standing(i).address);
    // What the first of all leave for good is no leak: a router's tables, a file for each kind.
    await live(0, HOSTS.length * BY_DOCKER);
    expect(await differences(180)).toBe('');
    before = await counted();
    // Where nothing is counted nothing can be left.
    for (const host of HOSTS)
      for (const what of COUNTED) expect(before[host]?.[what], `${what} of ${host}`).toBeGreaterThan(0);
  }, 600_000);
  afterAll(async () => {
    if (process.env.KEEP_LAB === undefined) await mustLab('down');
  });

  it(
    'leave nothing, and the programs as they were',
    async () => {
      const tenth = Math.ceil(LIVES / 10);
      const first = HOSTS.length * BY_DOCKER;
      await live(first, tenth + first);
      const early = { held: await held(), disk: await disk() };
      await live(tenth + first, LIVES + first);
      expect(await differences(180)).toBe('');
      // A connection that has ended is known for two minutes more.
      await expect
        .poll(async () => more(before, await counted()), { timeout: 300_000, interval: 3000 })
        .toEqual([]);
      const late = { held: await held(), disk: await disk() };
      for (const [program, was] of early.held) {
        const is = late.held.get(program);
        say(
          `${program}: ${was.memory} kB and ${was.descriptors} descriptors after ${tenth} lives, ${is?.memory} and ${is?.descriptors} after ${LIVES}`,
        );
        // A connection more or less that is kept alive, a file that is being written.
        expect(is?.descriptors, program).toBeLessThan(was.descriptors + 10);
        if (LIVES >= ENOUGH) expect(is?.memory, program).toBeLessThan(was.memory * 1.25);
      }
      say(
        `kB on disk: ${early.disk.join(', ')} after ${tenth} lives, ${late.disk.join(', ')} after ${LIVES}`,
      );
      if (LIVES >= ENOUGH)
        for (const [i, kB] of late.disk.entries())
          expect(kB, HOSTS[i]).toBeLessThan((early.disk[i] as number) * 1.25 + 1024);
    },
    (LIVES * 3 + 900) * 1000,
  );
});
