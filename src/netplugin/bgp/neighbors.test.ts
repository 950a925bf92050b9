import { expect, it } from 'vitest';
import type { Bgp } from '../../model/bgp.ts';
import { neighborStates } from './neighbors.ts';

const BGP: Bgp = {
  hostname: 'node1',
  routerip: '10.9.0.1/24',
  as: '65001',
  neighbor: '10.9.0.2,10.9.0.3,10.9.0.4',
  'neighbor-as': '65000',
};

/** As BIRD 2.0.12 has said it. */
const SAID = `Name       Proto      Table      State  Since         Info
kernel4    Kernel     master4    up     2026-11-28 09:56:57
  Channel ipv4
    State:          UP
    Routes:         1 imported, 5 exported, 1 preferred

neighbor1  BGP        ---        up     2026-11-28 09:57:06  Established
  BGP state:          Established
    Neighbor address: 10.9.0.2
    Hold timer:       5.435/9
  Channel ipv4
    State:          UP
    Import limit:   5 [HIT]
      Action:       block
    Routes:         5 imported, 1 exported, 5 preferred
      Import updates:              9          0          0          4          5

neighbor2  BGP        ---        start  2026-11-28 09:57:01  Active        Socket: Connection refused
  BGP state:          Active
    Neighbor address: 10.9.0.3
    Connect delay:    0.412/1
    Last error:       Socket: Connection refused
  Channel ipv4
    State:          DOWN
    Import limit:   5
      Action:       block
`.split('\n');

it('each neighbour has its state, since when, what it is told and tells, and why it is not established', () => {
  const states = neighborStates(BGP, SAID);
  expect(states).toEqual([
    {
      address: '10.9.0.2',
      as: '65000',
      state: 'Established',
      since: new Date(2026, 10, 28, 9, 57, 6).toISOString(),
      sent: 1,
      received: 5,
      limited: true,
    },
    {
      address: '10.9.0.3',
      as: '65000',
      state: 'Active',
      since: new Date(2026, 10, 28, 9, 57, 1).toISOString(),
      sent: 0,
      received: 0,
      reason: 'Socket: Connection refused',
    },
    { address: '10.9.0.4', as: '65000', state: 'Down', sent: 0, received: 0 },
  ]);
});

it('none is up where no daemon runs', () => {
  expect(neighborStates(BGP, undefined).map((n) => n.state)).toEqual(['Down', 'Down', 'Down']);
});
