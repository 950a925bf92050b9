/**
 * Traffic control over rtnetlink (tc(8)): token buckets, and the redirection of what a device receives to an IFB, as
 * requests to send and lists to read. Numbers are those of linux/rtnetlink.h, pkt_sched.h, pkt_cls.h and
 * tc_act/tc_mirred.h.
 *
 *   qdisc    what a device's packets queue in; `root` sends, `ingress` only holds filters for what arrives
 *   filter   of a qdisc; those here match every packet: one redirects it to another device's root qdisc, one has an eBPF
 *            program decide (bpf.ts)
 *
 * An IFB (drivers/net/ifb.c) gives back what was redirected to it from an ingress as received by the device that it
 * came from: a queue for what a device receives.
 */
import {
  type Attributes,
  attribute,
  listAttributes,
  type Netlink,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  nested,
  type Request,
  readAttributes,
  readText,
  text,
  u32,
  u64,
} from './netlink.ts';

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_DELTFILTER = 45;
const RTM_GETTFILTER = 46;

const TCA_KIND = 1;
const TCA_OPTIONS = 2;

/** Parents of a device's own qdiscs. */
export const ROOT = 0xffffffff;
export const INGRESS = 0xfffffff1;
/** The kernel knows an ingress qdisc by this handle alone (net/sched/sch_api.c, tc_modify_qdisc). */
const INGRESS_HANDLE = 0xffff0000;

const EMPTY = Buffer.alloc(0);

/** struct tcmsg. */
function header(device: number, handle: number, parent: number, info = 0): Buffer {
  const out = Buffer.alloc(20);
  out.writeInt32LE(device, 4);
  out.writeUInt32LE(handle, 8);
  out.writeUInt32LE(parent, 12);
  out.writeUInt32LE(info, 16);
  return out;
}

const kindOf = (attributes: Attributes): string => readText(attributes.get(TCA_KIND));

// ---- qdiscs

/** tc-tbf(8), without a peak rate. */
export interface TokenBucket {
  /** Bytes of frames a second: IP packet and Ethernet header, without preamble and checksum. */
  readonly rate: number;
  /**
   * Bytes that may pass at once, and the longest packet that passes at all: a longer one is cut where it is a
   * super-packet of the kernel's (GSO), else dropped (net/sched/sch_tbf.c, tbf_enqueue).
   */
  readonly burst: number;
  /** Bytes that may wait; what comes on top is dropped. */
  readonly queue: number;
}

export interface Qdisc {
  /** Index of the device. */
  readonly device: number;
  /** `tbf`, `ingress`, `noqueue`, ... */
  readonly kind: string;
  /** Major number in the upper 16 bits; 0 for one that the kernel put there itself. */
  readonly handle: number;
  readonly parent: number;
  /** Of a `tbf`. Its burst is read back in steps of 64 ns at its rate: compare with sameBurst. */
  readonly bucket?: TokenBucket;
}

const TCA_TBF_PARMS = 1;
const TCA_TBF_RATE64 = 4;
const TCA_TBF_BURST = 6;
const TC_LINKLAYER_ETHERNET = 1;
/** The kernel counts burst as time, a tick is 64 ns (include/net/pkt_sched.h, PSCHED_SHIFT). */
const TICK_NS = 64;
const U32_MAX = 0xffffffff;

/**
 * A root qdisc. One of kind tbf with this handle is changed where it is, with all that waits in it; any other is
 * replaced, and what waits in that is lost.
 *
 * A packet that waits already and is longer than a smaller burst would block a changed bucket for ever (tbf_dequeue
 * waits for more tokens than it may hold): where the burst becomes smaller, give another handle.
 *
 * The link layer is named, so the kernel wants no rate table (tbf_change).
 */
export function setTokenBucket(device: number, handle: number, bucket: TokenBucket): Request {
  const parameters = Buffer.alloc(36); // struct tc_tbf_qopt: two of tc_ratespec (12 bytes), limit, buffer, mtu
  parameters[1] = TC_LINKLAYER_ETHERNET;
  parameters.writeUInt32LE(Math.min(bucket.rate, U32_MAX), 8);
  parameters.writeUInt32LE(bucket.queue, 24);
  return {
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    text: `qdisc replace dev ${device} root tbf rate ${bucket.rate}bps burst ${bucket.burst}`,
    body: Buffer.concat([
      header(device, handle, ROOT),
      attribute(TCA_KIND, text('tbf')),
      nested(
        TCA_OPTIONS,
        attribute(TCA_TBF_PARMS, parameters),
        attribute(TCA_TBF_BURST, u32(bucket.burst)),
        ...(bucket.rate > U32_MAX ? [attribute(TCA_TBF_RATE64, u64(bucket.rate))] : []),
      ),
    ]),
  };
}

/** Whether a burst that was set reads back as the other, both at this rate. */
export function sameBurst(set: number, read: number, rate: number): boolean {
  const step = (TICK_NS * rate) / 1e9;
  return Math.abs(set - read) <= 2 * step + 1;
}

/**
 * A qdisc that holds filters for what arrives at a device, of which it can have one: `ingress` or `clsact`, which differ in
 * what else they hold.
 */
const addArriving = (device: number, kind: 'ingress' | 'clsact'): Request => ({
  type: RTM_NEWQDISC,
  flags: NLM_F_CREATE | NLM_F_EXCL,
  text: `qdisc add dev ${device} ${kind}`,
  body: Buffer.concat([header(device, INGRESS_HANDLE, INGRESS), attribute(TCA_KIND, text(kind))]),
});

export const addIngress = (device: number): Request => addArriving(device, 'ingress');
export const addClassAction = (device: number): Request => addArriving(device, 'clsact');
export const deleteClassAction = (device: number): Request =>
  deleteQdisc({ device, kind: 'clsact', handle: INGRESS_HANDLE, parent: INGRESS });

/** Its filters go with it, and what waits in it is lost. */
export function deleteQdisc(qdisc: Qdisc): Request {
  return {
    type: RTM_DELQDISC,
    flags: 0,
    text: `qdisc del dev ${qdisc.device} ${qdisc.kind}`,
    body: header(qdisc.device, qdisc.handle, qdisc.parent),
  };
}

/** Of all devices of the socket's namespace, without the classes' own. */
export function listQdiscs(netlink: Netlink): Qdisc[] {
  return netlink
    .dump({ type: RTM_GETQDISC, flags: 0, body: header(0, 0, 0), text: 'qdisc show' })
    .flatMap(({ body }) => {
      const attributes = readAttributes(body.subarray(20));
      const parent = body.readUInt32LE(12);
      if (parent !== ROOT && parent !== INGRESS) return [];
      const kind = kindOf(attributes);
      const bucket = kind === 'tbf' ? readTokenBucket(attributes.get(TCA_OPTIONS)) : undefined;
      return [
        {
          device: body.readInt32LE(4),
          kind,
          handle: body.readUInt32LE(8),
          parent,
          ...(bucket === undefined ? {} : { bucket }),
        } satisfies Qdisc,
      ];
    });
}

function readTokenBucket(options: Buffer | undefined): TokenBucket | undefined {
  const attributes = readAttributes(options ?? EMPTY);
  const parameters = attributes.get(TCA_TBF_PARMS);
  if (parameters === undefined) return undefined;
  const rate64 = attributes.get(TCA_TBF_RATE64);
  const rate = rate64 === undefined ? parameters.readUInt32LE(8) : Number(rate64.readBigUInt64LE());
  return {
    rate,
    burst: Math.round((parameters.readUInt32LE(28) * TICK_NS * rate) / 1e9),
    queue: parameters.readUInt32LE(24),
  };
}

// ---- filters

export interface Filter {
  readonly kind: string;
  /** Index of the device that every packet is redirected to; absent for a filter that does anything else. */
  readonly redirect?: number;
  /** Number of the eBPF program that decides; absent for any other filter. */
  readonly program?: number;
  /** Absent: the first. */
  readonly priority?: number;
}

const ETH_P_ALL = 3;
const PRIORITY = 1;
const TCA_U32_SEL = 5;
const TCA_U32_ACT = 7;
const TC_U32_TERMINAL = 1;
const TCA_ACT_KIND = 1;
const TCA_ACT_OPTIONS = 2;
const TCA_MIRRED_PARMS = 2;
const TC_ACT_STOLEN = 4;
const TCA_EGRESS_REDIR = 1;
/** For what arrives at a clsact qdisc (TC_H_MIN_INGRESS). */
const ARRIVING = 0xfffffff2;
const TCA_BPF_FD = 6;
const TCA_BPF_NAME = 7;
const TCA_BPF_FLAGS = 8;
const TCA_BPF_ID = 11;
const TCA_BPF_FLAG_ACT_DIRECT = 1;
const SELECTOR = 16; // struct tc_u32_sel, before its keys
const KEY = 16; // struct tc_u32_key: mask, value, offset, offset's mask

/** Every protocol's packets, at the first priority where no other is given. */
function everyPacket(priority = PRIORITY): number {
  const protocol = Buffer.alloc(2);
  protocol.writeUInt16BE(ETH_P_ALL);
  return ((priority << 16) | protocol.readUInt16LE()) >>> 0;
}

/**
 * Has a program (by its file descriptor) decide about what arrives at a device with a clsact qdisc, in place of the one
 * that did: its answer is the action (linux/pkt_cls.h), -1 goes on as if there were no filter.
 */
export function setProgram(device: number, program: number, name: string, priority?: number): Request {
  return {
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    text: `filter replace dev ${device} ingress bpf ${name} direct-action`,
    body: Buffer.concat([
      header(device, 1, ARRIVING, everyPacket(priority)),
      attribute(TCA_KIND, text('bpf')),
      nested(
        TCA_OPTIONS,
        attribute(TCA_BPF_FD, u32(program)),
        attribute(TCA_BPF_NAME, text(name)),
        attribute(TCA_BPF_FLAGS, u32(TCA_BPF_FLAG_ACT_DIRECT)),
      ),
    ]),
  };
}

/** What setProgram made at this priority; others' filters stay. */
export const deleteProgram = (device: number, priority: number): Request => ({
  type: RTM_DELTFILTER,
  flags: 0,
  text: `filter delete dev ${device} ingress pref ${priority}`,
  body: Buffer.concat([header(device, 1, ARRIVING, everyPacket(priority)), attribute(TCA_KIND, text('bpf'))]),
});

/**
 * A filter of an ingress qdisc, as `tc filter add dev X ingress protocol all u32 match u32 0 0 action mirred egress
 * redirect dev Y`. What cannot be redirected because Y is gone is dropped.
 */
export function addRedirect(device: number, to: number): Request {
  const selector = Buffer.alloc(SELECTOR + KEY); // one key whose mask is 0: every packet matches
  selector[0] = TC_U32_TERMINAL;
  selector[2] = 1;
  const mirred = Buffer.alloc(28); // struct tc_mirred
  mirred.writeInt32LE(TC_ACT_STOLEN, 8);
  mirred.writeInt32LE(TCA_EGRESS_REDIR, 20);
  mirred.writeUInt32LE(to, 24);
  return {
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    text: `filter add dev ${device} ingress u32 redirect to ${to}`,
    body: Buffer.concat([
      header(device, 0, INGRESS_HANDLE, everyPacket()),
      attribute(TCA_KIND, text('u32')),
      nested(
        TCA_OPTIONS,
        attribute(TCA_U32_SEL, selector),
        nested(
          TCA_U32_ACT,
          nested(
            1, // the first action
            attribute(TCA_ACT_KIND, text('mirred')),
            nested(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, mirred)),
          ),
        ),
      ),
    ]),
  };
}

/** Of the device's ingress or clsact qdisc, for what arrives; none where it has no such. The kernel lists them by device only. */
export function listFilters(netlink: Netlink, device: number): Filter[] {
  return netlink
    .dump({
      type: RTM_GETTFILTER,
      flags: 0,
      body: header(device, 0, ARRIVING),
      text: `filter show dev ${device} ingress`,
    })
    .flatMap(({ body }) => {
      const attributes = readAttributes(body.subarray(20));
      const about = attributes.get(TCA_OPTIONS) ?? EMPTY;
      const options = readAttributes(about);
      const kind = kindOf(attributes);
      const selector = options.get(TCA_U32_SEL);
      // A filter's kind and its hash tables come as entries of their own.
      if (about.length === 0 || (kind === 'u32' && selector === undefined)) return [];
      const redirect = matchesAll(selector) ? redirectOf(options.get(TCA_U32_ACT)) : undefined;
      const priority = body.readUInt32LE(16) >>> 16;
      const program = kind === 'bpf' ? options.get(TCA_BPF_ID)?.readUInt32LE() : undefined;
      return [
        {
          kind,
          ...(redirect === undefined ? {} : { redirect }),
          ...(program === undefined ? {} : { program }),
          ...(priority === PRIORITY ? {} : { priority }),
        } satisfies Filter,
      ];
    });
}

function matchesAll(selector: Buffer | undefined): boolean {
  if (selector === undefined) return false;
  for (let key = 0; key < (selector[2] ?? 0); key++)
    if (selector.readUInt32BE(SELECTOR + key * KEY) !== 0) return false;
  return true;
}

function redirectOf(actions: Buffer | undefined): number | undefined {
  const [first, ...more] = listAttributes(actions ?? EMPTY);
  if (first === undefined || more.length > 0) return undefined;
  const action = readAttributes(first[1]);
  const mirred = readAttributes(action.get(TCA_ACT_OPTIONS) ?? EMPTY).get(TCA_MIRRED_PARMS);
  if (action.get(TCA_ACT_KIND)?.toString('utf8') !== 'mirred\0' || mirred === undefined) return undefined;
  return mirred.readInt32LE(20) === TCA_EGRESS_REDIR ? mirred.readUInt32LE(24) : undefined;
}
