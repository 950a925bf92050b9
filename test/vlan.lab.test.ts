/**
 * VLAN networks on two hosts, with machines beside them that have nothing of ours: `trunk` behind a tagged port, `access` behind an access
 * port of VLAN 100 (lab/fabric.ts).
 */
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BEHIND_TRUNK } from '../lab/fabric.ts';
import { hostAddress, networkNamespace } from '../lab/state.ts';
import { short } from '../src/linux/packet.ts';
import { vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import { FABRIC_LAB, openFabric, typing } from './fabric.ts';
import { sh } from './isolation.ts';
import { type Ended, until } from './lab.ts';
import { arp, ethernet, udp } from './packet.ts';

const { lab, mustLab, on, must, netctl, background, serving: run, inside, differences, clear } = openFabric();

const ID = 100;
const at = (n: number): string => `10.100.0.${n}`;
const six = (rest: string): string => `fd00:100::${rest}`;
const [TRUNK6, ACCESS6] = [six('201'), six('202')];
const MAC = { node1: vtepMac(hostAddress(1)), node2: vtepMac(hostAddress(2)) };
/** What runs where, by its address; those of `over` are in a VXLAN network. */
const NEAR = at(51);
const FAR = at(52);
const OVER_NEAR = '20.1.1.51';
const OVER_FAR = '20.1.1.52';
const TRUNK = at(201);
const ACCESS = at(202);

/** Something from which a command may be given, and where it stands. */
type Place = 'near' | 'far' | 'overNear' | 'overFar' | 'trunk' | 'access';
const ADDRESS: Readonly<Record<Place, string>> = {
  near: NEAR,
  far: FAR,
  overNear: OVER_NEAR,
  overFar: OVER_FAR,
  trunk: TRUNK,
  access: ACCESS,
};
const HOSTS: Readonly<Partial<Record<Place, string>>> = {
  near: 'node1',
  overNear: 'node1',
  far: 'node2',
  overFar: 'node2',
};
const from = (place: Place, line: string): Promise<Ended> => {
  const host = HOSTS[place];
  return host === undefined ? on(place, line) : inside(host, place, line);
};
/** curl: 0 an answer, 28 none in time. */
const asks = async (place: Place, target: string): Promise<number> =>
  (await from(place, `curl -s -m 2 -o /dev/null http://${target}/`)).status;
/** By one packet, of the whole MTU where that is said. */
const pings = async (place: Place, target: string, size = 56): Promise<boolean> => {
  const ping = HOSTS[place] === undefined ? 'busybox ping' : 'ping';
  return (await from(place, `${ping} -c 1 -W 2 -s ${size} ${target}`)).status === 0;
};

const check = (seconds = 60): Promise<Ended> => lab(`check --wait ${seconds}`);

describe('the guide', () => {
  const guide = typing('docs/guide/vlan.md');

  it('has containers and machines in one network', () => guide('a network'));
  it('says which machine a container answers', () => guide('policy'));
  it('names containers of other networks', () => guide('names'));
});

describe('containers of a VLAN network on two hosts', () => {
  beforeAll(async () => {
    await netctl(
      `net create lan -e vlan --pkt-tag=${ID} --subnet=${at(10)}-${at(99)}/24 --gateway=${at(254)} --subnetv6=${six('')}/64 --gatewayv6=${six('fe')}`,
    );
    await netctl('net create over --subnet=20.1.1.0/24 --gateway=20.1.1.254');
    for (const name of ['web', 'db', 'app']) {
      await netctl(`policy create for-${name}`);
      await netctl(`group create ${name === 'app' ? 'over' : 'lan'} ${name} -policy=for-${name}`);
    }
    await Promise.all([
      run('node1', 'near', 'web', NEAR),
      run('node2', 'far', 'db', FAR),
      run('node1', 'overNear', 'over', OVER_NEAR),
      run('node2', 'overFar', 'app', OVER_FAR),
    ]);
    await until('the machines', async () => (await pings('access', NEAR)) && (await pings('trunk', FAR)));
  });
  afterAll(clear);

  it('and machines behind a tagged and an access port reach each other, by TCP and with the whole MTU', async () => {
    const all: Place[] = ['near', 'far', 'trunk', 'access'];
    await Promise.all(
      all.map(async (place) => {
        for (const other of all.filter((o) => o !== place)) {
          expect([place, other, await asks(place, ADDRESS[other])]).toEqual([place, other, 0]);
          expect([place, other, await pings(place, ADDRESS[other], 1472)]).toEqual([place, other, true]);
        }
      }),
    );
  });

  it('are on the wire by their hosts, with the tag, and by no other address', async () => {
    const sees = background('trunk', `tcpdump -Z root -Q in -lnnei eth0 'vlan ${ID} and icmp'`);
    await until('frames', async () => {
      await pings('trunk', NEAR);
      return sees.lines.some((line) => line.includes('echo reply'));
    });
    await sees.end();
    const reply = sees.lines.find((line) => line.includes('echo reply'));
    expect(reply).toContain(MAC.node1);
    expect(reply).toContain(`vlan ${ID}`);
    for (const [address, mac] of [
      [NEAR, MAC.node1],
      [FAR, MAC.node2],
    ] as const) {
      expect(await pings('access', address)).toBe(true);
      expect(await must('access', `ip neigh show ${address}`)).toContain(mac);
    }
    const asked = [at(254), at(77), OVER_NEAR].map((nobodys) =>
      on('access', `arping -c 1 -w 1 -I eth0 ${nobodys}`),
    );
    for (const { out } of await Promise.all(asked)) expect(out).toContain('0 packets received');
  });

  it('and those of VXLAN networks of the tenant reach each other by address and by name, on one host and between hosts', async () => {
    const pairs = [
      ['near', 'overNear'],
      ['near', 'overFar'],
      ['far', 'overNear'],
      ['overNear', 'near'],
      ['overNear', 'far'],
      ['overFar', 'near'],
    ] as const;
    await Promise.all(
      pairs.map(async ([place, other]) => {
        const name = `${other}.${other.startsWith('over') ? 'over' : 'lan'}`;
        expect([place, other, await asks(place, ADDRESS[other])]).toEqual([place, other, 0]);
        expect([place, name, await asks(place, name)]).toEqual([place, name, 0]);
        // A bare name is one of the asking container's own networks, as between any two.
        expect([place, other, await asks(place, other)]).toEqual([place, other, 6]);
      }),
    );
    expect(await asks('near', 'far')).toBe(0);
    expect(await asks('far', 'near')).toBe(0);
    // A machine is in its network, and no further.
    for (const [machine, device] of [
      ['trunk', 'lan'],
      ['access', 'eth0'],
    ] as const) {
      await must(machine, `ip route add 20.1.1.0/24 via ${NEAR} dev ${device}`);
      expect(await Promise.all([asks(machine, OVER_NEAR), asks(machine, OVER_FAR)])).toEqual([28, 28]);
      await must(machine, 'ip route del 20.1.1.0/24');
    }
  });

  describe('by IPv6', () => {
    const addressOf = async (name: string): Promise<string> => {
      const { Oper } = JSON.parse(await netctl(`endpoint inspect ${name}`));
      return Oper.ipAddress.find((a: string) => a.includes(':'));
    };
    const asks6 = (place: Place, address: string): Promise<number> => asks(place, `[${address}]`);
    const pings6 = (place: Place, address: string, size = 56): Promise<boolean> =>
      pings(place, address, size);

    it('and machines reach each other, with the whole MTU, and find each other on the wire', async () => {
      const [near, far] = [await addressOf('near'), await addressOf('far')];
      for (const [place, other] of [
        ['near', TRUNK6],
        ['near', ACCESS6],
        ['far', TRUNK6],
        ['near', far],
        ['trunk', near],
        ['access', near],
        ['access', far],
      ] as const) {
        expect([place, other, await asks6(place, other)]).toEqual([place, other, 0]);
        expect([place, other, await pings6(place, other, 1452)]).toEqual([place, other, true]);
      }
      expect(await must('access', `ip -6 neigh show ${near}`)).toContain(MAC.node1);
      expect(await must('access', `ip -6 neigh show ${far}`)).toContain(MAC.node2);
      expect(await pings6('access', six('fe'))).toBe(false);
      expect(await pings6('access', six('77'))).toBe(false);
    });

    it('are under policy, and a machine reaches their network alone', async () => {
      const near = await addressOf('near');
      await netctl('policy rule-add for-web 1 -direction=in -protocol=tcp -action=deny');
      await netctl(
        `policy rule-add for-web trunk -direction=in -protocol=tcp -port=80 -from-ip-address=${TRUNK6} -action=allow -priority=10`,
      );
      expect(await asks6('trunk', near)).toBe(0);
      expect(await asks6('access', near)).toBe(28);
      for (const rule of ['1', 'trunk']) await netctl(`policy rule-rm for-web ${rule}`);
      expect(await asks6('access', near)).toBe(0);
    });

    it('that move are reached at once by who had spoken to them', async () => {
      const before = await addressOf('near');
      expect(await asks6('access', before)).toBe(0);
      for (const [to, away] of [
        ['node2', 'node1'],
        ['node1', 'node2'],
      ] as const) {
        await must(away, 'docker rm -f near');
        await run(to, 'near', 'web', NEAR, `--ip6=${before}`);
        expect(await pings6('access', before)).toBe(true);
        expect(await must('access', `ip -6 neigh show ${before}`)).toContain(MAC[to]);
      }
    });
  });

  it('are under the policy of their groups, towards each other, machines and other networks', async () => {
    await netctl('policy rule-add for-web 1 -direction=in -protocol=tcp -action=deny');
    await netctl(
      'policy rule-add for-web db -direction=in -protocol=tcp -port=80 -from-group=db -action=allow -priority=10',
    );
    await netctl(
      `policy rule-add for-web trunk -direction=in -protocol=tcp -port=80 -from-ip-address=${TRUNK} -action=allow -priority=10`,
    );
    expect(await asks('far', NEAR)).toBe(0);
    expect(await asks('trunk', NEAR)).toBe(0);
    const denied = ['access', 'overNear', 'overFar'] as const;
    expect(await Promise.all(denied.map((place) => asks(place, NEAR)))).toEqual([28, 28, 28]);
    expect(await pings('access', NEAR)).toBe(true);
    await netctl(
      'policy rule-add for-web app -direction=in -protocol=tcp -port=80 -from-group=app -action=allow -priority=10',
    );
    expect(await asks('overFar', NEAR)).toBe(0);
    expect(await asks('overNear', NEAR)).toBe(28);
    await netctl(
      `policy rule-add for-db no -direction=out -protocol=tcp -to-ip-address=${ACCESS} -action=deny`,
    );
    expect(await asks('far', ACCESS)).toBe(28);
    expect(await asks('far', TRUNK)).toBe(0);
    expect(await asks('near', ACCESS)).toBe(0);
    await netctl('policy rule-add for-app 1 -direction=out -protocol=tcp -to-group=web -action=deny');
    expect(await asks('overFar', NEAR)).toBe(28);
    expect(await asks('overFar', FAR)).toBe(0);
    for (const [policy, rules] of [
      ['for-web', ['1', 'db', 'trunk', 'app']],
      ['for-db', ['no']],
      ['for-app', ['1']],
    ] as const)
      for (const rule of rules) await netctl(`policy rule-rm ${policy} ${rule}`);
    expect(await asks('access', NEAR)).toBe(0);
  });

  it('lose no packet while an agent is killed and starts again', async () => {
    const pinging = background('access', `busybox ping -A -c 200 ${NEAR}`);
    const within = background('node2', `docker exec far ping -i 0.1 -c 120 ${NEAR}`);
    await until('pings', async () => pinging.lines.length > 3 && within.lines.length > 3);
    await mustLab('kill netplugin node1');
    await mustLab('start netplugin node1');
    await mustLab('kill netplugin node2');
    await mustLab('start netplugin node2');
    for (const each of [pinging, within])
      await until('all pings', async () =>
        each.lines.find((line) => line.includes('packet loss'))?.includes(' 0% packet loss'),
      );
    await pinging.end();
    await within.end();
  });

  it('come back with dockerd, and go where it has no restart policy for them', async () => {
    await run('node1', 'always', 'lan', at(61), '--restart=always');
    await run('node1', 'never', 'lan', at(62));
    await must('node1', 'docker rm -f near overNear');
    for (const how of ['stop', 'kill']) {
      await mustLab(`${how} dockerd node1`);
      await mustLab('start dockerd node1');
      await until('it answers again', async () => (await asks('access', at(61))) === 0);
      await until('the other is gone', async () => !(await pings('access', at(62))));
      expect(await differences()).toBe('');
    }
    await must('node1', 'docker rm -f always never');
    await run('node1', 'near', 'web', NEAR);
    await run('node1', 'overNear', 'over', OVER_NEAR);
  });

  it('are away while the cable is, which the agent says, and are back with it', async () => {
    const cable = (how: 'up' | 'down') =>
      sh(`ip -n ${networkNamespace(FABRIC_LAB, 'switch')} link set w-node2 ${how}`);
    const told = async (): Promise<number> =>
      (await mustLab('logs netplugin node2')).split('--uplink: interface eth0 is down').length;
    const before = await told();
    cable('down');
    await until('it is told', async () => (await told()) > before);
    expect(await pings('access', FAR)).toBe(false);
    cable('up');
    await until('it answers again', () => pings('access', FAR));
    await until('nothing is wrong', async () => (await on('node1', 'netctl status')).status === 0);
    await must('node2', 'ip link set eth0 down');
    expect(await pings('trunk', FAR)).toBe(false);
    await must('node2', 'sh -c', 'ip link set eth0 up; ip route replace default via 192.168.50.1');
    await until('it answers again', () => pings('trunk', FAR));
    await until('on the other host too', async () => (await asks('near', FAR)) === 0);
  });

  it('are there again after a power failure of their host', async () => {
    await run('node2', 'always', 'lan', at(61), '--restart=always');
    await until('it answers', async () => (await asks('access', at(61))) === 0);
    await mustLab('reboot node2');
    await until('it answers again', async () => (await asks('access', at(61))) === 0);
    // Its name comes a moment later.
    await until('by its name', async () => (await asks('near', 'always')) === 0);
    await must('node2', 'docker rm -f always far overFar');
    await run('node2', 'far', 'db', FAR);
    await run('node2', 'overFar', 'app', OVER_FAR);
  });

  it('that move to the other host with their address are reached at once by who had spoken to them', async () => {
    for (const [to, away] of [
      ['node2', 'node1'],
      ['node1', 'node2'],
    ] as const) {
      for (const machine of ['trunk', 'access'] as const) {
        expect(await asks(machine, NEAR)).toBe(0);
        expect(await must(machine, `ip neigh show ${NEAR}`)).toContain(MAC[away]);
      }
      await must(away, 'docker rm -f near');
      await run(to, 'near', 'web', NEAR);
      for (const machine of ['trunk', 'access'] as const) {
        expect(await pings(machine, NEAR)).toBe(true);
        expect(await must(machine, `ip neigh show ${NEAR}`)).toContain(MAC[to]);
      }
      await until('by its name', async () => (await asks('far', 'near')) === 0);
    }
  });

  it('have back what somebody takes away by hand, and lab check sees what is not there', async () => {
    const router = 'ip netns exec contiv-default';
    const takes: readonly (readonly [by: string, seen: string])[] = [
      ['tc filter del dev eth0 ingress pref 4789', 'no program contiv_vlan_in at eth0'],
      [`tc filter del dev cv${ID} ingress pref 4789`, `no program contiv_vlan_out at cv${ID}`],
      [`bridge fdb del ${MAC.node1} dev eth0`, `eth0 does not take frames for ${MAC.node1}`],
      [`${router} ip route del ${FAR}`, `no route to ${FAR} of far on node2`],
      [`${router} ip neigh del ${hostAddress(2)} dev vl${ID}`, `neighbour ${hostAddress(2)} on vl${ID} has`],
      [`${router} tc qdisc del dev vl${ID} clsact`, `no program at vl${ID}`],
      [`${router} ip link set vl${ID} mtu 1400`, `vl${ID} has MTU 1400`],
      [`${router} nft delete element inet contiv claimed { ${FAR} }`, `claimed lacks ${FAR}`],
      [`${router} nft delete element arp contiv answered { ${NEAR} }`, `answered lacks ${NEAR}`],
    ];
    const take = (): Promise<string> => must('node1', 'sh -c', takes.map(([by]) => by).join(' && '));
    await mustLab('kill netplugin node1');
    await take();
    const { out } = await check(0);
    for (const [, seen] of takes) expect(out).toContain(seen);
    await mustLab('start netplugin node1');
    expect(await differences()).toBe('');
    const said = async (device: string): Promise<number> =>
      (await mustLab('logs netplugin node1')).split(`the program of VLANs at ${device} was gone`).length;
    const devices = ['eth0', `cv${ID}`];
    const before = await Promise.all(devices.map(said));
    await take();
    for (const [i, device] of devices.entries())
      await until('the agent says so', async () => (await said(device)) > (before[i] as number));
    expect(await differences()).toBe('');
    expect(await asks('access', NEAR)).toBe(0);
  });

  describe('whoever means harm on the wire', () => {
    const EVIL = '02:aa:aa:aa:aa:aa';
    const tagged = (ids: readonly number[], payload: Buffer, type = 0x0800): Buffer => {
      const frame = ethernet(EVIL, MAC.node1, payload, { type });
      const tags = Buffer.concat(ids.flatMap((id) => [short(0x8100), short(id)]));
      return Buffer.concat([frame.subarray(0, 12), tags, frame.subarray(12)]);
    };
    const datagram = (source: string, to = NEAR): Buffer => udp(source, to, 777, 777, Buffer.from('x'));
    const send = (machine: 'trunk' | 'access', frames: readonly Buffer[]): Promise<string> =>
      must(
        machine,
        `${process.execPath} --disable-warning=ExperimentalWarning ${path.resolve('test/frames.ts')} eth0`,
        ...frames.map((frame) => frame.toString('hex')),
      );
    /** UDP datagrams that have come to the container. */
    const received = async (place: 'near' | 'overNear'): Promise<number> => {
      const { out } = await inside('node1', place, 'cat /proc/net/snmp');
      const [, counts = ''] = out.split('\n').filter((line) => line.startsWith('Udp:'));
      const [, arrived, nobody] = counts.split(' ');
      return Number(arrived) + Number(nobody);
    };
    /** Frames keep their order: the last one is an honest one, and when it has come all have that were to. */
    async function onlyTheLastArrives(machine: 'trunk' | 'access', frames: readonly Buffer[]): Promise<void> {
      const before = await received('near');
      const over = await received('overNear');
      await send(machine, frames);
      await until('the honest one', async () => (await received('near')) > before);
      expect(await received('near')).toBe(before + 1);
      expect(await received('overNear')).toBe(over);
    }

    it('gets in by neither two tags nor the tag of another VLAN, whose networks it does not reach', async () => {
      await netctl('tenant create blue');
      await netctl('net create -t blue theirs -e vlan --pkt-tag=200 --subnet=10.200.0.0/24');
      await must(
        'node1',
        'docker run -d --name=blue --net=theirs/blue --ip=10.200.0.50 --stop-signal=SIGKILL contiv/lab sleep 100000',
      );
      const honest = tagged([ID], datagram(TRUNK));
      await onlyTheLastArrives('trunk', [
        ...[[ID, ID], [200, ID], [ID, 200], [200], [], [0], [4095], [0, ID]].map((ids) =>
          tagged(ids, datagram(TRUNK)),
        ),
        tagged([200], datagram('10.200.0.201')),
        tagged([ID], datagram(TRUNK, OVER_NEAR)),
        tagged([200], datagram('10.200.0.201', OVER_NEAR)),
        tagged([ID], datagram(TRUNK, '10.200.0.50')),
        honest,
      ]);
      // What an access port takes has no tag, whatever the machine behind it says.
      await onlyTheLastArrives('access', [
        ...[[ID], [200], [ID, ID], [200, ID]].map((ids) => tagged(ids, datagram(ACCESS))),
        tagged([], datagram(ACCESS, OVER_NEAR)),
        tagged([], datagram(ACCESS)),
      ]);
      const { out } = await inside('node1', 'blue', 'cat /proc/net/snmp');
      expect(out.split('\n').filter((line) => line.startsWith('Udp:'))[1]).toMatch(/^Udp: 0 0 /);
      expect(await differences()).toBe('');
      await must('node1', 'docker rm -f blue');
      await netctl('net rm -t blue theirs');
      await netctl('tenant rm blue');
    });

    it('gets in by no address of ours, of another network, of a gateway or of outside', async () => {
      const lies = [
        NEAR,
        FAR,
        at(254),
        OVER_NEAR,
        OVER_FAR,
        '20.1.1.254',
        '169.254.53.53',
        '127.0.0.1',
        '8.8.8.8',
      ];
      await onlyTheLastArrives('access', [
        ...[...lies, hostAddress(1), '0.0.0.0', '255.255.255.255', '224.0.0.1'].map((source) =>
          tagged([], datagram(source)),
        ),
        tagged([], datagram(ACCESS)),
      ]);
    });

    it('takes no address over by ARP, and containers go on to reach each other', async () => {
      const neighbours = (): Promise<string> =>
        must('node1', 'sh -c', 'ip -n contiv-default neigh show nud permanent | sort');
      const before = await neighbours();
      const to = { mac: MAC.node1, address: NEAR };
      await send(
        'access',
        [NEAR, FAR, at(254), OVER_NEAR, OVER_FAR, '169.254.53.53'].flatMap((address) =>
          ([1, 2] as const).map((operation) =>
            tagged([], arp(operation, { mac: EVIL, address }, to), 0x0806),
          ),
        ),
      );
      expect(await asks('far', NEAR)).toBe(0);
      expect(await asks('near', FAR)).toBe(0);
      expect(await asks('overNear', FAR)).toBe(0);
      expect(await neighbours()).toBe(before);
      expect(await must('node1', `ip -n contiv-default neigh show dev vl${ID}`)).not.toContain(EVIL);
    });
  });
});

it('with the last VLAN network everything goes that was its own', async () => {
  for (const host of ['node1', 'node2'])
    await until('nothing is left', async () => {
      const links = await must(host, 'ip -o link');
      const filters = await must(host, 'tc filter show dev eth0 ingress');
      const macs = await must(host, 'bridge fdb show dev eth0');
      return !/ cv\d/.test(links) && !filters.includes('contiv') && !macs.includes('02:ce:');
    });
});

describe('an infra network', () => {
  describe('in the guide', () => {
    const guide = typing('docs/guide/vlan.md');

    it('has the hosts on the VLAN', () => guide('hosts'));
  });

  it('has an address of each host on the wire: hosts, machines and containers of the whole tenant reach each other', async () => {
    await netctl(`net create -n infra hosts -e vlan --pkt-tag=${ID} --subnet=${at(10)}-${at(99)}/24`);
    await netctl('net create over --subnet=20.1.1.0/24 --gateway=20.1.1.254');
    const nodes = ['node1', 'node2'] as const;
    const addresses: string[] = [];
    for (const host of nodes)
      addresses.push(
        await until(`address of ${host}`, async () => {
          const [, found] = /inet (10\.100\.0\.\d+)\/32/.exec(await must(host, 'ip -o -4 addr')) ?? [];
          return found;
        }),
      );
    const [one, two] = addresses as [string, string];
    expect(one).not.toBe(two);
    expect((await must('node1', "docker network ls --format '{{.Name}}'")).split('\n')).not.toContain(
      'hosts',
    );
    await run('node1', 'overNear', 'over', OVER_NEAR);
    await run('node2', 'overFar', 'over', OVER_FAR);
    const reaches = (place: string, target: string): Promise<unknown> =>
      until(
        `${place} to ${target}`,
        async () => (await on(place, `busybox ping -c 1 -W 2 ${target}`)).status === 0,
      );
    for (const host of nodes)
      for (const target of [one, two, TRUNK, ACCESS, OVER_NEAR, OVER_FAR]) await reaches(host, target);
    for (const machine of ['trunk', 'access'])
      for (const target of [one, two]) await reaches(machine, target);
    for (const target of [one, two])
      for (const place of ['overNear', 'overFar'] as const)
        await until(`${place} to ${target}`, () => pings(place, target));
    expect(await must('access', `ip neigh show ${one}`)).toContain(MAC.node1);
    expect(await must('access', `ip neigh show ${two}`)).toContain(MAC.node2);
    // A server of the host's at its address, and one of a machine's; what is closed to containers is closed to machines.
    const server = background('node2', `busybox httpd -f -p ${two}:7777 -h /run/contiv`);
    const status = async (place: string, url: string): Promise<string> =>
      (await on(place, `curl -sk -m 3 -o /dev/null -w %{http_code} ${url}`)).out.trim();
    for (const place of ['access', 'trunk', 'node1'])
      await until('the server', async () => (await status(place, `http://${two}:7777/`)) === '404');
    await server.end();
    await until('the machine', async () => (await status('node1', `http://${ACCESS}/`)) === '200');
    expect(await status('access', `https://${one}:9999/`)).toBe('000');
    // A machine is in its network, and no further.
    await must('access', `ip route add 20.1.1.0/24 via ${one} dev eth0`);
    expect(await asks('access', OVER_NEAR)).toBe(28);
    await must('access', 'ip route del 20.1.1.0/24');
    expect(await differences()).toBe('');
    await clear();
    for (const host of nodes)
      await until('the address goes', async () => !(await must(host, 'ip -o -4 addr')).includes('10.100.0.'));
  });
});

describe('a network whose gateway is a router of the fabric', () => {
  const guide = typing('docs/guide/vlan.md');

  it('has containers outside by that router, with their own addresses', async () => {
    await guide('a router of the fabric');
    const site = at(52);
    await netctl('net create over --subnet=20.1.1.0/24 --gateway=20.1.1.254');
    await run('node2', 'overFar', 'over', OVER_FAR);
    // Who is asked sees the container itself, and it is reached from there.
    const seen = background('trunk', `tcpdump -Z root -lni lan icmp and host ${BEHIND_TRUNK[4]}`);
    await until('a ping with its own address', async () => {
      await inside('node1', 'site', `ping -c 1 -W 2 ${BEHIND_TRUNK[4]}`);
      return seen.lines.some((line) => line.includes(`IP ${site} > ${BEHIND_TRUNK[4]}`));
    });
    await seen.end();
    const by = (interfaceOrAddress: string): Promise<Ended> =>
      on('trunk', `curl -s -m 2 -o /dev/null --interface ${interfaceOrAddress} http://${site}/`);
    expect((await by(BEHIND_TRUNK[4])).status).toBe(0);
    // The tenant's other networks are reached as before, and what they have outside is the host's.
    const asks = async (host: string, name: string, target: string): Promise<number> =>
      (await inside(host, name, `curl -s -m 2 -o /dev/null http://${target}/`)).status;
    await expect.poll(() => asks('node1', 'site', 'overFar.over')).toBe(0);
    await expect.poll(() => asks('node2', 'overFar', site)).toBe(0);
    expect((await inside('node2', 'overFar', `ping -c 1 -W 1 ${BEHIND_TRUNK[4]}`)).status).not.toBe(0);
    // Another machine is not who it says.
    await must('access', `ip addr add ${BEHIND_TRUNK[4]}/32 dev lo`);
    expect((await on('access', `curl -s -m 2 --interface ${BEHIND_TRUNK[4]} http://${site}/`)).status).toBe(
      28,
    );
    await must('access', `ip addr del ${BEHIND_TRUNK[4]}/32 dev lo`);
    expect(await netctl(`policy trace --from=site --to=${BEHIND_TRUNK[4]} --port=80`)).toContain(
      `by way of ${TRUNK}, the fabric's gateway of network routed, with the container's address`,
    );
    await until('nothing is wrong', async () => (await on('node1', 'netctl status')).status === 0);
  });
});
