/** Keys of hosts that run on while netmaster's store is put back to an earlier state: netmaster, which keys hosts keep, and by what they send, together. */
import { pino } from 'pino';
import { expect, it, onTestFinished } from 'vitest';
import { FIRST_EPOCHS, type HostKey, KEY_EPOCHS, type KeyEpochs } from '../src/model/encryption.ts';
import { GLOBAL_DEFAULTS } from '../src/model/settings.ts';
import { decideKeyEpochs, decideRotation } from '../src/netmaster/keyEpochs.ts';
import { storeKey } from '../src/netmaster/mirror.ts';
import { compileEncryption } from '../src/netplugin/compile/encryption.ts';
import { openHostKeys } from '../src/netplugin/hostKeys.ts';
import { closeCluster, openCluster } from './cluster.ts';
import { temporaryFolder } from './folder.ts';

const HOSTS = ['192.0.2.1', '192.0.2.2'] as const;

async function cluster(hosts: readonly (ReturnType<typeof openHostKeys> & { readonly address: string })[]) {
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  const { mirror, store, writer } = parts;
  const put = async (kind: string, key: string, value: unknown): Promise<void> => {
    const outcome = await store.transact([], [{ key: storeKey(kind, key), value }]);
    if (outcome.ok) await mirror.seen(outcome.revision);
  };
  await put('global', 'global', { ...GLOBAL_DEFAULTS, encryption: 'wireguard' });
  const known = (): KeyEpochs => mirror.get<KeyEpochs>('keyEpochs', KEY_EPOCHS) ?? FIRST_EPOCHS;
  const told = new Map<string, readonly HostKey[]>();
  /** Of each host to the other, by what it knows now. */
  function ways(): number {
    return hosts.flatMap(({ address, ...host }) => {
      const { ways, devices } = compileEncryption({
        keys: host.of(known().epochs),
        active: known().active,
        mtu: 1440,
        members: HOSTS.filter((other) => other !== address),
        keysOf: told,
      });
      return ways.filter(({ device }) => devices.some((d) => d.device === device && d.peers.length === 1));
    }).length;
  }
  return {
    put,
    ways,
    known,
    rotate: () => writer.write(() => decideRotation(mirror)),
    /** Each host goes by what netmaster says and tells its keys; then netmaster takes a step. */
    async round() {
      for (const { address, ...host } of hosts) {
        const keys = host.of(known().epochs);
        told.set(address, keys);
        await put('host', address, { name: address, underlay: address, keys });
      }
      for (const address of HOSTS) mirror.applied.set(address, mirror.revision);
      await writer.write(() => decideKeyEpochs(mirror, mirror.applied));
    },
  };
}

it('no way between hosts that run on is lost, and a rotation goes on from what they have', async () => {
  const log = pino({ level: 'silent' });
  const hosts = HOSTS.map((address) => ({ address, ...openHostKeys(temporaryFolder(), log) }));
  const before = await cluster(hosts);
  for (let i = 0; i < 2; i++) await before.round();
  await before.rotate();
  for (let i = 0; i < 4; i++) {
    await before.round();
    expect(before.ways()).toBe(2);
  }
  expect(before.known()).toMatchObject({ epochs: [2], active: 2 });

  for (const backup of [{ epochs: [1], active: 1, since: 0 }, undefined]) {
    const restored = await cluster(hosts);
    if (backup !== undefined) await restored.put('keyEpochs', KEY_EPOCHS, backup);
    const { epoch } = hosts[0]?.of([1])[0] ?? { epoch: 0 };
    expect(epoch).toBeGreaterThan(1);
    await restored.round();
    expect(restored.ways()).toBe(2);
    expect(restored.known()).toMatchObject({ epochs: [epoch], active: epoch });
    await restored.rotate();
    for (let i = 0; i < 4; i++) {
      await restored.round();
      expect(restored.ways()).toBe(2);
    }
    expect(restored.known()).toMatchObject({ epochs: [epoch + 1], active: epoch + 1 });
  }
});
