/**
 * Docker's firewall lets through what goes out of the tenants' routers, for as long as one has an exit here. That takes several
 * programs: no pass waits for it, but the first container does, whose exit is open when it starts.
 */
import type { Logger } from 'pino';
import { afterFailure, inTurn } from '../../turns.ts';
import type { Dataplane } from '../dataplane/index.ts';
import type { Follower } from '../follower.ts';
import { RETRY_DELAY } from '../intervals.ts';
import type { Firewalls } from './firewalls.ts';

export interface AdmissionOptions {
  readonly dataplane: Pick<Dataplane, 'admit'>;
  readonly firewalls: Firewalls;
  readonly log: Logger;
  /** Told of what was put right. */
  repaired(line: string): void;
}

export function followAdmission({ dataplane, firewalls, log, repaired }: AdmissionOptions): Follower {
  /** Of the last pass; undefined: there was none, and an earlier agent may have left some. */
  let exits: number | undefined;
  let begun = false;
  const { promise: open, resolve: opened } = Promise.withResolvers<void>();

  const admissions = inTurn(
    async () => {
      for (const line of await dataplane.admit(true)) {
        log.warn({ repaired: line }, 'the kernel differed from what was set up: repaired');
        repaired(line);
      }
      opened();
      void firewalls.look(); // when all is let through that can be
    },
    {
      again: afterFailure(RETRY_DELAY),
      failed(error, first) {
        if (first)
          log.error({ err: error }, "Docker's firewall does not let containers out; it is tried again");
      },
    },
  );

  return {
    name: "Docker's firewall",
    awaited: 'briefly',
    changed(news) {
      if (news.type !== 'kernel') return false;
      exits = news.state.exits.length;
      if (exits === 0 && firewalls.dropped.length > 0) void firewalls.look(); // nothing is dropped any more
      if (exits === 0 || (begun && !news.verified)) return false;
      const first = !begun;
      begun = true;
      admissions.ask();
      return first;
    },
    settled: () => (begun ? open : Promise.resolve()),
    async close() {
      await admissions.close();
      // What runs keeps its exit; where nothing does, nothing of ours stays in Docker's firewall.
      if (exits === 0) await dataplane.admit(false);
    },
  };
}
