/** The host's side: the exits' devices and addresses, masquerading, published ports. */
import type { Netlink } from '../../linux/netlink.ts';
import { setSysctl } from '../../linux/netns.ts';
import * as route from '../../linux/route.ts';
import { NFT_TABLE } from '../constants.ts';
import type { HostState } from '../state.ts';
import { sameParts } from './parts.ts';
import { type Pass, send } from './pass.ts';
import { hostTable } from './ruleset.ts';
import { establishTable, type OpenTable } from './tables.ts';

export interface OpenExits {
  readonly netlink: Netlink;
  readonly table: OpenTable;
  /** The last state that was established, and the devices and addresses of it; undefined: an earlier agent's may be there. */
  established?: {
    readonly state: HostState;
    readonly entries: ReadonlySet<string>;
    readonly bridges: readonly string[];
  };
}

/** Names that Docker gives to the bridges it makes; one that the user has named otherwise is not known as Docker's. */
const DOCKER_BRIDGE = /^(?:docker0|docker_gwbridge|br-[0-9a-f]{12})$/;

export function establishExits(open: OpenExits, state: HostState, pass: Pass): void {
  const before = open.established;
  if (before !== undefined && !pass.verify && sameExits(before.state, state)) return;
  const links = route.listLinks(open.netlink);
  const wanted = new Map(state.exits.map((e) => [e.device, e]));
  const stray = links.filter((l) => /^cx[0-9a-f]{8}$/.test(l.name) && !wanted.has(l.name));
  for (const { name } of stray)
    if (before !== undefined && !before.entries.has(`link ${name}`))
      pass.repaired.push(`host: ${name} was not ours`);
  send(open.netlink, stray.map(route.deleteLink), pass, 'host');
  const established = new Set<string>();
  const present = new Set(route.listAddresses(open.netlink).map((a) => `${a.address} ${a.index}`));
  const had = (entry: string): boolean => before?.entries.has(entry) === true;
  for (const link of links) {
    const exit = wanted.get(link.name);
    if (exit === undefined) continue;
    const own = [{ address: exit.hostAddress, length: 31 }];
    if (exit.hostAddress6 !== '') own.push({ address: exit.hostAddress6, length: 127 });
    const missing = own.filter((a) => !present.has(`${a.address} ${link.index}`));
    const text = (a: { address: string; length: number }): string =>
      `address ${a.address}/${a.length} dev ${link.name}`;
    for (const a of missing) if (had(text(a))) pass.repaired.push(`host: restored ${text(a)}`);
    if (!link.up && had(`link ${link.name}`)) pass.repaired.push(`host: ${link.name} was down`);
    for (const entry of [`link ${link.name}`, ...own.map(text)]) established.add(entry);
    send(
      open.netlink,
      missing.map((a) => route.addAddress({ ...a, index: link.index, scope: 0 })),
      pass,
      'host',
    );
    if (!link.up) send(open.netlink, [route.setLink(link.index, { up: true })], pass, 'host');
    // Published ports are served on localhost too: such packets leave with a source of 127.0.0.1.
    if (setSysctl(`net/ipv4/conf/${link.name}/route_localnet`, '1')) pass.writes++;
    if (setSysctl(`net/ipv4/conf/${link.name}/rp_filter`, '0')) pass.writes++;
  }
  if (state.exits.length > 0 && setSysctl('net/ipv4/ip_forward', '1')) pass.writes++;
  if (state.exits.some((e) => e.hostAddress6 !== '') && setSysctl('net/ipv6/conf/all/forwarding', '1'))
    pass.writes++;
  const found = links.filter((l) => l.kind === 'bridge' && DOCKER_BRIDGE.test(l.name)).map((l) => l.name);
  const bridges = before?.bridges.join() === found.join() ? before.bridges : found;
  const table = hostTable(state, bridges);
  if (table !== undefined) establishTable(open.table, table, 'host', pass);
  else if (open.table.established !== undefined || before === undefined) {
    open.table.nft.run(`add table inet ${NFT_TABLE}\ndelete table inet ${NFT_TABLE}`);
    delete open.table.established;
  }
  open.established = { state, entries: established, bridges };
}

const sameExits = (a: HostState, b: HostState): boolean =>
  a.guarded === b.guarded && sameParts(a.exits, b.exits);
