/** Where the objects of one of netmaster's kinds come from: what should be there, by key, and who is told what became of it. */
import type { Client } from '../client/client.ts';

export type Plain = Readonly<Record<string, unknown>>;

/** What netmaster said. `late`: hosts that had not applied it yet, where it was waited for. */
export type Outcome =
  | { readonly accepted: true; readonly late: readonly string[] }
  | { readonly accepted: false; readonly message: string };

export interface Source {
  /** netmaster's. */
  readonly kind: string;
  readonly collection: string;
  /** All that decides what is wanted has been read. */
  ready(): boolean;
  /** Keys of all that the cluster has. */
  keys(): Iterable<string>;
  /** Its fields as netmaster takes them; undefined where there should be none. Throws an Untranslatable. */
  want(key: string): Plain | undefined;
  /** Whether what is not wanted is ours to delete. */
  owns(key: string): boolean;
  /** What netmaster said of it, or that it is as it should be already. */
  tell(key: string, outcome: Outcome): void;
  /** Its writers wait until the live hosts have applied them, for so many seconds. */
  readonly wait: number;
}

export type Netmaster = Pick<Client, 'call'>;
