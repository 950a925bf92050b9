/**
 * What became of packets that a rule has marked (`meta nftrace set 1`): which chain dropped each (linux/netfilter/nf_tables.h,
 * nft_trace_attributes). The kernel tells everybody in the namespace who asks, while the packet is on its way.
 */
import * as libc from './libc.ts';
import { NETLINK_NETFILTER, readAttributes, readText } from './netlink.ts';

const NFNLGRP_NFTRACE = 9;
const NFT_MSG_TRACE = (10 << 8) | 17;
const NFTA_TRACE_TABLE = 1;
const NFTA_TRACE_CHAIN = 2;
const NFTA_TRACE_TYPE = 4;
const NFTA_TRACE_VERDICT = 5;
const NFTA_TRACE_POLICY = 16;
const NFTA_VERDICT_CODE = 1;
const NFT_TRACETYPE_POLICY = 1;
const NF_DROP = 0;
const HEADER = 16;
/** Of a table, by its number (linux/netfilter.h). */
const FAMILIES: Readonly<Record<number, string>> = {
  1: 'inet',
  2: 'ip',
  5: 'netdev',
  7: 'bridge',
  10: 'ip6',
};

export interface TracedDrop {
  /** `ip filter`. */
  readonly table: string;
  readonly chain: string;
  /** The chain's policy, or one of its rules. */
  readonly by: 'policy' | 'rule';
}

export interface Trace {
  /** Drops since the last call, without waiting. */
  read(): TracedDrop[];
  close(): void;
}

/** In the thread's current namespace. */
export function openTrace(): Trace {
  const fd = libc.socket(libc.AF_NETLINK, libc.SOCK_RAW | libc.SOCK_CLOEXEC, NETLINK_NETFILTER);
  const address = Buffer.alloc(12); // struct sockaddr_nl
  address.writeUInt16LE(libc.AF_NETLINK, 0);
  address.writeUInt32LE(1 << (NFNLGRP_NFTRACE - 1), 8);
  libc.bind(fd, address, address.length);
  const buffer = Buffer.alloc(1 << 16);
  return {
    read() {
      const drops: TracedDrop[] = [];
      for (;;) {
        const length = libc.received(fd, buffer);
        if (length === 'nothing') return drops;
        if (length === 'lost') continue;
        for (let at = 0; at + HEADER <= length; at += (buffer.readUInt32LE(at) + 3) & ~3) {
          if (buffer.readUInt16LE(at + 4) !== NFT_MSG_TRACE) continue;
          const drop = readDrop(buffer.subarray(at + HEADER, at + buffer.readUInt32LE(at)));
          if (drop !== undefined) drops.push(drop);
        }
      }
    },
    close: () => libc.close(fd),
  };
}

/** After struct nfgenmsg, whose first byte is the table's family; undefined: it went on. */
function readDrop(body: Buffer): TracedDrop | undefined {
  const attributes = readAttributes(body.subarray(4));
  const byPolicy = attributes.get(NFTA_TRACE_TYPE)?.readUInt32BE() === NFT_TRACETYPE_POLICY;
  const verdict = readAttributes(attributes.get(NFTA_TRACE_VERDICT) ?? Buffer.alloc(0)).get(
    NFTA_VERDICT_CODE,
  );
  const decided = byPolicy ? attributes.get(NFTA_TRACE_POLICY) : verdict;
  if (decided?.readUInt32BE() !== NF_DROP) return undefined;
  const family = FAMILIES[body[0] ?? 0] ?? String(body[0]);
  return {
    table: `${family} ${readText(attributes.get(NFTA_TRACE_TABLE))}`,
    chain: readText(attributes.get(NFTA_TRACE_CHAIN)),
    by: byPolicy ? 'policy' : 'rule',
  };
}
