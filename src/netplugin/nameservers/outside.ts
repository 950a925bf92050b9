/**
 * Sockets of a router's namespace, by which our nameserver asks servers that a container has named. What goes out by them takes
 * the way of the tenant's containers: by its uplink, past the host's firewall and with the tenant's part of every limit. What
 * a container could not reach, the nameserver does not reach for it either.
 */
import dgram from 'node:dgram';
import net from 'node:net';
import { beginConnection, bindPort, inNamespace, namespacePath } from '../../linux/netns.ts';
import { isV6 } from '../../model/address.ts';
import type { Dial } from '../dns/forward.ts';

export const fromRouter = (namespace: string): Dial => ({
  udp({ address }) {
    const v6 = isV6(address);
    const fd = inNamespace(namespacePath(namespace), () =>
      bindPort('udp', v6 ? '::' : '0.0.0.0', 0, { nonblocking: true }),
    );
    return dgram.createSocket(v6 ? 'udp6' : 'udp4').bind({ fd });
  },
  tcp({ address, port }) {
    const fd = inNamespace(namespacePath(namespace), () => beginConnection(address, port));
    return new net.Socket({ fd });
  },
});
