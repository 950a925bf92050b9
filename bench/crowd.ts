/**
 * A cluster around one real host: a netmaster is filled with groups of 100 rules and with simulated hosts, whose
 * agents are one process: they share one watch, and each sends its own heartbeats and acknowledges each revision with
 * its own request. Runs in the network namespace of the lab's host.
 *
 *   node crowd.ts URL GROUPS ENDPOINTS HOSTS
 *
 * Answers each line on standard input with a line of JSON, after a first one when everything is loaded:
 *
 *   change      posts a rule of group g0's policy and waits until all hosts have acknowledged it
 *   undo        deletes it again
 */
import { createInterface } from 'node:readline';
import { connect } from '../src/client/client.ts';
import { HEARTBEAT } from '../src/model/host.ts';
import type { DeclaredObject } from '../src/protocol/declared.ts';
import type { HostAnswer } from '../src/protocol/messages.ts';
import { LATE_HEADER } from '../src/protocol/wire.ts';
import { hundredRules } from './rules.ts';

export interface Answer {
  /** Milliseconds from the request to the answer, which waits for every agent. */
  readonly ms: number;
  /** Names of the hosts that were waited for in vain; '' for none. */
  readonly late: string;
}

const [url = '', ...amounts] = process.argv.slice(2);
const [groups = 0, endpoints = 0, hosts = 0] = amounts.map(Number);
const client = connect({ urls: [url], timeoutMs: 600_000 });
const say = (answer: Answer): void => {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
};

/** A simulated host's agent. */
interface Agent {
  readonly name: string;
  readonly underlay: string;
  /** The newest revision, until it is acknowledged. */
  unsaid: number | undefined;
  saying: boolean;
}
const crowd = Array.from(
  { length: hosts },
  (_, i): Agent => ({
    name: `simulated${i}`,
    underlay: `192.168.${100 + (i >> 8)}.${i & 255}`,
    unsaid: undefined,
    saying: false,
  }),
);

const beat = async ({ name, underlay }: Agent): Promise<HostAnswer> =>
  (await client.call('register', { name }, { name, underlay, version: '2.0.0' })).body;

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
      for (const agent of crowd) void acknowledge(agent, store, message.revision);
  }
}

function intent(): DeclaredObject[] {
  const objects: DeclaredObject[] = [
    { kind: 'network', networkName: 'n', subnet: '20.0.0.0/8', gateway: '20.255.255.254' },
  ];
  for (let g = 0; g < groups; g++)
    objects.push(
      { kind: 'endpointGroup', groupName: `g${g}`, networkName: 'n', policies: [`p${g}`] },
      { kind: 'policy', policyName: `p${g}` },
      ...hundredRules(
        `p${g}`,
        'in',
        (i) => `g${(g + i / 10) % groups}`,
        (i) => `20.${i}.0.0/16`,
      ),
    );
  return objects;
}

/** Some at a time, as many hosts would. */
async function each<T>(items: readonly T[], act: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items.values();
  await Promise.all(
    Array.from({ length: 16 }, async () => {
      for (const item of rest) await act(item);
    }),
  );
}

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');
const join = (i: number): Promise<unknown> =>
  client.call(
    'attach',
    { id: `e${i}`, wait: '0' },
    {
      endpointID: `e${i}`,
      tenantName: 'default',
      networkName: 'n',
      groupName: `g${i % groups}`,
      ipAddress: [`20.1.${i >> 8}.${i & 255}`],
      macAddress: `02:02:14:01:${hex(i >> 8)}:${hex(i & 255)}`,
      homingHost: `simulated${i % hosts}`,
      status: 'running',
    },
  );

await client.call('apply', { wait: '0' }, { objects: intent() });
await each(crowd, beat);
setInterval(() => void each(crowd, beat), HEARTBEAT * 1000);
await each(
  Array.from({ length: endpoints }, (_, i) => i),
  join,
);
const following = follow();
following.catch((error) => {
  process.stderr.write(`crowd: ${(error as Error).message}\n`);
  process.exit(1);
});
say({ ms: performance.now(), late: '' });

const CHANGED = { collection: 'rules', key: 'default:p0:changed' };
const rule = { direction: 'in', action: 'deny', priority: 50, protocol: 'tcp', port: 7777 };
for await (const line of createInterface({ input: process.stdin })) {
  const began = performance.now();
  const { headers } =
    line === 'undo'
      ? await client.call('delete', CHANGED)
      : await client.call('post', CHANGED, {
          tenantName: 'default',
          policyName: 'p0',
          ruleId: 'changed',
          ...rule,
        });
  say({ ms: performance.now() - began, late: String(headers[LATE_HEADER] ?? '') });
}
process.exit(0);
