/**
 * The host's own keys, by which what other hosts send here is encrypted: one an epoch (model/encryption.ts), made here. The private ones are in
 * one file that root alone reads, and in the kernel; nobody else is told them.
 *
 *   STATE/wireguard/keys.json      { "EPOCH": "base64 of 32 bytes" }
 *
 * A file that is lost or broken costs nothing but that other hosts have to be told of new keys.
 */
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import type { HostKey } from '../model/encryption.ts';
import { readJson, writeText } from './file.ts';

export const KEYS_FOLDER = 'wireguard';
export const KEYS_FILE = 'keys.json';

export interface HostKeys {
  /** What `of` has answered last; before that public keys that the host had when the agent started: the kernel has them still, but for a reboot. */
  readonly known: readonly HostKey[];
  /**
   * Public keys, the oldest first: of these epochs those that are newer than all that are here are made, and durable; those of other epochs go. The same
   * array until they change. One that cannot be made or kept is not among them, and `problem` says why.
   *
   * A netmaster whose store was put back to an earlier state tells older epochs than it did. What is here stays then, as other hosts send by it, and
   * netmaster follows (netmaster/keyEpochs.ts).
   */
  of(epochs: readonly number[]): readonly HostKey[];
  /** Those that are here are another host's too: none is left, and `of` makes new ones. */
  renew(): void;
  /** 32 bytes; undefined: no such key is here. */
  secretOf(publicKey: string): Buffer | undefined;
  /** One plain line; '' where there is none. */
  readonly problem: string;
}

interface Pair {
  readonly secret: Buffer;
  readonly key: string;
}

const BYTES = 32;
/** Of PKCS #8 and SubjectPublicKeyInfo, ahead of a key of X25519 (RFC 8410). */
const PRIVATE = Buffer.from('302e020100300506032b656e04220420', 'hex');

/** As WireGuard has it: the bits that X25519 ignores are set (RFC 7748, 5). */
function pairOf(bytes: Buffer): Pair {
  const secret = Buffer.from(bytes);
  secret[0] = (secret[0] ?? 0) & 248;
  secret[31] = ((secret[31] ?? 0) & 127) | 64;
  const key = crypto.createPrivateKey({
    key: Buffer.concat([PRIVATE, secret]),
    format: 'der',
    type: 'pkcs8',
  });
  const known = crypto.createPublicKey(key).export({ format: 'der', type: 'spki' });
  return { secret, key: known.subarray(-BYTES).toString('base64') };
}

const publicOf = (pairs: ReadonlyMap<number, Pair>): HostKey[] =>
  [...pairs].map(([epoch, { key }]) => ({ epoch, key })).sort((a, b) => a.epoch - b.epoch);

export function openHostKeys(stateDir: string, log: Logger): HostKeys {
  const folder = path.join(stateDir, KEYS_FOLDER);
  const file = path.join(folder, KEYS_FILE);
  let pairs = new Map<number, Pair>();
  let problem = '';
  /** The file has others than `pairs`. */
  let isStale = false;
  try {
    const saved = readJson<Record<string, unknown>>(file, 'other hosts are told of new keys') ?? {};
    for (const [epoch, secret] of Object.entries(saved)) {
      const bytes = Buffer.from(String(secret), 'base64');
      if (bytes.length === BYTES) pairs.set(Number(epoch), pairOf(bytes));
    }
  } catch (error) {
    // Never what the file has.
    log.warn(`${file}: ${(error as NodeJS.ErrnoException).code ?? 'not JSON'}: this host makes new keys`);
  }

  let told: readonly HostKey[] = publicOf(pairs);

  function keep(next: ReadonlyMap<number, Pair>): void {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    const text = Object.fromEntries(
      [...next].map(([epoch, { secret }]) => [epoch, secret.toString('base64')]),
    );
    writeText(file, JSON.stringify(text));
  }

  return {
    get known() {
      return told;
    },
    renew() {
      pairs = new Map();
      told = [];
      isStale = true;
    },
    of(epochs) {
      const newest = Math.max(0, ...pairs.keys());
      const isBehind = epochs.length > 0 && epochs.every((epoch) => epoch < newest);
      const made = epochs.filter((epoch) => epoch > newest);
      const next = new Map([
        ...[...pairs].filter(([epoch]) => isBehind || epochs.includes(epoch)),
        ...made.map((epoch) => [epoch, pairOf(crypto.randomBytes(BYTES))] as const),
      ]);
      const same = !isStale && made.length === 0 && next.size === pairs.size;
      try {
        if (!same) keep(next);
        isStale = false;
        pairs = next;
        problem = '';
      } catch (error) {
        const line = `the keys of this host cannot be written to ${file}: ${(error as Error).message}`;
        if (problem === '') log.error({ err: error }, line);
        problem = line;
      }
      const all = publicOf(pairs);
      // Those that should go and could not, as the file cannot be written, are nobody's any more.
      const now = all.filter(({ epoch }) => next.has(epoch));
      if (JSON.stringify(now) !== JSON.stringify(told)) told = now;
      return told;
    },
    secretOf: (publicKey) => [...pairs.values()].find(({ key }) => key === publicKey)?.secret,
    get problem() {
      return problem;
    },
  };
}
