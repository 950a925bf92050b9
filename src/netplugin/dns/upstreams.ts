/** The host's own resolvers, from resolv.conf(5): read again when the file has changed. */
import fs from 'node:fs';
import net from 'node:net';

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

/** How long a client of the file's resolvers waits: that many times so many milliseconds. */
export interface Patience {
  readonly timeout: number;
  readonly attempts: number;
}

export interface Resolvers extends Patience {
  readonly servers: readonly Upstream[];
}

/** Milliseconds between looks at the file's modification time. */
const LOOK = 1000;
/** As the C library has them (resolv.conf(5)): MAXNS, RES_TIMEOUT and RES_DFLRETRY, and what options can make of these. */
const MAX_SERVERS = 3;
const PATIENCE: Patience = { timeout: 5000, attempts: 2 };
const MAX_PATIENCE: Patience = { timeout: 30_000, attempts: 5 };

export function readResolvers(text: string): Resolvers {
  const lines = text.split('\n');
  const option = (name: string): number | undefined =>
    lines
      .flatMap((line) => /^\s*options\s+(.*)/.exec(line)?.[1]?.split(/\s+/) ?? [])
      .flatMap((word) => new RegExp(`^${name}:(\\d{1,9})$`).exec(word)?.[1] ?? [])
      .map(Number)
      .filter((n) => n > 0)
      .at(-1);
  const timeout = option('timeout');
  return {
    servers: lines
      .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1])
      .filter((address) => address !== undefined && net.isIP(address.replace(/%.*/, '')) !== 0)
      .map((address) => ({ address: address as string, port: 53 }))
      .slice(0, MAX_SERVERS),
    timeout: Math.min(timeout === undefined ? PATIENCE.timeout : timeout * 1000, MAX_PATIENCE.timeout),
    attempts: Math.min(option('attempts') ?? PATIENCE.attempts, MAX_PATIENCE.attempts),
  };
}

export interface Upstreams {
  /** As the file says now. */
  current(): Resolvers;
}

const NONE: Resolvers = { servers: [], ...PATIENCE };

export function openUpstreams(file = '/etc/resolv.conf'): Upstreams {
  let known = NONE;
  let looked = Number.NEGATIVE_INFINITY;
  let modified = '';
  return {
    current() {
      const now = performance.now();
      if (now - looked < LOOK) return known;
      looked = now;
      try {
        const { mtimeMs, ino, size } = fs.statSync(file);
        const stamp = `${mtimeMs} ${ino} ${size}`;
        if (stamp !== modified) {
          modified = stamp;
          known = readResolvers(fs.readFileSync(file, 'utf8'));
        }
      } catch {
        known = NONE; // no file: no resolvers
        modified = '';
      }
      return known;
    },
  };
}
