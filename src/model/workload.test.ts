import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { type Workload, workload } from './workload.ts';

const POD: Workload = {
  namespaceName: 'shop',
  workloadName: 'web-1.a',
  uid: 'u',
  tenantName: 'default',
  networkName: 'net1',
  groupName: 'web',
  labels: { app: 'web', 'example.com/tier': '' },
  ports: [
    { name: 'http', protocol: 6, port: 80 },
    { name: 'http', protocol: 17, port: 80 },
  ],
};
const world = worldOf({
  endpointGroup: [
    { tenantName: 'default', groupName: 'web', networkName: 'net1' },
    { tenantName: 'default', groupName: 'far', networkName: 'net2' },
  ],
});
const problem = (more: Partial<Workload>): string | undefined =>
  workload.check?.({ ...POD, ...more }, world, undefined)?.message;

describe('a workload', () => {
  it('is taken as an orchestrator has it', () => {
    expect(problem({})).toBeUndefined();
  });

  it.each([
    [
      { namespaceName: 'a/b' },
      "workload 'a/b': namespaceName must be a DNS label: 1 to 63 letters, digits or '-', not at either end",
    ],
    [
      { workloadName: 'a:b' },
      "workload shop:a:b: workloadName must be lower case letters, digits, '-' and '.', a letter or digit at both ends",
    ],
    [
      { labels: { '': 'x' } },
      "workload shop:web-1.a: labels '' is no label's key: 1 to 63 letters, digits, '-', '_' or '.', behind a DNS name and '/' or not",
    ],
    [
      { ports: [{ name: 'a b', protocol: 6, port: 1 }] },
      "workload shop:web-1.a: ports 'a b' must be a name of letters, digits and '-'",
    ],
    [
      {
        ports: [
          { name: 'a', protocol: 6, port: 1 },
          { name: 'a', protocol: 6, port: 1 },
        ],
      },
      'workload shop:web-1.a: ports has a, port 1 of protocol 6, twice',
    ],
    [{ groupName: 'far' }, 'workload shop:web-1.a: groupName is far, which is in network net2, not in net1'],
  ])('%# is refused in one line', (more, text) => {
    expect(problem(more)).toBe(text);
  });
});
