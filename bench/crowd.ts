/**
 * A cluster around one real host: a netmaster is filled with groups of 100 rules and with simulated hosts. Runs in the network namespace of
 * the lab's host.
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
import { macOf } from '../src/model/address.ts';
import type { DeclaredObject } from '../src/protocol/declared.ts';
import { LATE_HEADER } from '../src/protocol/wire.ts';
import { hundredRules } from './rules.ts';
import { each, openHosts } from './simulated.ts';

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

const join = (i: number): Promise<unknown> => {
  const address = `20.1.${i >> 8}.${i & 255}`;
  return client.call(
    'attach',
    { id: `e${i}`, wait: '0' },
    {
      endpointID: `e${i}`,
      tenantName: 'default',
      networkName: 'n',
      groupName: `g${i % groups}`,
      ipAddress: [address],
      macAddress: macOf(address),
      homingHost: `simulated${i % hosts}`,
      status: 'running',
    },
  );
};

await client.call('apply', { wait: '0' }, { objects: intent() });
const crowd = await openHosts(client, hosts);
await each(
  Array.from({ length: endpoints }, (_, i) => i),
  join,
);
crowd.acknowledgeAll((error) => {
  process.stderr.write(`crowd: ${error.message}\n`);
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
