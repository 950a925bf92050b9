/** Events outlive netmaster, which is killed; who follows them goes on. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import type { Event } from '../src/protocol/events.ts';
import { netctl } from './cluster.ts';
import { temporaryFolder } from './folder.ts';
import { netmasterOn } from './netmaster.ts';

it('of a netmaster that is killed all are there when it is back, and netctl events -f goes on behind the last', async () => {
  const netmaster = await netmasterOn(`sqlite:${path.join(temporaryFolder(), 'store.db')}`);
  await netmaster.start();
  const created: string[] = [];
  const create = async (): Promise<void> => {
    const name = `t${created.length}`;
    expect(await netctl(netmaster.url, ['tenant', 'create', name])).toMatchObject({ status: 0 });
    created.push(name);
  };
  await create();
  const words = ['events', '-f', '--kind=intent', '-o', 'json'];
  const following = spawn(path.join(import.meta.dirname, '../bin/netctl'), words, {
    env: { ...process.env, NETMASTER: netmaster.url },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void following.kill('SIGKILL'));
  let text = '';
  following.stdout.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  const seen = (): (string | undefined)[] =>
    text.split('\n').flatMap((line) => (line === '' ? [] : [(JSON.parse(line) as Event).key]));
  const all = { timeout: 60_000, interval: 50 };
  await vi.waitUntil(() => seen().length === 1, all);
  for (let round = 0; round < 2; round++) {
    await create();
    await vi.waitUntil(() => seen().length === created.length, all);
    await netmaster.kill();
    await netmaster.start();
    await create();
  }
  await vi.waitUntil(() => seen().length === created.length, all);
  expect(seen()).toEqual(created);
  const listed = await netctl(netmaster.url, ['events', '--kind=intent', '-o', 'json']);
  expect(listed.out).toBe(text);
  expect(following.exitCode).toBeNull();
}, 180_000);
