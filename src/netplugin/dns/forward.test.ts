import { once } from 'node:events';
import net from 'node:net';
import packet from 'dns-packet';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  addresses,
  answerWith,
  askTcp,
  askUdp,
  client,
  closedPort,
  edns,
  endAll,
  ends,
  query,
  rcode,
  serve,
  upstream,
} from '../../../test/nameserver.ts';
import type { NameAnswer, Question } from './lookup.ts';
import { framed, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL } from './message.ts';

afterEach(endAll);

const OPCODE_NOTIFY = 4 << 11;
const OPCODE_UPDATE = 5 << 11;

const asks = (name: string, type: packet.RecordType | 'ANY', flags = packet.RECURSION_DESIRED): Buffer =>
  query('', { flags, questions: [{ type: type as packet.RecordType, name }] });

/** An update's zone is where a question is (RFC 2136 2.3). */
const update = (zone: string): Buffer =>
  query('', {
    flags: OPCODE_UPDATE,
    questions: [{ type: 'SOA', name: zone }],
    authorities: [{ type: 'A', name: `host.${zone}`, ttl: 60, data: '192.0.2.1' }],
  });

/** Names as a tenant has them: `web` in `net`, and nobody else has one label or a name of `net`. */
const tenant = (_: string, { name, type }: Question): NameAnswer => {
  if (name === 'web' || name === 'web.net')
    return type === 'A' || type === 'ANY'
      ? { kind: 'addresses', addresses: ['10.1.1.1'] }
      : { kind: 'empty' };
  if (name === '1.1.1.10.in-addr.arpa') return { kind: 'pointer', name: 'web.net' };
  return { kind: name.includes('.') && !name.endsWith('.net') ? 'forward' : 'unknown' };
};

/** Says only what was asked, so that what comes back is what the resolver has said. */
const echo = (bytes: Buffer): Buffer => {
  const answer = Buffer.from(bytes);
  answer[2] = (answer[2] as number) | 0x80;
  return answer;
};

const chaos = query('', { questions: [{ type: 'TXT', name: 'version.bind', class: 'CH' }] });
const signed = query('web.example.org', { ...edns(1400), flags: packet.RECURSION_DESIRED | 0x30 }); // AD, CD

describe('a message for a server outside', () => {
  it.each([
    ['name servers of a top-level domain', asks('com', 'NS', 0)],
    ['its signer, as validating resolvers do', asks('com', 'DS', 0x10)],
    ['the root', asks('.', 'DNSKEY')],
    ['one label that is no name of ours', asks('com', 'A')],
    ['a name of a network that it has not', asks('web2.net', 'A')],
    ['a name of ours, without recursion', asks('web', 'A', 0)],
    ['a name of ours, for mail', asks('web', 'MX')],
    ['a name of ours of another class', query('', { questions: [{ type: 'A', name: 'web', class: 'CH' }] })],
    ['a server’s version', chaos],
    ['a name with flags and EDNS0', signed],
    ['an update of a zone of one label', update('web')],
    ['a notification', asks('web', 'SOA', OPCODE_NOTIFY)],
    ['two questions', query('', { questions: [asked('a.example'), asked('b.example')] })],
  ])('that asks for %s goes there as it is, by UDP and TCP', async (_, bytes) => {
    const outside = await upstream('', echo);
    const port = serve({ original: outside, answer: tenant });
    const byUdp = await askUdp(port, bytes);
    expect(outside.asked.map((b) => b.subarray(2))).toEqual([bytes.subarray(2)]);
    expect(byUdp).toEqual(echo(bytes));
    const [byTcp] = await askTcp(port, [framed(bytes)], 1);
    expect(byTcp).toEqual(echo(bytes));
  });

  it('does not go there where it is a stub’s question for a name of ours', async () => {
    const outside = await upstream('', echo);
    const port = serve({ original: outside, answer: tenant });
    for (const [name, type] of [
      ['web', 'A'],
      ['web.net', 'ANY'],
      ['web', 'AAAA'],
      ['1.1.1.10.in-addr.arpa', 'PTR'],
    ] as const) {
      const answer = packet.decode(await askUdp(port, asks(name, type)));
      expect(answer).toMatchObject({ rcode: 'NOERROR', flag_aa: true });
      expect(answer.answers).toHaveLength(type === 'AAAA' ? 0 : 1);
    }
    expect(outside.asked).toEqual([]);
  });

  it('is refused where the container may not ask that server, and names of ours are answered', async () => {
    const outside = await upstream('203.0.113.9');
    const judged: unknown[] = [];
    const port = serve({
      original: outside,
      answer: tenant,
      mayAsk: (...args) => {
        judged.push(args);
        return false;
      },
    });
    for (const bytes of [query('example.org'), update('web'), asks('com', 'NS', 0)]) {
      expect(rcode(await askUdp(port, bytes))).toBe(REFUSED);
      expect(rcode((await askTcp(port, [framed(bytes)], 1))[0] as Buffer)).toBe(REFUSED);
    }
    expect(judged[0]).toMatchObject(['127.0.0.1', 'udp', { address: '127.0.0.1', port: outside.port }, true]);
    expect(judged[1]).toMatchObject(['127.0.0.1', 'tcp', { address: '127.0.0.1', port: outside.port }, true]);
    expect(outside.asked).toEqual([]);
    expect(addresses(await askUdp(port, asks('web', 'A')))).toEqual(['10.1.1.1']);
  });
});

function asked(name: string): packet.Question {
  return { type: 'A', name };
}

describe('what is asked of ourselves', () => {
  it('goes to the host’s resolvers where it is for nobody’s address, and no zone of ours can be changed', async () => {
    const up = await upstream('', echo);
    const port = serve({ upstreams: [up], answer: tenant });
    for (const bytes of [asks('com', 'NS'), asks('com', 'DS'), chaos, asks('example.org', 'A')]) {
      expect(await askUdp(port, bytes)).toEqual(echo(bytes));
      expect(await askTcp(port, [framed(bytes)], 1)).toEqual([echo(bytes)]);
    }
    up.asked.length = 0;
    expect(rcode(await askUdp(port, asks('com', 'A')))).toBe(NXDOMAIN);
    expect(rcode(await askUdp(port, asks('web2.net', 'AAAA')))).toBe(NXDOMAIN);
    expect(rcode(await askUdp(port, asks('web', 'MX')))).toBe(0);
    expect(addresses(await askUdp(port, asks('web', 'A', 0)))).toEqual(['10.1.1.1']);
    expect(rcode(await askUdp(port, update('web')))).toBe(NOTIMP);
    expect(up.asked).toEqual([]);
  });

  it('goes only to those of the resolvers that the container may ask; to none is a refusal', async () => {
    const [first, second] = [await upstream('198.51.100.1'), await upstream('203.0.113.9')];
    const upstreams = [first, second];
    const port = serve({ upstreams, mayAsk: (_, __, { port }, named) => port === second.port && !named });
    expect(addresses(await askUdp(port, query('example.org')))).toEqual(['203.0.113.9']);
    expect(first.asked).toEqual([]);
    const none = serve({ upstreams, mayAsk: () => false });
    expect(rcode(await askUdp(none, query('example.org')))).toBe(REFUSED);
    expect(rcode((await askTcp(none, [framed(query('example.org'))], 1))[0] as Buffer)).toBe(REFUSED);
  });
});

/** A resolver that answers after so many milliseconds. */
const slow = (data: string, milliseconds: number) =>
  upstream(data, async (bytes) => {
    await new Promise((done) => setTimeout(done, milliseconds));
    return answerWith(data, bytes);
  });
const silent = () => upstream('', () => undefined);
const failing = (code: number) =>
  upstream('', (bytes) => {
    const answer = echo(bytes);
    answer[3] = ((answer[3] as number) & 0xf0) | code;
    return answer;
  });
const bothWays = async (port: number, bytes: Buffer): Promise<Buffer[]> =>
  (await Promise.all([askUdp(port, bytes), askTcp(port, [framed(bytes)], 1)])).flat();

describe('a resolver that takes its time', () => {
  it('is waited for as long as its client waits, by UDP and TCP', async () => {
    const only = await slow('203.0.113.9', 2500);
    await Promise.all(
      [{ upstreams: [only] }, { original: only }].map(async (serving) => {
        const answers = await bothWays(serve(serving), query('example.org'));
        expect(answers.map(addresses)).toEqual([['203.0.113.9'], ['203.0.113.9']]);
      }),
    );
  }, 30_000);

  it('is still listened to when the next is asked as well: the first answer is taken', async () => {
    const [first, second] = [await slow('203.0.113.9', 1500), await slow('198.51.100.1', 10_000)];
    const port = serve({ upstreams: [first, second] });
    expect((await bothWays(port, query('example.org'))).map(addresses)).toEqual([
      ['203.0.113.9'],
      ['203.0.113.9'],
    ]);
    expect(second.asked).toHaveLength(1);
    const other = serve({ upstreams: [await silent(), await upstream('198.51.100.1')] });
    expect((await bothWays(other, query('example.org'))).map(addresses)).toEqual([
      ['198.51.100.1'],
      ['198.51.100.1'],
    ]);
  }, 30_000);

  it('is asked once more at each of its attempts, and given up after the last', async () => {
    const only = await silent();
    const port = serve({ upstreams: [only], timeout: 200, attempts: 3 });
    expect((await bothWays(port, query('example.org'))).map(rcode)).toEqual([SERVFAIL, SERVFAIL]);
    expect(only.asked).toHaveLength(3);
    expect(new Set(only.asked.map((bytes) => bytes.readUInt16BE(0))).size).toBe(1);
  });

  it('hears it once more when its client asks again, who has one answer', async () => {
    let heard = 0;
    const only = await upstream('203.0.113.9', (bytes) =>
      ++heard < 2 ? undefined : answerWith('203.0.113.9', bytes),
    );
    const socket = await client(serve({ upstreams: [only], timeout: 60_000 }));
    const answers: Buffer[] = [];
    socket.on('message', (bytes) => answers.push(bytes));
    socket.send(query('example.org'));
    await vi.waitFor(() => expect(only.asked).toHaveLength(1), { timeout: 20_000 });
    socket.send(query('example.org'));
    await vi.waitFor(() => expect(answers.map(addresses)).toEqual([['203.0.113.9']]), { timeout: 20_000 });
    expect(only.asked.map((bytes) => bytes.readUInt16BE(0))).toEqual(
      Array(2).fill(only.asked[0]?.readUInt16BE(0)),
    );
    socket.send(query('after.example'));
    await vi.waitFor(() => expect(answers).toHaveLength(2), { timeout: 20_000 });
  });
});

describe('a resolver that fails or refuses', () => {
  it.each([SERVFAIL, REFUSED, NOTIMP])('(%i) is followed by the next at once', async (code) => {
    const never = await silent();
    const upstreams = [await failing(code), await upstream('203.0.113.9'), never];
    const answers = await bothWays(serve({ upstreams }), query('example.org'));
    expect(answers.map(addresses)).toEqual([['203.0.113.9'], ['203.0.113.9']]);
    expect(never.asked).toEqual([]);
  });

  it('is believed where no other knows more', async () => {
    const upstreams = [await failing(REFUSED), await failing(SERVFAIL)];
    for (const more of [[], [await silent()]]) {
      const port = serve({ upstreams: [...upstreams, ...more], timeout: 500, attempts: 1 });
      expect((await bothWays(port, query('example.org'))).map(rcode)).toEqual([REFUSED, REFUSED]);
    }
  });
});

describe('one container that asks a dead resolver without end', () => {
  const dead = (bytes: Buffer) =>
    packet.decode(bytes).questions?.[0]?.name === 'example.org'
      ? answerWith('203.0.113.9', bytes)
      : undefined;

  it('takes no place of another, and of its own the oldest fail first', async () => {
    const only = await upstream('', dead);
    const port = serve({ upstreams: [only] });
    const socket = await client(port);
    const failed: number[] = [];
    socket.on('message', (bytes) => failed.push(bytes.readUInt16BE(0)));
    const count = 2000;
    for (let at = 0; at < count; at += 50) {
      for (let id = at; id < at + 50; id++) socket.send(query(`dead${id}.example`, { id }));
      await vi.waitFor(() => expect(only.asked).toHaveLength(at + 50), { timeout: 30_000, interval: 2 });
    }
    expect(addresses(await askUdp(port, query('example.org'), '::1'))).toEqual(['203.0.113.9']);
    expect(addresses(await askUdp(port, query('example.org')))).toEqual(['203.0.113.9']);
    // What waits is no more than a container's part; which have failed are those that came first.
    await vi.waitFor(() => expect(failed.length).toBeGreaterThanOrEqual(count - 128), { timeout: 30_000 });
    expect(failed.length).toBeLessThan(count);
    expect(failed).toEqual(Array.from(failed, (_, i) => i));
  }, 60_000);

  it('has so many asked a second; of another, and of names of ours, it takes none', async () => {
    const up = await upstream('', (bytes) => answerWith('203.0.113.9', bytes));
    const port = serve({ upstreams: [up] });
    const socket = await client(port);
    const codes = new Map<number, number>();
    socket.on('message', (bytes) => codes.set(bytes.readUInt16BE(0), rcode(bytes)));
    const count = 6000;
    const began = performance.now();
    for (let at = 0; at < count; at += 50) {
      for (let id = at; id < at + 50; id++) socket.send(query(`n${id}.example`, { id }));
      await vi.waitUntil(() => codes.size === at + 50, { timeout: 30_000, interval: 1 });
    }
    const most = 2000 + (performance.now() - began) + 1;
    expect(up.asked.length).toBeGreaterThanOrEqual(2000);
    expect(up.asked.length).toBeLessThanOrEqual(most);
    expect([...codes.values()].filter((code) => code === 0)).toHaveLength(up.asked.length);
    expect([...codes.values()].filter((code) => code === SERVFAIL)).toHaveLength(count - up.asked.length);
    expect(addresses(await askUdp(port, query('example.org'), '::1'))).toEqual(['203.0.113.9']);
    expect(addresses(await askUdp(port, query('web')))).toHaveLength(2);
  }, 120_000);

  it('and opens connections without end takes no other’s either', async () => {
    const port = serve();
    const opened: net.Socket[] = [];
    for (let i = 0; i < 300; i++) {
      const socket = net.connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' });
      ends.push(() => socket.destroy());
      socket.on('error', () => {});
      opened.push(socket);
      await once(socket, 'connect');
    }
    const [answer = Buffer.alloc(0)] = await askTcp(port, [framed(query('web'))], 1);
    expect(addresses(answer)).toHaveLength(2);
    await vi.waitFor(() => expect(opened.filter((s) => s.closed).length).toBeGreaterThanOrEqual(300 - 64), {
      timeout: 20_000,
    });
  });
});

describe('a connection', () => {
  it('has its quick answers before the slow ones', async () => {
    const up = await upstream('', async (bytes) => {
      const slow = packet.decode(bytes).questions?.[0]?.name === 'slow.example';
      if (slow) await new Promise((done) => setTimeout(done, 1000));
      return answerWith('203.0.113.9', bytes);
    });
    const queries = ['slow.example', 'quick.example', 'web'].map((name, id) => framed(query(name, { id })));
    const answers = await askTcp(serve({ upstreams: [up] }), [Buffer.concat(queries)], 3);
    expect(answers.map((bytes) => bytes.readUInt16BE(0)).at(-1)).toBe(0);
    expect(answers.every((bytes) => rcode(bytes) === 0)).toBe(true);
  });

  /** A transfer in so many messages, of which only the first repeats the question (RFC 5936 2.2.1). */
  const zone = (bytes: Buffer): Buffer[] =>
    Array.from({ length: 300 }, (_, i) =>
      packet.encode({
        type: 'response',
        id: bytes.readUInt16BE(0),
        questions: i === 0 ? (packet.decode(bytes).questions ?? []) : [],
        answers: [{ type: 'A', name: `h${i}.example`, ttl: 60, data: '192.0.2.1' }],
      }),
    );

  it.each(['AXFR', 'IXFR'] as const)('brings all messages of a transfer (%s), and its end', async (type) => {
    const server = await upstream('', zone);
    for (const serving of [{ original: server }, { upstreams: [closedPort(), server] }]) {
      const socket = net.connect(serve(serving), '127.0.0.1');
      ends.push(() => socket.destroy());
      const ended = once(socket, 'end');
      socket.write(framed(asks('example', type)));
      const chunks: Buffer[] = [];
      socket.on('data', (chunk) => chunks.push(chunk));
      await ended;
      const expected = zone(asks('example', type)).map(framed);
      expect(Buffer.concat(chunks)).toEqual(Buffer.concat(expected));
    }
  });
});
