/**
 * Elements of nftables sets and maps, named counters, and rule sets of one generation, straight by nfnetlink (linux/netfilter/nf_tables.h): what libnftables, which
 * reads its cache anew for each question, takes milliseconds for is one request of some microseconds here. Tables of
 * family inet. Keys are as the kernel's registers hold them: each field padded to 4 bytes, addresses and ports in network
 * byte order, marks in the host's.
 */
import {
  attribute,
  listAttributes,
  type Netlink,
  NetlinkError,
  nested,
  readAttributes,
  readText,
  text,
  u32be,
} from './netlink.ts';

const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_DELTABLE = (NFNL_SUBSYS_NFTABLES << 8) | 2;
const NFT_MSG_GETCHAIN = (NFNL_SUBSYS_NFTABLES << 8) | 4;
const NFT_MSG_GETSETELEM = (NFNL_SUBSYS_NFTABLES << 8) | 13;
const NFT_MSG_GETGEN = (NFNL_SUBSYS_NFTABLES << 8) | 16;
const NFT_MSG_GETOBJ = (NFNL_SUBSYS_NFTABLES << 8) | 19;
const NFPROTO_INET = 1;
const NFPROTO_IPV4 = 2;
const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
const NFNL_BATCH_GENID = 1;
const NFTA_TABLE_NAME = 1;
const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_GEN_ID = 1;
const NFTA_SET_ELEM_LIST_TABLE = 1;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_EXPR = 7;
const NFTA_DATA_VALUE = 1;
const NFTA_EXPR_DATA = 2;
const NFTA_COUNTER_BYTES = 1;
const NFTA_COUNTER_PACKETS = 2;
const NFTA_OBJ_TABLE = 1;
const NFTA_OBJ_NAME = 2;
const NFTA_OBJ_TYPE = 3;
const NFTA_OBJ_DATA = 4;
const NFT_OBJECT_COUNTER = 1;
const EMPTY = Buffer.alloc(0);

export interface SetElement {
  readonly key: Buffer;
  /** A map's value; empty for a set. */
  readonly data: Buffer;
  /** 0 where it does not count. */
  readonly packets: number;
  readonly bytes: number;
}

const body = (table: string, set: string, ...more: Buffer[]): Buffer =>
  Buffer.concat([
    Buffer.of(NFPROTO_INET, 0, 0, 0), // struct nfgenmsg
    attribute(NFTA_SET_ELEM_LIST_TABLE, text(table)),
    attribute(NFTA_SET_ELEM_LIST_SET, text(set)),
    ...more,
  ]);

/** All elements. Throws a NetlinkError ENOENT where there is no such table or set. */
export function listElements(netlink: Netlink, table: string, set: string): SetElement[] {
  return netlink
    .dump({
      type: NFT_MSG_GETSETELEM,
      flags: 0,
      body: body(table, set),
      text: `nft list set ${table} ${set}`,
    })
    .flatMap((message) => readElements(message.body));
}

/**
 * The element with this key, or of an interval map the one whose interval the key is in; undefined where there is none,
 * and where there is no such set.
 */
export function findElement(
  netlink: Netlink,
  table: string,
  set: string,
  key: Buffer,
): SetElement | undefined {
  const wanted = nested(NFTA_LIST_ELEM, nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, key)));
  const answer = netlink.get({
    type: NFT_MSG_GETSETELEM,
    flags: 0,
    body: body(table, set, nested(NFTA_SET_ELEM_LIST_ELEMENTS, wanted)),
    text: `nft get element ${table} ${set}`,
  });
  return answer && readElements(answer.body)[0];
}

function readElements(message: Buffer): SetElement[] {
  const list = readAttributes(message.subarray(4)).get(NFTA_SET_ELEM_LIST_ELEMENTS) ?? EMPTY;
  return listAttributes(list).map(([, element]) => {
    const fields = readAttributes(element);
    const value = (type: number): Buffer =>
      readAttributes(fields.get(type) ?? EMPTY).get(NFTA_DATA_VALUE) ?? EMPTY;
    const expression = readAttributes(fields.get(NFTA_SET_ELEM_EXPR) ?? EMPTY);
    const counter = readAttributes(expression.get(NFTA_EXPR_DATA) ?? EMPTY);
    const count = (type: number): number => Number(counter.get(type)?.readBigUInt64BE() ?? 0n);
    return {
      key: value(NFTA_SET_ELEM_KEY),
      data: value(NFTA_SET_ELEM_DATA),
      packets: count(NFTA_COUNTER_PACKETS),
      bytes: count(NFTA_COUNTER_BYTES),
    };
  });
}

/** Packets of a table's named counters; none where there is no such table. */
export function listCounters(netlink: Netlink, table: string): Map<string, number> {
  const messages = netlink.dump({
    type: NFT_MSG_GETOBJ,
    flags: 0,
    body: Buffer.concat([
      Buffer.of(NFPROTO_INET, 0, 0, 0), // struct nfgenmsg
      attribute(NFTA_OBJ_TABLE, text(table)),
      attribute(NFTA_OBJ_TYPE, u32be(NFT_OBJECT_COUNTER)),
    ]),
    text: `nft list counters table ${table}`,
  });
  return new Map(
    messages.map(({ body }) => {
      const fields = readAttributes(body.subarray(4));
      const counter = readAttributes(fields.get(NFTA_OBJ_DATA) ?? EMPTY);
      const packets = counter.get(NFTA_COUNTER_PACKETS)?.readBigUInt64BE() ?? 0n;
      return [readText(fields.get(NFTA_OBJ_NAME) ?? EMPTY), Number(packets)];
    }),
  );
}

/** Chains of all tables of family ip. */
export function listChains(netlink: Netlink): { readonly table: string; readonly name: string }[] {
  const body = Buffer.of(NFPROTO_IPV4, 0, 0, 0); // struct nfgenmsg
  return netlink
    .dump({ type: NFT_MSG_GETCHAIN, flags: 0, body, text: 'nft list chains ip' })
    .map((message) => {
      const fields = readAttributes(message.body.subarray(4));
      const field = (type: number): string => readText(fields.get(type) ?? EMPTY);
      return { table: field(NFTA_CHAIN_TABLE), name: field(NFTA_CHAIN_NAME) };
    });
}

/** Generation of the rule set of the socket's namespace: each transaction, whoever's, makes a new one. */
export function readGeneration(netlink: Netlink): number {
  const request = { type: NFT_MSG_GETGEN, flags: 0, body: Buffer.alloc(4), text: 'nft generation' };
  const answer = netlink.get(request);
  return (
    readAttributes(answer?.body.subarray(4) ?? EMPTY)
      .get(NFTA_GEN_ID)
      ?.readUInt32BE() ?? 0
  );
}

/**
 * Deletes tables of family ip, in one transaction, where the rule set still is of this generation; false: somebody has changed
 * it since, and nothing is deleted (net/netfilter/nfnetlink.c, nfnetlink_rcv_batch).
 */
export function deleteTables(netlink: Netlink, names: readonly string[], generation: number): boolean {
  const frame = Buffer.of(0, 0, 0, NFNL_SUBSYS_NFTABLES); // struct nfgenmsg: the subsystem, big-endian
  const at = attribute(NFNL_BATCH_GENID, u32be(generation));
  try {
    netlink.transact(
      { type: NFNL_MSG_BATCH_BEGIN, flags: 0, body: Buffer.concat([frame, at]), text: 'nft transaction' },
      names.map((name) => ({
        type: NFT_MSG_DELTABLE,
        flags: 0,
        body: Buffer.concat([Buffer.of(NFPROTO_IPV4, 0, 0, 0), attribute(NFTA_TABLE_NAME, text(name))]),
        text: `nft delete table ip ${name}`,
      })),
      { type: NFNL_MSG_BATCH_END, flags: 0, body: frame, text: 'nft transaction' },
    );
    return true;
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ERESTART') return false;
    throw error;
  }
}
