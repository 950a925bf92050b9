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

/** A write that waits: `left` are the hosts that it is still waited for. */
interface Waiting {
  readonly revision: number;
  readonly left: Set<string>;
  finish(): void;
}

export function trackAcknowledgements(mirror: Mirror): Acknowledgements {
  const progress = new Map<string, Progress>();
  const waiting = new Set<Waiting>();

  const of = (host: string): Progress => {
    let found = progress.get(host);
    if (found === undefined) {
      // A host that has said nothing yet is starting: not waited for, but named as late.
      found = { applied: 0, missed: Number.POSITIVE_INFINITY };
      progress.set(host, found);
    }
    return found;
  };
  // One host at a time: what a write costs grows with the number of hosts, not with its square.
  const crossOff = (host: string, applied: number): void => {
    for (const { revision, left, finish } of waiting)
      if (applied >= revision && left.delete(host) && left.size === 0) finish();
  };
  mirror.onChange((batch) => {
    for (const { kind, key, object } of batch.changes)
      if (kind === 'host' && object === null) {
        progress.delete(key);
        crossOff(key, Number.POSITIVE_INFINITY);
      }
  });

  return {
    applied(host, revision) {
      const entry = of(host);
      entry.applied = Math.max(entry.applied, revision);
      if (entry.missed === Number.POSITIVE_INFINITY || entry.applied >= entry.missed) entry.missed = 0;
      crossOff(host, entry.applied);
    },
    async wait(revision, seconds, except) {
      const pending = (): string[] =>
        mirror
          .list<Host>('host')
          .map((h) => h.name)
          .filter((name) => name !== except && of(name).applied < revision);
      const left = new Set(pending().filter((name) => of(name).missed === 0));
      if (seconds > 0 && left.size > 0)
        await new Promise<void>((done) => {
          const finish = (): void => {
            clearTimeout(timer);
            waiting.delete(entry);
            done();
          };
          const entry: Waiting = { revision, left, finish };
          const timer = setTimeout(finish, seconds * 1000);
          waiting.add(entry);
        });
      const late = pending();
      if (seconds > 0)
        for (const name of late) {
          const entry = of(name);
          if (entry.missed !== Number.POSITIVE_INFINITY) entry.missed = Math.max(entry.missed, revision);
          crossOff(name, Number.POSITIVE_INFINITY);
        }
      return late;
    },
  };
}
