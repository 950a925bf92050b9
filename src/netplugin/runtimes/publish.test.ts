import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import { constants } from 'node:os';
import { afterEach, describe, expect, it } from 'vitest';
import { SyscallError } from '../../linux/libc.ts';
import { bindPort, closeSocket } from '../../linux/netns.ts';
import { publishedText } from '../endpoints/published.ts';
import {
  askedText,
  openPublications,
  type PortMapping,
  readPortMap,
  type WantedPublication,
} from './publish.ts';

const TCP = 6;
const UDP = 17;
const V4 = ['20.1.1.2'];
const DUAL = ['20.1.1.2', 'fd00:1::2'];

const mapping = (more: Partial<PortMapping> = {}): PortMapping => ({
  Proto: TCP,
  Port: 80,
  HostPort: 8080,
  ...more,
});

it('what is published is said as docker ps says it, once for both families', () => {
  const range = [0, 1, 2].map((n) => mapping({ Proto: UDP, Port: 9000 + n, HostPort: 9000 + n }));
  const at = mapping({ HostIP: '192.0.2.1', HostPort: 81 });
  const six = mapping({ HostIP: '2001:db8::1', HostPort: 82 });
  expect(publishedText(readPortMap([mapping(), ...range, at, six], DUAL))).toEqual([
    '8080->80/tcp',
    '9000-9002->9000-9002/udp',
    '192.0.2.1:81->80/tcp',
    '[2001:db8::1]:82->80/tcp',
  ]);
  expect(askedText([mapping(), mapping(), mapping({ Port: 443, HostPort: 0 })])).toEqual([
    '8080->80/tcp',
    '443/tcp',
  ]);
});

describe("Docker's port map", () => {
  it('means host port to container port, on all addresses of the host', () => {
    expect(readPortMap([mapping()], V4)).toEqual([
      { protocol: 'tcp', hostAddress: '', hostPort: 8080, lastPort: 8080, address: '20.1.1.2', port: 80 },
    ]);
    expect(readPortMap([mapping({ HostIP: '0.0.0.0' })], V4)).toEqual(readPortMap([mapping()], V4));
  });

  it('publishes IPv6 too where the endpoint has it', () => {
    expect(readPortMap([mapping()], DUAL).map((p) => p.address)).toEqual(DUAL);
  });

  it('on all host addresses of one family is of that family only', () => {
    expect(readPortMap([mapping({ HostIP: '0.0.0.0' })], DUAL)).toMatchObject([
      { hostAddress: '', address: '20.1.1.2' },
    ]);
    expect(readPortMap([mapping({ HostIP: '::' })], DUAL)).toMatchObject([
      { hostAddress: '', address: 'fd00:1::2' },
    ]);
  });

  it('on one host address is of that family only', () => {
    expect(readPortMap([mapping({ HostIP: '192.0.2.1' })], DUAL)).toMatchObject([
      { hostAddress: '192.0.2.1', address: '20.1.1.2' },
    ]);
    expect(readPortMap([mapping({ HostIP: 'fd00::1' })], DUAL)).toMatchObject([
      { hostAddress: 'fd00::1', address: 'fd00:1::2' },
    ]);
    expect(readPortMap([mapping({ HostIP: 'fd00::1' })], V4)).toEqual([]);
  });

  it('knows tcp, udp and sctp, and refuses others by port', () => {
    const protocols = [TCP, UDP, 132].map((Proto) => readPortMap([mapping({ Proto })], V4)[0]?.protocol);
    expect(protocols).toEqual(['tcp', 'udp', 'sctp']);
    expect(() => readPortMap([mapping({ Proto: 1 })], V4)).toThrow('port 80: protocol 1 cannot be published');
  });

  it('may leave the host port to be chosen, from a range where one is given', () => {
    expect(readPortMap([mapping({ HostPort: 0 })], V4)).toMatchObject([
      { hostPort: 49_153, lastPort: 65_535 },
    ]);
    expect(readPortMap([mapping({ HostPort: 8000, HostPortEnd: 8010 })], V4)).toMatchObject([
      { hostPort: 8000, lastPort: 8010 },
    ]);
  });

  it('makes a range of mappings in a row, in whatever order Docker has them, and of no others', () => {
    const ports = [3, 1, 2, 0, 9, 4].map((i) => mapping({ Proto: UDP, Port: 3000 + i, HostPort: 2000 + i }));
    const others = [
      mapping({ Port: 3005, HostPort: 2005 }),
      mapping({ Proto: UDP, Port: 3005, HostPort: 2005, HostIP: '127.0.0.1' }),
      mapping({ Proto: UDP, Port: 3006, HostPort: 0 }),
      mapping({ Proto: UDP, Port: 3000, HostPort: 2010 }),
    ];
    const rows = readPortMap([...ports, ...others], DUAL).map((p) => [
      p.protocol,
      p.hostAddress,
      p.address,
      p.hostPort,
      p.port,
      p.count ?? 1,
    ]);
    expect(rows).toHaveLength(11);
    for (const address of DUAL)
      expect(rows).toEqual(
        expect.arrayContaining([
          ['udp', '', address, 2000, 3000, 5],
          ['udp', '', address, 2009, 3009, 1],
          ['udp', '', address, 2010, 3000, 1],
          ['tcp', '', address, 2005, 3005, 1],
        ]),
      );
  });

  it('of all ports of three protocols is three ranges', () => {
    const all = [TCP, UDP, 132].flatMap((Proto) =>
      Array.from({ length: 65_535 }, (_, i) => mapping({ Proto, Port: i + 1, HostPort: i + 1 })),
    );
    expect(readPortMap(all, V4).map((p) => [p.protocol, p.hostPort, p.count])).toEqual([
      ['tcp', 1, 65_535],
      ['udp', 1, 65_535],
      ['sctp', 1, 65_535],
    ]);
  });

  it('is empty where nothing is published', () => {
    expect(readPortMap([], DUAL)).toEqual([]);
  });
});

describe('the claim on host ports', () => {
  const ends: (() => void)[] = [];
  afterEach(() => {
    for (const end of ends.splice(0)) end();
  });

  function publications() {
    const opened = openPublications();
    ends.push(() => {
      for (const endpoint of ['ep1', 'ep2']) opened.free(endpoint);
    });
    return opened;
  }

  /** The first of some ports in a row that are free for all addresses. */
  function freePorts(count: number): number {
    for (;;) {
      const first = 21_000 + Math.floor(Math.random() * 10_000);
      const held: number[] = [];
      try {
        for (let port = first; port < first + count; port++)
          held.push(
            bindPort('tcp', '0.0.0.0', port),
            bindPort('tcp', '::', port),
            bindPort('udp', '0.0.0.0', port),
          );
        return first;
      } catch (error) {
        if ((error as { code?: string }).code !== 'EADDRINUSE') throw error;
      } finally {
        for (const fd of held) closeSocket(fd);
      }
    }
  }

  function take(port: number, address = '0.0.0.0'): void {
    const fd = bindPort('tcp', address, port);
    ends.push(() => closeSocket(fd));
  }

  const wanted = (hostPort: number, more: Partial<WantedPublication> = {}): WantedPublication => ({
    protocol: 'tcp',
    hostAddress: '',
    hostPort,
    address: '20.1.1.2',
    port: 80,
    ...more,
  });

  it('keeps others of the host from the port, until it is freed', () => {
    const port = freePorts(1);
    const claims = publications();
    const { lastPort: _, ...published } = wanted(port);
    expect(claims.claim('ep1', [wanted(port)])).toEqual([published]);
    expect(() => bindPort('tcp', '0.0.0.0', port)).toThrow(/EADDRINUSE/);
    closeSocket(bindPort('udp', '0.0.0.0', port));
    claims.free('ep1');
    closeSocket(bindPort('tcp', '0.0.0.0', port));
  });

  it('does not listen: who connects to the port itself is refused', async () => {
    const port = freePorts(1);
    publications().claim('ep1', [wanted(port)]);
    const socket = net.connect(port, '127.0.0.1');
    const [error] = await once(socket, 'error');
    expect(error).toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('refuses a port that is taken, by its number', () => {
    const port = freePorts(1);
    take(port);
    expect(() => publications().claim('ep1', [wanted(port)])).toThrow(
      `cannot publish tcp 0.0.0.0:${port}: port ${port} is taken on this host (bind: EADDRINUSE)`,
    );
  });

  it('refuses what another endpoint has', () => {
    const port = freePorts(1);
    const claims = publications();
    claims.claim('ep1', [wanted(port)]);
    expect(() => claims.claim('ep2', [wanted(port, { address: '20.1.1.3' })])).toThrow(
      /is taken on this host/,
    );
  });

  it('is all or nothing', () => {
    const port = freePorts(2);
    take(port + 1);
    expect(() => publications().claim('ep1', [wanted(port), wanted(port + 1)])).toThrow(
      `port ${port + 1} is taken`,
    );
    closeSocket(bindPort('tcp', '0.0.0.0', port));
  });

  it('chooses the first free port of a range', () => {
    const port = freePorts(3);
    take(port);
    take(port + 1);
    const claims = publications();
    expect(claims.claim('ep1', [wanted(port, { lastPort: port + 2 })])[0]?.hostPort).toBe(port + 2);
    expect(() => claims.claim('ep2', [wanted(port, { lastPort: port + 2 })])).toThrow(
      `ports ${port}-${port + 2} are all taken`,
    );
  });

  it('gives IPv4 and IPv6 of one mapping the same chosen port', () => {
    const claims = publications();
    const chosen = claims.claim('ep1', readPortMap([mapping({ HostPort: 0 })], DUAL));
    expect(chosen.map((p) => p.address)).toEqual(DUAL);
    expect(chosen[0]?.hostPort).toBeGreaterThanOrEqual(49_153);
    expect(chosen[1]?.hostPort).toBe(chosen[0]?.hostPort);
  });

  it('chooses a port that is free for both IPv4 and IPv6', () => {
    const port = freePorts(2);
    take(port, '::');
    const range = mapping({ HostPort: port, HostPortEnd: port + 1 });
    expect(
      publications()
        .claim('ep1', readPortMap([range], DUAL))
        .map((p) => p.hostPort),
    ).toEqual([port + 1, port + 1]);
  });

  it('gives each mapping of a container a port of its own', () => {
    const ports = publications()
      .claim(
        'ep1',
        readPortMap(
          [mapping({ HostPort: 0 }), mapping({ HostPort: 0 }), mapping({ HostPort: 0, Port: 81 })],
          V4,
        ),
      )
      .map((p) => p.hostPort);
    expect(new Set(ports).size).toBe(3);
  });

  it('takes tcp and udp of one port, and one port of two addresses', () => {
    const port = freePorts(1);
    const claims = publications();
    claims.claim('ep1', [wanted(port, { hostAddress: '127.0.0.1' }), wanted(port, { protocol: 'udp' })]);
    claims.claim('ep2', [wanted(port, { hostAddress: '127.0.0.2' })]);
    expect(() => bindPort('tcp', '127.0.0.2', port)).toThrow(/EADDRINUSE/);
  });

  it('of a range holds each of its ports, names the one that is taken, and is all or nothing', () => {
    const port = freePorts(100);
    const claims = publications();
    const range = wanted(port, { count: 100, lastPort: port });
    expect(claims.claim('ep1', [range])).toEqual([wanted(port, { count: 100 })]);
    for (const i of [0, 57, 99]) expect(() => bindPort('tcp', '0.0.0.0', port + i)).toThrow(/EADDRINUSE/);
    claims.free('ep1');
    take(port + 57);
    expect(() => claims.claim('ep1', [range])).toThrow(
      `cannot publish tcp 0.0.0.0:${port}-${port + 99}: port ${port + 57} is taken on this host (bind: EADDRINUSE)`,
    );
    for (const i of [0, 56, 99]) closeSocket(bindPort('tcp', '0.0.0.0', port + i));
  });

  it('of many ports that it chooses looks at each of the host’s once', () => {
    let asked = 0;
    const claims = openPublications((...args) => {
      asked++;
      return bindPort(...args);
    });
    ends.push(() => claims.free('ep1'));
    const first = freePorts(200);
    const many = Array.from({ length: 100 }, (_, i) =>
      mapping({ Port: i + 1, HostPort: first, HostPortEnd: first + 199 }),
    );
    const ports = claims.claim('ep1', readPortMap(many, V4)).map((p) => p.hostPort);
    expect(new Set(ports).size).toBe(100);
    expect(asked).toBeLessThanOrEqual(2 * 100);
  });

  it.each([
    ['sctp', 'EPROTONOSUPPORT', "this host's kernel has no SCTP: try modprobe sctp"],
    ['tcp', 'EAFNOSUPPORT', "this host's kernel has no IPv6: publish on an IPv4 address"],
    ['tcp', 'EADDRNOTAVAIL', 'this host has no address 192.0.2.7'],
    ['udp', 'EMFILE', 'netplugin may open no more files, and takes one for each port'],
    ['udp', 'ENFILE', 'this host opens no more files: raise sysctl fs.file-max'],
    ['udp', 'ENOBUFS', 'this host has no memory for it'],
    ['udp', 'ENOMEM', 'this host has no memory for it'],
    ['tcp', 'EACCES', 'netplugin may not have port 80 on this host'],
    ['tcp', 'EINVAL', 'port 80 cannot be had on this host'],
  ] as const)(
    'of %s that the kernel refuses with %s says what is so, at once: no other port would do',
    (protocol, code, text) => {
      let asked = 0;
      const claims = openPublications(() => {
        asked++;
        throw new SyscallError('bind', constants.errno[code]);
      });
      const where = { protocol, hostAddress: '192.0.2.7' };
      for (const lastPort of [80, 90]) {
        const claim = (): unknown => claims.claim('ep1', [wanted(80, { ...where, lastPort })]);
        expect(claim).toThrow(`cannot publish ${protocol} 192.0.2.7:80: ${text}`);
        expect(claim).not.toThrow(/taken/);
      }
      expect(asked).toBe(4);
    },
  );

  it('of SCTP is what the kernel says: held, or that there is none', () => {
    const port = freePorts(1);
    const claims = publications();
    const claim = (): unknown => claims.claim('ep1', [wanted(port, { protocol: 'sctp' })]);
    const has = fs.readFileSync('/proc/net/protocols', 'utf8').includes('SCTP');
    if (has) expect(claim()).toMatchObject([{ protocol: 'sctp', hostPort: port }]);
    else expect(claim).toThrow("this host's kernel has no SCTP: try modprobe sctp (socket: EPROTONOSUPPORT)");
  });

  it('of an endpoint replaces its earlier one', () => {
    const port = freePorts(2);
    const claims = publications();
    claims.claim('ep1', [wanted(port)]);
    claims.claim('ep1', [wanted(port), wanted(port + 1)]);
    claims.claim('ep1', [wanted(port + 1)]);
    closeSocket(bindPort('tcp', '0.0.0.0', port));
    expect(() => bindPort('tcp', '0.0.0.0', port + 1)).toThrow(/EADDRINUSE/);
  });
});
