import { tryRun } from '../shell.ts';
import { onHost } from '../state.ts';
import type { Comparison, Host } from './world.ts';

/** The host's own table is there, takes tunnel frames of the hosts that live and of no stranger, and for each tunnel here. */
export const guard: Comparison<Host> = async ({ cluster, name: here, routers, at }, say) => {
  const { lab, live, places, endpoints } = cluster;
  const listing = await tryRun(...onHost(lab, here, 'nft', '-j', 'list', 'table', 'inet', 'contiv'));
  if (listing === undefined) {
    say(`${here}: no table inet contiv: nothing guards this host`);
    return;
  }
  const { nftables } = JSON.parse(listing) as {
    nftables: { set?: { name: string; elem?: (string | number)[] } }[];
  };
  const elements = (name: string): Set<string> =>
    new Set((nftables.find((i) => i.set?.name === name)?.set?.elem ?? []).map(String));
  const members = new Set([...elements('members'), ...elements('members6')]);
  for (const { name, underlay } of live)
    if (name !== here && !members.delete(underlay))
      say(`${here}: no tunnel frames are taken of ${name}, ${underlay}`);
  // Of a dead one, while its containers count as running.
  const homes = new Set(endpoints.map((e) => e.homingHost));
  for (const { name, address } of places) if (homes.has(name) && name !== here) members.delete(address);
  for (const address of members) say(`${here}: tunnel frames are taken of ${address}, no host's`);

  const tags = elements('vnis');
  for (const ns of routers) {
    const links = await at('ip', '-n', ns, '-j', 'link', 'show', 'type', 'vxlan');
    for (const { ifname } of (JSON.parse(links || '[]') as { ifname: string }[]).filter((l) => l.ifname))
      if (!tags.delete(ifname.slice('vx'.length))) say(`${here}: frames for ${ifname} are not judged`);
  }
  tags.delete(String(0xffffff)); // of the agent's own frames, by which it looks for other firewalls
  for (const tag of tags) say(`${here}: frames with tag ${tag} are judged, which no tunnel here has`);
};
