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
import type { ClusterService, Router, Service } from '../state.ts';
import { once } from './parts.ts';

const UDP = 17;

/** What decides for UDP: where a service is asked, and who answers there. */
type Serving = Pick<Router, 'services' | 'clusterServices'>;

/**
 * undefined: none, without a look at the connections. `before` undefined: not known, which may have left any UDP.
 * `gone`: addresses of endpoints.
 */
export function endedBy(
  gone: ReadonlySet<string>,
  before: Serving | undefined,
  after: Serving,
): ((connection: Connection) => boolean) | undefined {
  const same = before?.services === after.services && before?.clusterServices === after.clusterServices;
  if (same && gone.size === 0) return undefined;
  const addresses = new Set(addressesOf(after));
  const had = before === undefined ? [] : addressesOf(before);
  const lost = new Set([...gone, ...had.filter((a) => !addresses.has(a))]);
  const leads = leadsOf(after);
  const led = before === undefined ? undefined : leadsOf(before);
  const left = led === undefined ? leads.size > 0 : !same && hasLeft(led, leads);
  if (lost.size === 0 && !left) return undefined;
  function misled({ original, reply }: Connection): boolean {
    const at = `${original.destination} ${original.destinationPort}`;
    const every = leads.get(everyPort(original.destination));
    if (every !== undefined) return !every.has(everyPort(reply.source));
    const answering = leads.get(at);
    if (answering === undefined) return addresses.has(original.destination) || led?.has(at) === true;
    return !answering.has(`${reply.source} ${reply.sourcePort}`);
  }
  return (connection) => {
    const { original, reply } = connection;
    const ends = [original.source, original.destination, reply.source, reply.destination];
    return ends.some((a) => lost.has(a)) || (left && original.protocol === UDP && misled(connection));
  };
}

const addressesOf = ({ services, clusterServices }: Serving): string[] => [
  ...services.map((s) => s.address),
  ...clusterServices.flatMap((s) => s.addresses),
];

/** In place of an address and a port, of a service whose ports are all its providers'. */
const everyPort = (address: string): string => `${address} *`;

/** By where it is asked who answers, of UDP. */
type Leads = ReadonlyMap<string, ReadonlySet<string>>;

function leadsOf({ services, clusterServices }: Serving): Leads {
  const leads = new Map<string, ReadonlySet<string>>();
  for (const service of [...services, ...clusterServices])
    for (const [at, answering] of leadsOfService(service)) leads.set(at, answering);
  return leads;
}

const leadsOfService = once(
  (service: Service | ClusterService): readonly (readonly [string, ReadonlySet<string>])[] =>
    'frontends' in service
      ? service.frontends
          .filter((f) => f.protocol === UDP)
          .map(({ address, port, backends }) => [
            `${address} ${port}`,
            new Set(backends.flatMap((b) => (b === null ? [] : `${b.address} ${b.port}`))),
          ])
      : service.everyPort
        ? [[everyPort(service.address), new Set(service.providers.map(everyPort))]]
        : service.ports
            .filter((p) => p.protocol === 'udp')
            .map(({ port, providerPort }) => [
              `${service.address} ${port}`,
              new Set(service.providers.map((p) => `${p} ${providerPort}`)),
            ]),
);

/** Whether UDP may lead where it should not any more: who answered is gone, or it went elsewhere before it was a service's. */
function hasLeft(before: Leads, after: Leads): boolean {
  for (const at of after.keys()) if (!before.has(at)) return true;
  for (const [at, answering] of before) {
    const now = after.get(at);
    if (now === answering) continue;
    for (const who of answering) if (now?.has(who) !== true) return true;
  }
  return false;
}
