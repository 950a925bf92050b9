import { describe, expect, it } from 'vitest';
import { compose, type Feature } from './feature.ts';

type Parts = { readonly hosts: readonly string[] };

const last: Feature<number, Parts> = {
  own: (n) => `counter last_${n} { }`,
  rules: { forward: 'accept' },
};
const first: Feature<number, Parts> = {
  own: '\nset hosts { type ipv4_addr; }\nset hosts6 { type ipv6_addr; }',
  rules: { input: 'drop', forward: (n) => `\nmeta mark ${n} drop\nip saddr @hosts drop` },
  elements: {
    hosts(hosts, add) {
      for (const address of hosts) add('hosts', address, address);
    },
  },
};
const CHAINS = [
  { name: 'input', hook: 'type filter hook input priority 0; policy accept;', steps: [first] },
  { name: 'forward', steps: [first, 'jump others', last] },
];

describe('a table of features', () => {
  it('has what is their own, then the chains that they share with their rules in the order of the list', () => {
    expect(compose(CHAINS).body(7)).toBe(`
set hosts { type ipv4_addr; }
set hosts6 { type ipv6_addr; }
counter last_7 { }
chain input {
  type filter hook input priority 0; policy accept;
  drop
}
chain forward {
  meta mark 7 drop
  ip saddr @hosts drop
  jump others
  accept
}
`);
  });

  it('has elements of IPv6 in the set with a 6, the same object for the same part', () => {
    const { elements } = compose(CHAINS);
    const hosts = ['192.0.2.1', '2001:db8::1', '192.0.2.2'];
    expect(elements('hosts', hosts)).toEqual(
      new Map([
        ['hosts', ['192.0.2.1', '192.0.2.2']],
        ['hosts6', ['2001:db8::1']],
      ]),
    );
    expect(elements('hosts', hosts)).toBe(elements('hosts', hosts));
  });

  it('is refused where a feature is in a chain that it has no rules for, or in none that it has rules for', () => {
    expect(() => compose([...CHAINS, { name: 'output', steps: [last] }])).toThrow(
      'a feature with rules for forward is listed in forward, output',
    );
    expect(() => compose(CHAINS.slice(0, 1))).toThrow(
      'a feature with rules for input, forward is listed in input',
    );
  });
});
