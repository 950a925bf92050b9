import dns from 'node:dns/promises';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { followGuarded } from './underlay.ts';

it('guards the ports of the netmasters, by their scheme where the URL has none', async () => {
  const log = pino({ level: 'silent' });
  const guarded = await followGuarded(
    ['http://192.0.2.1:9999', 'https://[2001:db8::1]', 'http://192.0.2.2'],
    log,
  );
  expect(guarded.all).toEqual([
    { address: '192.0.2.1', protocol: 'tcp', port: 9999 },
    { address: '2001:db8::1', protocol: 'tcp', port: 443 },
    { address: '192.0.2.2', protocol: 'tcp', port: 80 },
  ]);
});

it('looks a name up again: said once while it has no address, what was found last stays', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const lookup = vi.spyOn(dns, 'lookup');
  onTestFinished(() => lookup.mockRestore());
  const answer = (...addresses: string[]) => addresses.map((address) => ({ address, family: 4 }));
  const lines: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line) => void lines.push(line) });
  lookup.mockRejectedValue(new Error('EAI_AGAIN'));
  const guarded = await followGuarded(['http://netmaster.example:9999'], log);
  onTestFinished(() => guarded.close());
  await vi.advanceTimersByTimeAsync(30_000);
  expect(guarded.all).toEqual([]);
  expect(lines).toEqual([expect.stringContaining('containers are not kept from it yet')]);

  lookup.mockResolvedValue(answer('192.0.2.2', '192.0.2.1') as never);
  await vi.advanceTimersByTimeAsync(10_000);
  const found = guarded.all;
  expect(found.map((g) => g.address)).toEqual(['192.0.2.1', '192.0.2.2']);
  lookup.mockResolvedValue(answer('192.0.2.1', '192.0.2.2') as never);
  await vi.advanceTimersByTimeAsync(10_000);
  lookup.mockRejectedValue(new Error('EAI_AGAIN'));
  await vi.advanceTimersByTimeAsync(10_000);
  expect(guarded.all).toBe(found);
});
