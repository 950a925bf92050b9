import { pino } from 'pino';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ApiError, type Client } from '../../client/client.ts';
import { type Intent, startIntent } from './netmaster.ts';

const UNREACHABLE = new ApiError(0, 'unreachable', 'nothing listens there');
const LATE = new ApiError(423, 'locked', 'node2 may still go by that');
const REQUEST = { tenantName: 'default', networkName: 'net1', host: 'node1', family: 4 } as const;

/** What came of each call, by its route; the last one again and again. */
let answers: Record<string, (ApiError | Promise<void> | undefined)[]>;
let asked: string[];
let intent: Intent;

const client = {
  async call(name: string) {
    asked.push(name);
    const [answer, ...rest] = answers[name] ?? [];
    if (rest.length > 0) answers[name] = rest;
    if (answer instanceof ApiError) throw answer;
    await answer;
    return { status: 200, headers: {}, body: { address: '20.1.1.2', prefixLength: 24 } };
  },
} as unknown as Client;

beforeEach(() => {
  [answers, asked] = [{}, []];
});
afterEach(() => intent.close());
const start = (): void => {
  const registration = { name: 'node1', underlay: '192.0.2.1', mtu: 1500, version: '1' };
  intent = startIntent(client, () => registration, pino({ level: 'silent' }));
};

it('knows by its heartbeats whether netmaster answers, and waits for the first', async () => {
  const first = Promise.withResolvers<void>();
  answers.register = [first.promise, UNREACHABLE];
  start();
  let known: boolean | undefined;
  const asking = intent.answers().then((answer) => {
    known = answer;
  });
  await new Promise((done) => setImmediate(done));
  expect(known).toBeUndefined();
  first.resolve();
  await asking;
  expect(known).toBe(true);
  intent.changed();
  await expect.poll(() => intent.answers(), { timeout: 20_000 }).toBe(false);
  answers.register = [new ApiError(409, 'conflict', 'another host has this name')];
  intent.changed();
  await expect.poll(() => intent.answers(), { timeout: 20_000 }).toBe(true); // to refuse is to answer
});

it('asks once more where one of several netmasters has ended, and does not go on where none answers, for who has another way', async () => {
  start();
  await intent.answers();
  answers.reserve = [UNREACHABLE, undefined];
  expect(await intent.reserve(REQUEST, 'while it answers')).toMatchObject({ address: '20.1.1.2' });
  answers.reserve = [UNREACHABLE];
  asked = [];
  await expect(intent.reserve(REQUEST, 'while it answers')).rejects.toBe(UNREACHABLE);
  expect(asked.filter((name) => name === 'reserve')).toHaveLength(2);
  // Another host is waited for: netmaster is there.
  answers.reserve = [LATE, LATE, LATE, undefined];
  expect(await intent.reserve(REQUEST, 'while it answers')).toMatchObject({ address: '20.1.1.2' });
  // Known to be silent, it is asked once.
  answers.register = [UNREACHABLE];
  intent.changed();
  await expect.poll(() => intent.answers(), { timeout: 20_000 }).toBe(false);
  answers.reserve = [UNREACHABLE];
  asked = [];
  await expect(intent.reserve(REQUEST, 'while it answers')).rejects.toBe(UNREACHABLE);
  expect(asked.filter((name) => name === 'reserve')).toHaveLength(1);
  answers.reserve = [UNREACHABLE, UNREACHABLE, UNREACHABLE, undefined];
  expect(await intent.reserve(REQUEST, 'until it answers')).toMatchObject({ address: '20.1.1.2' });
});

it('makes new keys where its own are another host’s, says so once, and registers again at once', async () => {
  const lines: string[] = [];
  const told: unknown[] = [];
  const keys = [{ epoch: 1, key: 'ours' }];
  let own: typeof keys | undefined = keys;
  answers.register = [new ApiError(409, 'conflict', 'its key is another one’s', 'keys'), undefined];
  intent = startIntent(
    client,
    () => {
      told.push(own);
      return { name: 'node1', underlay: '192.0.2.1', version: '1', ...(own && { keys: own }) };
    },
    pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) }),
    () => {
      own = undefined;
    },
  );
  await expect.poll(() => intent.registered).toBe(true);
  // The first is asked for its name.
  expect(told).toEqual([keys, keys, undefined]);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('makes new WireGuard keys');
});
