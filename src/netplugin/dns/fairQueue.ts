/**
 * Fair queuing: what waits for service has a queue for each client, and is taken from those in turn. Whoever sends most waits
 * behind what is its own, and loses of that where its queue is full; another's one message is next but for one of each client.
 */
export interface FairQueue<T> {
  /** false: the client has as much waiting as it may, and this is not taken. */
  add(client: string, item: T, size: number): boolean;
  /** The oldest of the client whose turn it is; undefined: nothing waits. */
  take(): T | undefined;
  readonly empty: boolean;
}

interface Waiting<T> {
  readonly items: { readonly item: T; readonly size: number }[];
  size: number;
}

/** `each`: what a client may have waiting, as the sum of sizes. */
export function openFairQueue<T>(each: number): FairQueue<T> {
  /** Of who has something waiting, in the order of their turns. */
  const clients = new Map<string, Waiting<T>>();
  return {
    add(client, item, size) {
      const waiting = clients.get(client) ?? { items: [], size: 0 };
      if (waiting.size + size > each) return false;
      waiting.items.push({ item, size });
      waiting.size += size;
      if (waiting.items.length === 1) clients.set(client, waiting);
      return true;
    },
    take() {
      for (const [client, waiting] of clients) {
        clients.delete(client);
        const next = waiting.items.shift();
        if (next === undefined) continue;
        waiting.size -= next.size;
        if (waiting.items.length > 0) clients.set(client, waiting);
        return next.item;
      }
      return undefined;
    },
    get empty() {
      return clients.size === 0;
    },
  };
}
