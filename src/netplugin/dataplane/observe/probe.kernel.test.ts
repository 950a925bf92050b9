/** What other firewalls do to ways out and published ports, as the probe finds it: real rule sets of each kind. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { applied, clean, kernel, MAP, NOTHING, state } from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { SOMEBODY, SOMEBODY6 } from '../../constants.ts';
import { type Applier, openApplier } from '../applier.ts';
import type { DroppedWay } from './probe.ts';

const given = state({ publications: [MAP, { ...MAP, address: 'fd00:1::2' }] });
let applier: Applier;

beforeAll(() => {
  isolate();
  createNamespace('world');
  const inWorld = (command: string) => inNamespace(namespacePath('world'), () => sh(command));
  sh('ip link add eth0 type veth peer name eth0 netns world; ip link set eth0 up');
  inWorld(
    'ip link set eth0 up; ip addr add 192.0.2.254/24 dev eth0; ip addr add 2001:db8::fe/64 dev eth0 nodad',
  );
  inWorld(
    `nft 'table inet seen { counter somebody { }; chain in { type filter hook prerouting priority -300; ip saddr ${SOMEBODY} counter name somebody; ip daddr ${SOMEBODY} counter name somebody; ip6 saddr ${SOMEBODY6} counter name somebody; ip6 daddr ${SOMEBODY6} counter name somebody; }; }'`,
  );
  sh('ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad');
  sh('ip route add default via 192.0.2.254; ip -6 route add default via 2001:db8::fe');
  applier = openApplier();
  applied(applier, given);
});
afterEach(() => {
  // Someone's rules; ours are put right.
  sh(
    'for i in iptables ip6tables iptables-legacy ip6tables-legacy; do $i -P FORWARD ACCEPT; $i -F; $i -X; done',
  );
  sh('nft "add table inet theirs; delete table inet theirs"');
  applied(applier, given, true);
});
afterAll(() => {
  expect(inNamespace(namespacePath('world'), () => sh('nft list counter inet seen somebody'))).toContain(
    'packets 0',
  );
  clean();
});

const texts = (dropped: readonly DroppedWay[] | undefined): string[] | undefined =>
  dropped?.map(({ way, family, table, chain, by }) => `${way} ${family}: ${table} ${chain} ${by}`);
/** After a change of any rule set. */
const found = (): string[] | undefined => texts(applier.probe());

const policyDrop = `nft 'table inet theirs { chain everything { type filter hook forward priority 10; policy drop; }; }'`;

describe('the probe', () => {
  it.each<[string, string, string[]]>([
    ['nothing where no other firewall is', 'true', []],
    [
      'the policy of iptables',
      'iptables -P FORWARD DROP',
      ['out IPv4: ip filter FORWARD policy', 'in IPv4: ip filter FORWARD policy'],
    ],
    ['a rule of ip6tables', 'ip6tables -A FORWARD -i cx+ -j REJECT', ['out IPv6: ip6 filter FORWARD rule']],
    [
      'a chain of iptables that a rule leads to',
      'iptables -N DENY; iptables -A DENY -j DROP; iptables -A FORWARD -o cx+ -j DENY',
      ['in IPv4: ip filter DENY rule'],
    ],
    [
      'a table of its own, in both directions and families',
      policyDrop,
      ['out IPv4', 'in IPv4', 'out IPv6', 'in IPv6'].map((what) => `${what}: inet theirs everything policy`),
    ],
    [
      'what keeps the tunnels closed',
      'iptables -A INPUT -p udp -j REJECT',
      ['tunnel IPv4: ip filter INPUT rule'],
    ],
    [
      'a firewall that lets new connections through, of which tunnels have none',
      `nft 'table inet theirs { chain here { type filter hook input priority 10; policy drop; ct state new udp dport 4789 accept; }; }'`,
      ['tunnel IPv4: inet theirs here policy'],
    ],
    [
      'one that looks before our own table does',
      `nft 'table inet theirs { chain early { type filter hook forward priority -200; iifname "eth0" drop; }; }'`,
      ['in IPv4: inet theirs early rule', 'in IPv6: inet theirs early rule'],
    ],
    [
      'rules in the older interface',
      'iptables-legacy -P FORWARD DROP',
      ['out IPv4', 'in IPv4'].map((what) => `${what}: filter of iptables-legacy FORWARD policy`),
    ],
    [
      'nothing where a firewall lets ours through',
      `nft 'table inet theirs { chain everything { type filter hook forward priority 10; policy drop; ct state established,related accept; iifname "cx*" accept; oifname "cx*" accept; }; chain here { type filter hook input priority 10; policy drop; udp dport 4789 accept; }; }'`,
      [],
    ],
    [
      "nothing where a firewall judges its own bridges only, as Docker's with nftables",
      `nft 'table inet theirs { chain filter-FORWARD { type filter hook forward priority 0; policy accept; oifname "docker0" drop; }; chain raw { type filter hook prerouting priority -300; policy accept; iifname != "docker0" ip daddr 172.17.0.2 drop; }; }'`,
      [],
    ],
  ])('finds %s', (_, theirs, expected) => {
    applier.probe();
    sh(theirs);
    // Of the older interface's changes nobody is told: it is looked now and then all the same.
    const looks = Array.from({ length: 15 }, found);
    expect(
      looks
        .filter((l) => l !== undefined)
        .at(-1)
        ?.sort() ?? [],
    ).toEqual(expected.toSorted());
  });

  it('sees that it is over', () => {
    applier.probe();
    sh(policyDrop);
    expect(found()).toHaveLength(4);
    sh('nft delete table inet theirs');
    expect(found()).toEqual([]);
  });

  it('leaves nothing behind, and looks again only when a rule set has changed', () => {
    sh(policyDrop);
    expect(found()).toHaveLength(4);
    // But for the places that any packet takes among the limits, for a while.
    const kept = (): string => kernel().replaceAll(/.*(ct count over|limit rate over).*\n/g, '');
    const before = kept();
    sh('nft "add table inet others; delete table inet others"');
    expect(found()).toHaveLength(4);
    expect(kept()).toBe(before);
    expect(sh('cat /proc/net/nf_conntrack 2>/dev/null || true')).not.toContain(SOMEBODY);
    expect(found()).toBeUndefined();
    expect(applied(applier, given, true)).toMatchObject({ repaired: [], writes: 0 });
  });

  it('takes away what an agent left that was killed while it traced', () => {
    sh('nft add table inet contiv_trace');
    const next = openApplier();
    applied(next, given);
    next.probe();
    expect(sh('nft list tables')).not.toContain('contiv_trace');
  });

  it('has nothing to look for where no tenant has a way out', () => {
    sh(policyDrop);
    expect(found()).toHaveLength(4);
    applied(applier, NOTHING);
    expect(found()).toEqual([]);
  });
});
