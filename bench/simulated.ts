/** Hosts that are agents only: they share one watch of netmaster's, and each sends its own heartbeats and acknowledges each revision with its own request. */
import type { Client } from '../src/client/client.ts';
import { HEARTBEAT } from '../src/model/host.ts';

export interface SimulatedHosts {
  readonly names: readonly string[];
  /** From now on; whoever cannot goes to `failed`. */
  acknowledgeAll(failed: (error: Error) => void): void;
}

interface Agent {
  readonly name: string;
  readonly underlay: string;
  /** The newest revision, until it is acknowledged. */
  unsaid: number | undefined;
  saying: boolean;
}

/** Some at a time, as many hosts would. */
export async function each<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (const item of rest) await act(item);
    }),
  );
}

/** Resolves when netmaster knows them. */
export async function openHosts(client: Client, count: number): Promise<SimulatedHosts> {
  const agents = Array.from(
    { length: count },
    (_, i): Agent => ({
      name: `simulated${i}`,
      underlay: `192.168.${100 + (i >> 8)}.${i & 255}`,
      unsaid: undefined,
      saying: false,
    }),
  );
  const beat = ({ name, underlay }: Agent): Promise<unknown> =>
    client.call('register', { name }, { name, underlay, version: '2.0.0' });

  /** As an agent does it (netplugin/intent/netmaster.ts): one request at a time, the newest wins. */
  async function acknowledge(agent: Agent, store: string, revision: number): Promise<void> {
    agent.unsaid = revision;
    if (agent.saying) return;
    agent.saying = true;
    while (agent.unsaid !== undefined) {
      const applied = { store, revision: agent.unsaid };
      agent.unsaid = undefined;
      await client.call('applied', { name: agent.name }, applied);
    }
    agent.saying = false;
  }

  async function follow(): Promise<void> {
    let store = '';
    for await (const message of client.watch({})) {
      if (message.type === 'synced') store = message.store;
      if (message.type === 'synced' || message.type === 'change')
        for (const agent of agents) void acknowledge(agent, store, message.revision);
    }
  }

  await each(agents, beat);
  setInterval(() => void each(agents, beat), HEARTBEAT * 1000);
  return {
    names: agents.map(({ name }) => name),
    acknowledgeAll(failed) {
      follow().catch(failed);
    },
  };
}
