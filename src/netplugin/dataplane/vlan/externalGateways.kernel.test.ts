import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { tag } from '../../../../lab/tagging.ts';
import {
  applied,
  clean,
  GATEWAYS,
  inRouter,
  LOCAL,
  NOTHING,
  port,
  state,
  VLAN,
  VNI,
  vlanOf,
  vlanPort,
} from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { ethernet, icmpError, udp } from '../../../../test/packet.ts';
import { joinSwitch, openPings, sendFrames } from '../../../../test/wire.ts';
import { createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { vtepMac } from '../../compile/deviceNames.ts';
import { NAMESERVER } from '../../constants.ts';
import type { HostState, Port, RuleSet } from '../../state.ts';
import { type Applier, openApplier } from '../applier.ts';

beforeAll(isolate);

const { id: ID, network: NETWORK, uplink: UPLINK, prefixes: PREFIXES, at, six } = VLAN;
const [GATE, GATE6, PLAIN] = [at(254), six(254), at(200)];
const [OUTSIDE, OUTSIDE6] = ['198.51.100.1', '2001:db8::1'];
const OTHER = '20.1.1.6';

const on = <T>(name: string, use: () => T): T => inNamespace(namespacePath(name), use);

const member = (more: Partial<Port> = {}): Port =>
  vlanPort(2, { gateways: [], externalGateways: [GATE, GATE6], ...more });
const other = port(6, { addresses: [OTHER] });

function hostState(ports: readonly Port[], ruleSets: readonly RuleSet[] = []): HostState {
  const base = state({ ports, ruleSets, publications: [PUBLISHED] });
  const made = base.routers[0] as HostState['routers'][number];
  return {
    ...base,
    routers: [
      {
        ...made,
        vlans: [vlanOf(LOCAL, [at(91), six(91)], { gateways: [GATE, GATE6] })],
        subnets: [
          ...PREFIXES.map((prefix) => ({
            prefix,
            network: NETWORK,
            device: `vl${ID}`,
            externalGateway: true as const,
          })),
          { prefix: '20.1.1.0/24', network: VNI },
        ],
        gateways: GATEWAYS,
      },
    ],
  };
}
const PUBLISHED = {
  protocol: 'tcp',
  hostAddress: '',
  hostPort: 8080,
  transitPort: 8080,
  address: at(2),
  port: 80,
} as const;

let near: Applier;
const joined = [member({ joined: true }), { ...other, joined: true }];

function enter(given: Port, n: number, gateway: string): void {
  createNamespace(`box${n}`);
  sh(`ip link set ${given.peer} netns ${namespacePath(`box${n}`)} name eth0`);
  on(`box${n}`, () => {
    sh(`ip link set lo up; ip link set eth0 up; ip addr add ${given.addresses[0]}/32 dev eth0`);
    sh(`ip route add ${gateway} dev eth0; ip route add default via ${gateway}`);
    if (given.addresses[1] === undefined) return;
    sh(`ip addr add ${given.addresses[1]}/128 dev eth0 nodad; ip route add ${GATE6} dev eth0`);
    sh(`ip -6 route add default via ${GATE6}`);
  });
}

beforeEach(async () => {
  joinSwitch(UPLINK, { '': LOCAL, gate: undefined, plain: undefined });
  on('gate', () => {
    tag(UPLINK, 'lan', ID);
    sh(`ip addr add ${GATE}/24 dev lan; ip addr add ${GATE6}/64 dev lan nodad`);
    sh(`ip addr add ${OUTSIDE}/32 dev lo; ip addr add ${OUTSIDE6}/128 dev lo nodad`);
    // It is on the wire by its address there, whichever of its own it speaks from.
    sh('sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.arp_announce=2');
  });
  on('plain', () => {
    tag(UPLINK, 'lan', ID);
    sh(`ip addr add ${PLAIN}/24 dev lan`);
  });
  near = openApplier();
  applied(near, NOTHING);
  applied(near, hostState([member(), other]));
  enter(member(), 2, GATE);
  enter(other, 6, NAMESERVER);
  await expect.poll(() => near.gateways().filter(({ mac }) => mac !== '')).toHaveLength(2);
  applied(near, hostState(joined));
});

afterEach(() => {
  near?.close();
  clean();
});

const { pinged, silent } = openPings(
  ([namespace, address]: readonly [namespace: string, from: string]) => ({ namespace, address }),
  100,
);

const macOf = (name: string): string => on(name, () => /ether (\S+)/.exec(sh('ip link show lan'))?.[1] ?? '');
const send = (name: string, ...frames: Buffer[]): string => on(name, () => sendFrames('lan', ...frames));

it('containers reach what is outside by it, and are reached, with their own addresses', async () => {
  expect(await pinged(['box2', at(2)], OUTSIDE)).toBe(true);
  expect(await pinged(['box2', six(2)], OUTSIDE6)).toBe(true);
  expect(await pinged(['gate', OUTSIDE], at(2))).toBe(true);
  expect(await pinged(['gate', OUTSIDE6], six(2))).toBe(true);
  expect(await pinged(['box2', at(2)], GATE)).toBe(true);
  expect(await pinged(['box2', at(2)], PLAIN)).toBe(true);
  expect(await pinged(['plain', PLAIN], at(2))).toBe(true);
  // The gate has no way to anybody but by the wire of the VLAN, so nothing was translated; the host itself had no part.
  expect(sh('conntrack -L 2>/dev/null || true')).not.toContain(OUTSIDE);
});

it('networks of the tenant are reached by its own router, and others of it go outside by the host as before', async () => {
  expect(await pinged(['box2', at(2)], OTHER)).toBe(true);
  expect(await pinged(['box6', OTHER], at(2))).toBe(true);
  expect(await silent(['box6', OTHER], OUTSIDE)).toBe(true);
  expect(inRouter(`ip route get ${OUTSIDE} from ${at(2)} iif ${member().device}`)).toContain(`via ${GATE}`);
  expect(inRouter(`ip route get ${OUTSIDE} from ${OTHER} iif ${other.device}`)).toContain('dev uplink');
  // A container's packets to nobody of the tenant's are not led out of it.
  expect(await silent(['box2', at(2)], '20.1.1.77')).toBe(true);
});

it('published ports are answered by the way that they were asked', async () => {
  const server = on('box2', () => sh('timeout 60 busybox httpd -f -p 80 -h /tmp >/dev/null 2>&1 & echo $!'));
  const asked = (): string =>
    sh(`curl -s -m 2 -o /dev/null -w '%{http_code}' http://${LOCAL}:8080/nothing || true`);
  await expect.poll(asked).toBe('404');
  sh(`kill ${server}`);
});

it('policy judges what comes from outside', async () => {
  const deny: RuleSet = {
    id: 1,
    name: 'in default: none',
    narrowed: [],
    decisions: [{ group: 0, rule: 1, action: 'deny', key: 'default:none:1' }],
  };
  applied(near, hostState([member({ joined: true, judgedIn: 1 })], [deny]));
  expect(await silent(['gate', OUTSIDE], at(2))).toBe(true);
  expect(await pinged(['box2', at(2)], OUTSIDE)).toBe(true);
});

it('nobody else on the wire speaks for whoever is outside, and it does not for what is the tenant’s', async () => {
  const received = (): number =>
    Number(on('box2', () => sh("awk '/^Udp:/ { a = $2; b = $3 } END { print a + b }' /proc/net/snmp")));
  const foreign = (): number =>
    Number(/packets (\d+)/.exec(inRouter('nft list counter inet contiv foreign'))?.[1]);
  const datagram = (from: string): Buffer => udp(from, at(2), 777, 777, Buffer.from('x'));
  const frame = (mac: string, from: string): Buffer => ethernet(mac, vtepMac(LOCAL), datagram(from));
  const [before, counted] = [received(), foreign()];
  const lies = [at(2), at(91), OTHER, '20.1.1.77', '100.127.0.0'];
  send(
    'plain',
    frame(macOf('plain'), OUTSIDE),
    ethernet(macOf('plain'), vtepMac(LOCAL), icmpError(OUTSIDE, at(2), [3, 1], datagram(OUTSIDE))),
  );
  send('gate', ...lies.map((from) => frame(macOf('gate'), from)), frame(macOf('gate'), OUTSIDE));
  await expect.poll(received).toBe(before + 1);
  expect(foreign() - counted).toBe(lies.length + 2);
});

it('it is known when it does not answer, and what was set up comes back where somebody takes it', async () => {
  const hands = [
    `ip rule del pref 102; ip -6 rule del pref 101; ip rule add pref 50 lookup 7`,
    `ip route del default table ${NETWORK}; ip -6 route del fd00:100::/64 table ${NETWORK}`,
    `ip neigh del proxy ${GATE6} dev ${member().device}`,
  ];
  const settled = hostState(joined);
  applied(near, settled, true);
  for (const hand of hands) inRouter(hand);
  const { repaired } = applied(near, settled, true);
  expect(repaired.filter((line) => line.includes('restored'))).toHaveLength(5);
  expect(inRouter('ip rule')).not.toContain('50:');
  expect(near.apply(settled, { verify: true })).toMatchObject({ failed: [], repaired: [] });
  expect(await pinged(['box2', at(2)], OUTSIDE)).toBe(true);
  near.close();
  near = openApplier();
  expect(near.apply(settled, { verify: false })).toMatchObject({ failed: [], repaired: [] });
  expect(inRouter('nft list map inet contiv ways')).toContain(macOf('gate'));
  on('gate', () => sh('ip link set lan down'));
  await expect
    .poll(() => near.gateways().map(({ mac }) => mac), { timeout: 60_000, interval: 500 })
    .toEqual(['', '']);
});

it('when the network goes, what led by it does', () => {
  const [made] = hostState(joined).routers;
  if (made === undefined) throw new Error('no router');
  const { vlans: _, ...rest } = made;
  const subnets = made.subnets.filter(({ network }) => network === VNI);
  applied(near, { ...hostState(joined), routers: [{ ...rest, subnets, ports: [other] }] });
  expect(inRouter('ip rule; ip -6 rule')).not.toMatch(/^10\d:/m);
  expect(inRouter(`ip route show table ${NETWORK} || true`)).toBe('');
});
