import { expect, it, onTestFinished, vi } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import { openDuty } from './duty.ts';

it('one netmaster at a time holds a duty, and another one when that has gone', async () => {
  const cluster = await openCluster();
  onTestFinished(() => closeCluster(cluster));
  const taken: string[] = [];
  const failed = (error: unknown) => {
    throw error;
  };
  const open = (name: string) =>
    openDuty('aci', { ...cluster, alone: false, taken: () => taken.push(name), failed });
  const first = open('first');
  await vi.waitFor(() => expect(first.isHeld()).toBe(true), { timeout: 20_000 });
  const second = open('second');
  await new Promise((done) => setTimeout(done, 200));
  expect(second.isHeld()).toBe(false);
  await first.close();
  expect(first.isHeld()).toBe(false);
  await vi.waitFor(() => expect(second.isHeld()).toBe(true), { timeout: 20_000 });
  await second.close();
  expect(taken).toEqual(['first', 'second']);
});

it('who is alone holds all of them', async () => {
  const cluster = await openCluster();
  onTestFinished(() => closeCluster(cluster));
  const duty = openDuty('aci', { ...cluster, alone: true, taken: () => {}, failed: () => {} });
  expect(duty.isHeld()).toBe(true);
  await duty.close();
  expect(cluster.mirror.count('duty')).toBe(0);
});
