/**
 * Which connections end with a change:
 *
 *   an endpoint's address goes   all of its own: a policy decision stands for a connection, and the next owner of the
 *                                address must not inherit it
 *   a service's address goes     all to it
 *   a provider goes              UDP to the service: a client that keeps its port would stay with it for ever.
 *                                TCP goes on: where the provider is there still, it answers
 *
 * A provider goes when it is paused or unhealthy, when its host is dead and when labels or selectors change.
 */
import type { Connection } from '../../linux/conntrack.ts';
import type { Service } from '../state.ts';

const UDP = 17;

/**
 * undefined: none, without a look at the connections. `before` undefined: not known, which may have left any UDP.
 * `gone`: addresses of endpoints.
 */
export function endedBy(
  gone: ReadonlySet<string>,
  before: readonly Service[] | undefined,
  after: readonly Service[],
): ((connection: Connection) => boolean) | undefined {
  const addresses = new Set(after.map((s) => s.address));
  const lost = new Set([...gone, ...(before ?? []).map((s) => s.address).filter((a) => !addresses.has(a))]);
  const kept = new Set(after);
  const providers = new Set(after.flatMap(udpProviders));
  const left =
    before === undefined
      ? providers.size > 0
      : before.some((service) => !kept.has(service) && udpProviders(service).some((p) => !providers.has(p)));
  if (lost.size === 0 && !left) return undefined;
  return ({ original, reply }) =>
    [original.source, original.destination, reply.source, reply.destination].some((a) => lost.has(a)) ||
    (left &&
      original.protocol === UDP &&
      addresses.has(original.destination) &&
      !providers.has(
        `${original.destination} ${original.destinationPort} ${reply.source} ${reply.sourcePort}`,
      ));
}

const udpProviders = ({ address, ports, providers }: Service): string[] =>
  ports.flatMap(({ protocol, port, providerPort }) =>
    protocol === 'udp' ? providers.map((p) => `${address} ${port} ${p} ${providerPort}`) : [],
  );
