/**
 * Which host has applied which revision: a write answers when the live hosts have. A deadline wins, and a host that
 * missed one is not waited for until it has caught up. One that is away is none of these, and named beside them as long as it has containers: it
 * may be no more than cut off, and they go on by what was applied there last.
 */
import type { Host } from '../model/host.ts';
import type { Mirror } from './mirror.ts';
import { endpointsOf, isContainer } from './roster.ts';

export interface Acknowledgements {
  applied(host: string, revision: number): void;
  /** Names of the live hosts that had not applied the revision in time. `seconds` 0 waits for none. */
  wait(revision: number, seconds: number, except?: string): Promise<string[]>;
  /** Names of the hosts that are away, have containers, and have not applied the revision. */
  away(revision: number): string[];
}

/** A write that waits: `left` are the hosts that it is still waited for. */
interface Waiting {
  readonly revision: number;
  readonly left: Set<string>;
  finish(): void;
}

export function trackAcknowledgements(mirror: Mirror): Acknowledgements {
  /** By host, the newest revision that it was too late for; 0: none. One that has said nothing yet is starting: too late for any. */
  const missed = new Map<string, number>();
  const waiting = new Set<Waiting>();
  const appliedBy = (host: string): number => mirror.applied.get(host) ?? 0;
  const missedBy = (host: string): number => missed.get(host) ?? Number.POSITIVE_INFINITY;

  // One host at a time: what a write costs grows with the number of hosts, not with its square.
  const crossOff = (host: string, applied: number): void => {
    for (const { revision, left, finish } of waiting)
      if (applied >= revision && left.delete(host) && left.size === 0) finish();
  };
  mirror.onChange((batch) => {
    for (const { kind, key, object } of batch.changes)
      if (kind === 'host' && object === null) {
        missed.delete(key);
        crossOff(key, Number.POSITIVE_INFINITY);
      }
  });

  return {
    applied(host, revision) {
      const applied = Math.max(appliedBy(host), revision);
      mirror.applied.set(host, applied);
      if (missedBy(host) === Number.POSITIVE_INFINITY || applied >= missedBy(host)) missed.set(host, 0);
      crossOff(host, applied);
    },
    async wait(revision, seconds, except) {
      const pending = (): string[] =>
        mirror
          .list<Host>('host')
          .map((h) => h.name)
          .filter((name) => name !== except && appliedBy(name) < revision);
      const left = new Set(pending().filter((name) => missedBy(name) === 0));
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
          if (missedBy(name) !== Number.POSITIVE_INFINITY)
            missed.set(name, Math.max(missedBy(name), revision));
          crossOff(name, Number.POSITIVE_INFINITY);
        }
      return late;
    },
    away: (revision) =>
      [...mirror.entries('registration')].flatMap(([name]) =>
        mirror.get('host', name) === undefined &&
        appliedBy(name) < revision &&
        endpointsOf(mirror, name).some(isContainer)
          ? [name]
          : [],
      ),
  };
}
