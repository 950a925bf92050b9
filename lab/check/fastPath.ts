import fs from 'node:fs';
import ipaddr from 'ipaddr.js';
import type { Running } from './docker.ts';
import { type Comparison, type Router, segmentOf } from './world.ts';

/**
 * One program at each tunnel, on the hosts' link and at the port of each container that is not shaped or marked, and its map leads to those and
 * to the other hosts' containers in networks of tunnels and direct ones.
 */
export const fastPath: Comparison<Router> = async (router, say) => {
  if (!kernelHasFastPath()) return;
  const { where, cluster, host, devices } = router;
  const fast = router.local.filter((r) => !cluster.profiled.has(`${r.tenant}:${r.group}`));
  // To a host that takes less the router looks at sizes.
  const less = new Set(cluster.places.filter((p) => p.mtu < host.place.mtu).map((p) => p.name));
  const remote = router.remote.filter((r) => !less.has(r.host) && /^(vx|direct)/.test(segmentOf(host, r)));
  const json = async (...command: string[]) => JSON.parse(await router.at(...command));
  const programs = new Set<number>();
  let ports = 0;
  for (const { ifname } of devices.filter((d) => /^(ct|vx|direct)/.test(d.ifname))) {
    const filters = (await json('tc', '-j', 'filter', 'show', 'dev', ifname, 'ingress')) as {
      kind: string;
      options?: { prog?: { id: number } };
    }[];
    const ids = filters.flatMap((f) => (f.kind === 'bpf' && f.options?.prog ? [f.options.prog.id] : []));
    if (ids.length > 1) say(`${where}: ${ids.length} programs at ${ifname}`);
    if (ids.length === 0 && !ifname.startsWith('ct')) say(`${where}: no program at ${ifname}`);
    if (ids.length === 1 && ifname.startsWith('ct')) ports++;
    for (const id of ids) programs.add(id);
  }
  if (ports !== fast.length) say(`${where}: ${ports} ports with a program, ${fast.length} wanted`);
  const [id, ...more] = programs;
  if (more.length > 0) say(`${where}: programs ${[...programs].join(', ')}, not one`);
  if (id === undefined) return;
  const { map_ids: maps } = (await json('bpftool', '-j', 'prog', 'show', 'id', `${id}`)) as {
    map_ids: number[];
  };
  const have = new Map<string, string>();
  for (const map of maps) {
    const { name } = (await json('bpftool', '-j', 'map', 'show', 'id', `${map}`)) as { name: string };
    if (name !== 'contiv_ends') continue;
    const entries = await json('bpftool', '-j', 'map', 'dump', 'id', `${map}`);
    for (const { key, value } of entries as { key: string[]; value: string[] }[]) {
      const bytes = Buffer.from(value.map(Number));
      const device = devices.find((d) => d.ifindex === bytes.readUInt32LE(0))?.ifname ?? 'nowhere';
      const mac = bytes.toString('hex', 8, 14).replaceAll(/(..)(?=.)/g, '$1:');
      have.set(Buffer.from(key.map(Number)).toString('hex'), device.startsWith('ct') ? `ct ${mac}` : device);
    }
  }
  for (const [list, leads] of [
    [fast, (r: Running) => `ct ${r.mac}`],
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
