/**
 * When netmaster is told that this host goes by a revision: when all followers have settled that it concerns.
 *
 *   news --> followers, in their order --> each has settled --> the newest revision that was told before
 *
 * One revision at a time: while it is waited for, newer ones come, and then the newest of them is waited for. netmaster takes a
 * revision for all before it, so none is told before what was told earlier has settled too.
 *
 * Whoever has not settled when netmaster answers its caller (2 s) makes this host one of the late ones there. netmaster gives no
 * address another meaning that a host may still go by (netmaster/endings.ts): so who decides what becomes of a packet, the kernel,
 * is waited for, however long that takes, and who tells netmaster which addresses are in use here. Names and Docker's list of
 * networks are to make the host late where what is new is not there, as nobody would find it; but with a process that cannot be started,
 * or a Docker that hangs, no rule may be late and no address withheld for good. So they are waited for until PATIENCE after they
 * were told what concerns them.
 */
import type { Logger } from 'pino';
import type { Applied } from '../../protocol/messages.ts';
import { afterFailure, inTurn } from '../../turns.ts';
import type { Follower, News } from '../follower.ts';
import { ACKNOWLEDGE_INTERVAL, RETRY_DELAY } from '../intervals.ts';

/** Milliseconds: a little more than netmaster's deadline, so that it names this host to whoever asked for what is not there yet. */
const PATIENCE = 2500;

export interface Followers {
  /** Behind those that it is to be told after. */
  add<F extends Follower>(follower: F): F;
  tell(news: News): void;
  /** In their order: who tells others ends before them. */
  close(): Promise<void>;
}

export interface FollowersOptions {
  /** Of all that was told until now; undefined: netmaster is not followed. */
  position(): Applied | undefined;
  /** The host goes by it. */
  acknowledge(applied: Applied): void;
  readonly log: Logger;
}

export function openFollowers({ position, acknowledge, log }: FollowersOptions): Followers {
  const followers: Follower[] = [];
  /** When each was told something last that concerns it. */
  const told = new Map<Follower, number>();
  /** Of which it was said that they have not settled. */
  const late = new Set<Follower>();
  let closed = false;

  function complain(follower: Follower): void {
    if (late.has(follower) || closed) return;
    late.add(follower);
    log.warn(
      { follower: follower.name },
      follower.awaited === 'always'
        ? 'it does not go by what was declared yet: netmaster counts this host as late'
        : 'it does not go by what was declared yet: it is not waited for any more',
    );
  }

  async function settle(follower: Follower): Promise<void> {
    const { awaited } = follower;
    if (awaited === 'never') return;
    const since = awaited === 'briefly' ? (told.get(follower) ?? 0) : performance.now();
    const left = Math.max(since + PATIENCE - performance.now(), 0);
    if (left === 0 && late.has(follower)) return;
    const settled = follower.settled().then(() => {
      if (late.delete(follower)) log.info({ follower: follower.name }, 'it goes by what was declared again');
    });
    const { promise: over, resolve: end } = Promise.withResolvers<void>();
    const timer = setTimeout(() => {
      complain(follower);
      if (awaited === 'briefly') end();
    }, left);
    await Promise.race([settled, over]);
    clearTimeout(timer);
  }

  const acknowledgements = inTurn(
    async () => {
      const at = position();
      if (at === undefined) return;
      for (const follower of followers) await settle(follower);
      if (!closed) acknowledge(at);
    },
    {
      every: ACKNOWLEDGE_INTERVAL,
      again: afterFailure(RETRY_DELAY),
      failed: (error) => log.error({ err: error }, 'what was applied is not acknowledged; it is tried again'),
    },
  );

  return {
    add(follower) {
      followers.push(follower);
      return follower;
    },
    tell(news) {
      for (const follower of followers) if (follower.changed(news)) told.set(follower, performance.now());
      if (news.type === 'view') acknowledgements.ask();
    },
    async close() {
      closed = true;
      void acknowledgements.close(); // it may wait for one that never settles
      for (const follower of followers) await follower.close();
    },
  };
}
