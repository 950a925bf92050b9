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
 *
 * A network whose groups have tags of their own (Vlan.tags) has one device all the same. A third map says which address goes by which:
 *
 *   leaving    by the tag of who sends it, answers for himself by ARP or is answered for by neighbour discovery, and by the host's MAC
 *              address in that tag, also in the answer itself: whoever is of the network and of no such group has the network's. What is from
 *              another network, or the router's own, for a container on another host goes by the tag of whom it is for, which that host's MAC
 *              address says; whatever else, by the network's tag
 *   arriving   what is for an address by its tag alone, so nobody comes round what the fabric lets pass between two tags. What is for
 *              nobody in particular, such as who tells all that he has moved, by any; a packet for another address by the network's tag
 *
 * That map is written by the agent alone, and read by all processors meanwhile. Its memory is another element's at once after a removal
 * (kernel/bpf/hashtab.c), so a tag that was found counts only where the same address is found with the same tag once more: what was
 * read of another one in between is not there then, and the frame is dropped. A tag is one word, so no half of it is read.
 */
import { addressBytes, macBytes } from '../../../linux/address.ts';
import * as bpf from '../../../linux/bpf.ts';
import { type Assembler, assemble, reg } from '../../../linux/ebpf.ts';

/** Of ids, each of which has one entry in either map. */
export const ROOM = 4096;
export const ARRIVING = 'contiv_vlan_in';
export const LEAVING = 'contiv_vlan_out';
export const TAGS = 'contiv_vlan_tag';
/** Addresses of containers here, in networks that have tags of groups. */
export const TAGS_ROOM = 1 << 16;

// struct __sk_buff, linux/bpf.h
const SKB_PROTOCOL = 16;
const SKB_VLAN_PRESENT = 20;
const SKB_VLAN_TCI = 24;
const SKB_VLAN_PROTO = 28;
const SKB_DEVICE = 40;
const SKB_DATA = 76;
const SKB_DATA_END = 80;
const PACKET_HOST = 0;
// helpers, linux/bpf.h
const MAP_LOOKUP = 1;
const STORE_BYTES = 9;
const CHECKSUM_REPLACE = 11;
const VLAN_PUSH = 18;
const VLAN_POP = 19;
const REDIRECT = 23;
const LOAD_BYTES = 26;
const CHECKSUM_DIFFERENCE = 28;
const CHANGE_TYPE = 32;
const REDIRECT_PEER = 155;
const OF_PSEUDO_HEADER = 1 << 4;
// linux/pkt_cls.h
const TC_ACT_UNSPEC = -1;
const TC_ACT_SHOT = 2;
/** 802.1Q as it stands in a frame, read on a processor that has the lowest byte first, as all that this runs on. */
const TAGGED = 0x0081;
const ID_BITS = 0xfff;
const ETHERNET = 14;
/** As they stand in a frame, read like TAGGED. */
const IPV4 = 0x0008;
const IPV6 = 0xdd86;
const ARP = 0x0608;
/** From the beginning of a frame. */
const AT = {
  source: 6,
  arp: { mac: 22, sender: 28, target: 38 },
  ip4: { sender: 26, receiver: 30 },
  ip6: { next: 20, sender: 22, receiver: 38 },
  // The first option of a solicitation, or of an advertisement, as the kernel and we send them (RFC 4861, 4.3, 4.4, 4.6.1).
  nd: { type: 54, checksum: 56, target: 62, option: 78, mac: 80 },
} as const;
const ICMP6 = 58;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;
/** Upper bits of an IPv4 address that is mapped (RFC 4291, 2.5.5.2), as a number of 32 bits. */
const MAPPED_PART = 0xffff0000 | 0;
/** Lower half of the first byte of a host's MAC address in a group's tag; the tag is the 12 bits around it (compile/deviceNames.ts). */
const MAC_IN_TAG = 0x0a;

/** Bytes of where a VLAN's frames go, of where a device's go, and of an address in the map of tags: the device's index, the address. */
export const ARRIVAL = 12;
export const DEPARTURE = 12;
export const PLACE = 20;
/** What a tag is among those of a network's, in an arrival. */
const OWN = 1;
const OF_GROUP = 2;

// The stack of both.
const KEY = -4;
const PLACE_AT = -24;
const ADDRESS_AT = -20;
const MAC = -32;
const WORD = -36;
const OPTION = -48;
const SOURCE_AT = -64;

/** Goes on with bytes of the frame on the stack; to `otherwise` where it is too short. */
function loadBytes(p: Assembler, from: number, to: number, length: number, otherwise: string): void {
  p.set(1, reg(6)).set(2, from).set(3, reg(10)).add(3, to).set(4, length);
  p.call(LOAD_BYTES).jump('!=', 0, 0, otherwise);
}

/** Where the address that a frame is asked about stands, in frames of each kind. */
interface Places {
  readonly arp: number;
  readonly ip4: number;
  readonly ip6: number;
  /** That of a message of neighbour discovery which is about somebody: its type. */
  readonly about: typeof SOLICITATION | typeof ADVERTISEMENT;
}

/** Register 0 is the tag of what is on the stack. */
function look(p: Assembler, tags: number, none: string): void {
  p.map(1, tags).set(2, reg(10)).add(2, PLACE_AT).call(MAP_LOOKUP).jump('==', 0, 0, none);
  p.load(4, 0, 0, 0);
}

/** Twice, as the map may change meanwhile: to `none` where it has none, to `drop` where it changed. */
function lookTwice(p: Assembler, tags: number, none: string): void {
  look(p, tags, none);
  p.store(4, 10, WORD, reg(0));
  look(p, tags, 'drop');
  p.load(4, 2, 10, WORD).jump('!=', 0, reg(2), 'drop');
}

/**
 * Reads the address into the stack, and goes to `found` with its tag in register 0; to `none` where the map has none. Register 9 is the
 * frame's kind then: ARP, a message of neighbour discovery (its type), or 0. The device's index is on the stack.
 */
function findTag(p: Assembler, tags: number, at: Places, found: string, none: string): void {
  p.set(9, 0).load(4, 2, 6, SKB_PROTOCOL);
  p.jump('==', 2, IPV4, 'of IPv4').jump('==', 2, ARP, 'of ARP').jump('==', 2, IPV6, 'of IPv6').go(none);
  p.label('of ARP').set(9, ARP);
  loadBytes(p, at.arp, ADDRESS_AT + 12, 4, none);
  p.go('mapped').label('of IPv4');
  loadBytes(p, at.ip4, ADDRESS_AT + 12, 4, none);
  p.label('mapped')
    .store(4, 10, ADDRESS_AT, 0)
    .store(4, 10, ADDRESS_AT + 4, 0);
  p.store(4, 10, ADDRESS_AT + 8, MAPPED_PART).go('look');
  p.label('of IPv6').store(4, 10, WORD, 0);
  loadBytes(p, AT.ip6.next, WORD, 1, none);
  p.load(1, 2, 10, WORD).jump('!=', 2, ICMP6, 'by header');
  loadBytes(p, AT.nd.type, WORD, 1, 'by header');
  p.load(1, 2, 10, WORD);
  for (const type of [SOLICITATION, ADVERTISEMENT])
    p.jump('==', 2, type, type === at.about ? 'about somebody' : 'discovery');
  p.go('by header');
  p.label('about somebody').set(9, reg(2));
  loadBytes(p, AT.nd.target, ADDRESS_AT, 16, none);
  p.go('look').label('discovery').set(9, reg(2)).label('by header');
  loadBytes(p, at.ip6, ADDRESS_AT, 16, none);
  p.label('look');
  lookTwice(p, tags, none);
  p.go(found);
}

/** id -> index of the device, the router's MAC address, what the tag is among those of the network */
const arriving = (map: number, tags: number): Buffer => {
  const p = assemble()
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
    .load(2, 8, 0, 10)
    .set(1, reg(6))
    .call(VLAN_POP)
    .jump('!=', 0, 0, 'drop')
    .load(4, 2, 6, SKB_VLAN_PRESENT)
    .jump('!=', 2, 0, 'drop')
    .jump('==', 8, 0, 'whom')
    .store(4, 10, PLACE_AT, reg(7));
  const at = { arp: AT.arp.target, ip4: AT.ip4.receiver, ip6: AT.ip6.receiver, about: SOLICITATION } as const;
  findTag(p, tags, at, 'found', 'nobody');
  p.label('found').load(4, 2, 10, KEY).jump('!=', 0, reg(2), 'drop').go('whom');
  // By a group's tag nobody else is sent to, only all are told something.
  p.label('nobody').jump('!=', 8, OF_GROUP, 'whom');
  loadBytes(p, 0, WORD, 1, 'drop');
  p.load(1, 2, 10, WORD).and(2, 1).jump('!=', 2, 0, 'other').go('drop');
  return p
    .label('whom')
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
};

/**
 * index of the device -> id, index of the uplink, whether groups have tags
 *
 * Of the host's MAC addresses in its tags only the first two bytes differ (compile/deviceNames.ts), so these are all that is written.
 */
const leaving = (map: number, tags: number): Buffer => {
  const p = assemble()
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
    .load(4, 2, 0, 8)
    .jump('==', 2, 0, 'tag')
    .load(4, 2, 10, KEY)
    .store(4, 10, PLACE_AT, reg(2));
  const write = (at: number): void => {
    p.set(1, reg(6)).set(2, at).set(3, reg(10)).add(3, MAC).set(4, 2).set(5, 0);
    p.call(STORE_BYTES).jump('!=', 0, 0, 'drop');
  };
  const at = { arp: AT.arp.sender, ip4: AT.ip4.sender, ip6: AT.ip6.sender, about: ADVERTISEMENT } as const;
  findTag(p, tags, at, 'found', 'other');
  // Only the MAC address of a host of ours says a tag: a machine that has such a one as well gets by that what is for it anyway.
  p.label('other').set(9, 0);
  loadBytes(p, 0, MAC, 2, 'tag');
  p.load(1, 2, 10, MAC).set(3, reg(2)).and(3, 0x0f).jump('!=', 3, MAC_IN_TAG, 'tag').shiftRight(2, 4);
  for (let part = 0; part < 12; part += 4) p.store(4, 10, ADDRESS_AT + part, 0);
  p.store(2, 10, ADDRESS_AT + 12, 0).store(1, 10, ADDRESS_AT + 14, reg(2));
  p.load(1, 2, 10, MAC + 1).store(1, 10, ADDRESS_AT + 15, reg(2));
  lookTwice(p, tags, 'tag');
  // In the network's own tag the host is as it is.
  p.label('found').jump('==', 0, reg(7), 'tag').set(7, reg(0));
  p.set(2, reg(7)).shiftRight(2, 8).multiply(2, 16).add(2, MAC_IN_TAG).store(1, 10, MAC, reg(2));
  p.store(1, 10, MAC + 1, reg(7));
  write(AT.source);
  p.jump('==', 9, 0, 'tag').jump('!=', 9, ARP, 'discovers');
  write(AT.arp.mac);
  p.go('tag').label('discovers').jump('!=', 9, ADVERTISEMENT, 'own source');
  // What the kernel says for another one it sends from an address of its own (net/ipv6/ndisc.c, ndisc_send_na), which is in no group's tag.
  loadBytes(p, AT.ip6.sender, SOURCE_AT, 16, 'drop');
  p.set(1, reg(10)).add(1, SOURCE_AT).set(2, 16).set(3, reg(10)).add(3, ADDRESS_AT).set(4, 16).set(5, 0);
  p.call(CHECKSUM_DIFFERENCE);
  p.set(1, reg(6)).set(2, AT.nd.checksum).set(3, 0).set(4, reg(0)).set(5, OF_PSEUDO_HEADER);
  p.call(CHECKSUM_REPLACE).jump('!=', 0, 0, 'drop');
  p.set(1, reg(6)).set(2, AT.ip6.sender).set(3, reg(10)).add(3, ADDRESS_AT).set(4, 16).set(5, 0);
  p.call(STORE_BYTES).jump('!=', 0, 0, 'drop').label('own source');
  loadBytes(p, AT.nd.option, OPTION, 4, 'tag');
  // Source or target link-layer address, of 8 bytes. What a frame says is behind two bytes on the stack.
  p.load(1, 2, 10, OPTION + 1).jump('!=', 2, 1, 'tag');
  p.load(1, 2, 10, OPTION).jump('==', 2, 0, 'tag').jump('>', 2, 2, 'tag');
  p.set(1, reg(6))
    .set(2, AT.nd.checksum)
    .load(2, 3, 10, OPTION + 2)
    .load(2, 4, 10, MAC)
    .set(5, 2);
  p.call(CHECKSUM_REPLACE).jump('!=', 0, 0, 'drop');
  write(AT.nd.mac);
  return p
    .label('tag')
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
};

interface Loaded {
  readonly map: number;
  readonly program: number;
  /** The kernel's number of the program. */
  readonly id: number;
}

export interface VlanPrograms {
  readonly arriving: Loaded;
  readonly leaving: Loaded;
  /** Map of addresses to tags. */
  readonly tags: number;
}

/** With empty maps. Throws where the kernel lacks what it takes. */
export function openPrograms(): VlanPrograms {
  const opened: number[] = [];
  const keep = (fd: number): number => {
    opened.push(fd);
    return fd;
  };
  try {
    const tags = keep(bpf.createMap('hash', TAGS, PLACE, 4, TAGS_ROOM));
    const load = (name: string, valueSize: number, code: (map: number, tags: number) => Buffer): Loaded => {
      const map = keep(bpf.createMap('hash', name, 4, valueSize, ROOM));
      const program = keep(bpf.loadProgram(name, code(map, tags)));
      return { map, program, id: bpf.programId(program) };
    };
    return { arriving: load(ARRIVING, ARRIVAL, arriving), leaving: load(LEAVING, DEPARTURE, leaving), tags };
  } catch (error) {
    opened.forEach(bpf.closeBpf);
    throw error;
  }
}

export function closePrograms(programs: VlanPrograms): void {
  bpf.closeBpf(programs.tags);
  for (const { map, program } of [programs.arriving, programs.leaving]) {
    bpf.closeBpf(program);
    bpf.closeBpf(map);
  }
}

/**
 * Where a VLAN's frames go: through the device with this index, or, those for `mac`, at once to its other end, which is in another
 * namespace; without one, all through it. `tag`: what it is in a network whose groups have tags of their own; absent: in another one.
 */
export const arrivalValue = (device: number, mac = '00:00:00:00:00:00', tag?: 'network' | 'group'): Buffer =>
  Buffer.concat([
    numbers(device),
    macBytes(mac),
    Buffer.from([tag === undefined ? 0 : tag === 'network' ? OWN : OF_GROUP, 0]),
  ]);

/** What stands among addresses for a tag of the network's groups, of which it says that it is one: nobody has such an address (RFC 4291, 2.5.5.1). */
export const placeOfTag = (id: number): string => `::${id.toString(16)}`;

/** Key of an address that goes by the device with this index; IPv4 is mapped. */
export const placeOf = (device: number, address: string): Buffer => {
  const bytes = addressBytes(address);
  const mapped = bytes.length === 4 ? [Buffer.alloc(10), Buffer.from([0xff, 0xff])] : [];
  return Buffer.concat([numbers(device), ...mapped, bytes]);
};

export const numbers = (...values: readonly number[]): Buffer => {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, 4 * i);
  return bytes;
};
