/**
 * Encryption of what goes between hosts, by WireGuard: which keys count. Keys have epochs, the same on all hosts; a rotation goes from one to the next
 *
 *   epochs 1, active 1     ->  epochs 1 2, active 1     ->  epochs 1 2, active 2   ->  epochs 2, active 2
 *                              hosts make keys and tell     they send by the new       they forget the old
 *
 * in steps, each of which is taken when all hosts have done what the one before asks (netmaster/keyEpochs.ts).
 */
import type { Global } from './settings.ts';

/** Of one host and one epoch (host.ts has its schema). */
export interface HostKey {
  readonly epoch: number;
  /** Public, base64 of 32 bytes. */
  readonly key: string;
}

/** One or two that follow each other. */
export interface KeyEpochs {
  readonly epochs: readonly number[];
  /** By which hosts send where both ends have told a key of it; else by an earlier one. */
  readonly active: number;
  /** When the active one became that: milliseconds, Unix time. */
  readonly since: number;
}

/** Of a cluster that declares so; undefined: nothing is known of it. */
export const isEncrypted = (global: Pick<Global, 'encryption'> | undefined): boolean =>
  global?.encryption === 'wireguard';

export const keyOf = (keys: readonly HostKey[] | undefined, epoch: number): string | undefined =>
  keys?.find((key) => key.epoch === epoch)?.key;

/** While nothing is written of them. */
export const FIRST_EPOCHS: KeyEpochs = { epochs: [1], active: 1, since: 0 };
export const epochsIn = (written: KeyEpochs | undefined): KeyEpochs => written ?? FIRST_EPOCHS;
/** The one object of its kind. */
export const KEY_EPOCHS = 'encryption';
