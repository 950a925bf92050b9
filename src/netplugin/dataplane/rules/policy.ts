/**
 * Policy: the first packet of a connection is judged by the rule set of our own endpoint, once for what the
 * endpoint sends (`judge_out`) and once for what it receives (`judge_in`).
 *
 *   own address -> rule set -> (peer's range) -> rule set -> (peer's identity), protocol, port -> the number of a rule, with DENY
 *
 * All of that is elements, which chain `decide` looks up from the most specific to the least: no rule depends on what policies say.
 * A peer's identity (`members`) is a number for its group and labels; maps and chains call it group.
 * A rule that decides is counted in `hits`; of denied packets a share of each sender's is logged for the agent (observe/observe.ts), and of
 * those that a rule in `logged` lets through.
 */
import { classid } from '../../../linux/classid.ts';
import { addressNumber, isV6 } from '../../../model/address.ts';
import { DENIED_LOG } from '../../constants.ts';
import type { AddressRange, Decision } from '../../state.ts';
import { UPLINK } from './devices.ts';
import type { RouterFeature, RouterVariant } from './feature.ts';
import { DEFAULT_PRIORITY, DENY } from './marks.ts';

/**
 * Who the `peer` is, to a mark: the number of the rule that decides, with DENY; 0 where none does. The rule set of our own endpoint
 * is known (`meta priority`). `log`: the direction, where what is allowed is logged.
 */
const verdict = (peer: string, decide: string, { portRanges, logs }: RouterVariant, log?: string): string => `
  meta mark set 0
  meta mark set ip ${peer} map @ranges
  meta mark set ip6 ${peer} map @ranges6
  meta priority set meta priority . meta mark map @narrowed${portRanges ? BY_PORT_RANGE : ''}
  meta mark set 0
  meta mark set ip ${peer} map @members
  meta mark set ip6 ${peer} map @members6
  jump ${decide}${logs && log ? `\n  meta priority . meta mark @logged jump log_${log}` : ''}${DEFAULT_PRIORITY}
  meta mark & ${DENY} == 0 return`;

/**
 * Ranges of ports lead to another rule set as ranges of addresses do, in tables with rules that are about some: two lookups for each
 * judgement there, none elsewhere. A rule about a range is one about the whole protocol in the rule set of that range, so decisions have the
 * forms that they have, and the order in which they are looked up stays. Thought of and not taken: a decision for each port of a range
 * (50,000 elements for each identity), and maps of decisions by intervals, whose insertion costs as much as they have
 * (nft_set_pipapo), with two more lookups each. What a protocol without ports has there leads to a rule set that says the same about
 * that protocol as the one before.
 */
const BY_PORT_RANGE = `
  meta mark set 0
  meta mark set th dport map @port_ranges
  meta priority set meta priority . meta mark map @narrowed_ports`;

/**
 * Judges new connections, each twice. A transaction of ours may come between two lookups of one packet, which then sees some
 * elements as they were and some as they are: of a rule set that gives way to another it would find none, and pass. Whatever
 * passes the first time is judged again: where a transaction came in between, the second time sees only what is true after it; and
 * where it comes during the second, the first one was right before it. Two transactions do not fall into the microsecond that
 * both take: each is a system call of its own.
 * What is left after `decide` is denied; some of it is logged for the agent to read, few enough that a flood costs nothing.
 */
const judge = (direction: string, peer: string, variant: RouterVariant): string => `
chain judge_${direction} {${verdict(peer, 'decide', variant, direction)}
  jump quiet
  log prefix "judge_${direction}" group ${DENIED_LOG} snaplen 96
  drop
}
chain confirm_${direction} {${verdict(peer, 'decide_again', variant)}
  drop
}`;

/** Ends with `then` where a rule decides. */
const decisions = (name: string, then: string): string => `
chain ${name} {
  meta mark set meta priority . meta mark . meta l4proto . th dport map @by_group_port ${then}
  meta mark set meta priority . meta l4proto . th dport map @by_port ${then}
  meta mark set meta priority . meta mark . meta l4proto map @by_group_protocol ${then}
  meta mark set meta priority . meta l4proto map @by_protocol ${then}
  meta mark set meta priority . meta mark map @by_group_any ${then}
  meta mark set meta priority map @by_any ${then}
  meta mark set 0
}`;

/** One map for each form of a decision's key. */
function decisionMap({ group, protocol, port }: Decision): string {
  const what = port !== undefined ? 'port' : protocol !== undefined ? 'protocol' : 'any';
  return group === 0 ? `by_${what}` : `by_group_${what}`;
}

/**
 * Drops what is too much to be logged. A sender has its own share, so that a flood of one hides nobody else's; its address is its own
 * (antiSpoofing.ts), so it has one element. Senders outside are anybody, and share.
 */
const QUIET = `
set told { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 1m; }
set told6 { type ipv6_addr; size 4096; flags dynamic,timeout; timeout 1m; }
chain quiet {
  iifname ${UPLINK} limit rate over 50/second burst 50 packets drop
  iifname ${UPLINK} return
  update @told { ip saddr limit rate over 10/second burst 50 packets } drop
  update @told6 { ip6 saddr limit rate over 10/second burst 50 packets } drop
  limit rate over 500/second burst 500 packets drop
}`;

/**
 * Rules that allow and are to be logged, in tables that have such: one lookup more for each judgement there. Who is let through has a share of its own,
 * as large, so that it hides nothing of what is denied.
 */
const LOGGED = `
set logged { type classid . mark; }
set heard { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 1m; }
set heard6 { type ipv6_addr; size 4096; flags dynamic,timeout; timeout 1m; }`;
const logging = (direction: string): string => `
chain log_${direction} {
  iifname ${UPLINK} limit rate over 50/second burst 50 packets return
  iifname != ${UPLINK} update @heard { ip saddr limit rate over 10/second burst 50 packets } return
  iifname != ${UPLINK} update @heard6 { ip6 saddr limit rate over 10/second burst 50 packets } return
  limit rate over 500/second burst 500 packets return
  log prefix "judge_${direction}" group ${DENIED_LOG} snaplen 96
}`;

/**
 * Rules, in each rule set that they are in, that are counted at a time: those that decided something in the last hour. Who
 * sends adds none: a rule has one element, however many packets it decides. The
 * kernel makes twice as many buckets at once, and reading the set walks them all: 0.1 ms, where 65535 took 1 ms.
 */
const HITS = 8192;

/**
 * The one element of map `present`: it tells a packet that its table has not given way to another meanwhile, in which case it
 * finds no element of any map, and would count as one that nothing judges. Not of a set: those of a table that is deleted are
 * found by the packets that are in it (net/netfilter/nf_tables_api.c, nft_flush_table deactivates the elements of maps only).
 */
const [ASKED, PRESENT] = [1, 2];

const PORT_RANGES = `
map port_ranges { type inet_service : mark; flags interval; }
map narrowed_ports { type classid . mark : classid; }`;

export const policy: RouterFeature = {
  own: (variant) => `
map judged_in { type ipv4_addr : classid; }
map judged_in6 { type ipv6_addr : classid; }
map judged_out { type ipv4_addr : classid; }
map judged_out6 { type ipv6_addr : classid; }
map members { type ipv4_addr : mark; }
map members6 { type ipv6_addr : mark; }
map ranges { type ipv4_addr : mark; flags interval; }
map ranges6 { type ipv6_addr : mark; flags interval; }
map narrowed { type classid . mark : classid; }${variant.portRanges ? PORT_RANGES : ''}
map by_group_port { type classid . mark . inet_proto . inet_service : mark; }
map by_port { type classid . inet_proto . inet_service : mark; }
map by_group_protocol { type classid . mark . inet_proto : mark; }
map by_protocol { type classid . inet_proto : mark; }
map by_group_any { type classid . mark : mark; }
map by_any { type classid : mark; }
map present { type mark : mark; }
set hits { type classid . mark; size ${HITS}; flags dynamic,timeout; timeout 1h; gc-interval 10m; counter; }
chain decided {
  update @hits { meta priority . meta mark }
}${decisions('decide', 'goto decided')}${decisions('decide_again', 'return')}${QUIET}${variant.logs ? `${LOGGED}${logging('out')}${logging('in')}` : ''}${judge('out', 'daddr', variant)}${judge('in', 'saddr', variant)}`,
  rules: {
    forward: `
meta priority set ip saddr map @judged_out jump judge_out
meta priority set ip6 saddr map @judged_out6 jump judge_out
meta priority set ip daddr map @judged_in jump judge_in
meta priority set ip6 daddr map @judged_in6 jump judge_in
meta priority set ip saddr map @judged_out jump confirm_out
meta priority set ip6 saddr map @judged_out6 jump confirm_out
meta priority set ip daddr map @judged_in jump confirm_in
meta priority set ip6 daddr map @judged_in6 jump confirm_in
meta mark set ${ASKED}
meta mark set meta mark map @present
meta mark ${ASKED} drop`,
  },
  elements: {
    table(_, add) {
      add('present', '', `${ASKED} : ${PRESENT}`);
    },
    port({ addresses, group, judgedIn, judgedOut }, add) {
      for (const address of addresses) {
        if (group !== 0) add('members', address, `${address} : ${group}`);
        if (judgedIn !== 0) add('judged_in', address, `${address} : ${classid(judgedIn)}`);
        if (judgedOut !== 0) add('judged_out', address, `${address} : ${classid(judgedOut)}`);
      }
    },
    host({ endpoints }, add) {
      for (const { address, group } of endpoints)
        if (group !== 0) add('members', address, `${address} : ${group}`);
    },
    externals(externals, add) {
      for (const { address, group } of externals)
        if (group !== 0) add('members', address, `${address} : ${group}`);
    },
    ranges(ranges, add) {
      for (const range of ranges) add('ranges', range.first, `${rangeText(range)} : ${range.range}`);
    },
    portRanges(ranges, add) {
      for (const { first, last, range } of ranges)
        add('port_ranges', '', `${first === last ? first : `${first}-${last}`} : ${range}`);
    },
    ruleSet({ id, narrowed, narrowedPorts = [], decisions, logs }, add) {
      for (const { range, to } of narrowed) add('narrowed', '', `${classid(id)} . ${range} : ${classid(to)}`);
      for (const { range, to } of narrowedPorts)
        add('narrowed_ports', '', `${classid(id)} . ${range} : ${classid(to)}`);
      for (const decision of decisions) {
        const { group, protocol, port, rule, action } = decision;
        const key = [classid(id), group === 0 ? undefined : group, protocol, port].filter(
          (part) => part !== undefined,
        );
        const mark = rule + (action === 'deny' ? DENY : 0);
        add(decisionMap(decision), '', `${key.join(' . ')} : ${mark}`);
      }
      if (logs) {
        const told = decisions.filter((d) => d.log && d.action === 'allow').map((d) => d.rule);
        for (const rule of new Set(told)) add('logged', '', `${classid(id)} . ${rule}`);
      }
    },
  },
};

/** As nft lists it: a prefix where it is one. */
function rangeText({ first, last }: AddressRange): string {
  const [from, to] = [addressNumber(first), addressNumber(last)];
  const size = to - from + 1n;
  const bits = size.toString(2).length - 1;
  if (size !== 1n << BigInt(bits) || from % size !== 0n) return `${first}-${last}`;
  return bits === 0 ? first : `${first}/${(isV6(first) ? 128 : 32) - bits}`;
}
