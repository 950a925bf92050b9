import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { clean } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { localHost, viewOf } from '../../../test/policySimulator.ts';
import { type PolicyWorld, worldOf } from '../../../test/policyWorlds.ts';
import { probe } from '../../../test/probe.ts';
import { createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { judge, type Packet } from '../../model/verdict.ts';
import { openCompiler } from '../compile/compile.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { HostState } from '../state.ts';
import { type Applier, openApplier } from './applier.ts';

beforeAll(isolate);
afterEach(clean);

const box = (id: string): string => `box-${id}`;

/** The world's endpoints as namespaces on one host. Answers how to compile a changed world and apply it. */
function build(world: PolicyWorld): { applier: Applier; change(to: PolicyWorld): void } {
  const applier = openApplier();
  const compiler = openCompiler();
  const apply = (of: PolicyWorld, joined: boolean): HostState => {
    const local = localHost(of, 'node1');
    const attachments = new Map(
      [...local.attachments].map(([id, a]) => [
        id,
        { ...a, phase: joined ? ('joined' as const) : ('joining' as const) },
      ]),
    );
    const state = compiler.compile(viewOf(of), { ...local, attachments });
    expect(applier.apply(state, { verify: false }).failed).toEqual([]);
    return state;
  };
  const state = apply(world, false);
  for (const port of state.routers[0]?.ports ?? []) {
    createNamespace(box(port.endpoint));
    sh(`ip link set ${port.peer} netns ${box(port.endpoint)} name eth0`);
    const six = port.addresses.filter((a) => a.includes(':'));
    inNamespace(namespacePath(box(port.endpoint)), () => {
      sh(
        'echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad',
      );
      sh('ip link set lo up; ip link set eth0 up');
      for (const address of port.addresses)
        sh(`ip addr add ${address} dev eth0 ${address.includes(':') ? 'nodad' : ''}`);
      sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
      if (six.length > 0)
        sh(`ip -6 route add ${NAMESERVER6} dev eth0; ip -6 route add default via ${NAMESERVER6}`);
    });
  }
  return { applier, change: (to) => apply(to, true) };
}

const onOneHost = (world: PolicyWorld): PolicyWorld => ({
  ...world,
  endpoints: world.endpoints.map((e) => ({ ...e, homingHost: 'node1' })),
});

/** Between all pairs of addresses of different endpoints. */
function packetsBetween(world: PolicyWorld): Packet[] {
  return world.endpoints.flatMap((a) =>
    world.endpoints.flatMap((b) =>
      a === b
        ? []
        : a.ipAddress.flatMap((from) =>
            b.ipAddress
              .filter((to) => to.includes(':') === from.includes(':'))
              .flatMap((to) => [
                ...[80, 443, 22, 81, 442].map((port) => ({ from, to, protocol: 6, port })),
                ...[80, 443, 81].map((port) => ({ from, to, protocol: 17, port })),
                { from, to, protocol: from.includes(':') ? 58 : 1 },
              ]),
          ),
    ),
  );
}

const namespaceIn =
  (world: PolicyWorld) =>
  (address: string): string =>
    namespacePath(box(world.endpoints.find((e) => e.ipAddress.includes(address))?.endpointID ?? ''));

/** What the kernel did, where it is not what the oracle says. */
async function disagreements(world: PolicyWorld, packets: readonly Packet[]): Promise<object[]> {
  const through = await probe(packets, namespaceIn(world), 1500);
  return packets.flatMap((packet, i) => {
    const { verdict } = judge(world, packet);
    return (verdict === 'allow') === through[i] ? [] : [{ ...packet, wanted: verdict, through: through[i] }];
  });
}

/** Seeds of worlds with ranges of ports, in which much is allowed and much is denied. */
const SEEDS = (() => {
  const found: number[] = [];
  for (let seed = 1_000_000; found.length < 4; seed++) {
    const world = onOneHost(worldOf(seed));
    const packets = packetsBetween(world);
    const denied = packets.filter((p) => judge(world, p).verdict === 'deny').length;
    if (
      world.rules.some((r) => r.ports) &&
      packets.length >= 150 &&
      packets.length <= 500 &&
      denied > packets.length / 3 &&
      denied < (packets.length * 2) / 3
    )
      found.push(seed);
  }
  return found;
})();

describe('the kernel', () => {
  it.each(SEEDS)('lets through what the oracle does, between the endpoints of world %i', async (seed) => {
    const world = onOneHost(worldOf(seed));
    build(world);
    expect(await disagreements(world, packetsBetween(world))).toEqual([]);
  });

  it('does so after every change of rules, groups and members too', async () => {
    const [first = 0, second = 0] = SEEDS;
    const world = onOneHost(worldOf(first));
    const other = worldOf(second);
    const { applier, change } = build(world);
    // Other rules for the same groups, then other policies, then none; verified in between, since it must be no drift.
    const policies = world.policies.map((p) => p.policyName);
    const rules = other.rules
      .filter(
        (r) =>
          ![r.fromEndpointGroup, r.toEndpointGroup].some(
            (g) => g && !world.groups.some((w) => w.groupName === g),
          ),
      )
      .map((r, i) => ({ ...r, policyName: policies[i % policies.length] as string, ruleId: `x${i}` }));
    const steps: PolicyWorld[] = [
      { ...world, rules },
      { ...world, rules, groups: world.groups.map((g) => ({ ...g, policies })) },
      { ...world, groups: world.groups.map(({ policies: _, ...g }) => g) },
      world,
    ];
    for (const step of steps) {
      change(step);
      expect(await disagreements(step, packetsBetween(step))).toEqual([]);
      const state = openCompiler().compile(viewOf(step), localHost(step, 'node1'));
      expect(applier.apply(state, { verify: true })).toMatchObject({ repaired: [], failed: [], writes: 0 });
    }
  });
});
