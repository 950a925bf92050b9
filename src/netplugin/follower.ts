/**
 * What follows the state of this host, each in its own time: the kernel, the nameservers, Docker's list of networks, ...
 *
 *   replica --view--> followers      kernel, itself a follower --kernel--> followers      intent/acknowledge.ts waits for them
 *
 * A follower goes by what is so when it acts, so that states in between may be left out. It tries again by itself what has failed.
 */
import type { WatchedObject } from '../protocol/messages.ts';
import type { ApplyReport } from './dataplane/index.ts';
import type { HostState } from './state.ts';

/** What may concern a follower. */
export type News =
  /** netmaster's objects: those that changed, and all of them where they were `listed` anew. */
  | { readonly type: 'view'; readonly objects: readonly WatchedObject[]; readonly listed: boolean }
  /** What the kernel was brought to, and what came of it; `verified`: with all of it read. */
  | {
      readonly type: 'kernel';
      readonly state: HostState;
      readonly report: ApplyReport;
      readonly verified: boolean;
    };

export interface Follower {
  /** What it keeps up to date, as the log calls it. */
  readonly name: string;
  /** How long an acknowledgement waits for it: until it has settled; for a while (intent/acknowledge.ts); or not at all. */
  readonly awaited: 'always' | 'briefly' | 'never';
  /** Answers at once; false: that is none of its business. */
  changed(news: News): boolean;
  /** When all holds that concerned it before the call. Never rejects. */
  settled(): Promise<void>;
  close(): Promise<void> | void;
}
