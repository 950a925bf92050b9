import { afterEach, expect, it, vi } from 'vitest';
import type { Gateway } from '../dataplane/index.ts';
import { followGateways } from './gateways.ts';

const GATEWAY: Gateway = {
  tenant: 'default',
  vlan: 100,
  device: 'vl100',
  network: 1,
  address: '10.100.0.254',
  mac: '02:00:00:00:00:01',
};
const NAME = 'gateway 10.100.0.254 on VLAN 100 of tenant default';

afterEach(() => {
  vi.useRealTimers();
});

it('tells of one that falls silent and comes back, once each, and when another pass is needed', async () => {
  vi.useFakeTimers();
  let now = 0;
  let found: Gateway[] = [{ ...GATEWAY, mac: '' }];
  let passes = 0;
  const lines: string[] = [];
  const gateways = followGateways({
    dataplane: { gateways: async () => found },
    moved: () => passes++,
    happened: (line) => lines.push(line),
    clock: () => now,
  });
  const after = async (milliseconds: number): Promise<void> => {
    now += milliseconds;
    await vi.advanceTimersByTimeAsync(milliseconds);
  };
  await after(1000);
  expect([gateways.silent, passes, lines]).toEqual([[], 0, []]);

  found = [GATEWAY];
  await after(1000);
  expect([gateways.silent, passes, lines]).toEqual([[], 1, []]);

  found = [{ ...GATEWAY, mac: '' }];
  await after(1000);
  expect([gateways.silent, passes, lines]).toEqual([[], 2, []]);
  await after(8000);
  expect(gateways.silent).toEqual(found);

  found = [{ ...GATEWAY, mac: '02:00:00:00:00:02' }];
  await after(1000);
  expect([gateways.silent, passes]).toEqual([[], 3]);
  expect(lines).toEqual([`${NAME} does not answer`, `${NAME} answers again`]);

  found = [];
  await after(1000);
  expect(gateways.silent).toEqual([]);
  gateways.close();
});
