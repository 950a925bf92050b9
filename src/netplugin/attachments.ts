/**
 * The containers that this host's runtimes have attached, and the transit slot of each of their tenants.
 * On disk before a runtime gets its answer: whatever is killed when, no attached container is forgotten.
 */
import path from 'node:path';
import { readJson, writeJson } from './file.ts';
import type { Attachment } from './view.ts';

interface Saved {
  attachments: Attachment[];
  slots: [tenant: string, slot: number][];
}

export interface Attachments {
  readonly all: ReadonlyMap<string, Attachment>;
  readonly slots: ReadonlyMap<string, number>;
  /** Durable when it returns. */
  put(attachment: Attachment): void;
  /** False where it was not there. */
  remove(endpoint: string): boolean;
}

export function openAttachments(folder: string): Attachments {
  const file = path.join(folder, 'attachments.json');
  const saved = readJson<Saved>(file);
  const all = new Map(saved?.attachments.map((a) => [a.endpoint.endpointID, a]));
  const slots = new Map(saved?.slots);

  const save = (): void => {
    const tenants = new Set([...all.values()].map((a) => a.endpoint.tenantName));
    for (const tenant of slots.keys()) if (!tenants.has(tenant)) slots.delete(tenant);
    for (const tenant of tenants)
      if (!slots.has(tenant)) slots.set(tenant, lowestFree(new Set(slots.values())));
    writeJson(file, { attachments: [...all.values()], slots: [...slots] } satisfies Saved);
  };

  return {
    all,
    slots,
    put(attachment) {
      all.set(attachment.endpoint.endpointID, attachment);
      save();
    },
    remove(endpoint) {
      if (!all.delete(endpoint)) return false;
      save();
      return true;
    },
  };
}

function lowestFree(taken: ReadonlySet<number>): number {
  for (let slot = 0; ; slot++) if (!taken.has(slot)) return slot;
}
