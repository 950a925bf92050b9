/**
 * The program of the fast path (fastpath.ts) with its maps: what is where in them, and what it does with a packet.
 *
 *   headers -> flow -- known ------------------------------------------------> redirect
 *                  \-- not: endpoints of sender and receiver -> conntrack --/
 *                      \-- one is on a wire: the kernel's routes --/
 *
 * Machines on a VLAN, and other hosts' containers there, have no element: where they are is what the kernel's routes and neighbours say
 * (bpf_fib_lookup), as the router itself would go. To such a one the router's answer is the way; from one a packet is taken only where the
 * way back to its sender is by the same wire and to the MAC address that it came from, which is narrower than what the router lets in: what
 * comes from another MAC address, or by the address of a container here, of a gateway or of outside, has no such way, and is the router's to
 * judge. Neighbours are looked up, never made or changed here, so no flood of senders fills anything by this way.
 *
 * At each step what does not fit goes the router's way.
 *
 * It runs on all processors at once, and an element of a hash that is looked at may become another's meanwhile: the kernel
 * gives its memory away at once (kernel/bpf/hashtab.c). So
 *
 *   flows       are the processor's own: no other reads or writes them, and a program is not broken off by another
 *   endpoints   are written by the agent alone, between two changes of `generation`, which is odd meanwhile. What was read of
 *               them counts only where it was even before, and is the same after the last reading
 *   ended       counters, each of which is one word, added to as one step: how often a connection that has this counter
 *               began or ended. A flow is known while it is what it was before conntrack was asked about it
 *
 * What a processor has read before a change may go its way after it, once, as if it had come before. What it found out about
 * a connection whose end is just on its way through the router, it may believe for FLOW_MILLISECONDS more. As long it may send to
 * the MAC address that a neighbour just had: the kernel reads it without a lock, so half of it may be an older one's, which as a
 * destination nobody answers for, and as a sender's is no frame's. The kernel asks whether a neighbour is there still only when it sends
 * something to it itself. So the first packet of a flow that has rested goes the router's way, and of those that renew what is known of a
 * busy one some, drawn by lot (ASKING): once in 0.8 s on average. A machine that has another MAC address by then is found as by the router.
 */
import { randomInt } from 'node:crypto';
import { addressBytes, addressText, macBytes } from '../../../linux/address.ts';
import * as bpf from '../../../linux/bpf.ts';
import { type KernelTypes, readKernelTypes } from '../../../linux/btf.ts';
import { assemble, type Register, reg, type Size } from '../../../linux/ebpf.ts';
import { ticksPerSecond } from '../../../linux/libc.ts';
import { isV6 } from '../../../model/address.ts';

export const NAME = 'contiv_fast';

/** Key of an endpoint: its address; IPv4 is mapped (RFC 4291, 2.5.5.2). */
export const ADDRESS = 16;
/**
 * An endpoint:
 *   0  index of the device that leads there: the container's, or the tunnel of its network
 *   4  number of its network
 *   8  MAC address of the container or of the other host's tunnels
 *  14  1 for an endpoint on another host
 *  16  MAC address that its packets come from: of the device, or of this host's tunnels
 *  22  the device's MTU
 *  24  index of its VLAN's device in the router; 0: none
 *  28  that one's MTU
 *
 * A flow: the same of the receiver up to the first MTU, but
 *   4  generation in which it was found out
 *  24  when that is over, in ticks
 *  28  its counter in `ended` before it was found out
 *  32  its key
 */
export const ENDPOINT = 32;
/** What a flow has of its receiver. */
const WAY = 24;
const FLOW = 80;
const DEVICE = 0;
const NETWORK = 4;
const MAC = 8;
const REMOTE = 14;
const SENDER_MAC = 16;
const MTU = 22;
const WIRE = 24;
const WIRE_MTU = 28;
const GENERATION = 4;
const OVER = 24;
const ENDED = 28;
const FLOW_KEY_AT = 32;
/**
 * Of one tenant on one processor, in each direction. A flow's place follows from its key: of two that have the same one,
 * each is found out again where the other was there since.
 */
const FLOWS = 2048;
/** Counters of beginnings and ends: those that share one find out again what they knew. */
const COUNTERS = 4096;
const FLOW_MILLISECONDS = 100;
/** One of so many packets that renew what is known of a flow to a wire goes the router's way: a power of two. */
const ASKING = 8;

/** Entries of a connection live so long after a packet (net/netfilter: tcp_timeouts, udp_timeouts), in seconds. */
const TCP_ESTABLISHED = 432_000;
const UDP_STREAM = 120;

// struct __sk_buff, linux/bpf.h
const SKB_LENGTH = 0;
const SKB_PACKET_TYPE = 4;
const SKB_VLAN_PRESENT = 20;
const SKB_DEVICE = 40;
const SKB_DATA = 76;
const SKB_DATA_END = 80;
const PACKET_HOST = 0;
// helpers, linux/bpf.h
const MAP_LOOKUP = 1;
const RANDOM = 7;
const REDIRECT = 23;
const PULL_DATA = 39;
const FIB_LOOKUP = 69;
const JIFFIES64 = 118;
const REDIRECT_PEER = 155;
const CHECK_MTU = 163;
const BPF_MTU_CHK_SEGS = 1;
const TC_ACT_UNSPEC = -1;
// linux/netfilter/nf_conntrack_common.h
const IPS_ASSURED = 1 << 2;
const IPS_NAT = (1 << 4) | (1 << 5);
const IPS_DYING = 1 << 9;

const AF_INET = 2;
const AF_INET6 = 10;
const TCP = 6;
const UDP = 17;
const ETHERNET = 14;
const FIN_SYN_RST = 7;
/** Ethernet, IPv6 and TCP without options. */
const LONGEST_HEADERS = 74;
/** An odd number, by whose product each bit changes many (Knuth's multiplicative hashing). */
const SPREAD = 0x9e3779b1 | 0;
/** Of a mapped address, as a number of 32 bits. */
const MAPPED_PART = 0xffff0000 | 0;

/** Built in, or a module, as with most distributions: loaded by then, with the router's rules. */
const CONNTRACK = 'nf_conntrack';
const lookup = 'bpf_skb_ct_lookup';
const release = 'bpf_ct_release';
const status = 'nf_conn.status';
const timeout = 'nf_conn.timeout';

/**
 * The program's stack. The key of a flow: addresses of sender and receiver, ports, device, sender's MAC address, protocol. It
 * begins as conntrack's key of a connection over IPv6 does (struct bpf_sock_tuple).
 */
const FLOW_KEY = 48;
const KEY = -FLOW_KEY;
const SENDER = KEY;
const RECEIVER = KEY + 16;
const PORTS = KEY + 32;
const FROM_DEVICE = KEY + 36;
const FROM_MAC = KEY + 40;
const PROTOCOL = KEY + 46;
const TUPLE_V6 = 36;
/** The same of IPv4: addresses and ports. */
const TUPLE_V4 = 12;
const TUPLE = -64;
/** struct bpf_ct_opts: namespace, error, protocol. */
const OPTIONS_SIZE = 12;
const OPTIONS = -80;
const NOW = -88;
const VALUE = -112;
const COUNTER = -116;
const INDEX = -120;
const PLACE = -128;
const LENGTH = -136;
/** Words: this packet renews what was known until just now; it goes the router's way, whatever it finds out. */
const RENEWS = -140;
const ASKS = -144;
/** struct bpf_fib_lookup, linux/bpf.h: what is asked, and in its place the answer. */
const FIB_SIZE = 64;
const FIB = -208;
const FIB_MTU = FIB + 6;
const FIB_DEVICE = FIB + 8;
const FIB_SENDER = FIB + 16;
const FIB_RECEIVER = FIB + 32;
const FIB_SENDER_MAC = FIB + 52;
const FIB_MAC = FIB + 58;

interface Maps {
  readonly endpoints: number;
  readonly flows: number;
  readonly ended: number;
  readonly generation: number;
}

/** Read once: the kernel stays the same. */
let types: KernelTypes | undefined;

/** Where conntrack is, with its functions and its types. Throws where the kernel lacks what it takes. */
function conntrackTypes(): KernelTypes {
  if (types !== undefined) return types;
  const found = readKernelTypes([lookup, release], [status, timeout], CONNTRACK);
  for (const name of [lookup, release])
    if (!found.functions.has(name)) throw new Error(`the kernel has no ${name}`);
  for (const name of [status, timeout])
    if (!found.fields.has(name)) throw new Error(`the kernel has no ${name}`);
  types = found;
  return found;
}

/** The program for these maps. */
function program({ endpoints, flows, ended, generation }: Maps, kernel: KernelTypes): Buffer {
  const need = (found: ReadonlyMap<string, number>, name: string): number => found.get(name) as number;
  const callConntrack = (name: string): void => {
    p.callKernel(need(kernel.functions, name), kernel.module === undefined ? 'kernel' : 'module');
  };
  const ticks = ticksPerSecond();
  const memory = Math.ceil((FLOW_MILLISECONDS / 1000) * ticks);
  // Nobody outside knows which flows have a place in common.
  const secret = randomInt(2 ** 31);
  const p = assemble();
  const [skb, data, sender, receiver] = [6, 7, 8, 9] as const;
  // What these registers hold at other times.
  const [end, flags, connection, protocol] = [sender, sender, sender, receiver];
  const stack = 10;

  const dataPointers = (): void => {
    p.load(4, data, skb, SKB_DATA).load(4, end, skb, SKB_DATA_END);
  };
  /** Goes on where the packet reaches up to `length`. */
  const reaches = (length: number, otherwise: string): void => {
    p.set(2, reg(data)).add(2, length).jump('>', 2, reg(end), otherwise);
  };
  /** Copies from the packet to the stack. */
  const copy = (size: Size, from: number, to: number): void => {
    p.load(size, 1, data, from).store(size, stack, to, reg(1));
  };
  /** The transport header begins there; flags = those that begin or end a connection. */
  const transport = (at: number): void => {
    copy(4, at, PORTS);
    p.jump('==', protocol, TCP, `tcp${at}`).jump('!=', protocol, UDP, 'pass').set(flags, 0).go('both');
    p.label(`tcp${at}`);
    reaches(at + 20, 'pass');
    p.load(1, flags, data, at + 13)
      .and(flags, FIN_SYN_RST)
      .go('both');
  };
  const at = (register: Register, offset: number): void => {
    p.set(register, reg(stack)).add(register, offset);
  };
  /** to = the endpoint with the address at `offset` of the stack, or 0. */
  const findEndpoint = (to: 8 | 9, offset: number): void => {
    p.map(1, endpoints);
    at(2, offset);
    p.call(MAP_LOOKUP).set(to, reg(0));
  };
  /**
   * Has the router's own tables say where a packet goes that the endpoint at `of` sends from the address at `from` to the one at `to`:
   * goes on where that is by the endpoint's wire, with as much as fits there, and the next hop has been found.
   */
  const findOnWire = (of: 8 | 9, from: number, to: number): void => {
    for (let part = 0; part < FIB_SIZE; part += 8) p.store(8, stack, FIB + part, 0);
    // With a length the answer is the route's MTU, not the device's.
    p.store(2, stack, FIB_MTU, 1).load(4, 1, of, DEVICE).store(4, stack, FIB_DEVICE, reg(1));
    const [six, asked] = [`six${from}`, `asked${from}`];
    p.load(8, 1, stack, SENDER).jump('!=', 1, 0, six);
    p.store(1, stack, FIB, AF_INET);
    p.load(4, 1, stack, from + 12).store(4, stack, FIB_SENDER, reg(1));
    p.load(4, 1, stack, to + 12)
      .store(4, stack, FIB_RECEIVER, reg(1))
      .go(asked);
    p.label(six).store(1, stack, FIB, AF_INET6);
    for (let part = 0; part < 16; part += 4)
      p.load(4, 1, stack, from + part)
        .store(4, stack, FIB_SENDER + part, reg(1))
        .load(4, 1, stack, to + part)
        .store(4, stack, FIB_RECEIVER + part, reg(1));
    p.label(asked).set(1, reg(skb));
    at(2, FIB);
    p.set(3, FIB_SIZE).set(4, 0).call(FIB_LOOKUP).jump('!=', 0, 0, 'pass');
    p.load(4, 1, stack, FIB_DEVICE).load(4, 2, of, WIRE).jump('!=', 1, reg(2), 'pass');
    p.load(2, 1, stack, FIB_MTU).load(2, 2, of, WIRE_MTU).jump('!=', 1, reg(2), 'pass');
  };
  /** Goes on where two MAC addresses are the same. */
  const sameMac = (one: Register, at1: number, other: Register, at2: number): void => {
    for (const part of [0, 2, 4])
      p.load(2, 1, one, at1 + part)
        .load(2, 2, other, at2 + part)
        .jump('!=', 1, reg(2), 'pass');
  };
  /** Brings the upper bits of register 1 down. */
  const fold = (bits: number): void => {
    p.set(2, reg(1)).shiftRight(2, bits).xor(1, reg(2));
  };
  const releaseConnection = (): void => {
    p.set(1, reg(connection));
    callConntrack(release);
  };

  p.set(skb, reg(1));
  p.load(4, 1, skb, SKB_PACKET_TYPE).jump('!=', 1, PACKET_HOST, 'pass');
  p.load(4, 1, skb, SKB_VLAN_PRESENT).jump('!=', 1, 0, 'pass');
  dataPointers();
  reaches(ETHERNET + 28, 'pull');
  p.go('linear');
  // The headers may lie in pages of their own.
  p.label('pull').load(4, 2, skb, SKB_LENGTH).jump('>', 2, LONGEST_HEADERS, 'long').go('short');
  p.label('long').set(2, LONGEST_HEADERS);
  p.label('short').set(1, reg(skb)).call(PULL_DATA);
  dataPointers();
  reaches(ETHERNET + 28, 'pass');

  p.label('linear').load(2, 1, data, 12).jump('==', 1, 0xdd86, 'v6').jump('!=', 1, 0x0008, 'pass');
  p.load(1, 1, data, 14).jump('!=', 1, 0x45, 'pass'); // no options
  p.load(2, 1, data, 20).jump('&', 1, 0xff3f, 'pass'); // no fragment
  p.load(1, protocol, data, 23);
  for (const [from, to] of [
    [26, SENDER],
    [30, RECEIVER],
  ] as const) {
    p.store(8, stack, to, 0).store(4, stack, to + 8, MAPPED_PART);
    copy(4, from, to + 12);
  }
  transport(ETHERNET + 20);

  p.label('v6');
  reaches(ETHERNET + 48, 'pass');
  p.load(1, 1, data, 14).and(1, 0xf0).jump('!=', 1, 0x60, 'pass');
  p.load(1, protocol, data, 20);
  p.load(8, 1, data, 22).jump('==', 1, 0, 'pass'); // no endpoint's; mapped ones would be taken for IPv4
  for (let part = 0; part < 32; part += 8) copy(8, 22 + part, SENDER + part);
  transport(ETHERNET + 40);

  p.label('both');
  p.load(4, 1, skb, SKB_DEVICE).store(4, stack, FROM_DEVICE, reg(1));
  copy(4, 6, FROM_MAC);
  copy(2, 10, FROM_MAC + 4);
  p.store(2, stack, PROTOCOL, reg(protocol));
  // The counter is that of both directions.
  p.load(8, 1, stack, SENDER);
  for (const part of [SENDER + 8, RECEIVER, RECEIVER + 8]) p.load(8, 2, stack, part).xor(1, reg(2));
  fold(32);
  for (const port of [PORTS, PORTS + 2]) p.load(2, 2, stack, port).xor(1, reg(2));
  p.xor(1, secret).multiply(1, SPREAD);
  fold(32);
  p.and(1, 4 * (COUNTERS - 1))
    .firstValue(2, ended)
    .add(2, reg(1));
  p.jump('!=', flags, 0, 'ends');
  p.store(4, stack, RENEWS, 0).store(4, stack, ASKS, 0);
  // Before anything is looked at: what changes while it is looked at makes it old.
  p.load(4, 1, 2, 0).store(4, stack, COUNTER, reg(1));
  p.firstValue(1, generation).load(4, 1, 1, 0).jump('&', 1, 1, 'pass').store(8, stack, NOW, reg(1));
  p.set(1, secret);
  for (let part = 0; part < FLOW_KEY; part += 8)
    p.load(8, 2, stack, KEY + part)
      .xor(1, reg(2))
      .multiply(1, SPREAD);
  fold(32);
  p.and(1, FLOWS - 1).store(4, stack, INDEX, reg(1));
  p.map(1, flows);
  at(2, INDEX);
  p.call(MAP_LOOKUP).jump('==', 0, 0, 'pass').set(receiver, reg(0)).store(8, stack, PLACE, reg(0));
  p.load(4, 1, receiver, GENERATION).load(8, 2, stack, NOW).jump('!=', 1, reg(2), 'unknown');
  p.load(4, 1, receiver, ENDED).load(4, 2, stack, COUNTER).jump('!=', 1, reg(2), 'unknown');
  for (let part = 0; part < FLOW_KEY; part += 8)
    p.load(8, 1, receiver, FLOW_KEY_AT + part)
      .load(8, 2, stack, KEY + part)
      .jump('!=', 1, reg(2), 'unknown');
  p.call(JIFFIES64).load(4, 1, receiver, OVER).subtract(1, reg(0)).jump('s<=', 1, 0, 'over');

  p.label('forward');
  // Too long for the device, unless it is many packets in one (GSO): the router says so to the sender.
  p.load(4, 1, skb, SKB_LENGTH).add(1, -ETHERNET).load(2, 2, receiver, MTU).jump('>', 1, reg(2), 'measure');
  p.label('fits');
  p.load(4, 1, receiver, MAC).store(4, data, 0, reg(1));
  p.load(2, 1, receiver, MAC + 4).store(2, data, 4, reg(1));
  p.load(4, 1, receiver, SENDER_MAC).store(4, data, 6, reg(1));
  p.load(2, 1, receiver, SENDER_MAC + 4).store(2, data, 10, reg(1));
  p.load(4, 1, receiver, DEVICE).set(2, 0).load(2, 3, receiver, REMOTE).jump('!=', 3, 0, 'tunnel');
  p.call(REDIRECT_PEER).exit();
  p.label('tunnel').call(REDIRECT).exit();

  p.label('measure').store(4, stack, LENGTH, 0).set(1, reg(skb)).load(4, 2, receiver, DEVICE);
  at(3, LENGTH);
  p.set(4, 0).set(5, BPF_MTU_CHK_SEGS).call(CHECK_MTU).jump('==', 0, 0, 'fits').go('pass');

  p.label('over').jump('s<=', 1, -memory, 'unknown').store(4, stack, RENEWS, 1);
  p.label('unknown');
  findEndpoint(sender, SENDER);
  findEndpoint(receiver, RECEIVER);
  p.jump('==', sender, 0, 'off wire').jump('==', receiver, 0, 'onto wire');
  p.load(4, 1, sender, DEVICE).load(4, 2, stack, FROM_DEVICE).jump('!=', 1, reg(2), 'pass');
  p.load(4, 1, sender, NETWORK).load(4, 2, receiver, NETWORK).jump('!=', 1, reg(2), 'pass');
  p.load(2, 1, sender, REMOTE).jump('==', 1, 0, 'known');
  // What came through the tunnel is from the host that the sender is on, and for a container here.
  p.load(2, 1, receiver, REMOTE).jump('!=', 1, 0, 'pass');
  sameMac(sender, MAC, stack, FROM_MAC);

  p.label('known');
  for (let part = 0; part < WAY; part += 8)
    p.load(8, 1, receiver, part).store(8, stack, VALUE + part, reg(1));
  p.go('tracked');

  // From a container to a wire: by the routes of its network, to where the kernel has found the next hop.
  p.label('onto wire');
  p.load(4, 1, sender, DEVICE).load(4, 2, stack, FROM_DEVICE).jump('!=', 1, reg(2), 'pass');
  p.load(4, 1, sender, WIRE).jump('==', 1, 0, 'pass');
  findOnWire(sender, SENDER, RECEIVER);
  // The kernel asks whether a neighbour is there still when it sends something itself.
  p.load(4, 1, stack, RENEWS)
    .jump('==', 1, 0, 'ask')
    .call(RANDOM)
    .and(0, ASKING - 1)
    .jump('!=', 0, 0, 'found');
  p.label('ask').store(4, stack, ASKS, 1);
  p.label('found');
  p.load(4, 1, sender, WIRE)
    .store(4, stack, VALUE + DEVICE, reg(1))
    .store(4, stack, VALUE + NETWORK, 0);
  p.store(2, stack, VALUE + REMOTE, 0)
    .load(2, 1, sender, WIRE_MTU)
    .store(2, stack, VALUE + MTU, reg(1));
  for (const [from, to] of [
    [FIB_MAC, MAC],
    [FIB_SENDER_MAC, SENDER_MAC],
  ] as const)
    for (const part of [0, 2, 4]) p.load(2, 1, stack, from + part).store(2, stack, VALUE + to + part, reg(1));
  p.go('tracked');

  // From a wire to a container: by the device and from the MAC address by which its answers go.
  p.label('off wire').jump('==', receiver, 0, 'pass');
  p.load(4, 1, receiver, WIRE).load(4, 2, stack, FROM_DEVICE).jump('!=', 1, reg(2), 'pass');
  findOnWire(receiver, RECEIVER, SENDER);
  sameMac(stack, FIB_MAC, stack, FROM_MAC);
  p.go('known');

  p.label('tracked');
  p.store(4, stack, OPTIONS, -1) // the namespace of the device
    .store(4, stack, OPTIONS + 4, 0)
    .load(2, 1, stack, PROTOCOL)
    .store(4, stack, OPTIONS + 8, reg(1));
  at(2, KEY);
  p.set(3, TUPLE_V6).load(8, 1, stack, SENDER).jump('!=', 1, 0, 'find');
  for (const [from, to] of [
    [SENDER + 12, TUPLE],
    [RECEIVER + 12, TUPLE + 4],
    [PORTS, TUPLE + 8],
  ] as const)
    p.load(4, 1, stack, from).store(4, stack, to, reg(1));
  at(2, TUPLE);
  p.set(3, TUPLE_V4);
  p.label('find').set(1, reg(skb));
  at(4, OPTIONS);
  p.set(5, OPTIONS_SIZE);
  callConntrack(lookup);
  p.jump('==', 0, 0, 'pass').set(connection, reg(0));
  p.load(8, 1, connection, need(kernel.fields, status))
    .and(1, IPS_ASSURED | IPS_NAT | IPS_DYING)
    .jump('!=', 1, IPS_ASSURED, 'release');
  p.call(JIFFIES64)
    .load(4, 1, connection, need(kernel.fields, timeout))
    .subtract(1, reg(0))
    .load(2, 2, stack, PROTOCOL)
    .jump('==', 2, UDP, 'udp')
    .jump('s<=', 1, (TCP_ESTABLISHED / 2) * ticks, 'release')
    .go('fresh')
    .label('udp')
    .jump('s<=', 1, (UDP_STREAM / 2) * ticks, 'release')
    .label('fresh');
  releaseConnection();
  p.firstValue(1, generation).load(4, 1, 1, 0).load(8, 2, stack, NOW).jump('!=', 1, reg(2), 'pass');
  p.call(JIFFIES64).add(0, memory);
  p.load(8, receiver, stack, PLACE);
  for (let part = 0; part < WAY; part += 8)
    p.load(8, 1, stack, VALUE + part).store(8, receiver, part, reg(1));
  for (let part = 0; part < FLOW_KEY; part += 8)
    p.load(8, 1, stack, KEY + part).store(8, receiver, FLOW_KEY_AT + part, reg(1));
  p.load(8, 1, stack, NOW).store(4, receiver, GENERATION, reg(1));
  p.load(4, 1, stack, COUNTER).store(4, receiver, ENDED, reg(1));
  p.store(4, receiver, OVER, reg(0)).load(4, 1, stack, ASKS).jump('==', 1, 0, 'forward').go('pass');

  p.label('release');
  releaseConnection();
  p.go('pass');
  // From now on conntrack sees all of it, whose entry does not live as long any more.
  p.label('ends').set(1, 1).addShared(2, 0, reg(1));
  p.label('pass').set(0, TC_ACT_UNSPEC).exit();
  return p.code();
}

export interface Endpoint {
  /** Index of the device that leads there. */
  readonly device: number;
  readonly network: number;
  readonly mac: string;
  /** On another host. */
  readonly remote: boolean;
  readonly senderMac: string;
  /** Of the device. */
  readonly mtu: number;
  /** Its VLAN's device; undefined: it is in none. */
  readonly wire?: { readonly device: number; readonly mtu: number } | undefined;
}

export function endpointValue({ device, network, mac, remote, senderMac, mtu, wire }: Endpoint): Buffer {
  const value = Buffer.alloc(ENDPOINT);
  value.writeUInt32LE(device, DEVICE);
  value.writeUInt32LE(network, NETWORK);
  macBytes(mac).copy(value, MAC);
  value.writeUInt16LE(remote ? 1 : 0, REMOTE);
  macBytes(senderMac).copy(value, SENDER_MAC);
  value.writeUInt16LE(mtu, MTU);
  value.writeUInt32LE(wire?.device ?? 0, WIRE);
  value.writeUInt32LE(wire?.mtu ?? 0, WIRE_MTU);
  return value;
}

const MAPPED = Buffer.from('00000000000000000000ffff', 'hex');

export const keyOfAddress = (address: string): Buffer =>
  isV6(address) ? addressBytes(address) : Buffer.concat([MAPPED, addressBytes(address)]);

export const addressOfKey = (key: Buffer): string =>
  addressText(key.subarray(0, MAPPED.length).equals(MAPPED) ? key.subarray(MAPPED.length) : key);

/** A program that is loaded, by file descriptors. */
export interface FastProgram {
  readonly maps: Maps;
  readonly program: number;
  /** The kernel's number of the program. */
  readonly id: number;
  /** Endpoints that there is room for. */
  readonly room: number;
}

function load(maps: Maps): number {
  const kernel = conntrackTypes();
  const code = program(maps, kernel);
  if (kernel.module === undefined) return bpf.loadProgram(NAME, code);
  const module = bpf.openModuleTypes(kernel.module);
  try {
    return bpf.loadProgram(NAME, code, module);
  } finally {
    bpf.closeBpf(module);
  }
}

/** With empty maps. Throws where the kernel lacks what it takes. */
export function openProgram(room: number): FastProgram {
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  try {
    const maps: Maps = {
      endpoints: keep(bpf.createMap('hash', 'contiv_ends', ADDRESS, ENDPOINT, room)),
      flows: keep(bpf.createMap('each', 'contiv_flows', 4, FLOW, FLOWS)),
      ended: keep(bpf.createMap('array', 'contiv_ended', 4, 4 * COUNTERS, 1)),
      generation: keep(bpf.createMap('array', 'contiv_now', 4, 4, 1)),
    };
    const loaded = keep(load(maps));
    return { maps, program: loaded, id: bpf.programId(loaded), room };
  } catch (error) {
    opened.forEach(bpf.closeBpf);
    throw error;
  }
}

export function closeProgram({ maps, program }: FastProgram): void {
  bpf.closeBpf(program);
  for (const map of Object.values(maps)) bpf.closeBpf(map);
}
