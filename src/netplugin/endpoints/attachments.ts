/**
 * The containers that this host's runtimes have attached, and the transit slot of each of their tenants.
 * On disk before a runtime gets its answer: whatever is killed when, no attached container is forgotten. The phase alone may be
 * behind there: what an earlier agent had begun is taken for joined (endpoints.ts). Of many that come at once the file is written
 * for all together, and everything else goes on meanwhile.
 *
 * And the addresses of those that have ended without netmaster having been told. netmaster has them as this host's, with endpoints of
 * it: nobody else is given them, and it waits for this host before anything gets another meaning (endings.ts there). So what ended may have
 * them again although nobody can be asked (endpoints.ts). They leave the file before netmaster is told.
 *
 *   put --> all --remove, netmaster is silent--> held --put--> all
 *                                                  +--letGo--> netmaster is told
 */
import { randomInt } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import type { Endpoint } from '../../model/endpoint.ts';
import { workloadName } from '../../model/workload.ts';
import { inTurn } from '../../turns.ts';
import { readJson, writeJson } from '../file.ts';
import { type Attachment, isWhole, type View } from '../intent/view.ts';
import { FILES_INTERVAL } from '../intervals.ts';

const FILE = 'attachments.json';

interface Saved {
  attachments: Attachment[];
  slots: [tenant: string, slot: number][];
  /** Absent in what an earlier agent wrote. */
  held?: Held[];
}

/** An address of an endpoint that has ended here and that netmaster still has. */
export interface Held
  extends Pick<Endpoint, 'endpointID' | 'tenantName' | 'networkName' | 'groupName'>,
    Pick<Attachment, 'runtime'> {
  readonly address: string;
}

/** `blue:net1 10.1.0.7` */
export const placeOf = (network: string, address: string): string => `${network} ${address}`;

const heldOf = ({ endpoint, runtime }: Pick<Attachment, 'endpoint' | 'runtime'>): [string, Held][] => {
  const { endpointID, tenantName, networkName, groupName, ipAddress } = endpoint;
  const of = { endpointID, tenantName, networkName, ...(groupName ? { groupName } : {}), runtime };
  return ipAddress.map((address) => [placeOf(`${tenantName}:${networkName}`, address), { ...of, address }]);
};

export interface Attachments {
  readonly all: ReadonlyMap<string, Attachment>;
  readonly slots: ReadonlyMap<string, number>;
  /** By place, the oldest first. */
  readonly held: ReadonlyMap<string, Held>;
  /** In memory at once, durable when it resolves; where it cannot be written it rejects, and nothing has changed. */
  put(attachment: Attachment): Promise<void>;
  /** Its runtime has got its answer. In memory: on disk with the next write. */
  joined(endpoint: string): void;
  /**
   * The same; false where it was not there. Where it cannot be written it rejects, and is gone nevertheless: until a restart. `held`:
   * its addresses are, as netmaster will not be told for now.
   */
  remove(endpoint: string, held?: 'held'): Promise<boolean>;
  /** Of one that was removed: netmaster has not been told. */
  hold(ended: Pick<Attachment, 'endpoint' | 'runtime'>): Promise<void>;
  /** None is held any more when it resolves. Where that cannot be written it rejects, and all are held still. */
  letGo(): Promise<void>;
  /** Written anew where somebody has deleted or moved the file; true: it was. */
  restore(): Promise<boolean>;
}

/** `pairs`: how many slots there are. */
export function openAttachments(folder: string, pairs: number): Attachments {
  const file = path.join(folder, FILE);
  const saved = readJson<Saved>(file, 'the containers that run here must be restarted then');
  // What an agent wrote that knew no runtime but Docker says nothing of stubs: each of its containers has one.
  const read = (a: Attachment): Attachment => (a.runtime === 'docker' ? { ...a, stub: true } : a);
  const all = new Map(saved?.attachments.map((a) => [a.endpoint.endpointID, read(a)]));
  const slots = new Map(saved?.slots);
  const held = new Map(saved?.held?.map((h) => [placeOf(`${h.tenantName}:${h.networkName}`, h.address), h]));

  /** Of one that was never written nothing is missing. */
  let isWritten = saved !== undefined;

  const writes = inTurn(async () => {
    await writeJson(file, {
      attachments: [...all.values()],
      slots: [...slots],
      ...(held.size === 0 ? {} : { held: [...held.values()] }),
    } satisfies Saved);
    isWritten = true;
  });

  function forget(endpoint: string): boolean {
    if (!all.delete(endpoint)) return false;
    const tenants = new Set([...all.values()].map((a) => a.endpoint.tenantName));
    for (const tenant of slots.keys()) if (!tenants.has(tenant)) slots.delete(tenant);
    return true;
  }

  return {
    all,
    slots,
    held,
    async put(attachment) {
      const { tenantName, endpointID } = attachment.endpoint;
      const before = all.get(endpointID);
      const taken = heldOf(attachment).flatMap(([place]) => {
        const one = held.get(place);
        return one === undefined ? [] : [[place, one] as const];
      });
      for (const [place] of taken) held.delete(place);
      if (!slots.has(tenantName)) slots.set(tenantName, freeSlot(new Set(slots.values()), pairs));
      all.set(endpointID, attachment);
      try {
        await writes.next();
      } catch (error) {
        const { endpoint } = all.get(endpointID) ?? {};
        if (endpoint === attachment.endpoint) {
          if (before === undefined) forget(endpointID);
          else all.set(endpointID, before);
          for (const [place, one] of taken) held.set(place, one);
        }
        throw error;
      }
    },
    joined(endpoint) {
      const attachment = all.get(endpoint);
      if (attachment?.phase === 'joining') all.set(endpoint, { ...attachment, phase: 'joined' });
    },
    async remove(endpoint, how) {
      const had = all.get(endpoint);
      if (had === undefined) return false;
      forget(endpoint);
      if (how === 'held') for (const [place, one] of heldOf(had)) held.set(place, one);
      await writes.next();
      return true;
    },
    async hold(ended) {
      for (const [place, one] of heldOf(ended)) held.set(place, one);
      await writes.next();
    },
    async letGo() {
      if (held.size === 0) return;
      const before = [...held];
      held.clear();
      try {
        await writes.next();
      } catch (error) {
        for (const [place, one] of before) held.set(place, one);
        throw error;
      }
    },
    async restore() {
      if (!isWritten || fs.existsSync(file)) return false;
      fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
      await writes.next();
      return true;
    },
  };
}

/** What an agent has attached that has ended; undefined: it left nothing on disk. */
export const readAttachments = (folder: string): readonly Attachment[] | undefined =>
  readJson<Saved>(path.join(folder, FILE), 'the containers that run here must be restarted then')
    ?.attachments;

/** Names of the containers, or workloads, that an agent has attached which has ended. */
export function attachedNames(folder: string): string[] {
  return (readAttachments(folder) ?? []).flatMap(({ endpoint }) =>
    endpoint.ofHost
      ? []
      : [
          endpoint.workload
            ? workloadName(endpoint.workload)
            : (endpoint.containerName ?? endpoint.endpointID),
        ],
  );
}

/** For as long as the agent runs they are on disk for its next start. */
export function keepAttachments(attachments: Pick<Attachments, 'restore'>, log: Logger): { close(): void } {
  async function look(): Promise<void> {
    if (await attachments.restore())
      log.error('attachments.json was deleted or moved away: it is written anew');
  }
  const looks = inTurn(look, {
    every: FILES_INTERVAL,
    failed: (error) =>
      log.error({ err: error }, 'attachments.json is gone and cannot be written anew; it is tried again'),
  });
  return { close: () => void looks.close() };
}

/** What of these is not among netmaster's objects, in words; '' for nothing. */
export function missingFrom(
  { networks, groups }: Pick<View, 'networks' | 'groups'>,
  attached: Iterable<Attachment>,
): string {
  for (const { endpoint } of attached) {
    const { tenantName, networkName, groupName } = endpoint;
    const network = networks.get(`${tenantName}:${networkName}`);
    // It knows no address of the tenant here: it has lost them, and is told again.
    if (network !== undefined && !isWhole(network)) return `addresses in tenant ${tenantName}`;
    // The host's own go with their network.
    if (endpoint.ofHost) continue;
    if (network === undefined) return `network ${tenantName}:${networkName}`;
    if (groupName && !groups.has(`${tenantName}:${groupName}`)) return `group ${tenantName}:${groupName}`;
  }
  return '';
}

/** By chance: traceroute shows a tenant its own, whose number must not tell how many others were there before. */
function freeSlot(taken: ReadonlySet<number>, pairs: number): number {
  const start = randomInt(pairs);
  for (let i = 0; i < pairs; i++) {
    const slot = (start + i) % pairs;
    if (!taken.has(slot)) return slot;
  }
  throw new Error(
    `all ${pairs} pairs of the transit range are taken: start netplugin with a larger --transit`,
  );
}
