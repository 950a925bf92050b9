/** What a change costs does not grow with what is there, counted. */
import { expect, it } from 'vitest';
import type { Kind } from '../model/kind.ts';
import { kindByName } from '../model/kinds.ts';
import { openMemory } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import { decideApply, readSet } from './batch.ts';
import { decideWrite, remove } from './intent.ts';
import { openMirror } from './mirror.ts';
import { openWriter } from './writer.ts';

const kind = kindByName.get('rule') as Kind;

/** A netmaster with so many groups of 100 rules; answers what creating and deleting a rule costs it. */
async function costs(groups: number): Promise<object> {
  const memory = openMemory();
  const written: number[] = [];
  const store: Store = {
    ...memory,
    transact(checks, writes) {
      written.push(checks.length + writes.length);
      return memory.transact(checks, writes);
    },
  };
  const mirror = await openMirror(store);
  const writer = openWriter(store, mirror);
  const objects: object[] = [
    { kind: 'tenant', tenantName: 'default' },
    { kind: 'network', networkName: 'n', subnet: '20.0.0.0/8' },
  ];
  for (let g = 0; g < groups; g++) {
    objects.push(
      { kind: 'policy', policyName: `p${g}` },
      { kind: 'endpointGroup', groupName: `g${g}`, networkName: 'n', policies: [`p${g}`] },
    );
    for (let i = 0; i < 100; i++)
      objects.push({
        kind: 'rule',
        policyName: `p${g}`,
        ruleId: `${i}`,
        direction: 'in',
        action: 'allow',
        protocol: 'tcp',
        port: 1000 + i,
      });
  }
  await writer.write(() => decideApply(readSet({ objects }), mirror));
  expect(mirror.count('rule')).toBe(100 * groups);
  const lines: number[] = [];
  mirror.onChange(({ line }) => lines.push(line.length));
  written.length = 0;
  const rule = {
    tenantName: 'default',
    policyName: 'p1',
    ruleId: 'new',
    direction: 'in',
    action: 'deny',
    protocol: 'tcp',
    port: 7777,
  };
  await writer.write(() => decideWrite(kind, 'default:p1:new', rule, 'post', mirror));
  await remove(kind, 'default:p1:new', writer);
  await mirror.close();
  return { written, lines: lines.length };
}

it('a rule costs as many transactions and lines of the watch with 10 groups of 100 rules as with 300', async () => {
  const few = await costs(10);
  expect(few).toMatchObject({ lines: 2, written: { length: 2 } });
  expect(await costs(300)).toEqual(few);
});
