/**
 * Groups with VLANs of their own, as in an ACI fabric: two groups of one network on two hosts, and a machine, on a segment that joins their
 * VLANs as such a fabric's bridge domain does. The switch's ports to both hosts have a device for each VLAN, all in one bridge, and the machine `trunk`
 * has an untagged port of it.
 */
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { switchOf } from '../lab/hosts.ts';
import { hostAddress, networkNamespace } from '../lab/state.ts';
import { tagMac, vtepMac } from '../src/netplugin/compile/deviceNames.ts';
import { FABRIC_LAB, openFabric } from './fabric.ts';
import { sh } from './isolation.ts';
import { type Ended, until } from './lab.ts';

const { mustLab, on, must, netctl, background, serving: run, inside, clear } = openFabric();

const NETWORK = 110;
const VLAN = { web: 0x1f4, db: 112 } as const;
const at = (n: number): string => `10.110.0.${n}`;
const six = (rest: number): string => `fd00:110::${rest}`;
const PORT = 'joined';
/** Everybody with his host and his group; the machine has none. */
const PLACES = {
  nearWeb: { host: 'node1', group: 'web', n: 51 },
  nearDb: { host: 'node1', group: 'db', n: 52 },
  farWeb: { host: 'node2', group: 'web', n: 53 },
  farDb: { host: 'node2', group: 'db', n: 54 },
} as const;
type Place = keyof typeof PLACES;
const ALL = Object.keys(PLACES) as Place[];
const MACHINE = 203;

const inSwitch = (command: string): string => sh(`ip netns exec ${switchOf(FABRIC_LAB)} ${command}`);
const ENDS = ['node1', 'node2'].flatMap((host, i) =>
  Object.values(VLAN).map((id) => ({ port: `w-${host}`, name: `j${i + 1}-${id}`, id })),
);

function join(): void {
  inSwitch('ip link add br1 type bridge');
  inSwitch('ip link set br1 up');
  for (const { port, name, id } of ENDS) {
    inSwitch(`${process.execPath} ${path.resolve('lab/tagging.ts')} ${port} ${name} ${id}`);
    inSwitch(`ip link set ${name} master br1`);
  }
  inSwitch(
    `ip link add ${PORT}-port type veth peer name ${PORT} netns ${networkNamespace(FABRIC_LAB, 'trunk')}`,
  );
  inSwitch(`ip link set ${PORT}-port master br1 up`);
}
function part(): void {
  for (const { port, name, id } of ENDS) {
    inSwitch(`tc filter del dev ${port} ingress pref ${id}`);
    inSwitch(`ip link del ${name}`);
    inSwitch(`ip link set ${port} promisc off`);
  }
  inSwitch(`ip link del ${PORT}-port`);
  inSwitch('ip link del br1');
}

const from = (place: Place | 'machine', line: string): Promise<Ended> =>
  place === 'machine' ? on('trunk', line) : inside(PLACES[place].host, place, line);
const asks = async (place: Place | 'machine', target: string): Promise<number> =>
  (await from(place, `curl -s -m 2 -o /dev/null http://${target.includes(':') ? `[${target}]` : target}/`))
    .status;

beforeAll(async () => {
  join();
  await must('trunk', `ip link set ${PORT} up`);
  await must('trunk', `ip addr add ${at(MACHINE)}/24 dev ${PORT}`);
  await must('trunk', `ip addr add ${six(MACHINE)}/64 dev ${PORT} nodad`);
  await netctl('global set --fabric-mode=aci');
  await netctl(
    `net create joined -e vlan --pkt-tag=${NETWORK} --subnet=${at(10)}-${at(99)}/24 --gateway=${at(254)} --subnetv6=${six(0)}/64 --gatewayv6=${six(254)}`,
  );
  for (const group of ['web', 'db'] as const) {
    await netctl(`policy create for-${group}`);
    await netctl(`group create joined ${group} --pkt-tag=${VLAN[group]} -policy=for-${group}`);
  }
  await Promise.all(ALL.map((name) => run(PLACES[name].host, name, PLACES[name].group, at(PLACES[name].n))));
  await until('the machine', async () =>
    (await Promise.all(ALL.map((name) => asks('machine', at(PLACES[name].n))))).every((s) => s === 0),
  );
}, 120_000);
afterAll(async () => {
  await clear();
  await netctl('global set --fabric-mode=default');
  part();
  await mustLab('check --wait 60');
});

describe('groups of one network with VLANs of their own', () => {
  /** Of a container, by its runtime. */
  const addressesOf = async (place: Place): Promise<string[]> => {
    const out = await must(PLACES[place].host, `docker exec ${place} ip -o addr show dev eth0 scope global`);
    return [...out.matchAll(/inet6? ([^/]+)/g)].map(([, address]) => address as string);
  };

  it('reach each other and a machine, on one host and between hosts, by IPv4 and IPv6', async () => {
    for (const place of ALL)
      for (const other of ALL.filter((o) => o !== place))
        for (const address of await addressesOf(other))
          expect([place, address, await asks(place, address)]).toEqual([place, address, 0]);
    for (const place of ALL)
      for (const address of await addressesOf(place))
        expect([place, address, await asks('machine', address)]).toEqual([place, address, 0]);
    // The machine answers pings: nobody serves there by both versions.
    for (const place of ALL)
      for (const address of [at(MACHINE), six(MACHINE)])
        expect((await from(place, `ping -c 1 -W 5 ${address}`)).status).toBe(0);
  });

  it('are on the wire by their group’s VLAN, in both directions, and by no other', async () => {
    const sees = background('node1', `tcpdump -Z root -lnnei eth0 'vlan and icmp'`);
    const [web, db] = [at(PLACES.nearWeb.n), at(PLACES.nearDb.n)];
    const frames = (words: string): string[] => sees.lines.filter((line) => line.includes(words));
    const far = at(PLACES.farDb.n);
    await until('frames', async () => {
      for (const place of ['nearWeb', 'nearDb'] as const)
        for (const target of [far, at(MACHINE)]) await from(place, `ping -c 1 -W 2 ${target}`);
      return [web, db].every((own) =>
        [far, at(MACHINE)].every(
          (other) =>
            frames(`${own} > ${other}: ICMP echo request`).length > 0 &&
            frames(`${other} > ${own}: ICMP echo reply`).length > 0,
        ),
      );
    });
    await sees.end();
    for (const [own, id] of [
      [web, VLAN.web],
      [db, VLAN.db],
    ] as const) {
      const mac = tagMac(hostAddress(1), id);
      for (const line of [...frames(`${own} > `), ...frames(` > ${own}: `)]) {
        expect(line).toContain(`vlan ${id},`);
        expect(line).toContain(mac);
      }
    }
    expect(sees.lines.filter((line) => line.includes(`vlan ${NETWORK},`))).toEqual([]);
    // The other host's is of its own group's, whoever asks.
    for (const line of frames(`${far} > ${web}`)) expect(line).toContain(tagMac(hostAddress(2), VLAN.db));
    const known = await must('trunk', `ip neigh show dev ${PORT}`);
    for (const { host, group, n } of Object.values(PLACES))
      expect(known).toContain(
        `${at(n)} lladdr ${tagMac(hostAddress(host === 'node1' ? 1 : 2), VLAN[group])}`,
      );
    expect(known).not.toContain(vtepMac(hostAddress(1)));
  });

  it('are reached from the tenant’s other networks, of encapsulation vxlan and vlan, on one host and between hosts', async () => {
    await netctl('net create over --subnet=20.1.1.0/24 --gateway=20.1.1.254');
    await netctl('net create beside -e vlan --pkt-tag=120 --subnet=10.120.0.0/24 --gateway=10.120.0.254');
    await netctl('group create beside app --pkt-tag=121');
    await Promise.all([
      run('node1', 'overNear', 'over', '20.1.1.51'),
      run('node1', 'besideNear', 'app', '10.120.0.51'),
    ]);
    for (const name of ['overNear', 'besideNear'])
      for (const place of ['nearDb', 'farWeb', 'farDb'] as const) {
        const ping = await inside('node1', name, `ping -c 1 -W 5 ${at(PLACES[place].n)}`);
        expect([name, place, ping.status]).toEqual([name, place, 0]);
      }
    await must('node1', 'docker rm -f overNear besideNear');
    for (const what of ['group rm app', 'net rm beside', 'net rm over']) await netctl(what);
  });

  it('are judged by our own policy too', async () => {
    await netctl(
      'policy rule-add for-db 1 -direction=in -from-group=web -protocol=tcp -port=80 -action=deny',
    );
    for (const db of ['nearDb', 'farDb'] as const) {
      expect(await asks('nearWeb', at(PLACES[db].n))).toBe(28);
      expect(await asks('machine', at(PLACES[db].n))).toBe(0);
    }
    expect(await asks('nearDb', at(PLACES.farDb.n))).toBe(0);
    await netctl('policy rule-rm for-db 1');
    expect(await asks('nearWeb', at(PLACES.farDb.n))).toBe(0);
  });

  it('have them after netmaster and an agent were killed, show them, and keep the mode', async () => {
    await mustLab('kill netplugin node1');
    await mustLab('kill netmaster');
    await mustLab('start netmaster');
    await mustLab('start netplugin node1');
    await until('netmaster', async () => (await on('node1', 'netctl', 'group', 'ls')).status === 0);
    const { Oper } = JSON.parse(await netctl('group inspect web')) as { Oper: { pktTag: number } };
    expect(Oper.pktTag).toBe(VLAN.web);
    expect(await netctl('group ls --wide')).toMatch(/\bpktTag\b/);
    expect(await netctl('global inspect')).toContain('"vlansInUse": "110, 112, 500"');
    expect(await asks('farDb', at(PLACES.nearWeb.n))).toBe(0);
    expect(await on('node1', 'netctl', 'global', 'set', '--fabric-mode=default')).toMatchObject({
      status: 3,
      err: expect.stringMatching(
        /networkInfraType is aci and cannot change to default while 2 groups have VLANs of their own by it, as group default:(web has 500|db has 112): delete them first/,
      ),
    });
  });
});
