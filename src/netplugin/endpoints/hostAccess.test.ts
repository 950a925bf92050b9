import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import type { Endpoint } from '../../model/endpoint.ts';
import type { Follower } from '../follower.ts';
import { type Attachment, openView } from '../intent/view.ts';
import { followHostAccess, type HostAccessOptions } from './hostAccess.ts';

const NETWORK = {
  tenantName: 'blue',
  networkName: 'net1',
  subnet: '20.1.1.0/24',
  vni: 1001,
  hostAccess: true,
};
let follower: Follower | undefined;
afterEach(() => void follower?.close());

/** An agent as far as it is asked; what happened to it, in order. */
function host(...networks: object[]) {
  const view = openView();
  const attachments = new Map<string, Attachment>();
  const done: string[] = [];
  let refusals = 0;
  const declare = (network: object): void => {
    const { tenantName, networkName } = network as { tenantName: string; networkName: string };
    view.put({ kind: 'network', key: `${tenantName}:${networkName}`, object: network });
  };
  for (const network of networks) declare(network);
  let next = 1;
  const endpoints: HostAccessOptions['endpoints'] = {
    view,
    live: () => true,
    attachments,
    async reserve({ networkName, family }) {
      if (refusals-- > 0) throw new Error('all addresses are taken');
      const address = family === 4 ? `20.1.1.${++next}` : `fd00:1::${++next}`;
      done.push(`reserve ${networkName} ${address}`);
      return { address, prefixLength: 24 };
    },
    async release(network, address) {
      done.push(`release ${network} ${address}`);
    },
    async attachHost(endpoint: Endpoint, runtime) {
      attachments.set(endpoint.endpointID, { endpoint, phase: 'joined', publications: [], runtime });
    },
    async detach(id) {
      attachments.delete(id);
      done.push('detach');
    },
  };
  follower = followHostAccess({
    host: 'node1',
    endpoints,
    vlans: () => false,
    log: pino({ level: 'silent' }),
  });
  const changed = async (): Promise<boolean> => {
    const concerned = follower?.changed({ type: 'view', objects: [], listed: false }) ?? false;
    await follower?.settled();
    return concerned;
  };
  return {
    view,
    attachments,
    done,
    changed,
    declare,
    refuse(times: number) {
      refusals = times;
    },
  };
}

describe('a network that the hosts reach', () => {
  it('gets an endpoint of the host, with addresses of both versions, once', async () => {
    const { attachments, changed, done } = host({ ...NETWORK, ipv6Subnet: 'fd00:1::/64' });
    expect(await changed()).toBe(true);
    expect([...attachments.values()].map((a) => [a.runtime, a.endpoint])).toEqual([
      [
        'host',
        expect.objectContaining({
          tenantName: 'blue',
          networkName: 'net1',
          ipAddress: ['20.1.1.2', 'fd00:1::3'],
          macAddress: '02:02:14:01:01:02',
          homingHost: 'node1',
          ofHost: true,
        }),
      ],
    ]);
    expect(await changed()).toBe(false);
    expect(done).toHaveLength(2);
  });

  it('of IPv6 alone gets one with that', async () => {
    const { subnet: _, ...none } = NETWORK;
    const { attachments, changed } = host({ ...none, ipv6Subnet: 'fd00:1::/64' });
    expect(await changed()).toBe(true);
    expect([...attachments.values()].map((a) => a.endpoint.ipAddress)).toEqual([['fd00:1::2']]);
    expect(await changed()).toBe(false);
  });

  it('gets none where that is not declared', async () => {
    const { attachments, changed } = host({ ...NETWORK, hostAccess: false });
    expect(await changed()).toBe(false);
    expect(attachments.size).toBe(0);
  });

  it('takes the endpoint along when it goes, and has another when it is a network of that name with another subnet', async () => {
    const { attachments, changed, done, declare, view } = host(NETWORK);
    await changed();
    declare({ ...NETWORK, subnet: '20.1.0.0/30' });
    await changed();
    expect(done).toEqual([
      'reserve net1 20.1.1.2',
      'detach',
      'release blue:net1 20.1.1.2',
      'reserve net1 20.1.1.3',
    ]);
    view.put({ kind: 'network', key: 'blue:net1', object: null });
    await changed();
    expect(attachments.size).toBe(0);
  });

  it('is tried again where there is no address, and what was reserved is given back', async () => {
    const { attachments, changed, refuse } = host(NETWORK);
    refuse(1);
    await changed();
    expect(attachments.size).toBe(1);
  });
});
