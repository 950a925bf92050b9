import type { Comparison, Host } from './world.ts';

/** With containers here, or with a network that the host reaches. */
export const tenantsOf = ({ here, cluster, name }: Host): Set<string> =>
  new Set([...here, ...cluster.own.filter((r) => r.host === name)].map((r) => r.tenant));

/** A router and a way out for each tenant with containers here, and nothing that was left behind. */
export const kernel: Comparison<Host> = (host, say) => {
  const { name, routers, devices } = host;
  const tenants = tenantsOf(host);
  for (const ns of routers)
    if (!tenants.has(ns.slice('contiv-'.length))) say(`${name}: router ${ns} without a container`);
  const links = devices.map((l) => l.ifname);
  for (const link of links.filter((l) => /^cc[0-9a-f]{10}$/.test(l)))
    say(`${name}: ${link} left in the host's namespace`);
  const exits = links.filter((l) => /^cx[0-9a-f]{8}$/.test(l)).length;
  if (exits !== tenants.size) say(`${name}: ${exits} exits for ${tenants.size} tenants`);
};
