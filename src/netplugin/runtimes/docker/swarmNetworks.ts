/**
 * Declared networks and groups as networks of Swarm's, which the manager that leads makes and removes for all: one for each.
 *
 *   web_shop          group web in network shop        shop__default      the network shop itself
 *   web_shop__blue    the same of tenant blue          shop__blue
 *
 * It is the name that each host's Docker has it by (networks.ts), with what Swarm allows in place of '.' and '/'; with the tenant where
 * it would be that very name. Neither can be mistaken for another, as no declared name has '_'.
 *
 * Swarm asks no driver before it answers `docker network create`, and shows neither driver nor options of a network that one refuses: what
 * somebody makes by hand that stands for nothing declared is refused by its id, and then removed.
 */
import type { Logger } from 'pino';
import { DEFAULT_TENANT } from '../../../model/tenant.ts';
import type { View } from '../../intent/view.ts';
import type { Target } from '../network.ts';
import { NO_IPV4, undeclared } from './driver.ts';
import type { Docker, NetworkInspectInfo } from './engine.ts';
import {
  fingerprint,
  LABEL,
  planNetworks,
  presentNetworks,
  versionsOf,
  wantedNetworks,
  withoutIpv4,
} from './networks.ts';
import { SWARM_DRIVER } from './swarm.ts';
import { dockerName } from './target.ts';

export function swarmNetworkName(target: Target): string {
  const name = dockerName(target);
  const told = /[./]/.test(name) ? name : `${name}/${DEFAULT_TENANT}`;
  return told.replace('/', '__').replace('.', '_');
}

export interface SwarmNetworksOptions {
  readonly docker: Pick<Docker, 'createNetwork' | 'getNetwork' | 'listPlugins'>;
  readonly view: View;
  /** Those of encapsulation vlan act here. */
  readonly vlans: boolean;
  /** What is declared is what netmaster says now: else nothing is removed. */
  readonly live: boolean;
  /** What Swarm does not have, and was told: names that it has refused, and keys of networks that it cannot have. */
  readonly refused: Set<string>;
  /** In a line: a network was not taken, and one is not offered. */
  tell(line: string): void;
  notOffered(line: string): void;
  readonly log: Logger;
}

/** `listed`: all of Docker's. Answers whether something was changed. */
export async function offerToSwarm(
  listed: readonly NetworkInspectInfo[],
  { docker, view, vlans, live, refused, tell, notOffered, log }: SwarmNetworksOptions,
): Promise<boolean> {
  // A Swarm without the plugin has nothing to do with us.
  const plugins = await docker.listPlugins();
  if (!plugins.some(({ Name, Enabled }) => Name === SWARM_DRIVER && Enabled)) return false;
  const present = presentNetworks(listed, SWARM_DRIVER);
  const plan = planNetworks(
    present,
    // It gives each network a pool of IPv4, and services their virtual addresses from that one.
    wantedNetworks(view, { vlans, ipv6Alone: false }, (target) => [swarmNetworkName(target)]),
    live,
  );
  const beyond = withoutIpv4(view, vlans);
  for (const key of refused) if (key.includes(':') && !beyond.includes(key)) refused.delete(key);
  for (const key of beyond) {
    if (!refused.has(key)) notOffered(`network ${key} is not offered to Docker's Swarm: ${NO_IPV4}`);
    refused.add(key);
  }
  let changed = false;
  const remove = async (name: string, id: string): Promise<boolean> => {
    try {
      await docker.getNetwork(id).remove();
      changed = true;
      return true;
    } catch (error) {
      // Services use it: a later look finds it free.
      log.debug({ err: error, network: name }, "Docker's Swarm keeps the network");
      return false;
    }
  };
  const kept = new Set<string>();
  for (const { name, id } of plan.remove)
    if (await remove(name, id)) log.info({ network: name }, "withdrawn from Docker's Swarm");
    else kept.add(name);
  for (const network of plan.create) {
    if (kept.has(network.name)) continue;
    const { tenant, network: of, group } = network;
    const options = { tenant, network: of, group };
    try {
      await docker.createNetwork({
        Name: network.name,
        Driver: SWARM_DRIVER,
        CheckDuplicate: true,
        Attachable: true,
        // Its nodes then ask for an IPv6 address for each task too; its managers know none.
        ...versionsOf(network),
        IPAM: { Driver: SWARM_DRIVER, Options: options },
        Options: options,
        Labels: { [LABEL]: fingerprint(network) },
      });
      changed = true;
      refused.delete(network.name);
      log.info({ network: network.name }, "offered to Docker's Swarm");
    } catch (error) {
      if (!refused.has(network.name))
        log.warn({ err: error, network: network.name }, "Docker's Swarm refuses the network");
      refused.add(network.name);
    }
  }
  for (const { Id, Name, Driver, Labels, Options } of live ? listed : []) {
    if (Driver !== SWARM_DRIVER || Labels?.[LABEL] !== undefined) continue;
    const why = undeclared(view, Options ?? {});
    if (why !== undefined && (await remove(Name, Id))) {
      log.warn({ network: Name, why }, "removed from Docker's Swarm");
      tell(removed(Name, why));
    }
  }
  return changed;
}

/** The network of this id, which the driver has refused: its name is known to Docker only. */
export async function removeRefused(
  id: string,
  why: string,
  {
    docker,
    tell,
    log,
  }: Pick<SwarmNetworksOptions, 'tell' | 'log'> & { readonly docker: Pick<Docker, 'getNetwork'> },
): Promise<void> {
  try {
    const network = docker.getNetwork(id);
    const { Name } = await network.inspect();
    await network.remove();
    tell(removed(Name, why));
  } catch (error) {
    log.debug({ err: error, network: id }, "Docker's Swarm keeps the network, and asks for it again");
  }
}

const removed = (name: string, why: string): string => `${name} is removed from Docker's Swarm: ${why}`;
