import path from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { applied, clean, inRouter, LOCAL, port, state } from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { ethernet, tcpSyn, udp } from '../../../../test/packet.ts';
import { localHost, simulate, viewOf } from '../../../../test/policySimulator.ts';
import { packetsOf, worldOf } from '../../../../test/policyWorlds.ts';
import { probe } from '../../../../test/probe.ts';
import { NETLINK_NETFILTER, openNetlink } from '../../../linux/netlink.ts';
import { createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { openNft } from '../../../linux/nftables.ts';
import { judge } from '../../../model/verdict.ts';
import { compile } from '../../compile/compile.ts';
import { NAMESERVER } from '../../constants.ts';
import { openTally } from '../../intent/flows.ts';
import { openMetrics } from '../../metrics.ts';
import type { Decision, RuleSet } from '../../state.ts';
import { type Applier, openApplier } from '../applier.ts';
import { routerTable } from '../rules/router.ts';
import { createCommands } from '../rules/table.ts';
import { type JudgedPacket, lookUp, type Observation } from './observe.ts';

const FRAMES = path.join(import.meta.dirname, '../../../../test/frames.ts');

beforeAll(isolate);
afterEach(clean);

describe('lookUp', () => {
  it('says for generated worlds what the oracle and the simulated chains say, and by which rule', () => {
    const nft = openNft();
    const netfilter = openNetlink(NETLINK_NETFILTER);
    let denied = 0;
    let decided = 0;
    let asked = 0;
    for (let i = 0; i < 150; i++) {
      const seed = 1_000_000 + i * 7919;
      const world = worldOf(seed);
      const simulator = simulate(world);
      const sides = packetsOf(world, seed, 30).flatMap((packet) => {
        const oracle = judge(world, packet);
        const simulated = simulator.judge(packet);
        const { protocol, port: to } = packet;
        const service = { protocol, ...(to === undefined ? {} : { port: to }) };
        return (['out', 'in'] as const).map((direction) => {
          const [own, peer] = direction === 'in' ? [packet.to, packet.from] : [packet.from, packet.to];
          return {
            host: world.endpoints.find((e) => e.ipAddress.includes(own))?.homingHost,
            question: { direction, own, peer, ...service },
            verdict: oracle[direction].verdict,
            rule: simulated[direction],
          };
        });
      });
      for (const host of ['node1', 'node2']) {
        const router = compile(viewOf(world), localHost(world, host)).routers[0];
        if (router === undefined) continue;
        nft.run(createCommands(routerTable(router, undefined)));
        for (const { question, verdict, rule } of sides.filter((s) => s.host === host)) {
          const found = lookUp(netfilter, question);
          const key = router.ruleSets
            .find((s) => s.id === found.ruleSet)
            ?.decisions.find((d) => d.rule === found.rule)?.key;
          expect({ verdict: found.denied ? 'deny' : 'allow', rule: key ?? '' }, `${seed} ${host}`).toEqual({
            verdict,
            rule,
          });
          asked++;
          if (rule !== '') decided++;
          if (verdict === 'deny') denied++;
        }
      }
    }
    expect({ asked: asked > 2500, decided: decided > 1000, denied: denied > 500 }).toEqual({
      asked: true,
      decided: true,
      denied: true,
    });
    netfilter.close();
    nft.close();
  });
});

const RULES: RuleSet = {
  id: 7,
  name: 'in default: prod_web',
  narrowed: [],
  decisions: [
    { group: 0, protocol: 6, port: 80, rule: 2, action: 'allow', key: 'default:prod_web:2' },
    { group: 0, protocol: 6, rule: 1, action: 'deny', key: 'default:prod_web:1' },
  ],
};
const box = (address: string): string => namespacePath(`box-${address.split('.')[3]}`);
const two = (ruleSets: readonly RuleSet[], joined: boolean) =>
  state({
    ports: [port(2, { judgedIn: ruleSets.length === 0 ? 0 : 7, joined }), port(3, { joined })],
    ruleSets,
  });

/** Containers .2, which is judged, and .3. */
function start() {
  const applier = openApplier();
  applied(applier, two([RULES], false));
  for (const { peer, addresses } of two([RULES], false).routers[0]?.ports ?? []) {
    const [address = ''] = addresses;
    const name = box(address).split('/').at(-1) as string;
    createNamespace(name);
    sh(`ip link set ${peer} netns ${name} name eth0`);
    inNamespace(box(address), () => {
      sh(`ip link set lo up; ip link set eth0 up; ip addr add ${address}/32 dev eth0`);
      sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
    });
  }
  applied(applier, two([RULES], true));
  return applier;
}

const tcp = (to: number) => ({ from: '20.1.1.3', to: '20.1.1.2', protocol: 6, port: to });
/** One connection to each port; what was denied is sent once more after a second by TCP. */
const connect = (...ports: number[]): Promise<boolean[]> => probe(ports.map(tcp), box, 300);

const counted = (observation: Observation | undefined, rule: number): number =>
  observation?.hits.find((h) => h.rule === rule)?.packets ?? 0;

/** The kernel gathers what is logged for a moment: observes until there is enough; all that was denied, the last counts. */
async function observed(applier: Applier, enough: (all: Observation) => boolean): Promise<Observation> {
  const denied: JudgedPacket[] = [];
  const allowed: JudgedPacket[] = [];
  for (let i = 0; ; i++) {
    const [last] = applier.observe();
    denied.push(...(last?.denied ?? []));
    allowed.push(...(last?.allowed ?? []));
    const all = { ...(last as Observation), denied, allowed };
    if (enough(all) || i === 200) return all;
    await new Promise((done) => setTimeout(done, 50));
  }
}

describe('observe', () => {
  it('counts what each rule decided, and hands over each denied packet once', async () => {
    const applier = start();
    expect(applier.observe()).toMatchObject([{ namespace: 'contiv-default', hits: [], denied: [] }]);
    expect(await connect(80, 80, 80, 22, 443)).toEqual([true, true, true, false, false]);
    const first = await observed(applier, (all) => all.denied.length >= counted(all, 1));
    expect(counted(first, 2)).toBe(3);
    expect(counted(first, 1)).toBeGreaterThanOrEqual(2);
    expect(first.denied).toHaveLength(counted(first, 1));
    const common = { direction: 'in', rule: 1, from: '20.1.1.3', to: '20.1.1.2', protocol: 6 };
    expect(first.denied).toEqual(expect.arrayContaining([22, 443].map((p) => ({ ...common, port: p }))));
    const [second] = applier.observe();
    expect(second).toEqual({ ...first, denied: [] });
  });

  it('goes on over changes of elements, and says when the table was made anew', async () => {
    const applier = start();
    await connect(80);
    const [before] = applier.observe();
    expect(before?.hits).toMatchObject([{ ruleSet: 7, rule: 2, packets: 1 }]);
    const [first, second] = RULES.decisions;
    const other = { ...RULES, decisions: [first, { ...second, action: 'allow' }] } as RuleSet;
    applied(applier, two([other], true));
    await connect(80);
    const [same] = applier.observe();
    expect(same).toMatchObject({ table: before?.table, hits: [{ ruleSet: 7, rule: 2, packets: 2 }] });
    inRouter('nft delete table inet contiv');
    expect(applier.observe()).toMatchObject([{ hits: [] }]);
    applied(applier, two([other], true), true);
    await connect(80);
    const [anew] = applier.observe();
    expect(anew?.hits).toMatchObject([{ ruleSet: 7, rule: 2, packets: 1 }]);
    expect(anew?.table).not.toBe(before?.table);
  });

  it('asks nothing of routers without rule sets', () => {
    const applier = openApplier();
    applied(applier, two([], false));
    expect(applier.observe()).toEqual([]);
  });

  it('hands over what a rule allows that is to be logged, beside what is denied, and drops none of it', async () => {
    const applier = start();
    const [allow, deny] = RULES.decisions as [Decision, Decision];
    const other: Decision = { ...allow, port: 81, rule: 3, key: 'default:prod_web:3' };
    const logging: RuleSet = { ...RULES, decisions: [{ ...allow, log: true }, other, deny], logs: true };
    applied(applier, two([logging], true));
    expect(await connect(80, 81, 80, 22)).toEqual([true, true, true, false]);
    const seen = await observed(applier, (all) => all.denied.length >= 1);
    expect(seen.allowed).toEqual(
      [1, 2].map(() => ({
        direction: 'in',
        rule: 2,
        from: '20.1.1.3',
        to: '20.1.1.2',
        protocol: 6,
        port: 80,
      })),
    );
    expect(new Set(seen.denied.map((d) => d.port))).toEqual(new Set([22]));
    expect(applier.apply(two([logging], true), { verify: true })).toMatchObject({ repaired: [], writes: 0 });
    // A flood passes in full, and is logged in part.
    const ports = Array.from({ length: 100 }, () => 80);
    // Of ports of its own each: from a port whose connection was reset within ten seconds, the kernel takes the next for that same connection.
    for (const range of ['20000 20999', '21000 21999']) {
      inNamespace(box('20.1.1.3'), () => sh(`sysctl -qw net.ipv4.ip_local_port_range="${range}"`));
      expect(await connect(...ports)).toEqual(ports.map(() => true));
    }
    const flood = await observed(applier, (all) => all.allowed.length >= 48);
    expect(counted(flood, 2)).toBe(202);
    expect(flood.allowed.length).toBeLessThan(200);
    // Without such a rule the table is as it was.
    applied(applier, two([RULES], true));
    expect(inRouter('nft list table inet contiv')).not.toContain('logged');
  });

  it('a flood of denied packets is counted in full and logged in part', async () => {
    const applier = start();
    for (let i = 0; i < 4; i++) await connect(...Array.from({ length: 100 }, (_, n) => 1000 + n));
    const seen = await observed(applier, (all) => all.denied.length >= 50);
    expect(counted(seen, 1)).toBeGreaterThanOrEqual(400);
    expect(seen.denied.length).toBeGreaterThanOrEqual(50);
    expect(seen.denied.length).toBeLessThan(counted(seen, 1));
  });
});

describe('what a container sends', () => {
  const send = (n: number, ...frames: Buffer[]): void =>
    void inNamespace(namespacePath(`box-${n}`), () =>
      sh(`${process.execPath} ${FRAMES} eth0 ${frames.map((f) => f.toString('hex')).join(' ')}`),
    );
  const routerMac = (n: number): string =>
    /link\/ether (\S+)/.exec(inRouter(`ip -o link show ${port(n).device}`))?.[1] as string;

  it('from addresses that are not its own is counted for it, with the newest sender', async () => {
    const applier = start();
    const from = { mac: '02:00:00:00:00:77', to: routerMac(3) };
    const frame = (address: string): Buffer =>
      ethernet(from.mac, from.to, udp(address, '20.1.1.2', 1000, 80, Buffer.alloc(4)));
    send(3, ...['20.1.1.76', '20.1.1.77', '20.1.1.78'].map(frame));
    const foreign: Observation['foreign'][number][] = [];
    for (let i = 0; i < 200 && foreign.length < 3; i++) {
      foreign.push(...(applier.observe()[0]?.foreign ?? []));
      await new Promise((done) => setTimeout(done, 50));
    }
    const { device } = port(3);
    expect(foreign).toEqual(
      ['20.1.1.76', '20.1.1.77', '20.1.1.78'].map((address) => ({ device, address, mac: from.mac })),
    );
    expect(applier.observe()).toMatchObject([{ refused: [{ device, reason: 'source', packets: 3 }] }]);
  });

  it('and is denied does not hide what is denied of others, however much it is', async () => {
    const applier = openApplier();
    const ports = [port(2, { judgedIn: 7 }), port(3), port(4)];
    const given = (joined: boolean) =>
      state({ ports: ports.map((p) => ({ ...p, joined })), ruleSets: [RULES], remotes: [] });
    applied(applier, given(false));
    for (const { peer, addresses } of ports) {
      const [address = ''] = addresses;
      const name = box(address).split('/').at(-1) as string;
      createNamespace(name);
      sh(`ip link set ${peer} netns ${name} name eth0`);
      inNamespace(box(address), () => sh(`ip link set eth0 up; ip addr add ${address}/32 dev eth0`));
    }
    applied(applier, given(true));
    const syn = (n: number, to: number): Buffer =>
      ethernet(port(n).mac, routerMac(n), tcpSyn(`20.1.1.${n}`, '20.1.1.2', 40_000, to));
    send(3, ...Array.from({ length: 400 }, (_, i) => syn(3, 1000 + i)));
    send(4, syn(4, 22));
    const seen = await observed(applier, (all) => all.denied.some((d) => d.from === '20.1.1.4'));
    expect(counted(seen, 1)).toBe(401);
    expect(seen.denied).toContainEqual(
      expect.objectContaining({ from: '20.1.1.4', to: '20.1.1.2', port: 22, rule: 1 }),
    );
    expect(seen.denied.filter((d) => d.from === '20.1.1.3').length).toBeLessThan(400);
  });
});

describe('what the applier looks up', () => {
  it('comes from the kernel, not from what was established', () => {
    const applier = start();
    const question = { direction: 'in', own: '20.1.1.2', peer: '20.1.1.3', protocol: 6 } as const;
    const ask = (to: number) => applier.lookUp('contiv-default', { ...question, port: to });
    expect(ask(80)).toEqual({ ruleSet: 7, rule: 2, denied: false, changed: [] });
    expect(ask(81)).toEqual({ ruleSet: 7, rule: 1, denied: true, changed: [] });
    inRouter('nft delete element inet contiv by_port { 7 . tcp . 80 }');
    expect(ask(80)).toEqual({ ruleSet: 7, rule: 1, denied: true, changed: [] });
    inRouter('nft delete element inet contiv judged_in { 20.1.1.2 }');
    expect(ask(81)).toEqual({ ruleSet: 0, rule: 0, denied: false, changed: [] });
    inRouter('nft flush chain inet contiv judge_in');
    expect(ask(81)?.changed).toEqual(['judge_in']);
    inRouter('nft insert rule inet contiv decide accept');
    expect(ask(81)?.changed).toEqual(['judge_in', 'decide']);
    applied(applier, two([RULES], true), true);
    expect(ask(80)).toEqual({ ruleSet: 7, rule: 2, denied: false, changed: [] });
    expect(applier.lookUp('contiv-blue', question)).toBeUndefined();
  });
});

describe('metrics', () => {
  it('have what a router and the host drop whatever policy says, by tenant and reason, each packet once', async () => {
    const applier = start();
    sh(`ip addr add ${LOCAL}/32 dev lo`);
    const metrics = openMetrics({
      attached: () => 1,
      revision: () => 1,
      dropped: () => [],
      neighbors: () => [],
      names: () => undefined,
    });
    const tally = openTally({ reporter: 'r', count: metrics.refused });
    const look = (): void => tally.take(two([RULES], true), applier.observe(), 0);
    const mac = /link\/ether (\S+)/.exec(inRouter(`ip -o link show ${port(3).device}`))?.[1] as string;
    const send = (...frames: Buffer[]): void =>
      void inNamespace(box('20.1.1.3'), () =>
        sh(`${process.execPath} ${FRAMES} eth0 ${frames.map((f) => f.toString('hex')).join(' ')}`),
      );
    const from3 = (payload: Buffer): Buffer => ethernet(port(3).mac, mac, payload);
    // Two to the control plane, a frame for the tunnel of 1001 from nobody, and what the router's other counters count.
    const guarded = from3(tcpSyn('20.1.1.3', LOCAL, 40_000, 9999));
    send(guarded);
    look();
    send(guarded);
    inRouter(
      `nft 'insert rule inet contiv guard iifname "ct*" udp dport 54 counter name "foreign" counter name "misquoting" counter name "asked"'`,
    );
    send(from3(udp('20.1.1.3', NAMESERVER, 1000, 54, Buffer.alloc(4))));
    sh(`bash -c 'printf "\\x08\\0\\0\\0\\0\\x03\\xe9\\0" > /dev/udp/127.0.0.1/4789'`);
    look();
    look();
    const text = await metrics.text();
    const value = (tenant: string, reason: string): number =>
      Number(
        new RegExp(`refused_packets_total\\{tenant="${tenant}",reason="${reason}"\\} (\\d+)`).exec(text)?.[1],
      );
    expect(value('', 'guarded')).toBe(2);
    expect(value('default', 'behind')).toBe(1);
    expect(value('default', 'errors')).toBe(1);
    expect(value('', 'strangers')).toBe(1);
    expect(value('default', 'queries')).toBe(1);
  });
});
