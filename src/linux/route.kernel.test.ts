import dgram from 'node:dgram';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../test/isolation.ts';
import * as libc from './libc.ts';
import { type Netlink, NetlinkError, openNetlink, type Request } from './netlink.ts';
import {
  bindPort,
  closeSocket,
  createNamespace,
  deleteNamespace,
  inNamespace,
  namespacePath,
} from './netns.ts';
import * as route from './route.ts';

let netlink: Netlink;

beforeAll(() => {
  isolate();
  netlink = openNetlink();
});
afterAll(() => netlink.close());

const link = (name: string): route.Link | undefined => route.listLinks(netlink).find((l) => l.name === name);
const index = (name: string): number => link(name)?.index ?? 0;

/** A veth pair `<name>a` and `<name>b`, both up, for the test's length. */
function veth(name: string, test: (a: number, b: number) => void): void {
  netlink.request(route.addVeth({ name: `${name}a`, mtu: 1500 }, { name: `${name}b`, mtu: 1500 }));
  try {
    const [a, b] = [index(`${name}a`), index(`${name}b`)];
    netlink.request(route.setLink(a, { up: true }));
    netlink.request(route.setLink(b, { up: true }));
    test(a, b);
  } finally {
    netlink.request(route.deleteLink({ index: index(`${name}a`), name: `${name}a` }));
  }
}

it('deletes links together, and no other; what is gone already does not keep the others', () => {
  for (const name of ['one', 'two', 'three', 'four'])
    netlink.request(route.addVeth({ name, mtu: 1500 }, { name: `${name}-end`, mtu: 1500 }));
  const named = (...names: string[]) => names.map((name) => ({ index: index(name), name }));
  const ends = (): string[] => route.listLinks(netlink).flatMap(({ name }) => (name === 'lo' ? [] : [name]));
  expect(netlink.batch(route.deleteLinks(named('one', 'two')))).toEqual([undefined, undefined, undefined]);
  expect(ends().sort()).toEqual(['four', 'four-end', 'three', 'three-end']);
  const gone = named('three', 'four');
  netlink.request(route.deleteLink(gone[0] as { index: number; name: string }));
  const [first, ...others] = netlink.batch(route.deleteLinks(gone));
  expect(first?.code).toBe('ENODEV');
  expect(others).toEqual([undefined, undefined]);
  expect(ends()).toEqual([]);
  expect(route.deleteLinks([])).toEqual([]);
});

const VXLAN = {
  name: 'vx77',
  vni: 77,
  local: '192.0.2.1',
  port: 4789,
  mac: '02:ce:c0:00:02:01',
  mtu: 1450,
};

function vxlan(overrides: Partial<route.Vxlan>, test: (device: number) => void): void {
  netlink.request(route.addVxlan({ ...VXLAN, ...overrides }));
  const device = index(VXLAN.name);
  try {
    test(device);
  } finally {
    netlink.request(route.deleteLink({ index: device, name: VXLAN.name }));
  }
}

/** Sends a packet with this byte of DSCP and ECN; answers the one of the VXLAN packet that it leaves in. */
async function outerByte(from: string, to: string, byte: number): Promise<number> {
  const [AF_PACKET, ETH_P_ALL_BE, MSG_DONTWAIT] = [17, 0x0300, 0x40]; // packet(7), recv(2)
  const tap = libc.socket(AF_PACKET, libc.SOCK_RAW | libc.SOCK_CLOEXEC, ETH_P_ALL_BE);
  const v6 = from.includes(':');
  const fd = bindPort('udp', from, 0);
  libc.setOption(fd, v6 ? 41 : 0, v6 ? 67 : 1, byte); // IPV6_TCLASS, IP_TOS
  const socket = dgram.createSocket(v6 ? 'udp6' : 'udp4');
  try {
    await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
    const frame = Buffer.alloc(2000);
    // A link that came up a moment ago may lose packets (net/core/link_watch.c): again, until one has left.
    for (const deadline = performance.now() + 30_000; ; ) {
      await new Promise<void>((resolve) => socket.send('x', 9, to, () => resolve()));
      try {
        for (;;) {
          const size = libc.recv(tap, frame, frame.length, MSG_DONTWAIT);
          const outer = frame.subarray(14, size);
          const ip = (outer[0] ?? 0) >> 4;
          if (ip === 4 && outer[9] === 17 && outer.readUInt16BE(22) === VXLAN.port) return outer[1] ?? 0;
          if (ip === 6 && outer[6] === 17 && outer.readUInt16BE(42) === VXLAN.port)
            return (outer.readUInt16BE(0) >> 4) & 255;
        }
      } catch (error) {
        if (!(error instanceof libc.SyscallError) || error.call !== 'recv' || performance.now() > deadline)
          throw error;
      }
    }
  } finally {
    socket.close();
    libc.close(tap);
  }
}

describe('links', () => {
  it('of kind veth carry mac, mtu and peer, and go in pairs', () => {
    netlink.request(
      route.addVeth({ name: 'v1', mtu: 1400, mac: '02:02:0a:01:01:02' }, { name: 'v2', mtu: 1300 }),
    );
    expect(link('v1')).toMatchObject({ kind: 'veth', mac: '02:02:0a:01:01:02', mtu: 1400, up: false });
    expect(link('v2')).toMatchObject({ kind: 'veth', mtu: 1300 });
    expect(link('v1')?.peer).toBe(index('v2'));
    netlink.request(route.deleteLink({ index: index('v1'), name: 'v1' }));
    expect(link('v1')).toBeUndefined();
    expect(link('v2')).toBeUndefined();
  });

  it('change their name, mac, mtu and state', () => {
    veth('c', (a) => {
      netlink.request(route.setLink(a, { up: false }));
      netlink.request(route.setLink(a, { name: 'renamed', mac: '02:00:00:00:00:09', mtu: 1280 }));
      expect(link('renamed')).toMatchObject({ index: a, mac: '02:00:00:00:00:09', mtu: 1280, up: false });
      netlink.request(route.setLink(a, { up: true, name: 'ca' }));
      expect(link('ca')?.up).toBe(true);
    });
  });

  it('of kind vxlan carry what makes the tunnel, without learning', () => {
    vxlan({}, () => {
      expect(link('vx77')).toMatchObject({
        kind: 'vxlan',
        mac: VXLAN.mac,
        mtu: 1450,
        vxlan: { vni: 77, local: '192.0.2.1', port: 4789, learning: false, tosInherited: true },
      });
    });
    vxlan({ local: 'fd00::1' }, () => expect(link('vx77')?.vxlan?.local).toBe('fd00::1'));
  });

  it('are made in another namespace, the outer socket of a vxlan stays here', () => {
    createNamespace('t-there');
    const fd = libc.open(namespacePath('t-there'), 0);
    try {
      netlink.request(route.addVxlan({ ...VXLAN, namespace: fd }));
      netlink.request(
        route.addVeth({ name: 'here', mtu: 1500 }, { name: 'there', mtu: 1500, namespace: fd }),
      );
      const there = inNamespace(namespacePath('t-there'), openNetlink);
      const names = route.listLinks(there).map((l) => l.name);
      expect(names).toContain('vx77');
      expect(names).toContain('there');
      expect(link('vx77')).toBeUndefined();
      expect(link('there')).toBeUndefined();
      const device = route.listLinks(there).find((l) => l.name === 'vx77')?.index ?? 0;
      there.request(route.setLink(device, { up: true }));
      expect(sh('ss -lun')).toContain(':4789');
      expect(inNamespace(namespacePath('t-there'), () => sh('ss -lun'))).not.toContain(':4789');
      there.request(route.deleteLink({ index: device, name: 'vx77' }));
      there.close();
      netlink.request(route.deleteLink({ index: index('here'), name: 'here' }));
    } finally {
      closeSocket(fd);
      deleteNamespace('t-there');
    }
  });

  it.each([
    ['192.0.2.1', '192.0.2.2', '10.1.0.1', '10.1.0.2'],
    ['192.0.2.1', '192.0.2.2', 'fd00:1::1', 'fd00:1::2'],
    ['fd00:2::1', 'fd00:2::2', '10.1.0.1', '10.1.0.2'],
    ['fd00:2::1', 'fd00:2::2', 'fd00:1::1', 'fd00:1::2'],
  ])(
    'of kind vxlan from %s to %s carry DSCP and ECN of a packet from %s to %s outside too',
    async (...ends) => {
      const [local, remote, from, to] = ends;
      const request = (...requests: Request[]): void => {
        for (const error of netlink.batch(requests)) if (error !== undefined) throw error;
      };
      const length = (address: string): number => (address.includes(':') ? 64 : 24);
      request(
        route.addVeth({ name: 'ua', mtu: 1500 }, { name: 'ub', mtu: 1500 }),
        route.addVxlan({ ...VXLAN, local }),
      );
      const [under, end, device] = [index('ua'), index('ub'), index(VXLAN.name)];
      const mac = '02:ce:c0:00:02:02';
      request(
        ...[under, end, device].map((i) => route.setLink(i, { up: true })),
        route.addAddress({ index: under, address: local, length: length(local), scope: 0 }),
        route.addNeighbour({ device: under, address: remote, mac, state: 'permanent' }),
        route.addFdbEntry({ device, mac, destination: remote }),
        route.addAddress({ index: device, address: from, length: length(from), scope: 0 }),
        route.addNeighbour({ device, address: to, mac, state: 'permanent' }),
      );
      try {
        for (const byte of [0, 0xb8, 0xba, 0x21]) expect(await outerByte(from, to, byte)).toBe(byte);
      } finally {
        request(
          route.deleteLink({ index: device, name: 'vx77' }),
          route.deleteLink({ index: under, name: 'ua' }),
        );
      }
    },
  );

  it('name what was asked for when the kernel refuses', () => {
    vxlan({}, () => {
      expect(() => netlink.request(route.addVxlan({ ...VXLAN, name: 'vx78' }))).toThrow(
        /link add vx78 type vxlan id 77: EEXIST/,
      );
      expect(() => netlink.request(route.addVxlan({ ...VXLAN, vni: 78 }))).toThrow(
        /link add vx77 type vxlan id 78: EEXIST/,
      );
    });
    expect(() => netlink.request(route.deleteLink({ index: 99_999, name: 'gone' }))).toThrow(
      'link delete gone: ENODEV',
    );
  });
});

describe('addresses', () => {
  it.each([
    ['192.0.2.1', 24],
    ['fd00:1::1', 64],
  ])('%s/%i is added, listed and deleted', (address, length) => {
    veth('d', (a) => {
      const entry: route.Address = { index: a, address, length, scope: 0 };
      const listed = () => route.listAddresses(netlink).filter((x) => x.index === a && x.address === address);
      netlink.request(route.addAddress(entry));
      expect(listed()).toEqual([entry]);
      netlink.request(route.addAddress(entry));
      expect(listed()).toEqual([entry]);
      netlink.request(route.deleteAddress(entry));
      expect(listed()).toEqual([]);
    });
  });

  it('of IPv6 can be used at once: no duplicate address detection', () => {
    veth('e', (a) => {
      netlink.request(route.addAddress({ index: a, address: 'fd00:1::1', length: 64, scope: 0 }));
      expect(sh('ip -6 addr show dev ea')).toMatch(/fd00:1::1\/64 scope global nodad/);
      expect(sh('ip -6 addr show dev ea')).not.toMatch(/fd00:1::1.*tentative/);
    });
  });

  it('name the address when the kernel refuses', () => {
    expect(() =>
      netlink.request(route.deleteAddress({ index: 1, address: '192.0.2.9', length: 32, scope: 0 })),
    ).toThrow(/addr del 192\.0\.2\.9\/32: EADDRNOTAVAIL/);
  });
});

describe('routes', () => {
  const ours = (version: 4 | 6): route.Route[] =>
    route.listRoutes(netlink, version).filter((r) => r.protocol === route.ROUTE_PROTOCOL);

  it.each([
    [4, '10.1.1.2/32', '10.1.0.0/16', '192.0.2.7', '0.0.0.0/0'],
    [6, 'fd00:1::2/128', 'fd00:1::/64', 'fe80::7', '::/0'],
  ] as const)(
    'of IPv%i: to a device, by a next hop, unreachable, default',
    (version, host, subnet, via, all) => {
      veth('r', (a) => {
        const wanted: route.Route[] = [
          { destination: host, type: 'unicast', device: a },
          { destination: subnet, type: 'unreachable' },
          { destination: all, type: 'unicast', via, device: a },
        ];
        for (const r of wanted) netlink.request(route.addRoute(r));
        expect(ours(version)).toHaveLength(3);
        for (const r of wanted) expect(ours(version)).toContainEqual(expect.objectContaining(r));
        for (const r of wanted) netlink.request(route.deleteRoute(r));
        expect(ours(version)).toEqual([]);
      });
    },
  );

  it.each([
    [4, '10.1.1.2/32', '192.0.2.7'],
    [6, 'fd00:1::2/128', 'fe80::7'],
    [4, '10.1.1.2/32', 'fe80::7'],
  ] as const)('of IPv%i replace the one to the same destination', (version, destination, via) => {
    veth('s', (a, b) => {
      netlink.request(route.addRoute({ destination, type: 'unicast', device: a }));
      netlink.request(route.addRoute({ destination, type: 'unicast', via, device: b }));
      expect(ours(version)).toEqual([expect.objectContaining({ destination, via, device: b })]);
      netlink.request(route.deleteRoute({ destination, type: 'unicast', via, device: b }));
    });
  });

  it('name the destination when the kernel refuses', () => {
    expect(() =>
      netlink.request(route.deleteRoute({ destination: '10.9.9.9/32', type: 'unreachable' })),
    ).toThrow(/route delete 10\.9\.9\.9\/32: ESRCH/);
    expect(() =>
      netlink.request(route.addRoute({ destination: '10.9.9.9/32', type: 'unicast', device: 99_999 })),
    ).toThrow(/route replace unicast 10\.9\.9\.9\/32: ENODEV/);
  });
});

describe('neighbours', () => {
  it.each([
    [4, '10.1.1.2'],
    [6, 'fd00:1::2'],
  ] as const)('of IPv%i are added, replaced and deleted', (version, address) => {
    veth('n', (a) => {
      const entry = { device: a, address, mac: '02:02:0a:01:01:02', state: 'permanent' } as const;
      const listed = () =>
        route
          .listNeighbours(netlink, version)
          .filter((n) => n.address === address && n.state === 'permanent');
      netlink.request(route.addNeighbour({ ...entry, mac: '02:00:00:00:00:01' }));
      netlink.request(route.addNeighbour(entry));
      expect(listed()).toEqual([entry]);
      netlink.request(route.deleteNeighbour(entry));
      expect(listed()).toEqual([]);
      expect(() =>
        netlink.request(route.deleteNeighbour({ ...entry, address: version === 4 ? '10.9.9.9' : 'fd00::9' })),
      ).toThrow(/neigh del .*9: ENOENT/);
    });
  });
});

describe('FDB entries', () => {
  it.each([
    ['192.0.2.1', '192.0.2.2'],
    ['fd00::1', 'fd00::2'],
  ])('of a tunnel at %s are added, replaced and deleted', (local, destination) => {
    vxlan({ local }, (device) => {
      const entry: route.FdbEntry = { device, mac: '02:ce:c0:00:02:02', destination };
      netlink.request(route.addFdbEntry(entry));
      netlink.request(route.addFdbEntry(entry));
      expect(route.listFdbEntries(netlink)).toEqual([entry]);
      netlink.request(route.deleteFdbEntry(entry));
      expect(route.listFdbEntries(netlink)).toEqual([]);
      expect(() => netlink.request(route.deleteFdbEntry(entry))).toThrow(/bridge fdb del .*: ENOENT/);
    });
  });
});

describe('a netlink socket', () => {
  it('answers a batch request by request, whatever its length', () => {
    veth('b', (a) => {
      const requests = Array.from({ length: 300 }, (_, i) =>
        route.addRoute({
          destination: `10.2.${i >> 8}.${i & 255}/32`,
          type: 'unicast',
          device: i % 100 === 7 ? 99_999 : a,
        }),
      );
      const errors = netlink.batch(requests);
      expect(errors.flatMap((error, i) => (error === undefined ? [] : [[i, error.code]]))).toEqual([
        [7, 'ENODEV'],
        [107, 'ENODEV'],
        [207, 'ENODEV'],
      ]);
    });
  });

  it('lists more than fits into one message', () => {
    veth('l', (a) => {
      const count = 2000;
      const errors = netlink.batch(
        Array.from({ length: count }, (_, i) =>
          route.addRoute({ destination: `10.3.${i >> 8}.${i & 255}/32`, type: 'unicast', device: a }),
        ),
      );
      expect(errors.every((error) => error === undefined)).toBe(true);
      expect(route.listRoutes(netlink, 4).filter((r) => r.destination.startsWith('10.3.'))).toHaveLength(
        count,
      );
    });
  });

  it('stays in the namespace that it was opened in', () => {
    createNamespace('t-socket');
    try {
      const there = inNamespace(namespacePath('t-socket'), openNetlink);
      veth('w', () => {
        expect(route.listLinks(there).map((l) => l.name)).not.toContain('wa');
        expect(link('wa')).toBeDefined();
      });
      there.close();
    } finally {
      deleteNamespace('t-socket');
    }
  });

  it('counts its requests', () => {
    const before = netlink.sent;
    netlink.batch([
      route.addRoute({ destination: '10.4.0.0/32', type: 'unreachable' }),
      route.deleteRoute({ destination: '10.4.0.0/32', type: 'unreachable' }),
    ]);
    expect(netlink.sent).toBe(before + 2);
  });

  it("gives the kernel's own words where it has any", () => {
    const error = (() => {
      try {
        netlink.request(route.addRoute({ destination: '10.1.1.1/8', type: 'unreachable' }));
      } catch (caught) {
        return caught;
      }
    })();
    expect(error).toBeInstanceOf(NetlinkError);
    expect(error).toMatchObject({ code: 'EINVAL', request: 'route replace unreachable 10.1.1.1/8' });
    expect((error as Error).message).toMatch(/: EINVAL \(.+\)$/);
  });
});
