import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { temporaryFolder } from '../../../test/folder.ts';
import { openUpstreams, readResolvers } from './upstreams.ts';

describe('readResolvers', () => {
  it('takes the nameserver lines of both families in their order', () => {
    const text =
      '# a comment\nsearch example.org\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53\noptions ndots:1\n';
    expect(readResolvers(text).servers).toEqual([
      { address: '192.0.2.53', port: 53 },
      { address: '2001:db8::53', port: 53 },
    ]);
  });

  it('leaves out what is no address or is commented out', () => {
    expect(
      readResolvers('nameserver dns.example.org\n#nameserver 192.0.2.1\n;nameserver 192.0.2.2\nnameserver\n')
        .servers,
    ).toEqual([]);
  });

  it('keeps the interface of a link-local address', () => {
    expect(readResolvers('nameserver fe80::1%eth0').servers).toEqual([{ address: 'fe80::1%eth0', port: 53 }]);
  });
});

describe('how long is waited', () => {
  it.each([
    ['nameserver 192.0.2.1', 5000, 2],
    ['options ndots:1 timeout:1 attempts:3', 1000, 3],
    ['options timeout:1\noptions rotate timeout:7', 7000, 2],
    ['options timeout:9999 attempts:9999', 30_000, 5],
    ['options timeout:0 attempts:0 timeout:x attempts:-1', 5000, 2],
  ])('by %j is %i ms, %i times', (text, timeout, attempts) => {
    expect(readResolvers(text)).toMatchObject({ timeout, attempts });
  });
});

describe('openUpstreams', () => {
  it('follows the file, and has none where it is gone', async () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'upstreams-'));
    try {
      const file = path.join(folder, 'resolv.conf');
      const upstreams = openUpstreams(file);
      expect(upstreams.current().servers).toEqual([]);
      const becomes = (expected: string[]) =>
        vi.waitFor(() => expect(upstreams.current().servers.map((u) => u.address)).toEqual(expected), {
          timeout: 20_000,
        });
      fs.writeFileSync(file, 'nameserver 192.0.2.1\n');
      await becomes(['192.0.2.1']);
      fs.writeFileSync(file, 'nameserver 192.0.2.22\n');
      await becomes(['192.0.2.22']);
      fs.rmSync(file);
      await becomes([]);
      fs.writeFileSync(file, 'nameserver 192.0.2.22\n');
      await becomes(['192.0.2.22']);
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });

  it('follows it too while a clock that was ahead is set back', async () => {
    const file = path.join(temporaryFolder(), 'resolv.conf');
    fs.writeFileSync(file, 'nameserver 192.0.2.1\n');
    const upstreams = openUpstreams(file);
    expect(upstreams.current().servers).toHaveLength(1);
    const right = Date.now() - 3_600_000;
    const clock = vi.spyOn(Date, 'now').mockReturnValue(right);
    onTestFinished(() => clock.mockRestore());
    fs.writeFileSync(file, 'nameserver 192.0.2.22\n');
    const deadline = performance.now() + 20_000;
    while (upstreams.current().servers[0]?.address !== '192.0.2.22' && performance.now() < deadline)
      await sleep(20);
    expect(upstreams.current().servers).toEqual([{ address: '192.0.2.22', port: 53 }]);
  });
});
