/**
 * Services: destination NAT of a virtual address to one of its providers, chosen for each connection by its first packet.
 *
 * A provider is drawn: slots until one is taken. Of n providers each gets one of n connections, at any n; one more
 * or less changes its own element, at times the size. Beyond 4096 providers the others wait.
 */
import { classid } from '../../../linux/classid.ts';
import { isV6 } from '../../../model/address.ts';
import { NAMESERVER } from '../../constants.ts';
import type { RouterFeature } from './feature.ts';

/** Slots of a service's port as a power of two: what `numgen` draws from must stand in a rule. */
const MAX_SIZE = 4096;
const SIZES = Array.from({ length: Math.log2(MAX_SIZE) + 1 }, (_, i) => 2 ** i);
/** Draws before one that cannot miss: less than one connection in a thousand needs it, as more than half of the slots are taken. */
const DRAWS = 10;

function pick(size: number): string {
  const draws = [...Array.from({ length: size === 1 ? 0 : DRAWS }, () => size), Math.ceil(size / 2)];
  return `chain pick_${size} {
${draws.map((n) => `  meta priority set ${n === 1 ? 'none' : `numgen random mod ${n}`} jump lead`).join('\n')}
}`;
}

export const services: RouterFeature = {
  own: `
set services { type ipv4_addr; }
map service_size { type ipv4_addr . inet_proto . inet_service : classid; }
map service_to { type ipv4_addr . inet_proto . inet_service . classid : ipv4_addr . inet_service; }
set own { type ipv4_addr . ipv4_addr; }
chain lead {
  dnat ip to ip daddr . meta l4proto . th dport . meta priority map @service_to
}
${SIZES.map(pick).join('\n')}
chain serve {
  meta priority set ip daddr . meta l4proto . th dport map @service_size
  meta priority vmap { ${SIZES.map((size) => `${classid(size)} : goto pick_${size}`).join(', ')} }
}`,
  rules: {
    beginning: 'ip daddr @services goto serve',
    // A container that is led to itself would answer itself, and the router, which has to translate the answer back, would not
    // see it. So its own connection comes to it from another address.
    out: `ct status dnat ip saddr . ip daddr @own snat ip to ${NAMESERVER}`,
  },
  elements: {
    port({ addresses, alsoFrom }, add) {
      for (const address of addresses)
        for (const own of [...addresses, ...alsoFrom])
          if (!isV6(address) && !isV6(own)) add('own', address, `${own} . ${address}`);
    },
    service({ address, ports, providers }, add) {
      add('services', address, address);
      const size = SIZES.find((n) => n >= providers.length) ?? MAX_SIZE;
      for (const { protocol, port, providerPort } of ports) {
        const key = `${address} . ${protocol} . ${port}`;
        if (providers.length > 0) add('service_size', address, `${key} : ${classid(size)}`);
        for (const [slot, provider] of providers.entries())
          add('service_to', address, `${key} . ${classid(slot)} : ${provider} . ${providerPort}`);
      }
    },
  },
};
