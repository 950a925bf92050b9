import { expect, it } from 'vitest';
import type { Actual } from './netmaster.ts';
import { withPodNetwork } from './network.ts';
import type { Source } from './source.ts';

const declared = { keys: () => [], want: () => undefined, owns: () => false } as unknown as Source;
const nothing = { text: () => undefined } as unknown as Actual;

it.each([
  ['10.32.0.0/16', '', { subnet: '10.32.0.0/16', gateway: '10.32.0.1' }],
  ['', 'fd32::/64', { ipv6Subnet: 'fd32::/64', ipv6Gateway: 'fd32::1' }],
  [
    '10.32.0.0/16',
    'fd32::/64',
    { subnet: '10.32.0.0/16', gateway: '10.32.0.1', ipv6Subnet: 'fd32::/64', ipv6Gateway: 'fd32::1' },
  ],
])('the network of pods has what is given of %j and %j', (subnet, subnet6, fields) => {
  const network = { tenant: 'default', network: 'pods', subnet, subnet6 };
  const source = withPodNetwork(
    declared,
    network,
    () => nothing,
    () => {},
  );
  expect(source.want('default:pods')).toEqual({
    tenantName: 'default',
    networkName: 'pods',
    hostAccess: true,
    ...fields,
  });
});
