/** Who reaches the tunnels and netmaster: hosts do, containers do not, however they are attached. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import {
  addressOf,
  clear,
  differences,
  docker,
  LAB,
  lab,
  must,
  mustLab,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';
import { ethernet, udp, vxlan } from './packet.ts';

const ADDRESSES: Record<string, string> = { node1: '192.168.50.11', node2: '192.168.50.12' };
const HOSTS = Object.keys(ADDRESSES);
const FRAMES = 50;
/** Docker's own networks: the one that a container has without --net, and one that a user has made with a name of its own. */
const NETWORKS = ['bridge', 'office'];
let tag = 0;

beforeAll(async () => {
  await netctl('net create guard --subnet=10.21.0.0/24 --gateway=10.21.0.254');
  tag = (JSON.parse(await netctl('net inspect guard')) as { Oper: { pktTag: number } }).Oper.pktTag;
  for (const host of HOSTS) {
    await run(host, `victim-${host}`, 'guard');
    await docker(host, 'network create -o com.docker.network.bridge.name=office0 office');
    for (const network of NETWORKS) await run(host, `evil-${network}`, network);
  }
  await until('names', () => pings('node1', 'victim-node1', 'victim-node2'));
});
afterAll(async () => {
  await clear();
  for (const host of HOSTS) await docker(host, 'network rm office');
});

/** What has come to the tunnel on the host. */
async function tunnelled(host: string): Promise<number> {
  const text = await must(host, `ip -n contiv-default -j -s link show vx${tag}`);
  return JSON.parse(text)[0].stats64.rx.packets;
}

const counted = async (host: string, counter: string): Promise<number> =>
  Number(/packets (\d+)/.exec(await must(host, `nft list counter inet contiv ${counter}`))?.[1]);

/** As if the other host sent them: pings from its container to the one of the host that they go to. */
async function inject(host: string, container: string, target: string, source?: string): Promise<void> {
  const [to, other] = [
    ADDRESSES[target] as string,
    ADDRESSES[target === 'node1' ? 'node2' : 'node1'] as string,
  ];
  const network = container.slice('evil-'.length);
  const bridge = network === 'bridge' ? 'docker0' : 'office0';
  const pid = await docker(host, `inspect -f {{.State.Pid}} ${container}`);
  const inContainer = `nsenter -t ${pid} -n`;
  const macOf = async (command: string): Promise<string> => JSON.parse(await must(host, command))[0].address;
  const from = await macOf(`${inContainer} ip -j link show eth0`);
  const next = await macOf(`ip -j link show ${bridge}`);
  const ping = vxlan({
    vni: tag,
    from: {
      mac: vtepMac(other),
      address: await addressOf(
        target === 'node1' ? 'node2' : 'node1',
        `victim-${target === 'node1' ? 'node2' : 'node1'}`,
      ),
    },
    to: { mac: vtepMac(to), address: await addressOf(target, `victim-${target}`) },
  });
  const own = source ?? (await addressOf(host, container));
  const frames = Array.from({ length: FRAMES }, (_, i) =>
    ethernet(from, next, udp(own, to, 40_000 + i, 4789, ping)).toString('hex'),
  );
  const sender = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    `${import.meta.dirname}/frames.ts`,
  ];
  await must(host, inContainer, ...sender, 'eth0', ...frames);
}

describe("a container on one of Docker's own networks", () => {
  it.each(HOSTS.flatMap((host) => NETWORKS.map((network) => [host, network] as const)))(
    'puts no frame into a tunnel of any host: from %s, network %s',
    async (host, network) => {
      expect(await pings('node1', 'victim-node1', 'victim-node2')).toBe(true);
      for (const target of HOSTS)
        for (const source of [undefined, ADDRESSES.node1, ADDRESSES.node2]) {
          const before = await tunnelled(target);
          await inject(host, `evil-${network}`, target, source);
          // A ping between the hosts comes after them.
          expect(await pings('node1', 'victim-node1', 'victim-node2')).toBe(true);
          expect([target, source, (await tunnelled(target)) - before]).toEqual([target, source, 1]);
        }
      expect(await counted(host, 'refused')).toBeGreaterThanOrEqual(FRAMES);
    },
  );

  it.each(HOSTS.flatMap((host) => NETWORKS.map((network) => [host, network] as const)))(
    'does not reach netmaster: from %s, network %s',
    async (host, network) => {
      const url = `https://${ADDRESSES.node1}:9999/api/v1/tenants/evil/`;
      const post = (where: string) =>
        on(host, `${where} curl -sk -m 3 -o /dev/null -w %{http_code} -X POST -d {} ${url}`);
      // What its own host sends in its place is netmaster's to judge.
      expect((await post('')).out).toBe('200');
      await netctl('tenant rm evil');
      const gateway = await docker(
        host,
        `network inspect -f '{{(index .IPAM.Config 0).Gateway}}' ${network}`,
      );
      const inContainer = `docker exec evil-${network}`;
      const [posted, byGateway] = await Promise.all([
        post(inContainer),
        on(host, `${inContainer} curl -sk -m 3 https://${gateway}:9999/healthz`),
      ]);
      expect(posted.out).toBe('000');
      expect(byGateway.status).not.toBe(0);
      expect(await netctl('tenant ls -q')).toBe('default');
    },
  );
});

it('lab check sees that a host takes frames of no one, of a stranger, and that nothing guards it', async () => {
  expect(await differences()).toBe('');
  const { processes } = JSON.parse(await mustLab('status --json')) as {
    processes: { name: string; host: string; pid: number }[];
  };
  const pid = processes.find((p) => p.name === 'netplugin' && p.host === 'node2')?.pid as number;
  const nft = (command: string): Promise<string> => must('node2', 'nft', command);
  process.kill(pid, 'SIGSTOP'); // else it would put it right
  try {
    await nft(
      'delete element inet contiv members { 192.168.50.11 }; add element inet contiv members { 192.168.50.66 }',
    );
    const { out } = await lab('check');
    expect(out).toContain('node2: no tunnel frames are taken of node1, 192.168.50.11');
    expect(out).toContain("node2: tunnel frames are taken of 192.168.50.66, no host's");
    await nft('delete table inet contiv');
    expect((await lab('check')).out).toContain('node2: no table inet contiv');
  } finally {
    process.kill(pid, 'SIGCONT');
  }
  await until('the table is put right', async () => (await differences(0)) === '');
});

it('lab check says in one line that netmaster does not answer, and waits for it where it is told to wait', async () => {
  await mustLab('stop netmaster node1');
  let waited: ReturnType<typeof lab>;
  try {
    const { status, err } = await lab('check');
    expect(err).toBe(
      `lab: netmaster does not answer at https://${ADDRESSES.node1}:9999: LAB=${LAB} bin/lab start netmaster node1\n`,
    );
    expect(status).toBe(3);
    waited = lab('check --wait 60');
  } finally {
    await mustLab('start netmaster node1');
  }
  expect((await waited).status).toBe(0);
});
