/**
 * Addresses of containers that have stopped: started again, a container asks for the one that it had, as on Docker's own networks. Nothing
 * is reserved for it meanwhile: an address that is free again is the last of its network to be given out, so it is there as a rule; where it
 * is another's by then, or the container is gone, there is nothing to undo.
 *
 * From 29 on Docker names the container that it asks for. Before, it says nothing of it (moby, libnetwork/endpoint.go, assignAddressVersion), nor has
 * the endpoint an id yet that a container could be found by. But it holds the container that it starts: its API answers nothing about that one until it has
 * started (daemon/start.go). So the container that starts is the only one of those that do not run of which Docker is silent. Where it is
 * silent of several, or of all, as while it starts itself, which of them asks cannot be told, and each gets the next address: while
 * netmaster is away, any that one of them had.
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isV6 } from '../../../model/address.ts';
import { inTurn } from '../../../turns.ts';
import { readJson, writeJson } from '../../file.ts';
import type { Attachment } from '../../intent/view.ts';
import type { Target } from '../network.ts';
import type { Docker } from './engine.ts';
import { dockerName } from './target.ts';

/** Milliseconds without an answer after which Docker is silent. */
const SILENCE = 250;
/**
 * Milliseconds for which one that is silent of all is not asked again: it starts, with the containers that it starts again, and answers
 * nobody before it has. What asks for the address is part of that start, which would wait for us as we for it.
 */
const PAUSE = 5000;
/** Containers whose addresses are known, the newest. */
const MOST = 1000;
/** Containers of a network that do not run, of which Docker is asked for one that starts: of many that start at once it is asked by each. */
const MOST_ASKED = 32;
/** States in `docker ps -a` of what may be about to start. */
const STILL = ['created', 'exited', 'restarting'];
/** It may be one of those whose addresses are known, and cannot be told which. */
export const UNTOLD = 'untold';

interface Stopped {
  readonly container: string;
  /** Absent in what an earlier agent kept. */
  readonly name?: string;
  readonly target: Target;
  readonly addresses: readonly string[];
}

export interface StoppedContainers {
  /** A container has left a network of ours. */
  keep(attachment: Attachment): void;
  /** As it is called now. */
  named(container: string, name: string): void;
  /** It is removed. */
  forget(container: string): void;
  /** What the container that starts now had there, which has the name where Docker says so; undefined: it had nothing. */
  addressIn(target: Target, family: 4 | 6, name?: string): Promise<string | typeof UNTOLD | undefined>;
}

const placeOf = ({ tenant, network, group }: Target): string => [tenant, network, group].join(':');

export function openStopped(
  docker: Pick<Docker, 'listContainers' | 'getContainer'>,
  folder: string,
  log: Logger,
): StoppedContainers {
  const file = path.join(folder, 'stopped.json');
  const known = readJson<Stopped[]>(file, 'containers that are stopped get other addresses when they start');
  /** By container and place, the newest last. */
  const all = new Map((known ?? []).map((s) => [`${s.container} ${placeOf(s.target)}`, s]));
  // Nobody waits for it: what is lost with a kill costs a container its old address.
  const writes = inTurn(() => writeJson(file, [...all.values()]), {
    failed(error, first) {
      if (first) log.warn({ err: error }, 'addresses of stopped containers are not on disk');
    },
  });

  /** What Docker answers, `failed` where it refuses; undefined: it is silent. */
  const answerOf = <T>(asked: Promise<T>, failed: T): Promise<T | undefined> =>
    Promise.race([asked.catch(() => failed), sleep(SILENCE, undefined)]);

  /** Of these containers those that Docker holds. It answers at once where it holds none. */
  async function silentOf(ids: readonly string[]): Promise<string[]> {
    const silent = await Promise.all(
      ids.map(async (id) => {
        const answered = docker
          .getContainer(id)
          .inspect()
          .then(() => true);
        return (await answerOf(answered, true)) ? [] : [id];
      }),
    );
    return silent.flat();
  }

  let askedAgain = 0;
  /** Of those that do not run; undefined: Docker does not answer. */
  async function listStill() {
    if (performance.now() < askedAgain) return undefined;
    const still = await answerOf(docker.listContainers({ all: true, filters: { status: STILL } }), []);
    if (still === undefined) askedAgain = performance.now() + PAUSE;
    return still;
  }

  /**
   * The one of the known containers that starts now, where no other on these networks does; undefined: none of them does. A container
   * that is new is waited for only where a known one starts too: else nobody's start takes longer for those that have stopped.
   */
  async function starting(
    names: readonly string[],
    known: ReadonlySet<string>,
  ): Promise<string | typeof UNTOLD | undefined> {
    const still = await listStill();
    if (still === undefined) return UNTOLD;
    const here = still.filter(({ NetworkSettings }) =>
      names.some((name) => Object.hasOwn(NetworkSettings.Networks, name)),
    );
    if (here.length > MOST_ASKED) return UNTOLD;
    const ids = here.map(({ Id }) => Id);
    const [one, ...more] = await silentOf(ids.filter((id) => known.has(id)));
    if (one === undefined) return undefined;
    if (more.length > 0) return UNTOLD;
    return (await silentOf(ids.filter((id) => !known.has(id)))).length === 0 ? one : UNTOLD;
  }

  return {
    keep({ endpoint, runtime }) {
      const { containerID, containerName, tenantName, networkName, groupName = '', ipAddress } = endpoint;
      if (runtime !== 'docker' || containerID === undefined) return;
      const target = { tenant: tenantName, network: networkName, group: groupName };
      const key = `${containerID} ${placeOf(target)}`;
      all.delete(key);
      const name = containerName === undefined ? {} : { name: containerName };
      all.set(key, { container: containerID, ...name, target, addresses: ipAddress });
      for (const oldest of all.keys()) {
        if (all.size <= MOST) break;
        all.delete(oldest);
      }
      writes.ask();
    },
    named(container, name) {
      const renamed = [...all].filter(([, s]) => s.container === container && s.name !== name);
      for (const [key, s] of renamed) all.set(key, { ...s, name });
      if (renamed.length > 0) writes.ask();
    },
    forget(container) {
      const keys = [...all].filter(([, s]) => s.container === container).map(([key]) => key);
      for (const key of keys) all.delete(key);
      if (keys.length > 0) writes.ask();
    },
    async addressIn(target, family, name) {
      const place = placeOf(target);
      const ofFamily = (s: Stopped | undefined): string | undefined =>
        s?.addresses.find((address) => isV6(address) === (family === 6));
      const there = [...all.values()].filter((s) => placeOf(s.target) === place);
      const told = name === undefined ? undefined : there.findLast((s) => s.name === name);
      if (told !== undefined) return ofFamily(told);
      // Of one whose name is known, Docker would have said it.
      const here = name === undefined ? there : there.filter((s) => s.name === undefined);
      if (here.length === 0) return undefined;
      const { tenant, group } = target;
      const names = [
        dockerName(target),
        ...(group === '' ? [] : [dockerName({ tenant, network: group, group: '' })]),
      ];
      const one = await starting(names, new Set(here.map(({ container }) => container)));
      return one === UNTOLD ? UNTOLD : ofFamily(here.find((s) => s.container === one));
    },
  };
}
