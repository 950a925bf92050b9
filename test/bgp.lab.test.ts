/**
 * Hosts that speak BGP with a router of the fabric: `tor` is FRR with the configuration of docs/guide/bgp.md and nothing else, `beyond` a
 * machine behind it (lab/router.ts).
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFabric, SERVED, typing } from './fabric.ts';
import { type Background, until } from './lab.ts';

const { mustLab, on, must, netctl, background, serving: run, inside, clear } = openFabric();
const textOf = ({ lines }: Background): string => lines.join('\n');
/** tcpdump, when it listens. */
async function dump(host: string, ...line: string[]): Promise<Background> {
  const seen = background(host, ...line);
  await until('tcpdump', async () => textOf(seen).includes('listening'));
  return seen;
}
/** `ip monitor route` at the router, when it hears: it says nothing by itself, so a route of nobody's comes and goes until it has told. */
async function routeChanges(): Promise<Background> {
  const NOBODY = '192.0.2.1';
  const changes = background('tor', 'ip monitor route');
  await until('ip monitor', async () => {
    await must('tor', 'sh -ec', `ip route add ${NOBODY} dev lo; ip route del ${NOBODY} dev lo`);
    return textOf(changes).includes(NOBODY);
  });
  return changes;
}

const NODES = ['node1', 'node2'] as const;
type Node = (typeof NODES)[number];
const HOST: Readonly<Record<Node, string>> = { node1: '192.168.50.11', node2: '192.168.50.12' };
const TOR = '192.168.50.2';
const BEYOND = '198.18.0.10';
const at = (n: number): string => `20.1.1.${n}`;

const speak = (node: Node, more = ''): Promise<string> =>
  netctl(
    `bgp create ${node} --router-ip=${HOST[node]}/24 --as=${node === 'node1' ? 65001 : 65002} --neighbor=${TOR} --neighbor-as=65000 ${more}`,
  );
/** curl: 0 an answer, 7 refused, 28 none in time. */
const asks = async (host: string, target: string): Promise<number> =>
  (await on(host, `curl -s -m 2 -o /dev/null http://${target}/`)).status;
const beyondAsks = (target: string): Promise<number> => asks('beyond', target);

/** Next hops of a route at the router, by its kernel. */
async function hops(address: string, family = '-4'): Promise<string[]> {
  type Hop = { gateway?: string };
  const [route] = JSON.parse(
    (await must('tor', `ip ${family} -j route show ${address} proto bgp`)) || '[]',
  ) as (Hop & { nexthops?: Hop[] })[];
  return route === undefined ? [] : (route.nexthops ?? [route]).map((hop) => hop.gateway ?? '').sort();
}
const announced = (address: string, ...nodes: Node[]): Promise<true> =>
  until(`${address} at the router by ${nodes.join() || 'nobody'}`, async () => {
    return (await hops(address)).join() === nodes.map((node) => HOST[node]).join();
  }) as Promise<true>;

interface Neighbor {
  readonly address: string;
  readonly state: string;
  readonly since?: string;
  readonly sent: number;
  readonly received: number;
  readonly limited?: true;
}
interface Oper {
  readonly neighbors?: readonly Neighbor[];
  readonly problems?: readonly { readonly problem: string; readonly remedy: string }[];
  readonly routes?: readonly string[];
}
const operOf = async (node: Node): Promise<Oper> => JSON.parse(await netctl(`bgp inspect ${node}`)).Oper;
const established = (node: Node, address = TOR): Promise<Neighbor> =>
  until(`${node} and ${address}`, async () =>
    (await operOf(node)).neighbors?.find((n) => n.address === address && n.state === 'Established'),
  );
const daemonOf = async (node: Node): Promise<number> =>
  Number(await must(node, 'cat /run/contiv/bgp/bird.pid'));

describe('the guide', () => {
  const guide = typing('docs/guide/bgp.md');

  it('has two hosts announce a container each', async () => {
    await guide('two hosts');
    await announced(at(50), 'node1');
    await announced(at(60), 'node2');
  });
  it('reaches them from behind the router', () => guide('reached'));
  it('shows the sessions', async () => {
    await until('what the router tells', async () => (await established('node1')).received > 0);
    await guide('inspect');
  });
  it('says who outside is meant', () => guide('policy'));
  it('spreads clients over hosts', async () => {
    await guide('a service');
    await announced(at(100), 'node1', 'node2');
  });
  it('ends it on one host', async () => {
    await guide('removed');
    await announced(at(60));
  });
});

describe('two hosts that speak to the router', () => {
  beforeAll(async () => {
    await netctl(`net create told --subnet=20.1.1.0/24 --gateway=${at(254)} --advertise`);
    await netctl('net create own --subnet=20.2.1.0/24 --gateway=20.2.1.254');
    for (const node of NODES) await speak(node);
    await Promise.all([
      run('node1', 'near', 'told', at(51)),
      run('node2', 'far', 'told', at(52)),
      run('node1', 'hidden', 'own', '20.2.1.53'),
    ]);
    await announced(at(51), 'node1');
    await announced(at(52), 'node2');
  });
  afterAll(clear);

  it('lead what is behind it to containers, and these there, by their own addresses', async () => {
    for (const address of [at(51), at(52)])
      expect([address, await beyondAsks(address)]).toEqual([address, 0]);
    const seen = await dump('beyond', 'tcpdump -l -n -i eth0 tcp dst port 80');
    // What the router has been told does not say that the host has been told by it: it may be asked by the host's address at first.
    for (const [host, name, address] of [
      ['node1', 'near', at(51)],
      ['node2', 'far', at(52)],
    ] as const)
      await until(`packets of ${address}`, async () => {
        expect(await inside(host, name, `curl -s -m 5 http://${BEYOND}/`)).toMatchObject({
          status: 0,
          out: `${SERVED}\n`,
        });
        return textOf(seen).includes(`IP ${address}.`);
      });
    await seen.end();
  });

  it('lead them elsewhere, and what is not announced, by the host’s address', async () => {
    const seen = await dump('outside', 'tcpdump -l -n -i eth0 icmp');
    expect((await inside('node1', 'near', 'ping -c 1 -W 2 192.168.50.1')).status).toBe(0);
    await until('a ping by the host’s address', async () => textOf(seen).includes(`IP ${HOST.node1} >`));
    await seen.end();
    expect(textOf(seen)).not.toContain(at(51));
    expect((await inside('node1', 'hidden', `curl -s -m 5 http://${BEYOND}/`)).status).toBe(0);
    expect(await beyondAsks('20.2.1.53')).not.toBe(0);
    expect(await hops('20.2.1.53')).toEqual([]);
  });

  it('hold the policy of who is asked, by the address of who asks', async () => {
    await netctl('policy create some');
    await netctl('policy rule-add some 1 -direction=in -protocol=tcp -action=deny');
    await netctl(
      `policy rule-add some 2 -direction=in -protocol=tcp -from-ip-address=${BEYOND} -action=allow -priority=10`,
    );
    await netctl('group create told judged -policy=some');
    await run('node1', 'judged', 'judged', at(54));
    await announced(at(54), 'node1');
    expect(await beyondAsks(at(54))).toBe(0);
    expect((await asks('tor', at(54))) === 0).toBe(false);
    expect((await inside('node2', 'far', `curl -s -m 2 http://${at(54)}/`)).status).not.toBe(0);
    await must('node1', 'docker rm -f judged');
    await announced(at(54));
  });

  it('let nobody in the fabric, and no other tenant, be what he is not', async () => {
    // By a container's address, and by the host's end of a pair, which a tenant's router takes for the host itself.
    const inContainer = "nsenter --net=/proc/$(docker inspect -f '{{.State.Pid}}' near)/ns/net";
    const seen = await dump('node1', 'sh -c', `exec ${inContainer} tcpdump -l -n -i eth0 udp port 7777`);
    const send = (source: string): string =>
      `ip addr add ${source}/32 dev lo; echo x | socat -u - UDP:${at(51)}:7777,bind=${source}; ip addr del ${source}/32 dev lo`;
    const FORGED = [at(52), at(99), '100.127.0.0'];
    // Who may is sent last, so that all before has been seen when it is.
    for (const source of [...FORGED, ...FORGED, '198.18.0.77']) await must('tor', 'sh -ec', send(source));
    await until('who may', async () => textOf(seen).includes('198.18.0.77.'));
    await seen.end();
    for (const source of FORGED) expect(textOf(seen)).not.toContain(`${source}.`);
  });

  it('lose nothing when the daemon is killed: it is there again, and the router has deleted no route', async () => {
    const deleted = await routeChanges();
    const before = await daemonOf('node1');
    const { since } = await established('node1');
    const pings = background('beyond', `busybox ping -i 0.05 -c 200 ${at(51)}`);
    await must('node1', `kill -9 ${before}`);
    await until('another daemon', async () => {
      const now = await daemonOf('node1').catch(() => before);
      return now !== before;
    });
    await until('the session', async () => {
      const found = (await operOf('node1')).neighbors?.[0];
      return found?.state === 'Established' && found.since !== since && found.sent > 0;
    });
    await until('all pings', async () => textOf(pings).includes('packet loss'));
    await deleted.end();
    expect(textOf(deleted)).not.toMatch(new RegExp(`Deleted ${at(51)} `));
    expect(textOf(pings)).toContain('200 packets received');
  });

  it('nor does it when the agent is killed, or stopped, and started', async () => {
    const deleted = await routeChanges();
    const before = await daemonOf('node1');
    const { since } = await established('node1');
    await mustLab('kill netplugin node1');
    await mustLab('start netplugin node1');
    expect(await established('node1')).toMatchObject({ since });
    await mustLab('stop netplugin node1');
    await mustLab('start netplugin node1');
    expect(await established('node1')).toMatchObject({ since });
    expect(await daemonOf('node1')).toBe(before);
    await deleted.end();
    expect(textOf(deleted)).not.toMatch(new RegExp(`Deleted ${at(51)} `));
  });

  it('tell of a container that goes before its address is given again', async () => {
    await run('node1', 'brief', 'told', at(55));
    await announced(at(55), 'node1');
    const lines = await routeChanges();
    await must('node1', 'docker rm -f brief');
    // Its address is asked for by name, which waits until every host goes by it that it is nobody's.
    await run('node2', 'brief', 'told', at(55));
    await announced(at(55), 'node2');
    const [taken, given] = [`Deleted ${at(55)} `, `${at(55)} `];
    await until('the router to have told both', async () =>
      lines.lines.some((line) => line.startsWith(given) && line.includes(HOST.node2)),
    );
    await lines.end();
    const about = lines.lines.filter((line) => line.startsWith(taken) || line.startsWith(given));
    expect(about[0]).toMatch(new RegExp(`^${taken}.*${HOST.node1}\\b`));
    await must('node2', 'docker rm -f brief');
    await announced(at(55));
  });

  it('have events and metrics of a session that goes and comes', async () => {
    const { since } = await established('node2');
    await must('node2', 'ip link set eth0 down');
    await must('node2', 'ip link set eth0 up');
    await must('node2', 'ip route replace default via 192.168.50.1');
    // The router keeps the routes of the session that is gone, and netmaster its state until it is told: neither says that there is another.
    const another = await until('another session', async () => {
      const found = await established('node2');
      return found.since !== since && found.since;
    });
    const told = `BGP: neighbour ${TOR} (AS 65000) is established since ${another}`;
    await expect.poll(() => netctl('events --kind neighbor')).toContain(told);
    const metrics = () =>
      must('node2', 'curl -s --unix-socket /run/contiv/netplugin.sock http://host/metrics');
    await expect.poll(metrics).toContain(`bgp_neighbor_up{neighbor="${TOR}"} 1`);
    await expect.poll(metrics).toMatch(new RegExp(`bgp_neighbor_routes_sent{neighbor="${TOR}"} \\d`));
    await announced(at(52), 'node2');
  });

  it('leave the router nothing when BGP is removed', async () => {
    await netctl('bgp rm node2');
    await announced(at(52));
    // The session ends before the daemon has, and takes its routes away.
    await expect.poll(async () => (await on('node2', 'ls /run/contiv/bgp')).status).not.toBe(0);
    await expect.poll(() => must('node2', 'ip route show proto bird')).toBe('');
    await speak('node2');
    await announced(at(52), 'node2');
  });
});

describe('an announced network that the hosts reach too, by both versions of IP', () => {
  const SIX = { node1: 'fd00:50::11', node2: 'fd00:50::12' } as const;
  const [NEAR6, SERVICE] = ['fd00:20:1::50', at(100)];

  beforeAll(async () => {
    for (const node of NODES) {
      await must(node, `ip addr add ${SIX[node]}/64 dev eth0 nodad`);
      await netctl(
        `bgp create ${node} --router-ip=${HOST[node]}/24,${SIX[node]}/64 --as=${node === 'node1' ? 65001 : 65002} --neighbor=${TOR},fd00:50::2 --neighbor-as=65000`,
      );
    }
    await netctl(
      `net create told --subnet=20.1.1.0/24 --gateway=${at(254)} --subnetv6=fd00:20:1::/64 --gatewayv6=fd00:20:1::ffff --advertise --host-access`,
    );
    await netctl('tenant create blue');
    await netctl('net create -t blue other --subnet=20.9.1.0/24 --gateway=20.9.1.254');
    await netctl('policy create closed');
    await netctl('policy rule-add closed 1 -direction=in -protocol=tcp -action=deny');
    await netctl('group create told shut -policy=closed');
    await netctl(`service create front --network=told --ip=${SERVICE} --port=80:80:TCP --selector=app=web`);
    const sleeping = (flags: string): Promise<string> =>
      must('node1', `docker run -d ${flags} --stop-signal=SIGKILL contiv/lab sleep 100000`);
    await Promise.all([
      run('node1', 'near', 'told', at(51), `--ip6=${NEAR6}`, '--label=app=web'),
      run('node2', 'far', 'told', at(52), '--label=app=web'),
      run('node1', 'shut', 'shut', at(53)),
      sleeping('--name=bridged'),
      sleeping('--name=blue --net=other/blue'),
    ]);
    await announced(at(53), 'node1');
  });
  afterAll(async () => {
    for (const node of NODES) await must(node, `ip addr del ${SIX[node]}/64 dev eth0`);
    await clear();
  });

  it('is reached by IPv6 as by IPv4', async () => {
    await until('the route by IPv6', async () => (await hops(NEAR6, '-6')).length === 1);
    expect((await on('beyond', `curl -s -g -m 5 http://[${NEAR6}]/`)).status).toBe(0);
    expect((await inside('node1', 'near', 'ping -c 1 -W 5 fd00:18::10')).status).toBe(0);
  });

  it('has a service that every host with a provider announces, which answers pings and refuses other ports', async () => {
    await announced(SERVICE, 'node1', 'node2');
    for (let i = 0; i < 5; i++) expect(await beyondAsks(SERVICE)).toBe(0);
    expect(await beyondAsks(`${SERVICE}:81`)).toBe(7);
    expect((await on('beyond', `busybox ping -c 1 -W 2 ${SERVICE}`)).status).toBe(0);
    await must('node2', 'docker rm -f far');
    await announced(SERVICE, 'node1');
    expect(await beyondAsks(SERVICE)).toBe(0);
  });

  it('tells who sends too large packets what fits', async () => {
    await on('beyond', `busybox ping -c 1 -W 1 -s 1472 ${at(51)}`);
    expect(await must('beyond', `ip route get ${at(51)}`)).toContain('mtu 1450');
  });

  it('takes other tenants’ containers and those of Docker’s bridge for outsiders, and nobody but the host for the host', async () => {
    for (const name of ['bridged', 'blue']) {
      expect((await inside('node1', name, `curl -s -m 5 http://${at(51)}/`)).status).toBe(0);
      expect((await inside('node1', name, `curl -s -m 2 http://${at(53)}/`)).status).toBe(28);
    }
    expect(await asks('node1', at(53))).toBe(0);
    expect(await beyondAsks(at(53))).toBe(28);
    // Whatever another program translates to the host's end of the pair, as virtual machines' bridges have it.
    const script = `ip netns add vm; ip link add virbr0 type bridge; ip addr add 10.77.0.1/24 dev virbr0; ip link set virbr0 up
      ip link add v0 type veth peer name eth0 netns vm; ip link set v0 master virbr0 up
      ip -n vm addr add 10.77.0.2/24 dev eth0; ip -n vm link set eth0 up; ip -n vm route add default via 10.77.0.1
      iptables -I FORWARD -i virbr0 -j ACCEPT; iptables -t nat -A POSTROUTING -s 10.77.0.0/24 -j MASQUERADE`;
    await must('node1', 'sh -ec', script);
    try {
      expect(await asks('node1', at(53))).toBe(0);
      expect((await on('node1', `ip netns exec vm curl -s -m 2 http://${at(53)}/`)).status).toBe(28);
    } finally {
      await must(
        'node1',
        'sh -c',
        'iptables -D FORWARD -i virbr0 -j ACCEPT; iptables -t nat -D POSTROUTING -s 10.77.0.0/24 -j MASQUERADE; ip link del virbr0; ip netns del vm',
      );
    }
  });
});

describe('an orchestrator’s services, as netkube declares them', () => {
  const [CLUSTER, EXTERNAL] = ['20.96.0.10', '20.250.0.10'];
  const URL = '$NETMASTER/api/v1/clusterServices/shop:web/';

  /** `ready`: of the backends, whether each is. */
  async function declare(ready: Readonly<Record<Node, boolean>>, more: object = {}): Promise<void> {
    const backends = NODES.map((host, i) => ({
      address: at(51 + i),
      port: 80,
      host,
      ready: ready[host],
      serving: ready[host],
      terminating: false,
    }));
    const service = {
      ...{ namespaceName: 'shop', serviceName: 'web', tenantName: 'default' },
      ...{ addresses: [CLUSTER], externalAddresses: [EXTERNAL] },
      ports: [{ protocol: 6, port: 8080, backends }],
      ...more,
    };
    await must('node1', 'sh -c', `curl -sf -X POST -d '${JSON.stringify(service)}' ${URL}`);
  }

  beforeAll(async () => {
    await netctl(`net create told --subnet=20.1.1.0/24 --gateway=${at(254)} --advertise --host-access`);
    for (const node of NODES) await speak(node, '--services=20.250.0.0/16,20.96.0.0/16');
    await run('node1', 'near', 'told', at(51));
    await run('node2', 'far', 'told', at(52));
    await declare({ node1: true, node2: true });
    await announced(EXTERNAL, ...NODES);
  });
  afterAll(async () => {
    await must('node1', 'sh -c', `curl -sf -X DELETE ${URL}`);
    await clear();
  });

  it('are reached from behind the router at the addresses in the prefixes of a host’s BGP, and asked by the host itself as before', async () => {
    await announced(CLUSTER, ...NODES);
    for (const address of [EXTERNAL, CLUSTER]) {
      for (let i = 0; i < 4; i++)
        expect([address, await beyondAsks(`${address}:8080`)]).toEqual([address, 0]);
      expect(await beyondAsks(`${address}:81`)).not.toBe(0);
      expect(await asks('node1', `${address}:8080`)).toBe(0);
    }
    await speak('node1', '--services=20.250.0.0/16');
    await announced(CLUSTER, 'node2');
    await announced(EXTERNAL, ...NODES);
    await speak('node1', '--services=20.250.0.0/16,20.96.0.0/16');
    await announced(CLUSTER, ...NODES);
  });

  it('with policy local are announced by hosts that have a ready backend alone, which see who asks', async () => {
    const local = { externalTraffic: 'local' };
    await declare({ node1: true, node2: false }, local);
    await announced(EXTERNAL, 'node1');
    const inContainer = "nsenter --net=/proc/$(docker inspect -f '{{.State.Pid}}' near)/ns/net";
    const seen = await dump('node1', 'sh -c', `exec ${inContainer} tcpdump -l -n -i eth0 tcp dst port 80`);
    expect(await beyondAsks(`${EXTERNAL}:8080`)).toBe(0);
    await until('who asks', async () => textOf(seen).includes(`IP ${BEYOND}.`));
    await seen.end();
    await declare({ node1: false, node2: true }, local);
    await announced(EXTERNAL, 'node2');
    expect(await beyondAsks(`${EXTERNAL}:8080`)).toBe(0);
    await declare({ node1: false, node2: false }, local);
    await announced(EXTERNAL);
  });

  it('otherwise by each host, whoever has a backend, and by none where nobody has one', async () => {
    await declare({ node1: false, node2: true });
    await announced(EXTERNAL, ...NODES);
    for (let i = 0; i < 4; i++) expect(await beyondAsks(`${EXTERNAL}:8080`)).toBe(0);
    await declare({ node1: false, node2: false });
    await announced(EXTERNAL);
  });
});
