/** Networks of encapsulation direct on three hosts, with a machine on their link that has nothing of ours (`outside`). */
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostAddress } from '../lab/state.ts';
import { vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import { directMac } from '../src/netplugin/compile/direct.ts';
import { HOSTS, openFabric, typing } from './fabric.ts';
import { type Ended, until } from './lab.ts';
import { arp, ethernet, icmpError, udp } from './packet.ts';

const { lab, mustLab, on, must, netctl, background, differences, clear } = openFabric();

/** Containers: one of the direct network on each host, of which each is in a group; and some of a VXLAN network, and of another tenant. */
const PLACES = {
  near: { host: 'node1', address: '20.3.1.51', six: 'fd00:3::51' },
  far: { host: 'node2', address: '20.3.1.52', six: 'fd00:3::52' },
  third: { host: 'node3', address: '20.3.1.53', six: 'fd00:3::53' },
  overNear: { host: 'node1', address: '20.1.1.51', six: '' },
  overFar: { host: 'node2', address: '20.1.1.52', six: '' },
  theirs: { host: 'node1', address: '20.4.1.51', six: '' },
  theirsFar: { host: 'node2', address: '20.4.1.52', six: '' },
} as const;
type Place = keyof typeof PLACES;
const DIRECT: readonly Place[] = ['near', 'far', 'third'];

/** A container that serves on port 80, and ends at once when it is to. */
const run = (name: Place, network: string, host: string = PLACES[name].host, ...flags: string[]) =>
  must(
    host,
    `docker run -d --name=${name} --net=${network} --ip=${PLACES[name].address} --stop-signal=SIGKILL`,
    ...(PLACES[name].six === '' ? [] : [`--ip6=${PLACES[name].six}`]),
    ...flags,
    ...['contiv/lab', 'httpd', '-f', '-p', '80', '-h', '/www'],
  );
const whereIs = new Map<Place, string>();
const from = (place: Place, line: string): Promise<Ended> =>
  on(whereIs.get(place) ?? PLACES[place].host, `docker exec ${place} ${line}`);
/** curl: 0 an answer, 28 none in time. */
const asks = async (place: Place, target: string): Promise<number> => {
  const host = target.includes(':') ? `[${target}]` : target;
  return (await from(place, `curl -s -m 2 -o /dev/null http://${host}/`)).status;
};
const pings = async (place: Place, target: string, size = 56): Promise<boolean> =>
  (await from(place, `ping -c 1 -W 2 -s ${size} ${target}`)).status === 0;

const check = (seconds = 60): Promise<Ended> => lab(`check --wait ${seconds}`);
const router = 'ip netns exec contiv-default';

describe('the guide', () => {
  const guide = typing('docs/guide/direct.md');

  it('has a network without a tunnel', () => guide('a network'));
});

describe('containers of a direct network on three hosts', () => {
  beforeAll(async () => {
    await netctl(
      'net create plain -e direct --subnet=20.3.1.0/24 --gateway=20.3.1.254 --subnetv6=fd00:3::/64 --gatewayv6=fd00:3::fe',
    );
    await netctl('net create over --subnet=20.1.1.0/24 --gateway=20.1.1.254');
    await netctl('tenant create blue');
    await netctl('net create -t blue theirs -e direct --subnet=20.4.1.0/24 --gateway=20.4.1.254');
    for (const name of ['web', 'db', 'app']) {
      await netctl(`policy create for-${name}`);
      await netctl(`group create ${name === 'app' ? 'over' : 'plain'} ${name} -policy=for-${name}`);
    }
    await Promise.all([
      run('near', 'web'),
      run('far', 'db'),
      run('third', 'plain'),
      run('overNear', 'over'),
      run('overFar', 'app'),
      run('theirs', 'theirs/blue'),
      run('theirsFar', 'theirs/blue'),
    ]);
    // Names come a moment after what they name.
    expect(await differences()).toBe('');
  });
  afterAll(clear);

  it('reach each other by IPv4 and IPv6, by TCP and as large as the link takes, by names too', async () => {
    await Promise.all(
      DIRECT.map(async (place) => {
        for (const other of DIRECT.filter((o) => o !== place))
          for (const target of [PLACES[other].address, PLACES[other].six, other]) {
            expect([place, target, await asks(place, target)]).toEqual([place, target, 0]);
            const size = target.includes(':') ? 1452 : 1472;
            expect([place, target, await pings(place, target, size)]).toEqual([place, target, true]);
          }
      }),
    );
    expect(await asks('theirs', PLACES.theirsFar.address)).toBe(0);
  });

  it('are on the link by the address of their tenant on their host, in no tunnel', async () => {
    const sees = background('node2', 'tcpdump -Z root -lnnei eth0 icmp or udp port 4789');
    await until('frames', async () => {
      await pings('near', PLACES.far.address);
      return sees.lines.some((line) => line.includes('echo reply'));
    });
    await sees.end();
    const lines = sees.lines.filter((line) => line.includes(PLACES.near.address));
    expect(lines.join('\n')).not.toMatch(/ > [\d.]+\.4789: /);
    for (const line of lines) {
      expect(line).toContain(directMac('default', hostAddress(1)));
      expect(line).toContain(directMac('default', hostAddress(2)));
    }
  });

  it('and those of VXLAN networks of the tenant reach each other by address and by name', async () => {
    const pairs = [
      ['near', 'overNear'],
      ['near', 'overFar'],
      ['far', 'overNear'],
      ['overNear', 'near'],
      ['overNear', 'far'],
      ['overFar', 'third'],
    ] as const;
    await Promise.all(
      pairs.map(async ([place, other]) => {
        const name = `${other}.${other.startsWith('over') ? 'over' : 'plain'}`;
        expect([place, other, await asks(place, PLACES[other].address)]).toEqual([place, other, 0]);
        expect([place, name, await asks(place, name)]).toEqual([place, name, 0]);
      }),
    );
  });

  it('are under the policy of their groups, which trace tells and both kernels agree to', async () => {
    await netctl('policy rule-add for-web 1 -direction=in -protocol=tcp -action=deny');
    await netctl(
      'policy rule-add for-web db -direction=in -protocol=tcp -port=80 -from-group=db -action=allow -priority=10',
    );
    expect(await asks('far', PLACES.near.address)).toBe(0);
    expect(await asks('far', PLACES.near.six)).toBe(0);
    const others = ['third', 'overNear', 'overFar'] as const;
    expect(await Promise.all(others.map((place) => asks(place, PLACES.near.address)))).toEqual([28, 28, 28]);
    expect(await pings('third', PLACES.near.address)).toBe(true);
    const allowed = await netctl('policy trace --from=far --to=near --protocol=tcp --port=80 --live');
    expect(allowed).toContain('kernel on node1: agrees: allow');
    expect(allowed).toContain('without a tunnel');
    const denied = await netctl('policy trace --from=third --to=near --protocol=tcp --port=80 --live');
    expect(denied).toContain('kernel on node1: agrees: deny');
    await netctl(
      'policy rule-add for-web app -direction=in -protocol=tcp -port=80 -from-group=app -action=allow -priority=10',
    );
    expect(await asks('overFar', PLACES.near.address)).toBe(0);
    await netctl('policy rule-add for-app 1 -direction=out -protocol=tcp -to-group=web -action=deny');
    expect(await asks('overFar', PLACES.near.address)).toBe(28);
    expect(await asks('overFar', PLACES.far.address)).toBe(0);
    for (const [policy, rules] of [
      ['for-web', ['1', 'db', 'app']],
      ['for-app', ['1']],
    ] as const)
      for (const rule of rules) await netctl(`policy rule-rm ${policy} ${rule}`);
    expect(await asks('third', PLACES.near.address)).toBe(0);
  });

  it('have services, published ports and the way out as those of any network', async () => {
    await netctl('service create entry --network=plain --selector=tier=front --port=8080:80:TCP');
    await must(
      'node2',
      'docker run -d --name=front --net=plain -l tier=front -p 8088:80 --stop-signal=SIGKILL contiv/lab httpd -f -p 80 -h /www',
    );
    for (const place of ['near', 'far', 'third', 'overNear'] as const)
      await until(
        `${place} is answered`,
        async () => (await from(place, 'curl -s -m 2 -o /dev/null http://entry.plain:8080/')).status === 0,
      );
    expect((await on('outside', `curl -s -m 2 -o /dev/null http://${hostAddress(2)}:8088/`)).status).toBe(0);
    expect((await on('node1', `curl -s -m 2 -o /dev/null http://${hostAddress(2)}:8088/`)).status).toBe(0);
    // Nothing listens there, and that is said.
    expect((await from('near', 'curl -s -m 2 http://198.51.100.1:9/')).status).toBe(7);
    await must('node2', 'docker rm -f front');
    await netctl('service rm entry');
  });

  it('are not reached by another tenant, a container of Docker’s own, the hosts, or a machine on the link, whatever routes they have', async () => {
    await must('node1', 'docker run -d --name=stray contiv/lab sleep 100000');
    const targets = [PLACES.near.address, PLACES.far.address];
    const curl = (target: string): string => `curl -s -m 2 http://${target}/`;
    const strangers = targets.flatMap((target) => [
      from('theirs', curl(target)),
      from('theirsFar', curl(target)),
      on('node1', `docker exec stray ${curl(target)}`),
      on('node1', curl(target)),
    ]);
    for (const { status } of await Promise.all(strangers)) expect(status).not.toBe(0);
    for (const via of [hostAddress(1), hostAddress(2)]) {
      await must('outside', `ip route add 20.3.1.0/24 via ${via}`);
      const asked = await Promise.all(targets.map((target) => on('outside', curl(target))));
      for (const { status } of asked) expect(status).not.toBe(0);
      await must('outside', 'ip route del 20.3.1.0/24');
    }
    // Knowing where the router is on the link does not help.
    await must('outside', 'ip route add 20.3.1.0/24 dev eth0');
    await must(
      'outside',
      `ip neigh replace ${PLACES.near.address} lladdr ${directMac('default', hostAddress(1))} dev eth0`,
    );
    expect((await on('outside', `curl -s -m 2 http://${PLACES.near.address}/`)).status).toBe(28);
    await must('outside', `ip neigh del ${PLACES.near.address} dev eth0`);
    await must('outside', 'ip route del 20.3.1.0/24');
    await must('node1', 'docker rm -f stray');
  });

  it('hear no machine that says to be one of them, and its frames are counted', async () => {
    const EVIL = '02:aa:aa:aa:aa:aa';
    const mac = directMac('default', hostAddress(1));
    const datagram = (source: string): Buffer => udp(source, PLACES.near.address, 777, 777, Buffer.from('x'));
    const received = async (): Promise<number> => {
      const { out } = await from('near', 'cat /proc/net/snmp');
      const [, counts = ''] = out.split('\n').filter((line) => line.startsWith('Udp:'));
      const [, arrived = '', nowhere = ''] = counts.split(' ');
      return Number(arrived) + Number(nowhere);
    };
    const foreign = async (): Promise<number> =>
      Number(
        /packets (\d+)/.exec(await must('node1', `${router} nft list counter inet contiv foreign`))?.[1],
      );
    const frames = [EVIL, vtepMac(hostAddress(2)), directMac('blue', hostAddress(2))].flatMap((by) =>
      [
        PLACES.far.address,
        PLACES.third.address,
        PLACES.overFar.address,
        '20.3.1.254',
        '192.168.50.1',
      ].flatMap((source) => [
        ethernet(by, mac, datagram(source)),
        ethernet(by, mac, icmpError(source, PLACES.near.address, [3, 1], datagram(source))),
      ]),
    );
    const to = { mac, address: PLACES.near.address };
    const lies = ([1, 2] as const).map((operation) =>
      ethernet(EVIL, mac, arp(operation, { mac: EVIL, address: PLACES.far.address }, to), { type: 0x0806 }),
    );
    const [before, counted] = [await received(), await foreign()];
    await must(
      'outside',
      `${process.execPath} --disable-warning=ExperimentalWarning ${path.resolve('test/frames.ts')} eth0`,
      ...[...frames, ...lies].map((frame) => frame.toString('hex')),
    );
    await until('they are counted', async () => (await foreign()) >= counted + frames.length);
    expect(await received()).toBe(before);
    expect(await asks('near', PLACES.far.address)).toBe(0);
    expect(await must('node1', `${router} ip neigh show dev direct`)).not.toContain(EVIL);
    await until(
      'netmaster has it',
      async () =>
        (await must('node1', 'curl -s --unix-socket /run/contiv/netplugin.sock http://host/metrics')).match(
          /reason="behind"[^}]*tenant="default"[^}]*} [1-9]|tenant="default"[^}]*reason="behind"[^}]*} [1-9]/,
        ) !== null,
    );
  });

  it('lose no packet while agents are killed and start again', async () => {
    const pinging = [
      background('node3', `docker exec third ping -i 0.1 -c 150 ${PLACES.near.address}`),
      background('node2', `docker exec far ping -i 0.1 -c 150 ${PLACES.near.six}`),
    ];
    await until('pings', async () => pinging.every(({ lines }) => lines.length > 3));
    for (const host of ['node1', 'node2']) {
      await mustLab(`kill netplugin ${host}`);
      await mustLab(`start netplugin ${host}`);
    }
    for (const each of pinging) {
      await until('all pings', async () =>
        each.lines.find((line) => line.includes('packet loss'))?.includes(' 0% packet loss'),
      );
      await each.end();
    }
  });

  it('go on by the link while their host’s agent is away for longer than it lives', async () => {
    await mustLab('kill netplugin node2');
    await until('it is away', async () => (await netctl('host ls')).match(/node2.*away/) !== null);
    for (const target of [PLACES.far.address, PLACES.far.six]) expect(await asks('near', target)).toBe(0);
    expect(await must('node1', `${router} ip route get ${PLACES.far.address}`)).toContain('dev direct');
    await mustLab('start netplugin node2');
    await until('it is back', async () => (await netctl('host ls')).match(/node2.*ready/) !== null);
  });

  it('are there again after a power failure of their host', async () => {
    await must('node2', 'docker rm -f far overFar theirsFar');
    await run('far', 'db', 'node2', '--restart=always');
    expect(await asks('near', PLACES.far.address)).toBe(0);
    await mustLab('reboot node2');
    await until('it answers again', async () => (await asks('near', PLACES.far.address)) === 0);
    await until('it reaches others', async () => (await asks('far', PLACES.third.six)) === 0);
    await run('overFar', 'app');
    await run('theirsFar', 'theirs/blue');
  });

  it('that move to another host with their address are reached there at once', async () => {
    for (const to of ['node3', 'node1'] as const) {
      expect(await asks('far', PLACES.near.address)).toBe(0);
      await must(whereIs.get('near') ?? 'node1', 'docker rm -f near');
      await run('near', 'web', to);
      whereIs.set('near', to);
      for (const place of ['far', 'third', 'overNear'] as const) {
        expect([place, await pings(place, PLACES.near.address)]).toEqual([place, true]);
        expect([place, await asks(place, PLACES.near.address)]).toEqual([place, 0]);
      }
    }
  });

  it('have back what somebody takes away by hand, and lab check sees what is not there', async () => {
    const peer = directMac('default', hostAddress(2));
    const takes: readonly (readonly [by: string, seen: string])[] = [
      [`ip link set direct mtu 1400`, 'direct has MTU 1400'],
      [`ip route del ${PLACES.far.address}`, `no route to ${PLACES.far.address} of far on node2`],
      [
        `ip neigh del ${hostAddress(2)} dev direct`,
        `neighbour ${hostAddress(2)} on direct has undefined, not ${peer}`,
      ],
      [
        `nft delete element inet contiv linked { ${peer} . ${PLACES.far.address} }`,
        `map linked lacks ${PLACES.far.address}`,
      ],
      ['tc qdisc del dev direct clsact', 'no program at direct'],
    ];
    const take = (): Promise<string> =>
      must('node1', 'sh -c', takes.map(([by]) => `${router} ${by}`).join(' && '));
    await mustLab('kill netplugin node1');
    await take();
    const { out } = await check(0);
    for (const [, seen] of takes) expect(out).toContain(seen);
    await mustLab('start netplugin node1');
    expect(await differences()).toBe('');
    await take();
    expect(await differences()).toBe('');
    await must('node1', `${router} ip link delete direct`);
    expect(await differences()).toBe('');
    expect(await asks('near', PLACES.far.address)).toBe(0);
  });

  it('have no addresses that mean anything else: what overlaps is refused, or said of the host', async () => {
    const refused = async (line: string): Promise<string> =>
      (await on('node1', `netctl net create ${line}`)).err;
    expect(await refused('-t blue other --subnet=20.3.0.0/16')).toContain(
      'network blue:other: --subnet overlaps 20.3.1.0/24 of network default:plain, whose encap is direct',
    );
    expect(await refused('-t blue other -e direct --subnet=20.1.1.128/25')).toContain(
      "--subnet overlaps 20.1.1.0/24 of network default:over: with encap direct it must overlap no other tenant's",
    );
    for (const [subnet, prefix] of [
      ['172.17.3.0/24', '172.17.0.0/16'],
      ['192.168.0.0/16', '192.168.50.0/24'],
    ])
      expect(await refused(`other -e direct --subnet=${subnet}`)).toMatch(
        new RegExp(`--subnet overlaps ${prefix}, to which host node[123] has a route`),
      );
    const isWell = async (): Promise<boolean> => (await on('node1', 'netctl status')).status === 0;
    await until('nothing is wrong', isWell);
    await must('node3', 'docker network create -d bridge --subnet=20.3.1.128/25 late');
    const said =
      'network default:plain of encapsulation direct: its subnet 20.3.1.0/24 overlaps 20.3.1.128/25';
    await until('it is said', async () => (await on('node1', 'netctl status')).out.includes(said));
    expect((await on('node3', 'netctl doctor')).out).toContain(said);
    await must('node3', 'docker network rm late');
    await until('nothing is wrong', isWell);
  });

  it('go by a tunnel to a host that is beyond a router, as large as that takes, and by the link again when it is back', async () => {
    const readdress = (length: number): Promise<string> =>
      must(
        'node3',
        'sh -c',
        `ip addr del ${hostAddress(3)}/${length === 32 ? 24 : 32} dev eth0; ip addr add ${hostAddress(3)}/${length} dev eth0; ` +
          'ip route replace 192.168.50.1 dev eth0; ip route replace default via 192.168.50.1',
      );
    const wayTo = (place: Place): Promise<string> =>
      must('node1', `${router} ip route get ${PLACES[place].address}`);
    expect(await wayTo('third')).toContain('dev direct');
    await readdress(32);
    await until('by the tunnel', async () => /dev vx\d/.test(await wayTo('third')));
    expect(await differences()).toBe('');
    for (const place of ['near', 'far'] as const)
      for (const target of [PLACES.third.address, PLACES.third.six]) {
        expect([place, await asks(place, target)]).toEqual([place, 0]);
        expect([place, await pings(place, target, 1300)]).toEqual([place, true]);
      }
    expect(await wayTo('far')).toContain('dev direct');
    await readdress(24);
    await until('by the link', async () => /dev direct/.test(await wayTo('third')));
    expect(await differences()).toBe('');
    for (const place of ['near', 'far'] as const)
      for (const target of [PLACES.third.address, PLACES.third.six])
        expect([place, await asks(place, target)]).toEqual([place, 0]);
  });
});

it('with the last direct network everything goes that was its own', async () => {
  const left = async (host: string): Promise<string> => {
    const fdb = (await must(host, 'bridge fdb show dev eth0')).split('\n');
    return [...fdb.filter((line) => line.startsWith('06:')), await must(host, 'ip netns list')].join('\n');
  };
  for (const host of HOSTS) await expect.poll(() => left(host), { timeout: 60_000, message: host }).toBe('');
});
