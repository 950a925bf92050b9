/**
 * Places for what takes sockets and time: queries that wait for others' answers, connections of clients. There are so many for
 * each client and so many in all, and who has most gives first: whatever one client asks for, another finds a place.
 *
 *   a client has as many as it may  -> its own oldest goes
 *   all are taken                   -> the oldest of the client that has most goes
 */
export interface Limits {
  readonly each: number;
  readonly all: number;
}

export interface Places {
  /** Takes one; answers how to leave it, which may be done twice. `lost` is called where it goes to another before that. */
  take(client: string, lost: () => void): () => void;
}

/** `crowded` is told whose place went to another. */
export function openPlaces({ each, all }: Limits, crowded: (client: string) => void): Places {
  /** By client, in the order in which they came. */
  const taken = new Map<string, Set<() => void>>();
  let count = 0;

  function leave(client: string, lost: () => void): boolean {
    const own = taken.get(client);
    if (own?.delete(lost) !== true) return false;
    count--;
    if (own.size === 0) taken.delete(client);
    return true;
  }
  /** Looked for only where all are taken, among clients, of which there are few: each has an address of the tenant's here. */
  const greediest = (): string =>
    [...taken].reduce((a, b) => (b[1].size > a[1].size ? b : a), ['', new Set<() => void>()] as const)[0];
  function evict(client: string): void {
    const [oldest] = taken.get(client) ?? [];
    if (oldest === undefined || !leave(client, oldest)) return;
    crowded(client);
    oldest();
  }

  return {
    take(client, lost) {
      const own = (): void => lost(); // a function of its own: the same `lost` may come twice
      if ((taken.get(client)?.size ?? 0) >= each) evict(client);
      else if (count >= all) evict(greediest());
      const places = taken.get(client);
      if (places === undefined) taken.set(client, new Set([own]));
      else places.add(own);
      count++;
      return () => void leave(client, own);
    },
  };
}
