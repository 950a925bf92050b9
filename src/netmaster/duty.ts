/**
 * What one netmaster at a time does of several on a store: who holds the duty's key, under a lease, does it, and another one when that ends.
 *
 *   duty/NAME      id of the netmaster that holds it
 */
import { randomUUID } from 'node:crypto';
import type { Store } from '../store/store.ts';
import { inTurn } from '../turns.ts';
import { type Mirror, storeKey } from './mirror.ts';
import type { Writer } from './writer.ts';

/** Seconds until one that says nothing holds nothing, and milliseconds between its words. */
const TTL = 10;
const BEAT = 3000;

export interface Duty {
  /** This one does it now. Asked before each piece of work. */
  isHeld(): boolean;
  close(): Promise<void>;
}

export interface DutyOptions {
  readonly store: Pick<Store, 'grant' | 'renew' | 'revoke'>;
  readonly mirror: Mirror;
  readonly writer: Writer;
  /** There is no other netmaster. */
  readonly alone: boolean;
  /** It holds it from now on. */
  taken(): void;
  failed(error: unknown): void;
}

export function openDuty(name: string, { store, mirror, writer, alone, taken, failed }: DutyOptions): Duty {
  if (alone) return { isHeld: () => true, close: async () => {} };
  const id = randomUUID();
  let lease: string | undefined;
  /** performance.now() until which the lease holds for certain. */
  let until = 0;

  const holder = (): string | undefined => mirror.get<{ id: string }>('duty', name)?.id;
  const isHeld = (): boolean => holder() === id && performance.now() < until;

  async function take(): Promise<void> {
    const began = performance.now();
    if (lease !== undefined && (await store.renew(lease))) {
      if (holder() === id) until = began + TTL * 1000;
      if (holder() !== undefined) return;
    } else lease = undefined;
    if (holder() !== undefined) return;
    const granted = lease ?? (await store.grant(TTL));
    lease = granted;
    const key = storeKey('duty', name);
    const { answer } = await writer.write(() =>
      mirror.stored('duty', name) === undefined
        ? { checks: [{ key, revision: 0 }], writes: [{ key, value: { id }, lease: granted }], answer: true }
        : { checks: [], writes: [], answer: false },
    );
    if (!answer) return;
    until = began + TTL * 1000;
    taken();
  }

  const beats = inTurn(take, { every: BEAT, failed });
  beats.ask();

  return {
    isHeld,
    async close() {
      await beats.close();
      if (lease !== undefined) await store.revoke(lease).catch(() => {}); // it ends by itself
    },
  };
}
