/**
 * A real netmaster with the embedded store, 64 clients that reserve, attach, detach and release, and kill -9 of it at
 * random moments. What was acknowledged is there, no address is had by two, and in the end none is lost.
 */
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { ApiError, type Client, connect } from '../src/client/client.ts';
import { addressNumber, numberAddress } from '../src/model/address.ts';
import type { Endpoint } from '../src/protocol/messages.ts';
import type { AnswerOf } from '../src/protocol/routes.ts';
import { temporaryFolder } from './folder.ts';
import { netmasterOn } from './netmaster.ts';
import { randomFrom } from './random.ts';

const CLIENTS = 64;
/** Of the subnet: fewer than the clients would have, so that each is given again and again. */
const SUBNET = '10.1.0.0/25';
const ADDRESSES = 126;
const MOST = 2;

/** What one client knows of an endpoint: `unknown` where netmaster died over a write. */
interface Had {
  readonly address: string;
  readonly id: string;
  endpoint: 'none' | 'there' | 'unknown' | 'gone';
}

describe('addresses of 64 clients, with kill -9 of netmaster', () => {
  it('are had by one at a time, are still there after it, and none is lost', async () => {
    const pause = fc.integer({ min: 0, max: 200 });
    await fc.assert(fc.asyncProperty(fc.array(pause, { minLength: 5, maxLength: 5 }), fc.nat(), live), {
      numRuns: 1,
      endOnFailure: true,
    });
  }, 180_000);
});

async function live(pauses: readonly number[], seed: number): Promise<void> {
  const netmaster = await netmasterOn(`sqlite:${join(temporaryFolder(), 'netmaster.db')}`);
  const { url } = netmaster;
  await netmaster.start();
  const admin = connect({ urls: [url] });
  await admin.call('post', { collection: 'networks', key: 'default:n' }, { subnet: SUBNET });

  const random = randomFrom(seed);
  /** By address: who has it by netmaster's word, and has not begun to give it back. */
  const owners = new Map<string, string>();
  const all: Had[] = [];
  let living = true;
  let given = 0;

  /** undefined: nothing can be said of what netmaster did. A refusal is thrown. */
  async function ask<T>(call: Promise<{ body: T }>): Promise<T | undefined> {
    try {
      return (await call).body;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 0) throw error;
      await new Promise((done) => setTimeout(done, 20));
      return undefined;
    }
  }

  async function client(name: string, rest: Client): Promise<void> {
    const host = `host-${name}`;
    let mine: Had[] = [];
    let count = 0;
    const attach = async (had: Had): Promise<void> => {
      const endpoint: Endpoint = {
        endpointID: had.id,
        tenantName: 'default',
        networkName: 'n',
        ipAddress: [had.address],
        macAddress: '02:02:00:00:00:01',
        homingHost: host,
        status: 'running',
      };
      const done = await ask(rest.call('attach', { id: had.id }, endpoint));
      had.endpoint = done === undefined ? 'unknown' : 'there';
    };
    /** Until it is answered: to repeat it changes nothing. */
    const surely = async (call: () => Promise<unknown>): Promise<boolean> => {
      while (living) if ((await ask(call().then(() => ({ body: true })))) === true) return true;
      return false;
    };
    const giveBack = async (had: Had): Promise<void> => {
      mine = mine.filter((h) => h !== had);
      owners.delete(had.address);
      if (had.endpoint !== 'none') {
        had.endpoint = 'unknown';
        if (await surely(() => rest.call('detach', { id: had.id, host }))) had.endpoint = 'gone';
      }
      await surely(() => rest.call('release', { network: 'default:n', address: had.address, host }));
    };
    while (living) {
      const choice = random();
      const bare = mine.find((had) => had.endpoint !== 'there');
      if (bare !== undefined && choice < 0.7) await attach(bare);
      else if (mine.length >= MOST || (mine.length > 0 && choice < 0.4)) await giveBack(mine[0] as Had);
      else {
        const request = { tenantName: 'default', networkName: 'n', family: 4, host } as const;
        const got = await ask(rest.call('reserve', {}, request)).catch((error) => {
          // Reservations that nobody heard of, and whose grace is not over, may have filled the subnet.
          if (error.status !== 409) throw error;
          return undefined;
        });
        if (got === undefined) continue;
        expect(owners.get(got.address), `${got.address} for ${name} too`).toBeUndefined();
        owners.set(got.address, name);
        given++;
        const had: Had = { address: got.address, id: `${name}-${++count}`, endpoint: 'none' };
        mine.push(had);
        all.push(had);
      }
    }
  }

  /** Everything that was acknowledged, and nothing that was acknowledged to be gone. */
  async function compare(): Promise<AnswerOf<'endpoints'>> {
    const endpoints = (await admin.call('endpoints')).body;
    const there = new Map(endpoints.map((e) => [e.endpointID, e]));
    for (const had of all) {
      const found = there.get(had.id);
      if (had.endpoint === 'there') expect(found?.ipAddress, had.id).toEqual([had.address]);
      if (had.endpoint === 'gone' || had.endpoint === 'none') expect(found, had.id).toBeUndefined();
    }
    const addresses = endpoints.flatMap((e) => e.ipAddress);
    expect(new Set(addresses).size).toBe(addresses.length);
    const taken = await allocated(admin);
    for (const address of addresses) expect(taken, `of an endpoint: ${address}`).toContain(address);
    for (const address of owners.keys()) expect(taken, `acknowledged: ${address}`).toContain(address);
    return endpoints;
  }

  const connections = Array.from({ length: CLIENTS }, () => connect({ urls: [url] }));
  const clients = Promise.all(connections.map((rest, i) => client(`c${i}`, rest)));
  // A client that fails ends the test at the next step, not after all of them.
  const step = <T>(work: Promise<T>): Promise<T> => Promise.race([work, clients.then(() => work)]);
  try {
    const busy = (): Promise<unknown> => {
      const before = given;
      return step(vi.waitUntil(() => given > before + CLIENTS, { timeout: 30_000 }));
    };
    for (const ms of pauses) {
      await busy();
      await step(new Promise((done) => setTimeout(done, ms)));
      await netmaster.kill();
      await step(netmaster.start());
    }
    await busy();
  } finally {
    living = false;
    await clients.catch(() => {});
  }
  await clients;
  expect(given).toBeGreaterThan(3 * ADDRESSES);
  const endpoints = await compare();

  // What nobody has any more is collected after the grace period; what endpoints have is not.
  await netmaster.kill();
  await netmaster.start('--address-grace', '1');
  const wanted = endpoints.flatMap((e) => e.ipAddress).sort();
  await vi.waitUntil(async () => (await allocated(admin)).length <= wanted.length, { timeout: 30_000 });
  expect((await allocated(admin)).sort()).toEqual(wanted);
  await netmaster.kill();
  await netmaster.start();
  for (const { endpointID, ipAddress, homingHost } of endpoints) {
    await admin.call('detach', { id: endpointID });
    for (const address of ipAddress)
      await admin.call('release', { network: 'default:n', address, host: homingHost });
  }
  const request = { tenantName: 'default', networkName: 'n', family: 4, host: 'last' } as const;
  const last = new Set<string>();
  for (let i = 0; i < ADDRESSES; i++) last.add((await admin.call('reserve', {}, request)).body.address);
  expect(last.size).toBe(ADDRESSES);
  await expect(admin.call('reserve', {}, request)).rejects.toThrow(/all addresses .* are taken/);
  for (const rest of [admin, ...connections]) rest.close();
}

/** Addresses that are given out, by inspect's ranges: `10.1.0.2-10.1.0.4, 10.1.0.9`. */
async function allocated(client: Client): Promise<string[]> {
  const { body } = await client.call('inspect', { collection: 'networks', key: 'default:n' });
  const ranges = String(body.Oper.allocatedIPAddresses ?? '')
    .split(', ')
    .filter((r) => r);
  return ranges.flatMap((range) => {
    const [first = '', last = first] = range.split('-');
    const from = addressNumber(first);
    return Array.from({ length: Number(addressNumber(last) - from) + 1 }, (_, i) =>
      numberAddress(from + BigInt(i), 4),
    );
  });
}
