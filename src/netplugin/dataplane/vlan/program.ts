/**
 * The programs of VLAN networks, and their maps.
 *
 *   arriving   at the uplink: a frame with a tag of a network's loses it, and goes to the network's device; any other passes as if
 *              there were no program, so what the host has untagged or in VLANs of its own is not touched
 *   leaving    at the host's end of a network's device: all that comes gets the network's tag, and leaves by the uplink; nothing
 *              passes to the host, whatever happens
 *
 * What is for the router's own MAC address goes to its end at once, as if it had arrived there: no queue between two processors' turns, and no
 * second look at whom it is for, so the program says that it is for this machine, whatever the uplink's own address is. All else (broadcast,
 * groups, others' addresses) goes through the device, whose other end sorts it.
 *
 * A tag is part of what the kernel knows of a frame, whoever took it off the bytes (linux/if_vlan.h, skb_vlan_tag_present): this needs
 * no 8021q. A frame with a second tag inside is dropped here: it would come to the router as one of another VLAN's.
 */
import { macBytes } from '../../../linux/address.ts';
import * as bpf from '../../../linux/bpf.ts';
import { assemble, reg } from '../../../linux/ebpf.ts';

/** Of ids, each of which has one entry in either map. */
export const ROOM = 4096;
export const ARRIVING = 'contiv_vlan_in';
export const LEAVING = 'contiv_vlan_out';

// struct __sk_buff, linux/bpf.h
const SKB_VLAN_PRESENT = 20;
const SKB_VLAN_TCI = 24;
const SKB_VLAN_PROTO = 28;
const SKB_DEVICE = 40;
const SKB_DATA = 76;
const SKB_DATA_END = 80;
const PACKET_HOST = 0;
// helpers, linux/bpf.h
const MAP_LOOKUP = 1;
const VLAN_PUSH = 18;
const VLAN_POP = 19;
const REDIRECT = 23;
const CHANGE_TYPE = 32;
const REDIRECT_PEER = 155;
// linux/pkt_cls.h
const TC_ACT_UNSPEC = -1;
const TC_ACT_SHOT = 2;
/** 802.1Q as it stands in a frame, read on a processor that has the lowest byte first, as all that this runs on. */
const TAGGED = 0x0081;
const ID_BITS = 0xfff;
const KEY = -4;
const MAC = -12;
const ETHERNET = 14;

/** Bytes of where a VLAN's frames go. */
export const ARRIVAL = 12;

/** id -> index of the device, the router's MAC address */
const arriving = (map: number): Buffer =>
  assemble()
    .set(6, reg(1))
    .load(4, 2, 6, SKB_VLAN_PRESENT)
    .jump('==', 2, 0, 'pass')
    .load(4, 2, 6, SKB_VLAN_PROTO)
    .jump('!=', 2, TAGGED, 'pass')
    .load(4, 2, 6, SKB_VLAN_TCI)
    .and(2, ID_BITS)
    .store(4, 10, KEY, reg(2))
    .map(1, map)
    .set(2, reg(10))
    .add(2, KEY)
    .call(MAP_LOOKUP)
    .jump('==', 0, 0, 'pass')
    .load(4, 7, 0, 0)
    .load(4, 2, 0, 4)
    .store(4, 10, MAC, reg(2))
    .load(2, 2, 0, 8)
    .store(2, 10, MAC + 4, reg(2))
    .set(1, reg(6))
    .call(VLAN_POP)
    .jump('!=', 0, 0, 'drop')
    .load(4, 2, 6, SKB_VLAN_PRESENT)
    .jump('!=', 2, 0, 'drop')
    .load(4, 1, 6, SKB_DATA)
    .load(4, 2, 6, SKB_DATA_END)
    .set(3, reg(1))
    .add(3, ETHERNET)
    .jump('>', 3, reg(2), 'other')
    .load(4, 2, 1, 0)
    .load(4, 3, 10, MAC)
    .jump('!=', 2, reg(3), 'other')
    .load(2, 2, 1, 4)
    .load(2, 3, 10, MAC + 4)
    .jump('!=', 2, reg(3), 'other')
    .set(1, reg(6))
    .set(2, PACKET_HOST)
    .call(CHANGE_TYPE)
    .jump('!=', 0, 0, 'drop')
    .set(1, reg(7))
    .set(2, 0)
    .call(REDIRECT_PEER)
    .exit()
    .label('other')
    .set(1, reg(7))
    .set(2, 0)
    .call(REDIRECT)
    .exit()
    .label('pass')
    .set(0, TC_ACT_UNSPEC)
    .exit()
    .label('drop')
    .set(0, TC_ACT_SHOT)
    .exit()
    .code();

/** index of the device -> id, index of the uplink */
const leaving = (map: number): Buffer =>
  assemble()
    .set(6, reg(1))
    .load(4, 2, 6, SKB_VLAN_PRESENT)
    .jump('!=', 2, 0, 'drop')
    .load(4, 2, 6, SKB_DEVICE)
    .store(4, 10, KEY, reg(2))
    .map(1, map)
    .set(2, reg(10))
    .add(2, KEY)
    .call(MAP_LOOKUP)
    .jump('==', 0, 0, 'drop')
    .load(4, 7, 0, 0)
    .load(4, 8, 0, 4)
    .set(1, reg(6))
    .set(2, TAGGED)
    .set(3, reg(7))
    .call(VLAN_PUSH)
    .jump('!=', 0, 0, 'drop')
    .set(1, reg(8))
    .set(2, 0)
    .call(REDIRECT)
    .exit()
    .label('drop')
    .set(0, TC_ACT_SHOT)
    .exit()
    .code();

interface Loaded {
  readonly map: number;
  readonly program: number;
  /** The kernel's number of the program. */
  readonly id: number;
}

export interface VlanPrograms {
  readonly arriving: Loaded;
  readonly leaving: Loaded;
}

/** With empty maps. Throws where the kernel lacks what it takes. */
export function openPrograms(): VlanPrograms {
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  const load = (name: string, valueSize: number, code: (map: number) => Buffer): Loaded => {
    const map = keep(bpf.createMap('hash', name, 4, valueSize, ROOM));
    const program = keep(bpf.loadProgram(name, code(map)));
    return { map, program, id: bpf.programId(program) };
  };
  try {
    return { arriving: load(ARRIVING, ARRIVAL, arriving), leaving: load(LEAVING, 8, leaving) };
  } catch (error) {
    opened.forEach(bpf.closeBpf);
    throw error;
  }
}

export function closePrograms(programs: VlanPrograms): void {
  for (const { map, program } of [programs.arriving, programs.leaving]) {
    bpf.closeBpf(program);
    bpf.closeBpf(map);
  }
}

/**
 * Where a VLAN's frames go: through the device with this index, or, those for `mac`, at once to its other end, which is in another
 * namespace; without one, all through it.
 */
export const arrivalValue = (device: number, mac = '00:00:00:00:00:00'): Buffer =>
  Buffer.concat([numbers(device), macBytes(mac), Buffer.alloc(2)]);

export const numbers = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, 4 * i);
  return bytes;
};
