import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import packet from 'dns-packet';
import { pino } from 'pino';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  addresses,
  all,
  askTcp,
  askUdp,
  client,
  closedPort,
  edns,
  endAll,
  ends,
  listening,
  NAMES,
  query,
  rcode,
  serve,
  truncated,
  upstream,
} from '../../../test/nameserver.ts';
import { type Datagram, receiveRound, sendDatagrams } from '../../linux/datagrams.ts';
import { bindPort, closeSocket } from '../../linux/netns.ts';
import { NAMESERVER } from '../constants.ts';
import { fromHere } from './forward.ts';
import type { NameAnswer } from './lookup.ts';
import { framed, readQuery } from './message.ts';
import { startNameserver } from './server.ts';

const NXDOMAIN = 3;
const FORMERR = 1;
const SERVFAIL = 2;
const HEADER = 12;

afterEach(endAll);

describe('a query by UDP', () => {
  it.each(['127.0.0.1', '::1'] as const)('from %s gets the addresses, for a second at most', async (host) => {
    const answer = packet.decode(await askUdp(serve(), query('web'), host));
    expect(answer).toMatchObject({ id: 4711, type: 'response', flag_aa: true, flag_ra: true, flag_rd: true });
    expect(answer.questions).toEqual([{ name: 'web', type: 'A', class: 'IN' }]);
    expect(
      answer.answers?.map((a) => [a.name, a.type, (a as { ttl: number }).ttl, (a as { data: string }).data]),
    ).toEqual([
      ['web', 'A', 1, '10.1.1.1'],
      ['web', 'A', 1, '10.1.1.2'],
    ]);
  });

  it('is answered for the asking address', async () => {
    const seen: string[] = [];
    const port = serve({
      answer: (from) => {
        seen.push(from);
        return { kind: 'unknown' };
      },
    });
    await askUdp(port, query('web'));
    await askUdp(port, query('web'), '::1');
    expect(seen).toEqual(['127.0.0.1', '::1']);
  });

  it('that comes with hundreds of others, from others and of other kinds, gets its own answer', async () => {
    const up = await upstream('203.0.113.9');
    const seen = new Set<string>();
    const port = serve({
      upstreams: [up],
      answer: (from, { name }) => {
        seen.add(from);
        return NAMES[name] ?? { kind: 'forward' };
      },
    });
    const KINDS = ['web', 'nothing', 'nobody', 'example.com', 'big'];
    const EACH = 25; // as many as the socket holds
    const froms = ['127.0.0.1', '127.0.0.2', '127.0.0.3', undefined] as const;
    const clients = await Promise.all(
      froms.map((from) => client(port, from === undefined ? '::1' : '127.0.0.1', from)),
    );
    const got = clients.map((socket) => {
      const answers: Buffer[] = [];
      socket.on('message', (bytes) => answers.push(bytes));
      return answers;
    });
    for (let id = 0; id < EACH; id++)
      for (const socket of clients) {
        socket.send(query(KINDS[id % KINDS.length] as string, { id }));
        socket.send(Buffer.from([0, id])); // nothing that is answered
      }
    await vi.waitUntil(() => got.every((answers) => answers.length >= EACH), { timeout: 30_000 });
    const named = (bytes: Buffer): string => {
      const { id, questions } = packet.decode(bytes);
      return `${id} ${questions?.[0]?.name}`;
    };
    const wanted = Array.from({ length: EACH }, (_, id) => `${id} ${KINDS[id % KINDS.length]}`).sort();
    for (const answers of got) expect(answers.map(named).sort()).toEqual(wanted);
    expect([...seen].sort()).toEqual(['127.0.0.1', '127.0.0.2', '127.0.0.3', '::1']);
  });

  it('for AAAA and PTR gets those', async () => {
    const port = serve({
      answer: (_, { type }) =>
        type === 'PTR'
          ? { kind: 'pointer', name: 'web1.net1' }
          : { kind: 'addresses', addresses: ['fd00::1'] },
    });
    const aaaa = packet.decode(
      await askUdp(port, query('web', { questions: [{ type: 'AAAA', name: 'web' }] })),
    );
    expect(aaaa.answers).toMatchObject([{ type: 'AAAA', data: 'fd00::1' }]);
    const ptr = packet.decode(
      await askUdp(port, query('', { questions: [{ type: 'PTR', name: '1.1.1.10.in-addr.arpa' }] })),
    );
    expect(ptr.answers).toMatchObject([{ type: 'PTR', data: 'web1.net1' }]);
  });

  it('for an unknown name gets NXDOMAIN, for one without the type an empty answer, neither to be cached', async () => {
    const port = serve();
    for (const [name, code] of [
      ['nobody', NXDOMAIN],
      ['nothing', 0],
    ] as const) {
      const bytes = await askUdp(port, query(name));
      expect(rcode(bytes)).toBe(code);
      const { answers, authorities } = packet.decode(bytes);
      expect(answers).toEqual([]);
      expect(authorities).toMatchObject([{ type: 'SOA', ttl: 0, data: { minimum: 0 } }]);
    }
  });
});

describe('an answer that is too large for UDP', () => {
  it('is 30 of the addresses in 512 bytes, a whole answer to who knows no more, and all of them by TCP', async () => {
    const port = serve();
    for (const more of [{}, edns(512)]) {
      const short = await askUdp(port, query('big', more));
      expect(truncated(short)).toBe(false);
      expect(short.length).toBeLessThanOrEqual(512);
      expect(addresses(short).length).toBeGreaterThanOrEqual(29);
      expect(addresses(short)).toEqual(all('big').slice(0, addresses(short).length));
    }
    const [whole = Buffer.alloc(0)] = await askTcp(port, [framed(query('big'))], 1);
    expect(truncated(whole)).toBe(false);
    expect(addresses(whole)).toEqual(all('big'));
  });

  it('is whole where the client takes that much by EDNS0, up to 1232 bytes, else what fits and truncated', async () => {
    const port = serve();
    const big = await askUdp(port, query('big', edns(4096)));
    expect(truncated(big)).toBe(false);
    expect(addresses(big)).toEqual(all('big'));
    for (const [name, size, least] of [
      ['huge', 4096, 70],
      ['big', 600, 30],
    ] as const) {
      const part = await askUdp(port, query(name, edns(size)));
      expect(truncated(part)).toBe(true);
      expect(part.length).toBeLessThanOrEqual(Math.min(size, 1232));
      expect(addresses(part).length).toBeGreaterThanOrEqual(least);
      expect(addresses(part)).toEqual(all(name).slice(0, addresses(part).length));
    }
  });

  it('tells what we take by EDNS0 to those who speak it, and to no others', async () => {
    const port = serve();
    const opt = (bytes: Buffer) => packet.decode(bytes).additionals?.filter((a) => a.type === 'OPT');
    expect(opt(await askUdp(port, query('web', edns(4096))))).toMatchObject([{ udpPayloadSize: 1232 }]);
    expect(opt(await askUdp(port, query('web')))).toEqual([]);
  });
});

describe('queries by TCP', () => {
  it('are answered one after the other on one connection', async () => {
    const answers = await askTcp(
      serve(),
      [Buffer.concat([framed(query('web')), framed(query('nobody'))])],
      2,
    );
    expect(answers.map(rcode).sort()).toEqual([0, NXDOMAIN]);
  });

  it('may come in pieces', async () => {
    const bytes = framed(query('web'));
    const [answer = Buffer.alloc(0)] = await askTcp(
      serve(),
      [...bytes].map((byte) => Buffer.of(byte)),
      1,
    );
    expect(addresses(answer)).toEqual(['10.1.1.1', '10.1.1.2']);
  });
});

describe('a client that sends by TCP and never reads', () => {
  it('is asked to wait: what it sends is not answered into memory', async () => {
    let answered = 0;
    const port = serve({
      answer: () => {
        answered++;
        return NAMES.huge as NameAnswer;
      },
    });
    const socket = net.connect(port, '127.0.0.1');
    ends.push(() => socket.destroy());
    socket.on('error', () => {});
    socket.pause();
    await once(socket, 'connect');
    const queries = Buffer.concat(Array<Buffer>(10_000).fill(framed(query('huge'))));
    for (let i = 0; i < 10; i++) socket.write(queries);
    let before = -1;
    await vi.waitFor(
      () => {
        const still = answered === before && answered > 0;
        before = answered;
        expect(still).toBe(true);
      },
      { timeout: 20_000, interval: 300 },
    );
    expect(answered).toBeLessThan(20_000);
    // Others are answered meanwhile.
    expect(addresses(await askUdp(port, query('huge')))).toEqual(all('huge').slice(0, 30));
  });
});

describe('an odd query', () => {
  /** A name of one label, asked for address records. */
  const raw = (label: Buffer): Buffer =>
    Buffer.concat([
      query('').subarray(0, HEADER),
      Buffer.of(label.length),
      label,
      Buffer.of(0, 0, 1, 0, 1), // end of the name, A, IN
    ]);

  it('is answered with its question as it came, also where its name is no text', async () => {
    const port = serve({ answer: () => ({ kind: 'unknown' }) });
    for (const label of [
      Buffer.alloc(63, 0xff),
      Buffer.from('a.b'),
      Buffer.from('...'),
      Buffer.from('wEb'),
    ]) {
      const bytes = raw(label);
      const answer = await askUdp(port, bytes);
      expect(answer.subarray(HEADER, bytes.length)).toEqual(bytes.subarray(HEADER));
      expect(packet.decode(answer).authorities).toHaveLength(1);
    }
  });

  it('with thousands of names that are pointers to pointers costs what any other does', async () => {
    const names = Buffer.alloc(2 * 8000);
    const start = query('web').length;
    for (let at = 2; at < names.length; at += 2) names.writeUInt16BE(0xc000 + start + at - 2, at);
    const record = Buffer.of(0xff, 0xff, 0xfd, 0xe8, 0, 1, 0, 0, 0, 0, 0, 0);
    const bytes = Buffer.concat([query('web'), names, ...Array<Buffer>(3000).fill(record)]);
    bytes.writeUInt16BE(3001, 6);
    const read = vi.spyOn(bytes, 'readUInt16BE');
    expect(readQuery(bytes)).toMatchObject({ name: 'web', type: 'A' });
    expect(read.mock.calls.length).toBeLessThan(30);
    read.mockRestore();
    const [answer = Buffer.alloc(0)] = await askTcp(serve(), [framed(bytes)], 1);
    expect(addresses(answer)).toHaveLength(2);
  });
});

describe('what is no query', () => {
  /** True when the bytes got no answer: a query that is sent after them is answered first. */
  async function unanswered(bytes: Buffer): Promise<boolean> {
    const socket = await client(serve());
    const ids: number[] = [];
    socket.on('message', (answer) => ids.push(answer.readUInt16BE(0)));
    socket.send(bytes);
    socket.send(query('web', { id: 9999 }));
    await vi.waitFor(() => expect(ids).toContain(9999), { timeout: 10_000 });
    return ids.length === 1;
  }

  it('a response gets no answer: that could go on for ever', async () => {
    const response = packet.encode({ type: 'response', id: 4711, questions: [{ type: 'A', name: 'web' }] });
    expect(await unanswered(response)).toBe(true);
  });

  it('garbage that calls itself a response gets none either', async () => {
    const garbage = Buffer.alloc(40, 0xff);
    expect(await unanswered(garbage)).toBe(true);
  });

  it('less than a header gets none', async () => {
    expect(await unanswered(Buffer.from('hello'))).toBe(true);
    expect(await unanswered(Buffer.alloc(0))).toBe(true);
  });

  it('a header with a broken question is a format error with its id', async () => {
    const broken = query('web').subarray(0, HEADER + 2);
    const answer = await askUdp(serve(), broken);
    expect(answer.readUInt16BE(0)).toBe(4711);
    expect(rcode(answer)).toBe(FORMERR);
  });

  it('several questions, or none, are a format error', async () => {
    const port = serve();
    const two = query('', {
      questions: [
        { type: 'A', name: 'web' },
        { type: 'A', name: 'nobody' },
      ],
    });
    expect(rcode(await askUdp(port, two))).toBe(FORMERR);
    expect(rcode(await askUdp(port, query('', { questions: [] })))).toBe(FORMERR);
  });

  it('a question that points elsewhere is a format error', async () => {
    const bytes = Buffer.concat([query('web').subarray(0, HEADER), Buffer.of(0xc0, 2, 0, 1, 0, 1)]);
    expect(rcode(await askUdp(serve(), bytes))).toBe(FORMERR);
  });

  it('does not keep the server from answering others', async () => {
    const port = serve();
    const socket = await client(port);
    for (let length = 0; length < 200; length++)
      socket.send(Buffer.from(Array.from({ length }, () => Math.floor(Math.random() * 256))));
    expect(rcode(await askUdp(port, query('web')))).toBe(0);
  });
});

it('many queries at once are all answered, each with its own id', async () => {
  const socket = await client(serve());
  const ids = new Set<number>();
  socket.on('message', (bytes) => ids.add(bytes.readUInt16BE(0)));
  const count = 2000;
  for (let at = 0; at < count; at += 100) {
    for (let i = at; i < at + 100; i++) socket.send(query('web', { id: i }));
    await vi.waitFor(() => expect(ids.size).toBe(at + 100), { timeout: 20_000, interval: 2 });
  }
  expect(ids.size).toBe(count);
});

describe('a name that is not ours', () => {
  it('is answered by an upstream, with the id of the client', async () => {
    const up = await upstream('203.0.113.9');
    const answer = await askUdp(serve({ upstreams: [up] }), query('example.org'));
    expect(answer.readUInt16BE(0)).toBe(4711);
    expect(addresses(answer)).toEqual(['203.0.113.9']);
  });

  it('is asked under ids of our own', async () => {
    const up = await upstream('203.0.113.9');
    const port = serve({ upstreams: [up] });
    for (let i = 0; i < 5; i++) await askUdp(port, query('example.org'));
    expect(new Set(up.asked.map((bytes) => bytes.readUInt16BE(0))).size).toBeGreaterThan(1);
  });

  it('is asked by TCP where the client used that', async () => {
    const up = await upstream('203.0.113.9');
    const [answer = Buffer.alloc(0)] = await askTcp(
      serve({ upstreams: [up] }),
      [framed(query('example.org'))],
      1,
    );
    expect(answer.readUInt16BE(0)).toBe(4711);
    expect(addresses(answer)).toEqual(['203.0.113.9']);
    expect(up.asked).toEqual([]);
  });

  it('goes to the next upstream where one refuses, cannot be routed to, or says nothing', async () => {
    const silent = await upstream('', () => undefined);
    const up = await upstream('203.0.113.9');
    // Without SO_BROADCAST connect() fails, as it does where there is no route.
    const unreachable = { address: '255.255.255.255', port: 53 };
    const port = serve({ upstreams: [closedPort(), unreachable, silent, up] });
    expect(addresses(await askUdp(port, query('example.org')))).toEqual(['203.0.113.9']);
    expect(silent.asked).toHaveLength(1);
  });

  it('fails over by TCP too', async () => {
    const up = await upstream('203.0.113.9');
    const port = serve({ upstreams: [closedPort(), up] });
    const [answer = Buffer.alloc(0)] = await askTcp(port, [framed(query('example.org'))], 1);
    expect(addresses(answer)).toEqual(['203.0.113.9']);
  });

  it('does not take an answer with another id', async () => {
    const forger = await upstream('', (bytes) => {
      const answer = packet.encode({ type: 'response', id: bytes.readUInt16BE(0) ^ 1 });
      return answer;
    });
    const up = await upstream('203.0.113.9');
    expect(addresses(await askUdp(serve({ upstreams: [forger, up] }), query('example.org')))).toEqual([
      '203.0.113.9',
    ]);
  });

  describe('asked of an upstream', () => {
    const answerTo = (bytes: Buffer, data: string, more: Partial<packet.Packet> = {}): Buffer => {
      const { id = 0, questions = [] } = packet.decode(bytes);
      const name = questions[0]?.name ?? '';
      return packet.encode({
        type: 'response',
        id,
        questions,
        answers: [{ type: 'A', name, ttl: 60, data }],
        ...more,
      });
    };
    const asked: packet.Question = { type: 'A', name: 'example.org' };
    const otherQuestions: readonly (readonly packet.Question[])[] = [
      [{ ...asked, name: 'example.net' }],
      [{ ...asked, name: 'www.example.org' }],
      [{ ...asked, name: 'org' }],
      [{ ...asked, type: 'AAAA' }],
      [{ ...asked, class: 'CH' }],
      [asked, asked],
      [],
    ];

    it('waits for the answer to its own question', async () => {
      const up = await upstream('', (bytes) => [
        ...otherQuestions.map((questions) => answerTo(bytes, '192.0.2.66', { questions: [...questions] })),
        answerTo(bytes, '192.0.2.66').subarray(0, HEADER + 5),
        answerTo(bytes, '203.0.113.9'),
      ]);
      expect(addresses(await askUdp(serve({ upstreams: [up] }), query('example.org')))).toEqual([
        '203.0.113.9',
      ]);
    });

    it('by TCP goes to the next where the answer is to another question', async () => {
      const forgers = await Promise.all(
        otherQuestions.map((questions) =>
          upstream('', (bytes) => answerTo(bytes, '192.0.2.66', { questions: [...questions] })),
        ),
      );
      const port = serve({ upstreams: [...forgers, await upstream('203.0.113.9')] });
      const [answer = Buffer.alloc(0)] = await askTcp(port, [framed(query('example.org'))], 1);
      expect(addresses(answer)).toEqual(['203.0.113.9']);
    });

    it('takes the question in other case, but a type that looks like a letter as it is', async () => {
      const up = await upstream('', (bytes) => {
        const [question] = packet.decode(bytes).questions ?? [];
        if (question?.type !== 'A')
          return [
            Buffer.from(bytes)
              .fill(0x80, 2, 3)
              .fill(97, bytes.length - 3, bytes.length - 2),
            Buffer.from(bytes).fill(0x81, 2, 3),
          ];
        return answerTo(bytes, '203.0.113.9', { questions: [{ ...asked, name: 'eXample.ORG' }] });
      });
      const port = serve({ upstreams: [up] });
      expect(addresses(await askUdp(port, query('Example.org')))).toEqual(['203.0.113.9']);
      const https = query('example.org');
      https[https.length - 3] = 65; // RFC 9460
      expect((await askUdp(port, https))[2]).toBe(0x81);
    });

    it('takes a refusal without the question', async () => {
      const up = await upstream('', (bytes) => {
        const refusal = Buffer.from(bytes.subarray(0, HEADER)).fill(0, 4);
        refusal[2] = 0x80;
        refusal[3] = FORMERR;
        return refusal;
      });
      const answer = await askUdp(serve({ upstreams: [up] }), query('example.org', edns(1232)));
      expect(rcode(answer)).toBe(FORMERR);
    });
  });

  it('fails where no upstream answers, or there is none', async () => {
    expect(rcode(await askUdp(serve(), query('example.org')))).toBe(SERVFAIL);
    expect(rcode(await askUdp(serve({ upstreams: [closedPort()] }), query('example.org')))).toBe(SERVFAIL);
  });

  describe('goes where the container sent it', () => {
    it('when that was an outside resolver', async () => {
      const chosen = await upstream('198.51.100.1');
      const up = await upstream('203.0.113.9');
      const port = serve({ upstreams: [up], original: { address: chosen.address, port: chosen.port } });
      expect(addresses(await askUdp(port, query('example.org')))).toEqual(['198.51.100.1']);
    });

    it('when that was an outside resolver with an IPv6 address', async () => {
      const asked: string[] = [];
      const outside = dgram.createSocket('udp6');
      outside.on('message', (bytes, from) => {
        const { id = 0, questions = [] } = packet.decode(bytes);
        asked.push(questions[0]?.name ?? '');
        outside.send(packet.encode({ type: 'response', id, questions }), from.port, from.address);
      });
      outside.bind(0, '::1');
      await once(outside, 'listening');
      ends.push(() => outside.close());
      const up = await upstream('203.0.113.9');
      const port = serve({
        upstreams: [up],
        original: { address: '::1', port: outside.address().port },
        answer: (_, { name }) => ({ kind: name.includes('.') ? 'forward' : 'unknown' }),
      });
      await askUdp(port, query('example.org'));
      expect(asked).toEqual(['example.org']);
      expect(up.asked).toEqual([]);
    });

    it.each([
      ['the nameserver', NAMESERVER, 'forward'],
      ['a gateway', '10.1.1.254', 'unknown'],
      ['an IPv6 gateway', 'fd00:1::1', 'unknown'],
    ] as const)('but to an upstream when that was %s', async (_, address, kind) => {
      const up = await upstream('203.0.113.9');
      const port = serve({
        upstreams: [up],
        original: { address, port: 53 },
        answer: (_client, { type }) => (type === 'PTR' ? { kind } : { kind: 'forward' }),
      });
      expect(addresses(await askUdp(port, query('example.org')))).toEqual(['203.0.113.9']);
    });
  });
});

describe('a client that asks without end', () => {
  const LONG = { timeout: 50_000 };
  /** So many a system call takes at once. */
  const ROUND = 32;
  /** A nameserver whose socket always has more of one client, and what it has answered by client, in order. */
  async function flooded(others: (round: number, answered: number) => readonly string[]) {
    const { port, sockets } = listening();
    const answered: string[] = [];
    let round = 0;
    const ask = (address: string): Datagram => ({ bytes: query('web'), address, port: 1 });
    const run = { ends: false };
    const server = startNameserver({
      sockets,
      answer: () => ({ kind: 'addresses', addresses: ['10.1.1.1'] }),
      originalDestination: async () => undefined,
      upstreams: () => ({ servers: [], timeout: 5000, attempts: 2 }),
      outside: fromHere,
      mayAsk: () => true,
      receiveRound(_fd, _version, take) {
        if (run.ends) return false;
        round++;
        for (let i = 0; i < ROUND; i++) take(ask('greedy'));
        for (const other of others(round, answered.length)) take(ask(other));
        return true;
      },
      sendDatagrams(_fd, _version, datagrams) {
        answered.push(...datagrams.map(({ address }) => address));
        return datagrams.filter(({ address }) => address === '127.0.0.1');
      },
      log: pino({ level: 'silent' }),
    });
    ends.push(() => server.close());
    await askUdp(port, query('web'));
    return { answered, rounds: () => round, run };
  }

  it('costs others nothing but their turn: one of its own is answered before theirs', async () => {
    const came = new Map<string, number>();
    const { answered } = await flooded((round, before) => {
      // Each once, some rounds apart: from the beginning of a flood to where it has filled all that it may.
      const name = `modest${round}`;
      if (round % 7 !== 0 || round > 700) return [];
      came.set(name, before);
      return [name];
    });
    await vi.waitUntil(() => answered.filter((name) => name.startsWith('modest')).length === 100, LONG);
    // What came in one reading is answered in turn: so many clients, and one of the flood.
    const READING = 64;
    for (const [name, before] of came)
      expect(answered.indexOf(name) - before, name).toBeLessThanOrEqual(READING);
  });

  it('has no more waiting than a client may, and the rest is answered to nobody', async () => {
    const { answered, rounds, run } = await flooded(() => []);
    await vi.waitUntil(() => rounds() > 1000, LONG);
    run.ends = true;
    const before = answered.length;
    let last = -1;
    await vi.waitUntil(() => {
      const still = answered.length === last;
      last = answered.length;
      return still;
    }, LONG);
    expect(answered.length - before).toBeGreaterThan(1000);
    expect(answered.length - before).toBeLessThan(3000);
    expect(answered.length).toBeLessThan(rounds() * ROUND);
  });
});

it('close ends what is connected, and gives the port back', async () => {
  const { port, sockets } = listening();
  const server = startNameserver({
    sockets,
    answer: () => ({ kind: 'unknown' }),
    originalDestination: async () => undefined,
    upstreams: () => ({ servers: [], timeout: 5000, attempts: 2 }),
    outside: fromHere,
    mayAsk: () => true,
    receiveRound,
    sendDatagrams,
    log: pino({ level: 'silent' }),
  });
  await askUdp(port, query('web'));
  const idle = net.connect(port, '127.0.0.1');
  idle.on('error', () => {});
  await once(idle, 'connect');
  const ended = once(idle, 'close');
  idle.resume();
  await server.close();
  await ended;
  for (const protocol of ['udp', 'tcp'] as const)
    for (const address of ['127.0.0.1', '::1'])
      closeSocket(bindPort(protocol, address, port, { shared: protocol === 'tcp' ? 'latest' : undefined }));
});
