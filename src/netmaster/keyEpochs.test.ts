import { pino } from 'pino';
import { describe, expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import { KEY_EPOCHS, type KeyEpochs } from '../model/encryption.ts';
import { GLOBAL_DEFAULTS } from '../model/settings.ts';
import { statusLines } from '../netctl/status.ts';
import { decideKeyEpochs, decideRotation, KEY_AGE, waitingFor } from './keyEpochs.ts';
import { storeKey } from './mirror.ts';
import { openRoster } from './roster.ts';
import { clusterStatus } from './status.ts';

const NOW = 1_800_000_000_000;
const SINCE = '2027-01-15T08:00:00.000Z';

async function open(encryption: 'none' | 'wireguard' = 'wireguard') {
  const parts = await openCluster();
  const { mirror, store, writer } = parts;
  onTestFinished(() => closeCluster(parts));
  const put = async (kind: string, key: string, value: unknown): Promise<void> => {
    const outcome = await store.transact([], [{ key: storeKey(kind, key), value }]);
    if (outcome.ok) await mirror.seen(outcome.revision);
  };
  await put('global', 'global', { ...GLOBAL_DEFAULTS, encryption });
  const epochs = (): KeyEpochs | undefined => mirror.get<KeyEpochs>('keyEpochs', KEY_EPOCHS);
  const step = async (now = NOW): Promise<KeyEpochs | undefined> => {
    await writer.write(() => decideKeyEpochs(mirror, mirror.applied, now));
    return epochs();
  };
  const keysOf = (name: string, of: readonly number[]) =>
    of.map((epoch) => ({ epoch, key: `${name} ${epoch}` }));
  return {
    ...parts,
    put,
    step,
    rotate: async () => (await writer.write(() => decideRotation(mirror))).answer,
    /** It lives, and has told keys of these epochs. */
    tells: (name: string, ...of: number[]) =>
      put('host', name, { name, underlay: `192.0.2.${name.at(-1)}`, keys: keysOf(name, of) }),
    /** It was there, with keys and a container. */
    async away(name: string, ...of: number[]) {
      await put('registration', name, { name, underlay: '192.0.2.9', keys: keysOf(name, of) });
      await put('endpoint', `ep-${name}`, {
        endpointID: `ep-${name}`,
        tenantName: 'default',
        homingHost: name,
      });
    },
    applies: (name: string, revision = mirror.revision) => void mirror.applied.set(name, revision),
    waiting: () => Object.fromEntries(waitingFor(mirror, mirror.applied)),
    async status() {
      const roster = openRoster(mirror, pino({ level: 'silent' }), { alone: true });
      onTestFinished(() => roster.close());
      return clusterStatus({ ...parts, roster, version: '2.0.0' });
    },
  };
}

describe('a rotation of keys', () => {
  it('goes on step by step, each when all hosts have done what the one before asks', async () => {
    const { step, rotate, tells, applies, waiting } = await open();
    expect(await step()).toEqual({ epochs: [1], active: 1, since: NOW });
    await tells('node1', 1);
    await tells('node2', 1);
    expect(await rotate()).toBe(2);
    expect(await step()).toEqual({ epochs: [1, 2], active: 1, since: NOW });
    await tells('node1', 1, 2);
    applies('node1');
    expect(waiting()).toEqual({ node2: 'it has told no new key' });

    // Both have told; one does not know the other's yet.
    await tells('node2', 1, 2);
    applies('node2');
    expect(waiting()).toEqual({ node1: 'it has not applied what others told' });
    expect((await step())?.active).toBe(1);
    applies('node1');
    expect(await step(NOW + 5)).toEqual({ epochs: [1, 2], active: 2, since: NOW + 5 });

    // The old keys stay until nobody sends by them.
    applies('node1');
    expect((await step())?.epochs).toEqual([1, 2]);
    applies('node2');
    expect(await step()).toEqual({ epochs: [2], active: 2, since: NOW + 5 });
    expect((await step())?.epochs).toEqual([2]);
  });

  it('begins by itself when keys are old', async () => {
    const { step } = await open();
    await step();
    expect((await step(NOW + KEY_AGE - 1))?.epochs).toEqual([1]);
    expect((await step(NOW + KEY_AGE))?.epochs).toEqual([1, 2]);
  });

  it('waits for a host that is away with containers, which status says, and not for one without any key', async () => {
    const { step, rotate, tells, away, applies, waiting, status } = await open();
    await step();
    await tells('node1', 1);
    await tells('node3');
    await away('node2', 1);
    await rotate();
    await tells('node1', 1, 2);
    applies('node1');
    expect(waiting()).toEqual({ node2: 'it is away' });
    const said = await status();
    expect(said.encryption).toEqual({ epoch: 1, since: SINCE, rotating: ['node2'] });
    const lines = statusLines(said, []).join('\n');
    expect(lines).toContain(
      `encryption WireGuard, keys of epoch 1 since ${SINCE}, rotating, waits for node2`,
    );
    expect(lines).toContain('host node3: it has told no WireGuard key');
    expect(lines).toContain('an address or tag that is freed may be given to nobody');
    expect(lines).toContain('host node2: keys are not rotated to the end');
  });

  it('goes on from the keys that hosts have where the store was put back, or is an empty one', async () => {
    for (const known of [undefined, { epochs: [1], active: 1, since: 5 }]) {
      const { put, step, rotate, tells, applies, status } = await open();
      if (known !== undefined) await put('keyEpochs', KEY_EPOCHS, known);
      await tells('node1', 4);
      await tells('node2', 4);
      await tells('node3');
      await expect(rotate()).rejects.toThrow('hosts have keys of epoch 4 already');
      // It is not said of hosts that have newer ones that they have none.
      expect((await status()).problems.filter(({ problem }) => problem.includes('node2'))).toEqual([]);
      expect(await step()).toEqual({ epochs: [4], active: 4, since: NOW });
      expect(await step()).toEqual({ epochs: [4], active: 4, since: NOW });
      expect(await rotate()).toBe(5);
      await tells('node1', 4, 5);
      await tells('node2', 4, 5);
      applies('node1');
      applies('node2');
      expect(await step()).toMatchObject({ epochs: [4, 5], active: 5 });
    }
  });

  it('ends where it was when the store was put back in the middle of it', async () => {
    const { put, step, tells, applies } = await open();
    await put('keyEpochs', KEY_EPOCHS, { epochs: [1], active: 1, since: NOW });
    await tells('node1', 2, 3);
    await tells('node2', 3);
    expect(await step()).toMatchObject({ epochs: [2, 3], active: 2 });
    applies('node1');
    applies('node2');
    expect(await step()).toMatchObject({ epochs: [2, 3], active: 3 });
    applies('node1');
    applies('node2');
    expect(await step()).toMatchObject({ epochs: [3], active: 3 });
  });

  it('takes no key from hosts that came since the store was put back: one after the other until they have what the others have', async () => {
    const { put, step, tells, applies, waiting } = await open();
    await put('keyEpochs', KEY_EPOCHS, { epochs: [1], active: 1, since: NOW });
    await tells('node1', 3);
    await tells('node2', 1);
    expect(await step()).toMatchObject({ epochs: [1, 2], active: 1 });
    expect(waiting()).toEqual({ node2: 'it has told no new key' });
    await tells('node2', 1, 2);
    applies('node2');
    expect(await step()).toMatchObject({ epochs: [1, 2], active: 2 });
    applies('node2');
    expect(await step()).toMatchObject({ epochs: [2], active: 2 });
    await tells('node2', 2);
    expect(await step()).toMatchObject({ epochs: [2, 3], active: 2 });
    await tells('node2', 2, 3);
    applies('node1');
    applies('node2');
    expect(await step()).toMatchObject({ epochs: [2, 3], active: 3 });
    applies('node1');
    applies('node2');
    expect(await step()).toMatchObject({ epochs: [3], active: 3 });
    expect(await step()).toMatchObject({ epochs: [3], active: 3 });
  });

  it('has nothing to do with networks that go by VLANs, which status names', async () => {
    const { step, put, status } = await open();
    await step();
    const network = { tenantName: 'default', subnet: '20.1.1.0/24', vni: 1 };
    await put('network', 'default:n1', { ...network, networkName: 'n1', encap: 'vxlan' });
    await put('network', 'default:n2', { ...network, networkName: 'n2', encap: 'vlan' });
    const said = await status();
    expect(said.encryption?.clear).toEqual(['default:n2']);
    expect(statusLines(said, []).join('\n')).toContain(', in the clear, as VLANs: default:n2');
  });

  it('is refused where there are no keys, and while there is one', async () => {
    const clear = await open('none');
    await expect(clear.rotate()).rejects.toThrow('global: encryption is none');
    expect(await clear.step()).toBeUndefined();
    expect((await clear.status()).encryption).toBeUndefined();
    const { step, rotate } = await open();
    await step();
    await rotate();
    await expect(rotate()).rejects.toThrow('keys are being rotated to epoch 2 already');
  });
});
