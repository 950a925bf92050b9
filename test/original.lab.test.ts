/**
 * The cases of 1.x's system tests with networks of encap vlan, in routing mode with BGP, and those of BGP itself that bgp.lab.test.ts does not have: each with its
 * name there and what it expects, on one network where each of theirs makes its own. Not here: hosts in infra networks of encap vlan
 * (vlan.lab.test.ts); loopback interfaces as --router-ip's, as no interface is made for it.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openFabric } from './fabric.ts';
import { until } from './lab.ts';

const { mustLab, on, must, netctl, inside, serving, clear } = openFabric();

const NODES = ['node1', 'node2'] as const;
type Node = (typeof NODES)[number];
const [TOR, BEYOND] = ['192.168.50.2', '198.18.0.10'];
/** What the router takes (docs/guide/bgp-router.conf). */
const at = (n: number): string => `20.8.0.${n}`;
/** By name: where it runs, and its address. */
const CONTAINERS = { one: ['node1', at(51)], two: ['node2', at(52)], three: ['node1', at(53)] } as const;
type Name = keyof typeof CONTAINERS;
const NAMES = Object.keys(CONTAINERS) as Name[];

const speak = (node: Node, neighbor = TOR): Promise<string> => {
  const n = NODES.indexOf(node) + 1;
  return netctl(
    `bgp create ${node} --router-ip=192.168.50.${10 + n}/24 --as=${65000 + n} --neighbor=${neighbor} --neighbor-as=65000`,
  );
};
const start = (name: Name, network = 'private'): Promise<string> =>
  serving(CONTAINERS[name][0], name, network, CONTAINERS[name][1]);
const remove = (...names: Name[]): Promise<string[]> =>
  Promise.all(names.map((name) => must(CONTAINERS[name][0], `docker rm -f ${name}`)));
const status = async (name: Name, line: string): Promise<number> =>
  (await inside(CONTAINERS[name][0], name, line)).status;
const pings = (name: Name, target: string): Promise<number> => status(name, `ping -c 1 -W 2 ${target}`);
/** 0: an answer, 28: none in time. */
const connects = (name: Name, target: string): Promise<number> =>
  status(name, `curl -s -m 2 -o /dev/null http://${target}/`);
const pingTest = async (...names: Name[]): Promise<void> => {
  for (const name of names)
    for (const other of names.filter((o) => o !== name))
      expect([name, other, await pings(name, CONTAINERS[other][1])]).toEqual([name, other, 0]);
};
const routed = async (): Promise<string[]> =>
  (await must('tor', 'ip -4 -j route show proto bgp'))
    .split('"dst":"')
    .slice(1)
    .map((part) => part.split('"')[0] as string)
    .sort();
/** CheckBgpRouteDistribution */
const distributed = (...names: Name[]): Promise<true> =>
  until(
    `routes of ${names.join()}`,
    async () => (await routed()).join() === names.map((name) => CONTAINERS[name][1]).join(),
  );

beforeAll(async () => {
  await Promise.all(NODES.map((node) => speak(node)));
  await netctl(
    `net create private -e vlan --pkt-tag=10 --subnet=${at(10)}-${at(99)}/24 --gateway=${at(254)} --advertise`,
  );
});
afterAll(clear);

it('TestBasicStartRemoveContainerVLAN, TestNetworkAddDeleteVLAN, TestBgpContainerToContainerPing', async () => {
  await Promise.all(NAMES.map((name) => start(name)));
  await distributed(...NAMES);
  await pingTest(...NAMES);
  expect(await netctl('net inspect private')).toContain('"pktTag": 10');
  await remove(...NAMES);
  await distributed();
});

it('TestBasicStartStopContainerVLAN, TestBgpTriggerContainerAddDelete', async () => {
  await Promise.all(NAMES.map((name) => start(name)));
  for (const how of ['stop', 'start'] as const) {
    await Promise.all(NAMES.map((name) => must(CONTAINERS[name][0], `docker ${how} ${name}`)));
    await distributed(...(how === 'stop' ? [] : NAMES));
  }
  await pingTest(...NAMES);
});

it('TestBgpContainerToNonContainerPing', async () => {
  for (const name of NAMES) await until(`${name} to beyond`, async () => (await pings(name, BEYOND)) === 0);
  for (const name of NAMES) {
    const ping = `busybox ping -c 1 -W 2 ${CONTAINERS[name][1]}`;
    expect([name, (await on('beyond', ping)).status]).toEqual([name, 0]);
  }
});

it('TestBgpTriggerNetmasterRestart, TestBgpTriggerNetpluginRestart', async () => {
  await mustLab('kill netmaster node1');
  await mustLab('start netmaster node1');
  await mustLab('stop netplugin node2');
  await mustLab('start netplugin node2');
  await distributed(...NAMES);
  await pingTest('one', 'two');
});

it('TestBgpMisconfigRecovery, TestBgpTriggerPeerAddDelete', async () => {
  await netctl('bgp rm node2');
  await distributed('one', 'three');
  await speak('node2', '192.168.50.77');
  expect(await routed()).toEqual([at(51), at(53)]);
  await netctl('bgp rm node2');
  await speak('node2');
  await distributed(...NAMES);
  await remove(...NAMES);
});

describe('with groups', () => {
  beforeAll(async () => {
    for (const policy of ['first', 'second']) await netctl(`policy create ${policy}`);
    await netctl('group create private srv1 -policy=first');
    await netctl('group create private srv2 -policy=second');
    await netctl('net create dummy -e vlan --pkt-tag=20 --subnet=20.1.0.0/16 --gateway=20.1.1.254');
    await Promise.all([start('one', 'srv1'), start('two', 'srv2'), start('three', 'srv2')]);
  });

  it('TestBasicSvcDiscoveryVLAN', async () => {
    for (const name of NAMES)
      for (const group of ['srv1', 'srv2'])
        await until(`${name} to reach ${group}`, async () => (await pings(name, group)) === 0);
  });

  it('TestPolicyBasicVLAN, TestPolicyAddDeleteRuleVLAN, TestPolicyFromEPGVLAN, TestPolicyFeaturesVLAN', async () => {
    const rule = (line: string): Promise<string> => netctl(`policy rule-add first ${line} -protocol=tcp`);
    const unrule = (id: string): Promise<string> => netctl(`policy rule-rm first ${id}`);
    const asked = async (): Promise<number> => connects('two', at(51));
    expect(await asked()).toBe(0);
    await rule('1 -direction=in -action=deny');
    expect(await asked()).toBe(28);
    await rule('2 -direction=in -port=80 -priority=100 -action=allow');
    expect(await asked()).toBe(0);
    await unrule('2');
    await rule('3 -direction=in -from-group=srv2 -port=80 -priority=100 -action=allow');
    expect(await asked()).toBe(0);
    await unrule('3');
    expect(await asked()).toBe(28);
    await rule('3 -direction=in -from-network=private -priority=10 -action=allow');
    await rule('4 -direction=in -from-network=dummy -priority=100 -action=deny');
    expect(await asked()).toBe(0);
    await unrule('3');
    await unrule('4');
    expect(await asked()).toBe(28);
    await rule(`3 -direction=in -from-ip-address=${at(52)} -priority=10 -action=allow`);
    expect([await asked(), await connects('three', at(51))]).toEqual([0, 28]);
    for (const id of ['1', '3']) await unrule(id);
    expect(await asked()).toBe(0);
  });

  it('TestServiceAddDeleteServiceVlan, TestServiceAddDeleteProvidersVlan', async () => {
    await netctl('service create svc --network=private --selector=key=value --port=80:80:TCP');
    const provider = (n: number): Promise<string> =>
      serving(NODES[n % 2] as Node, `provider${n}`, 'private', at(60 + n), '-l', 'key=value');
    const served = (): Promise<true> =>
      until('the service', async () =>
        (await Promise.all(NAMES.map((name) => connects(name, 'svc')))).every((s) => s === 0),
      );
    await Promise.all([provider(0), provider(1)]);
    await served();
    await must('node1', 'docker rm -f provider0');
    await served();
    await netctl('service rm svc');
    expect(await connects('one', 'svc')).toBe(6);
    await must('node2', 'docker rm -f provider1');
  });
});

it('TestNetworkAddDeleteNoGatewayVLAN, TestNetworkAddDeleteTenantVLAN', async () => {
  await netctl('tenant create tenant0');
  await netctl('net create -t tenant0 net0 -e vlan --pkt-tag=1000 --subnet=10.0.0.50-10.0.0.99/24');
  const sleeping = (host: Node, n: number): Promise<string> =>
    must(
      host,
      `docker run -d --name=t${n}x --net=net0/tenant0 --ip=10.0.0.${90 + n} --stop-signal=SIGKILL contiv/lab sleep 100000`,
    );
  await Promise.all([sleeping('node1', 1), sleeping('node2', 2)]);
  for (const [host, n] of [
    ['node1', 1],
    ['node2', 2],
  ] as const) {
    expect((await inside(host, `t${n}x`, `ping -c 1 -W 2 10.0.0.${93 - n}`)).status).toBe(0);
    // Another tenant's.
    expect((await inside(host, `t${n}x`, `ping -c 1 -W 1 ${at(51)}`)).status).not.toBe(0);
  }
  await Promise.all([must('node1', 'docker rm -f t1x'), must('node2', 'docker rm -f t2x')]);
  await netctl('net rm -t tenant0 net0');
  await netctl('tenant rm tenant0');
});
