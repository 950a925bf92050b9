import { describe, expect, it } from 'vitest';
import type { HostKey, KeyEpochs } from '../../model/encryption.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import { type LocalHost, openView, type WatchedNetwork } from '../intent/view.ts';
import type { HostState } from '../state.ts';
import { compile } from './compile.ts';

const NETWORK: WatchedNetwork = {
  tenantName: 'default',
  networkName: 'net1',
  subnet: '20.1.1.0/24',
  gateway: '20.1.1.254',
  vni: 1001,
};
const UNDERLAYS: Readonly<Record<string, string>> = {
  node1: '192.0.2.1',
  node2: '192.0.2.2',
  node3: '192.0.2.3',
};

const endpoint = (id: string, homingHost: string, address: string): Endpoint => ({
  endpointID: id,
  tenantName: 'default',
  networkName: 'net1',
  ipAddress: [address],
  macAddress: '02:02:14:01:01:02',
  homingHost,
  status: 'running',
});

/** `node2 1` is the key of node2 of epoch 1. */
const keys = (host: string, ...epochs: readonly number[]): HostKey[] =>
  epochs.map((epoch) => ({ epoch, key: `${host} ${epoch}` }));

interface Case {
  readonly own?: readonly number[];
  /** By the live hosts' names, the epochs of their keys. */
  readonly told?: Readonly<Record<string, readonly number[]>>;
  readonly epochs?: KeyEpochs;
  readonly encap?: 'vxlan' | 'direct';
  readonly encryption?: 'none' | 'wireguard';
  readonly host?: Partial<LocalHost>;
}

function stateOf({
  own = [1],
  told = {},
  epochs,
  encap = 'vxlan',
  encryption = 'wireguard',
  host,
}: Case): HostState {
  const here = endpoint('one', 'node1', '20.1.1.2');
  const view = openView([
    { kind: 'global', key: 'global', object: { name: 'global', encryption } },
    { kind: 'network', key: 'default:net1', object: { ...NETWORK, encap } },
    ...Object.entries(told).map(([name, of]) => ({
      kind: 'host',
      key: name,
      object: {
        name,
        underlay: UNDERLAYS[name],
        mtu: 1500,
        link: `${UNDERLAYS[name]}/24`,
        keys: keys(name, ...of),
      },
    })),
    { kind: 'endpoint', key: 'one', object: here },
    { kind: 'endpoint', key: 'two', object: endpoint('two', 'node2', '20.1.1.3') },
    ...(epochs === undefined ? [] : [{ kind: 'keyEpochs', key: 'encryption', object: epochs }]),
  ]);
  return compile(view, {
    name: 'node1',
    underlay: '192.0.2.1',
    underlayMtu: 1500,
    link: { device: 'eth0', prefix: '192.0.2.1/24' },
    lastUnderlays: new Map(Object.entries(UNDERLAYS).filter(([name]) => name in told)),
    keys: keys('node1', ...own),
    transit: '100.127.0.0/16',
    transit6: 'fd6f:6e74:6976::/64',
    guarded: [],
    attachments: new Map([['one', { endpoint: here, phase: 'joined', publications: [], runtime: 'docker' }]]),
    transitSlots: new Map([['default', 0]]),
    ...host,
  });
}
const encryptionOf = (given: Case) => stateOf(given).encryption;
const device = (n: 0 | 1) => ({ device: `contiv-wg${n}`, port: 14789 + n, mtu: 1440 });

describe('what goes between hosts', () => {
  it('is left as it is unless encryption is declared', () => {
    const { encryption, routers } = stateOf({ encryption: 'none', told: { node2: [1] } });
    expect(encryption).toBeUndefined();
    expect(routers[0]?.tunnels[0]?.mtu).toBe(1450);
  });

  it('leaves by the device of the epoch that both ends have keys of, with every such member for a peer', () => {
    expect(encryptionOf({ told: { node2: [1], node3: [1] } })).toEqual({
      devices: [
        {
          ...device(0),
          publicKey: 'node1 1',
          peers: [
            { address: '192.0.2.2', publicKey: 'node2 1' },
            { address: '192.0.2.3', publicKey: 'node3 1' },
          ],
        },
      ],
      ways: [
        { address: '192.0.2.2', device: 'contiv-wg0' },
        { address: '192.0.2.3', device: 'contiv-wg0' },
      ],
    });
  });

  it('goes nowhere where the other end has told no key, or this host has none', () => {
    expect(encryptionOf({ told: { node2: [], node3: [1] } })?.ways).toEqual([
      { address: '192.0.2.3', device: 'contiv-wg0' },
    ]);
    expect(encryptionOf({ own: [], told: { node2: [1] } })).toEqual({ devices: [], ways: [] });
  });

  it('has less room: of tunnels, of containers, and to hosts whose underlay takes less', () => {
    const [router] = stateOf({ told: { node2: [1] } }).routers;
    expect(router?.tunnels[0]?.mtu).toBe(1390);
    expect(router?.ports[0]?.mtu).toBe(1390);
    expect(router?.hosts[0]?.mtu).toBeUndefined();
    const [wide] = stateOf({ told: { node2: [1] }, host: { underlayMtu: 9000 } }).routers;
    expect([wide?.tunnels[0]?.mtu, wide?.hosts[0]?.mtu]).toEqual([8890, 1390]);
    const six = stateOf({ told: { node2: [1] }, host: { underlay: '2001:db8::1' } });
    expect(six.routers[0]?.tunnels[0]?.mtu).toBe(1350);
  });

  it('takes the tunnel also of networks that would have the link as it is', () => {
    const [clear] = stateOf({ told: { node2: [1] }, encap: 'direct', encryption: 'none' }).routers;
    expect([clear?.direct?.device, clear?.hosts[0]?.endpoints[0]?.device]).toEqual(['direct', 'direct']);
    const [router] = stateOf({ told: { node2: [1] }, encap: 'direct' }).routers;
    expect([router?.direct, router?.hosts[0]?.endpoints[0]?.device]).toEqual([undefined, 'vx1001']);
    expect(router?.ports[0]?.mtu).toBe(1390);
  });

  it('is for a host that is away still what it has told last', () => {
    const host = {
      lastUnderlays: new Map([['node2', '192.0.2.2']]),
      lastKeys: new Map([['node2', keys('node2', 1)]]),
    };
    expect(encryptionOf({ host })?.ways).toEqual([{ address: '192.0.2.2', device: 'contiv-wg0' }]);
  });
});

describe('while keys are rotated', () => {
  const epochs = (active: number) => ({ epochs: [1, 2], active, since: 0 });

  it('both devices are there and know whoever has told, and all is sent by the active epoch', () => {
    const told = { node2: [1, 2], node3: [1] };
    for (const active of [1, 2]) {
      const found = encryptionOf({ own: [1, 2], told, epochs: epochs(active) });
      expect(found?.devices).toMatchObject([
        { ...device(0), publicKey: 'node1 1', peers: [{ publicKey: 'node2 1' }, { publicKey: 'node3 1' }] },
        { ...device(1), publicKey: 'node1 2', peers: [{ publicKey: 'node2 2' }] },
      ]);
      // Who has no new key yet is sent to by the old one.
      expect(found?.ways.map((way) => way.device)).toEqual([`contiv-wg${active - 1}`, 'contiv-wg0']);
    }
  });

  it('a store that was put back and tells older epochs takes no way from hosts that keep their keys', () => {
    const known = { epochs: [1], active: 1, since: 0 };
    const ways = (own: readonly number[], node2: readonly number[]) =>
      encryptionOf({ own, told: { node2 }, epochs: known })?.ways.map((way) => way.device);
    expect(ways([2], [2])).toEqual(['contiv-wg1']);
    expect(ways([1, 2], [2])).toEqual(['contiv-wg1']);
    expect(ways([1, 2], [1, 2])).toEqual(['contiv-wg0']);
    expect(ways([2, 3], [2, 3])).toEqual(['contiv-wg1']);
    expect(ways([1], [2])).toEqual([]);
  });

  it('two hosts that tell one key are not taken for each other', () => {
    const told = { node2: [1] };
    const host = {
      lastUnderlays: new Map([['node2', '192.0.2.2']]),
      keys: keys('node2', 1),
    };
    expect(encryptionOf({ told, host })?.devices[0]?.peers).toEqual([]);
  });
});
