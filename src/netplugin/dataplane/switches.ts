/**
 * Frames by which switches learn at which of their ports a tenant's router is on the hosts' link: what they do not know goes to all ports. A
 * router whose containers only receive sends nothing itself, and neighbours are permanent, so nobody asks either. What such a frame says is
 * its sender's address and no more, as virtual machines do it that have moved (RARP, RFC 903, asked of nobody): no host learns anything.
 *
 * They go when the device is made, and once a minute; a switch forgets after five (IEEE 802.1Q, 8.8.3). One that is lost is said again.
 */
import { macBytes } from '../../linux/address.ts';
import { inject } from '../../linux/inject.ts';
import { inNamespace } from '../../linux/netns.ts';
import { ethernet, short } from '../../linux/packet.ts';
import type * as route from '../../linux/route.ts';
import type { Direct } from '../state.ts';

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const ETH_P_RARP = 0x8035;

const announcement = (mac: string): Buffer =>
  ethernet(
    mac,
    BROADCAST,
    Buffer.concat([
      short(1), // Ethernet
      short(0x0800),
      Buffer.from([6, 4]),
      short(3), // a request
      macBytes(mac),
      Buffer.alloc(4),
      macBytes(mac),
      Buffer.alloc(4),
    ]),
    { type: ETH_P_RARP },
  );

/** `links`: of the router, whose namespace the file descriptor is of. */
export function tellSwitches(namespace: number, { device }: Direct, links: readonly route.Link[]): void {
  const link = links.find((l) => l.name === device);
  if (link === undefined) return;
  try {
    inNamespace(`/proc/self/fd/${namespace}`, () => inject(link.index, [announcement(link.mac)], 'sent'));
  } catch {
    // A kernel without the eBPF for it: switches learn with what is sent.
  }
}
