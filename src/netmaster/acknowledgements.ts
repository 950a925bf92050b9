/**
 * Which host has applied which revision: a write answers when the live hosts have. A deadline wins, and a host that
 * missed one is not waited for until it has caught up.
 */
import type { Host } from '../model/host.ts';
import type { Mirror } from './mirror.ts';

interface Progress {
  applied: number;
  /** The newest revision that it was too late for; 0: none. */
  missed: number;
}

export interface Acknowledgements {
  applied(host: string, revision: number): void;
  /** Names of the live hosts that had not applied the revision in time. `seconds` 0 waits for none. */
  wait(revision: number, seconds: number, except?: string): Promise<string[]>;
}

export function trackAcknowledgements(mirror: Mirror): Acknowledgements {
  const progress = new Map<string, Progress>();
  const waiting = new Set<() => void>();

  const of = (host: string): Progress => {
    let found = progress.get(host);
    if (found === undefined) {
      // A host that has said nothing yet is starting: not waited for, but named as late.
      found = { applied: 0, missed: Number.POSITIVE_INFINITY };
      progress.set(host, found);
    }
    return found;
  };
  const wake = (): void => {
    for (const look of waiting) look();
  };
  mirror.onChange((batch) => {
    for (const { kind, key, object } of batch.changes)
      if (kind === 'host' && object === null) {
        progress.delete(key);
        wake();
      }
  });

  return {
    applied(host, revision) {
      const entry = of(host);
      entry.applied = Math.max(entry.applied, revision);
      if (entry.missed === Number.POSITIVE_INFINITY || entry.applied >= entry.missed) entry.missed = 0;
      wake();
    },
    async wait(revision, seconds, except) {
      const pending = (): string[] =>
        mirror
          .list<Host>('host')
          .map((h) => h.name)
          .filter((name) => name !== except && of(name).applied < revision);
      const worthWaiting = (): boolean => pending().some((name) => of(name).missed === 0);
      if (seconds > 0 && worthWaiting())
        await new Promise<void>((done) => {
          const finish = (): void => {
            clearTimeout(timer);
            waiting.delete(look);
            done();
          };
          const look = (): void => {
            if (!worthWaiting()) finish();
          };
          const timer = setTimeout(finish, seconds * 1000);
          waiting.add(look);
        });
      const late = pending();
      if (seconds > 0)
        for (const name of late) {
          const entry = of(name);
          if (entry.missed !== Number.POSITIVE_INFINITY) entry.missed = Math.max(entry.missed, revision);
        }
      return late;
    },
  };
}
