import fs from 'node:fs';
import ipaddr from 'ipaddr.js';
import type { Running } from './docker.ts';
import { mapOf, programsAt } from './programs.ts';
import { type Comparison, type Router, segmentOf } from './world.ts';

/**
 * One program at each tunnel, each VLAN, on the hosts' link and at the port of each container that is not shaped or marked, and its map leads to those and
 * to the other hosts' containers in networks of tunnels and direct ones; a VLAN's have its device.
 */
export const fastPath: Comparison<Router> = async (router, say) => {
  if (!kernelHasFastPath()) return;
  const { where, cluster, host, devices } = router;
  const fast = router.local.filter((r) => !cluster.profiled.has(`${r.tenant}:${r.group}`));
  // To a host that takes less the router looks at sizes.
  const less = new Set(cluster.places.filter((p) => p.mtu < host.place.mtu).map((p) => p.name));
  const remote = router.remote.filter((r) => !less.has(r.host) && /^(vx|direct)/.test(segmentOf(host, r)));
  const programs = new Set<number>();
  let ports = 0;
  for (const { ifname } of devices.filter((d) => /^(ct|vx|vl\d|direct)/.test(d.ifname))) {
    const ids = (await programsAt(router.at, ifname)).map((program) => program.id);
    if (ids.length > 1) say(`${where}: ${ids.length} programs at ${ifname}`);
    if (ids.length === 0 && !ifname.startsWith('ct')) say(`${where}: no program at ${ifname}`);
    if (ids.length === 1 && ifname.startsWith('ct')) ports++;
    for (const id of ids) programs.add(id);
  }
  if (ports !== fast.length) say(`${where}: ${ports} ports with a program, ${fast.length} wanted`);
  const [id, ...more] = programs;
  if (more.length > 0) say(`${where}: programs ${[...programs].join(', ')}, not one`);
  if (id === undefined) return;
  const have = new Map<string, string>();
  for (const [key, value] of await mapOf(router.at, id, 'contiv_ends')) {
    const named = (index: number): string => devices.find((d) => d.ifindex === index)?.ifname ?? 'nowhere';
    const [device, wire] = [named(value.readUInt32LE(0)), value.readUInt32LE(24)];
    const mac = value.toString('hex', 8, 14).replaceAll(/(..)(?=.)/g, '$1:');
    const by = wire === 0 ? '' : ` by ${named(wire)}`;
    have.set(key.toString('hex'), `${device.startsWith('ct') ? `ct ${mac}` : device}${by}`);
  }
  const onVlan = (r: Running): string => {
    const segment = segmentOf(host, r);
    return segment.startsWith('vl') ? ` by ${segment}` : '';
  };
  for (const [list, leads] of [
    [fast, (r: Running) => `ct ${r.mac}${onVlan(r)}`],
    [remote, (r: Running) => segmentOf(host, r)],
  ] as const)
    for (const r of list)
      for (const address of r.addresses) {
        const key = addressKey(address);
        if (have.get(key) !== leads(r))
          say(`${where}: fast path to ${address} of ${r.container}: ${have.get(key) ?? 'none'}`);
        have.delete(key);
      }
  for (const key of have.keys()) say(`${where}: fast path to ${key}, which nobody has`);
};

/** 16 bytes in hexadecimal; IPv4 mapped. */
function addressKey(address: string): string {
  const parsed = ipaddr.parse(address);
  const six = parsed instanceof ipaddr.IPv4 ? parsed.toIPv4MappedAddress() : parsed;
  return Buffer.from(six.toByteArray()).toString('hex');
}

/** What the fast path asks conntrack by: the kernel's own, or of the module. Without it all goes the router's way. */
function kernelHasFastPath(): boolean {
  return ['vmlinux', 'nf_conntrack'].some((types) => {
    const file = `/sys/kernel/btf/${types}`;
    return fs.existsSync(file) && fs.readFileSync(file).includes('\0bpf_skb_ct_lookup\0');
  });
}
