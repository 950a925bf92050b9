import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Index } from '../model/kind.ts';
import { openTables, type Tables } from './tables.ts';

const TENANTS = ['blue', 'red'];
const NAMES = ['a', 'A', 'b', 'c'];

const byName: Index<{ tenantName: string; groupName: string }> = (g) => [
  `${g.tenantName}/${g.groupName.toLowerCase()}`,
];

/** One write: a group or an address that comes, changes or goes. */
const write = fc.record({
  kind: fc.constantFrom('endpointGroup', 'address'),
  tenant: fc.constantFrom(...TENANTS),
  name: fc.constantFrom(...NAMES),
  network: fc.constantFrom('n1', 'n2'),
  gone: fc.boolean(),
});
type Step = typeof write extends fc.Arbitrary<infer T> ? T : never;

function put(tables: Tables, { kind, tenant, name, network, gone }: Step, revision: number): void {
  if (kind === 'address')
    tables.put(kind, `${tenant}:${network}/${name}`, gone ? undefined : { host: 'h' }, revision);
  else
    tables.put(
      kind,
      `${tenant}:${name}`,
      gone ? undefined : { tenantName: tenant, groupName: name, networkName: network },
      revision,
    );
}

/** Everything that can be asked, in an order of its own. */
function answers(tables: Tables): unknown {
  const sorted = (values: Iterable<unknown>): string[] => [...values].map((v) => JSON.stringify(v)).sort();
  return {
    list: sorted(tables.list('endpointGroup')),
    entries: sorted(tables.entries('endpointGroup')),
    get: TENANTS.flatMap((t) => NAMES.map((n) => tables.stored('endpointGroup', `${t}:${n}`) ?? null)),
    where: TENANTS.flatMap((t) =>
      NAMES.map((n) => sorted(tables.where('endpointGroup', byName, `${t}/${n}`))),
    ),
    addresses: TENANTS.map((t) => sorted(tables.addresses(`${t}:n1`))),
    count: tables.count('endpointGroup'),
    users: TENANTS.map((t) => sorted(tables.users('network', `${t}:n1`, 'endpointGroup'))),
    referrers: TENANTS.flatMap((t) =>
      [...tables.referrers('network', `${t}:n1`)].map(([{ reference }, keys]) => [
        reference.field,
        sorted(keys),
      ]),
    ),
  };
}

describe('an overlay', () => {
  it('shows what is below with its own writes over it, and leaves that as it is', () => {
    fc.assert(
      fc.property(
        fc.array(write),
        fc.array(write),
        fc.array(write),
        fc.boolean(),
        (below, first, second, early) => {
          const base = openTables();
          for (const [i, step] of below.entries()) put(base, step, i + 1);
          const before = answers(base);
          const overlay = openTables(base);
          if (early) answers(overlay); // lists and indexes that were made before a write follow it
          for (const step of first) put(overlay, step, 0);
          if (early) answers(overlay);
          for (const step of second) put(overlay, step, 0);
          const plain = openTables();
          for (const [i, step] of below.entries()) put(plain, step, i + 1);
          for (const step of [...first, ...second]) put(plain, step, 0);
          expect(answers(overlay)).toEqual(answers(plain));
          expect(answers(base)).toEqual(before);
        },
      ),
      { numRuns: 500 },
    );
  });
});
