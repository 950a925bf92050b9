/**
 * Offers networks and groups to Docker: one Docker network for each name that a user may pass to
 * `docker run --net`, created and removed on this host as intent changes.
 *
 *   contiv-net            network of tenant default        contiv-net/blue       of tenant blue
 *   web.contiv-net        group in it                      web.contiv-net/blue
 *   web                   the group by its 1.x name        web/blue
 *
 * What is wanted is a pure function of the view; Docker's list says what is there. Docker networks that carry no
 * label of ours are not touched.
 */
import type Dockerode from 'dockerode';
import type { Logger } from 'pino';
import { subnetPrefix } from '../../../model/address.ts';
import type { View } from '../../view.ts';

export const DRIVER = 'netplugin';
const LABEL = 'io.contiv.network';

/** Milliseconds after which Docker is asked again although nothing changed: someone may have removed a network. */
const SYNC_INTERVAL = 10_000;

/** What a Docker network stands for: travels as driver and IPAM options, so both drivers can tell. */
export interface Target {
  readonly tenant: string;
  readonly network: string;
  /** '' for none. */
  readonly group: string;
}

export interface WantedNetwork extends Target {
  readonly name: string;
  readonly config: readonly { Subnet: string; Gateway?: string }[];
}

export function wantedNetworks(view: View): Map<string, WantedNetwork> {
  const wanted = new Map<string, WantedNetwork>();
  const add = (name: string, tenant: string, network: string, group: string): void => {
    const spec = view.networks.get(`${tenant}:${network}`);
    if (spec === undefined || spec.encap === 'vlan') return; // kept only until there is a fabric for it
    const config = [
      { Subnet: subnetPrefix(spec.subnet), ...(spec.gateway ? { Gateway: spec.gateway } : {}) },
    ];
    if (spec.ipv6Subnet)
      config.push({
        Subnet: subnetPrefix(spec.ipv6Subnet),
        ...(spec.ipv6Gateway ? { Gateway: spec.ipv6Gateway } : {}),
      });
    const full = tenant === 'default' ? name : `${name}/${tenant}`;
    if (!wanted.has(full)) wanted.set(full, { name: full, tenant, network, group, config });
  };
  for (const n of view.networks.values()) add(n.networkName, n.tenantName, n.networkName, '');
  for (const g of view.groups.values()) {
    add(`${g.groupName}.${g.networkName}`, g.tenantName, g.networkName, g.groupName);
    add(g.groupName, g.tenantName, g.networkName, g.groupName);
  }
  return wanted;
}

/** Text that is equal for equal Docker networks. */
const fingerprint = (n: WantedNetwork): string => JSON.stringify([n.tenant, n.network, n.group, n.config]);

export interface Offer {
  /** Intent changed: Docker is brought up to it soon. */
  changed(): void;
  /** When all that was known at the call is offered, or Docker cannot be reached. */
  settled(): Promise<void>;
  close(): void;
}

export function startOffer(docker: Dockerode, view: View, log: Logger): Offer {
  let dirty = true;
  let running: Promise<void> | undefined;
  let reachable = true;
  let closed = false;

  async function create(network: WantedNetwork): Promise<void> {
    const options = { tenant: network.tenant, network: network.network, group: network.group };
    await docker.createNetwork({
      Name: network.name,
      Driver: DRIVER,
      CheckDuplicate: true,
      EnableIPv6: network.config.length > 1,
      IPAM: { Driver: DRIVER, Options: options, Config: [...network.config] },
      Options: options,
      Labels: { [LABEL]: fingerprint(network) },
    });
    log.info({ network: network.name }, 'offered to Docker');
  }

  async function sync(): Promise<void> {
    const wanted = wantedNetworks(view);
    const present = await docker.listNetworks();
    reachable = true;
    const ours = present.filter((n) => n.Driver === DRIVER && n.Labels?.[LABEL] !== undefined);
    for (const network of ours) {
      const want = wanted.get(network.Name);
      if (want !== undefined && network.Labels?.[LABEL] === fingerprint(want)) continue;
      await docker
        .getNetwork(network.Id)
        .remove()
        .then(() => log.info({ network: network.Name }, 'withdrawn from Docker'))
        .catch((error) => {
          if (error.statusCode === 404) return;
          // 403: containers that are still there hold it; the next sync finds it free
          log.debug({ err: error, network: network.Name }, 'Docker keeps the network');
        });
    }
    const now = await docker.listNetworks();
    const names = new Set(now.map((n) => n.Name));
    for (const network of wanted.values()) {
      if (names.has(network.name)) continue;
      await create(network).catch((error) => {
        if (error.statusCode !== 409)
          log.error({ err: error, network: network.name }, 'Docker refuses the network');
      });
    }
  }

  function run(): Promise<void> {
    if (running !== undefined) return running;
    running = (async () => {
      while (dirty && !closed) {
        dirty = false;
        try {
          await sync();
        } catch (error) {
          if (reachable)
            log.warn({ err: error }, 'Docker cannot be reached: networks are offered when it answers');
          reachable = false;
        }
      }
      running = undefined;
    })();
    return running;
  }

  const timer = setInterval(() => {
    dirty = true;
    void run();
  }, SYNC_INTERVAL);
  void run();

  return {
    changed() {
      dirty = true;
      void run();
    },
    settled: () => (dirty || running !== undefined ? run() : Promise.resolve()),
    close() {
      closed = true;
      clearInterval(timer);
    },
  };
}
