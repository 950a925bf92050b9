/** Links of a router: its tunnels, its containers' veths and its way out. */
import { type Netlink, NetlinkError, type Request } from '../../linux/netlink.ts';
import { inNamespace, namespacePath } from '../../linux/netns.ts';
import * as route from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import { VXLAN_PORT } from '../constants.ts';
import type { Exit, Router } from '../state.ts';
import { LOOPBACK, UPLINK } from './entries.ts';
import { message, type Pass, send } from './pass.ts';
import { device, establishSettings, port as portSettings } from './settings.ts';

export interface LinkOptions {
  readonly router: Router;
  readonly exit: Exit | undefined;
  /** Of the router's namespace, and a file descriptor of that. */
  readonly netlink: Netlink;
  readonly namespace: number;
  /** Of the host's. */
  readonly hostNetlink: Netlink;
  readonly hostNamespace: number;
  /** Names of the links that were established before; undefined: nothing is known of this router. */
  readonly before: ReadonlySet<string> | undefined;
  /** What they were established for. */
  readonly former: Router | undefined;
  /** All is compared, also what is read for each device. */
  readonly read: boolean;
}

/** What of a device changes in place: made anew, it would have lost all that leads to it, and packets would meet no way. */
function changes(
  link: route.Link,
  { mtu, mac = link.mac, local = link.vxlan?.local ?? '' }: { mtu: number; mac?: string; local?: string },
): Request[] {
  const moved = local === (link.vxlan?.local ?? '') ? [] : [route.setVxlanLocal(link, local)];
  if (mtu === link.mtu && mac === link.mac) return moved;
  return [...moved, route.setLink(link.index, { mtu, ...(mac === link.mac ? {} : { mac }) })];
}

/**
 * A namespace takes its devices with it only some time after it has gone (net/core/net_namespace.c, cleanup_net), and
 * not while a socket holds it: until then their names and tags would clash with new ones.
 */
export function deleteLinks(netlink: Netlink): void {
  const devices = route.listLinks(netlink).filter((l) => l.kind !== '');
  netlink.batch(devices.map(route.deleteLink));
}

/** Answers the router's links as they are afterwards. */
export function establishLinks(options: LinkOptions, pass: Pass): route.Link[] {
  const { router, exit, netlink, namespace, hostNetlink, hostNamespace, before, former, read } = options;
  const where = router.namespace;
  const had = (name: string): boolean => before?.has(name) === true;
  let links = route.listLinks(netlink);
  const byName = new Map(links.map((l) => [l.name, l]));
  const wanted = new Set([
    LOOPBACK,
    ...router.tunnels.map((t) => t.device),
    ...router.ports.map((p) => p.device),
  ]);
  if (exit !== undefined) wanted.add(UPLINK);
  const stray = links.filter((l) => /^(vx\d|ct[0-9a-f]|uplink$)/.test(l.name) && !wanted.has(l.name));
  if (before !== undefined)
    for (const link of stray)
      if (!before.has(link.name)) pass.repaired.push(`${where}: ${link.name} was not ours`);
  send(netlink, stray.map(route.deleteLink), pass, where);

  for (const tunnel of router.tunnels) {
    const link = byName.get(tunnel.device);
    const same =
      link?.vxlan?.vni === tunnel.vni &&
      isV6(link.vxlan.local) === isV6(tunnel.local) &&
      link.vxlan.port === VXLAN_PORT;
    if (same) {
      const changed = changes(link, tunnel);
      if (changed.length > 0 && former?.tunnels.includes(tunnel))
        pass.repaired.push(`${where}: ${tunnel.device} was changed`);
      send(netlink, changed, pass, where);
      continue;
    }
    if (link !== undefined) send(netlink, [route.deleteLink(link)], pass, where);
    if (had(tunnel.device)) pass.repaired.push(`${where}: ${tunnel.device} was gone`);
    try {
      const { device: name, vni, local, mac, mtu } = tunnel;
      hostNetlink.request(route.addVxlan({ name, vni, local, port: VXLAN_PORT, mac, mtu, namespace }));
      pass.writes++;
    } catch (error) {
      const clash = error instanceof NetlinkError && error.code === 'EEXIST';
      pass.failed.push({
        message: clash
          ? `network with tag ${tunnel.vni}: another VXLAN device of this host has this VNI already (a Docker Swarm overlay?); choose another --pkt-tag`
          : message(error),
      });
    }
  }

  for (const port of router.ports) {
    const link = byName.get(port.device);
    if (link !== undefined) {
      const changed = changes(link, { mtu: port.mtu });
      if (changed.length === 0) continue;
      if (former?.ports.includes(port)) pass.repaired.push(`${where}: ${port.device} was changed`);
      send(netlink, changed, pass, where);
      // The other end, where the runtime has not taken it yet; else sandboxes.ts does it.
      const peer = route.listLinks(hostNetlink).find((l) => l.name === port.peer);
      if (peer !== undefined) send(hostNetlink, changes(peer, { mtu: port.mtu }), pass, 'host');
      continue;
    }
    if (port.joined) {
      pass.lost.push(port.endpoint);
      continue;
    }
    if (had(port.device)) pass.repaired.push(`${where}: ${port.device} was gone`);
    try {
      netlink.request(
        route.addVeth(
          { name: port.device, mtu: port.mtu },
          { name: port.peer, mac: port.mac, mtu: port.mtu, namespace: hostNamespace },
        ),
      );
      pass.writes++;
    } catch (error) {
      pass.failed.push({ endpoint: port.endpoint, message: message(error) });
    }
  }

  if (exit !== undefined && !byName.has(UPLINK)) {
    if (had(UPLINK)) pass.repaired.push(`${where}: ${UPLINK} was gone`);
    const old = route.listLinks(hostNetlink).find((l) => l.name === exit.device);
    if (old !== undefined) send(hostNetlink, [route.deleteLink(old)], pass, 'host');
    send(
      hostNetlink,
      [
        route.addVeth(
          { name: exit.device, mac: exit.hostMac, mtu: 1500 },
          { name: UPLINK, mac: exit.routerMac, mtu: 1500, namespace },
        ),
      ],
      pass,
      'host',
    );
  }

  links = route.listLinks(netlink);
  const uplink = links.find((l) => l.name === UPLINK);
  if (exit !== undefined && uplink !== undefined && uplink.mac !== exit.routerMac) {
    if (had(UPLINK)) pass.repaired.push(`${where}: ${UPLINK} had the MAC address ${uplink.mac}`);
    send(netlink, [route.setLink(uplink.index, { mac: exit.routerMac })], pass, where);
    // An agent before this one gave others. The other end at once: it is a permanent neighbour by its address from now on.
    const end = had(UPLINK) ? undefined : route.listLinks(hostNetlink).find((l) => l.name === exit.device);
    if (end !== undefined) send(hostNetlink, changes(end, { mtu: end.mtu, mac: exit.hostMac }), pass, 'host');
  }
  const down = links.filter((l) => !l.up && wanted.has(l.name));
  for (const link of down) if (had(link.name)) pass.repaired.push(`${where}: ${link.name} was down`);
  const compared = (read ? links : down).filter((l) => l.name !== LOOPBACK && wanted.has(l.name));
  if (compared.length > 0)
    inNamespace(namespacePath(router.namespace), () => {
      for (const { name, up } of compared) {
        const settings = { ...device(name), ...(name.startsWith('ct') ? portSettings(name) : {}) };
        establishSettings(settings, where, up && had(name), pass);
      }
    });
  send(
    netlink,
    down.map((l) => route.setLink(l.index, { up: true })),
    pass,
    where,
  );
  return links;
}
