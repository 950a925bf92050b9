/**
 * What becomes of encryption on a kernel without WireGuard: nothing goes in the clear, and it is said plainly. Where the kernel has it,
 * test/encryption.wireguard.test.ts shows the rest (test/machine.sh).
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clean, NOTHING, PEERS, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { openHostKeys } from '../hostKeys.ts';
import type { HostState } from '../state.ts';
import { type Applier, openApplier } from './applier.ts';

let applier: Applier;
let folder = '';
let encrypted: HostState;
const [PEER = ''] = PEERS;

function hasWireguard(): boolean {
  try {
    sh('ip link add wgtest type wireguard && ip link delete wgtest');
    return true;
  } catch {
    return false;
  }
}

beforeAll(() => {
  isolate();
  sh(
    'ip link add eth0 type veth peer name wire; ip link set wire up; ip addr add 192.0.2.1/24 dev eth0; ip link set eth0 up',
  );
  folder = mkdtempSync('/tmp/contiv-keys-');
  const keys = openHostKeys(folder, pino({ level: 'silent' }));
  const [own] = keys.of([1]);
  applier = openApplier(keys.secretOf);
  const publicKey = own?.key ?? '';
  const peers = [{ address: PEER, publicKey: Buffer.alloc(32, 7).toString('base64') }];
  encrypted = {
    ...state({ remotes: [{ address: '20.1.1.9', device: 'vx1001', vtep: PEER }] }),
    underlay: '192.0.2.1',
    members: PEERS,
    encryption: {
      devices: [{ device: 'contiv-wg0', port: 14789, mtu: 1440, publicKey, peers }],
      ways: [{ address: PEER, device: 'contiv-wg0' }],
    },
  };
});
afterAll(() => {
  applier?.close();
  clean();
  rmSync(folder, { recursive: true, force: true });
});

it('a kernel without WireGuard is said to have none, tells no key, and what is to be encrypted does not leave', (context) => {
  if (hasWireguard()) context.skip();
  const { failed, complete } = applier.apply(encrypted, { verify: true });
  expect(failed.map(({ message }) => message)).toEqual([
    expect.stringMatching(/^encryption: this kernel has no WireGuard \(modprobe wireguard/),
  ]);
  expect(complete).toBe(false);
  expect(applier.encrypting()).toEqual([]);
  // The table that frames find is there, and leads nowhere.
  expect(sh('ip rule')).toMatch(/^100:\s+from 192\.0\.2\.1 ipproto udp dport 4789 lookup 4789/m);
  expect(sh('ip route show table 4789').trim()).toMatch(/^unreachable default proto 199\s*$/);
  expect(sh('nft list chain inet contiv leaving')).toMatch(
    /oifname != \{ "contiv-wg0", "contiv-wg1" \} fib saddr type local counter name "unencrypted" drop/,
  );
  // A frame that a tunnel would send is kept even where somebody has taken the rule away.
  const count = (): number =>
    Number(/packets (\d+)/.exec(sh('nft list counter inet contiv unencrypted'))?.[1]);
  sh('ip rule del pref 100');
  const before = count();
  const text = Buffer.from([8, 0, 0, 0, 0, 1001 >> 8, 1001 & 255, 0]).toString('base64');
  sh(
    `ip neigh replace ${PEER} lladdr 02:00:00:00:00:02 dev eth0; ${process.execPath} -e 'const s=require("dgram").createSocket("udp4");s.bind(0,"192.0.2.1",()=>s.send(Buffer.from("${text}","base64"),4789,"${PEER}",()=>s.close()))' || true`,
  );
  expect(count()).toBe(before + 1);
  // It is put back, and said.
  const { repaired } = applier.apply(encrypted, { verify: true });
  expect(repaired.join()).toContain('rule 100 of IPv4 from 192.0.2.1/32 to table 4789 UDP port 4789');
});

it('nothing of it is left where encryption is no more declared', () => {
  const { encryption: _, ...clear } = encrypted;
  expect(applier.apply(clear, { verify: false }).failed).toEqual([]);
  expect(sh('ip rule')).not.toContain('4789');
  expect(sh('ip route show table 4789 2>/dev/null || true')).toBe('');
  expect(sh('nft list table inet contiv')).not.toContain('unencrypted');
  expect(applier.apply(NOTHING, { verify: true }).failed).toEqual([]);
});

it('what others have in a table of that number stays where nothing is encrypted', () => {
  sh('ip route add 203.0.113.0/24 dev eth0 table 4789; ip rule add pref 100 from 203.0.113.1 lookup 4789');
  const other = openApplier();
  other.apply(NOTHING, { verify: true });
  other.close();
  expect(sh('ip route show table 4789')).toContain('203.0.113.0/24 dev eth0');
  expect(sh('ip rule')).toContain('from 203.0.113.1 lookup 4789');
});
