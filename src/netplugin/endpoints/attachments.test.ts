import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../../test/folder.ts';
import type { Attachment } from '../intent/view.ts';
import { openAttachments } from './attachments.ts';

const PAIRS = 1 << 15;

const attachment = (id: string, tenantName = 'default', more: Partial<Attachment> = {}): Attachment => ({
  endpoint: {
    endpointID: id,
    tenantName,
    networkName: 'net1',
    ipAddress: ['20.1.1.2'],
    macAddress: '02:02:14:01:01:02',
    homingHost: 'node1',
    status: 'running',
  },
  phase: 'joined',
  publications: [],
  runtime: 'docker',
  stub: true,
  ...more,
});

describe('attachments', () => {
  it('outlive the agent: what was put is there when put resolves', async () => {
    const folder = temporaryFolder();
    const before = openAttachments(folder, PAIRS);
    const published = attachment('ep1', 'default', {
      sandbox: '/run/sandbox',
      publications: [{ protocol: 'tcp', hostAddress: '', hostPort: 80, address: '20.1.1.2', port: 80 }],
    });
    await before.put(published);
    await before.put(attachment('ep2', 'blue', { phase: 'joining' }));
    const after = openAttachments(folder, PAIRS);
    expect([...after.all]).toEqual([...before.all]);
    expect(after.all.get('ep1')).toEqual(published);
    expect([...after.slots]).toEqual([...before.slots]);
  });

  it('of Docker that an earlier version wrote have a stub, as all of its containers', async () => {
    const folder = temporaryFolder();
    const { stub, ...earlier } = attachment('ep1');
    await openAttachments(folder, PAIRS).put(earlier);
    expect(openAttachments(folder, PAIRS).all.get('ep1')?.stub).toBe(stub);
    await openAttachments(folder, PAIRS).put({ ...earlier, runtime: 'cni' });
    expect(openAttachments(folder, PAIRS).all.get('ep1')?.stub).toBeUndefined();
  });

  it('of many that come and go at once are written together, each in memory at once and on disk when it resolves', async () => {
    const folder = temporaryFolder();
    const attachments = openAttachments(folder, PAIRS);
    const onDisk = (): string[] => [...openAttachments(folder, PAIRS).all.keys()];
    let writes = 0;
    const watcher = fs.watch(folder, (event, name) => {
      if (event === 'rename' && name === 'attachments.json') writes++;
    });
    const ids = Array.from({ length: 50 }, (_, n) => `ep${n}`);
    const puts = ids.map(async (id) => {
      await attachments.put(attachment(id));
      expect(onDisk()).toContain(id);
    });
    expect([...attachments.all.keys()]).toEqual(ids);
    await Promise.all(puts);
    const removals = ids.slice(1).map(async (id) => {
      await attachments.remove(id);
      expect(onDisk()).not.toContain(id);
    });
    expect([...attachments.all.keys()]).toEqual(['ep0']);
    await Promise.all(removals);
    watcher.close();
    expect(writes).toBeLessThan(10);
  });

  it('that are removed stay removed', async () => {
    const folder = temporaryFolder();
    const attachments = openAttachments(folder, PAIRS);
    await attachments.put(attachment('ep1'));
    expect(await attachments.remove('ep1')).toBe(true);
    expect(await attachments.remove('ep1')).toBe(false);
    expect(openAttachments(folder, PAIRS).all.size).toBe(0);
  });

  it('are replaced by their id', async () => {
    const attachments = openAttachments(temporaryFolder(), PAIRS);
    await attachments.put(attachment('ep1', 'default', { phase: 'joining' }));
    await attachments.put(attachment('ep1'));
    expect([...attachments.all.values()].map((a) => a.phase)).toEqual(['joined']);
  });

  it('are joined without a write, and on disk so with the next one', async () => {
    const folder = temporaryFolder();
    const attachments = openAttachments(folder, PAIRS);
    await attachments.put(attachment('ep1', 'default', { phase: 'joining' }));
    attachments.joined('ep1');
    attachments.joined('never attached');
    expect([...attachments.all.values()].map((a) => a.phase)).toEqual(['joined']);
    expect(openAttachments(folder, PAIRS).all.get('ep1')?.phase).toBe('joining');
    await attachments.put(attachment('ep2'));
    expect(openAttachments(folder, PAIRS).all.get('ep1')?.phase).toBe('joined');
  });

  it('survive a kill in the middle of writing', async () => {
    const folder = temporaryFolder();
    await openAttachments(folder, PAIRS).put(attachment('ep1'));
    fs.writeFileSync(path.join(folder, 'attachments.json.new'), '{"attachm');
    expect([...openAttachments(folder, PAIRS).all.keys()]).toEqual(['ep1']);
  });

  it('are written anew where somebody has deleted the file, or moved its folder away, while the agent runs', async () => {
    const folder = path.join(temporaryFolder(), 'state');
    fs.mkdirSync(folder);
    const attachments = openAttachments(folder, PAIRS);
    expect(await attachments.restore()).toBe(false);
    await attachments.put(attachment('ep1'));
    expect(await attachments.restore()).toBe(false);
    for (const take of [
      () => fs.rmSync(path.join(folder, 'attachments.json')),
      () => fs.renameSync(folder, `${folder}.away`),
    ]) {
      take();
      expect(await attachments.restore()).toBe(true);
      const again = openAttachments(folder, PAIRS);
      expect([...again.all.keys()]).toEqual(['ep1']);
      expect([...again.slots]).toEqual([...attachments.slots]);
    }
  });

  it('are not forgotten silently where the file is torn', async () => {
    const folder = temporaryFolder();
    fs.writeFileSync(path.join(folder, 'attachments.json'), '{"attachm');
    expect(() => openAttachments(folder, PAIRS)).toThrow(/attachments\.json: not JSON/);
  });
});

describe('transit slots', () => {
  it('are one a tenant, by chance, until there is none left', async () => {
    const firsts = new Set<number | undefined>();
    for (let i = 0; i < 50; i++) {
      const attachments = openAttachments(temporaryFolder(), 4);
      for (const tenant of ['a', 'a', 'b', 'c', 'd']) await attachments.put(attachment(`${tenant}1`, tenant));
      expect([...attachments.slots.values()].sort()).toEqual([0, 1, 2, 3]);
      firsts.add(attachments.slots.get('a'));
      await expect(attachments.put(attachment('e1', 'e'))).rejects.toThrow(
        'all 4 pairs of the transit range are taken: start netplugin with a larger --transit',
      );
      expect(attachments.all.has('e1')).toBe(false);
    }
    expect(firsts.size).toBeGreaterThan(1);
  });

  it('stay with their tenant while it has containers, also over a restart', async () => {
    const folder = temporaryFolder();
    const attachments = openAttachments(folder, PAIRS);
    await attachments.put(attachment('a1', 'a'));
    await attachments.put(attachment('b1', 'b'));
    const slot = attachments.slots.get('b');
    await attachments.remove('a1');
    expect([...attachments.slots]).toEqual([['b', slot]]);
    const restarted = openAttachments(folder, PAIRS);
    await restarted.put(attachment('c1', 'c'));
    expect([...restarted.slots.keys()]).toEqual(['b', 'c']);
    expect(restarted.slots.get('b')).toBe(slot);
  });
});

describe('addresses of what ended while netmaster was silent', () => {
  it('are held over restarts of the agent until something has them again, or netmaster is to be told', async () => {
    const folder = temporaryFolder();
    const held = () =>
      [...openAttachments(folder, PAIRS).held.values()].map((h) => [h.endpointID, h.address]);
    const attachments = openAttachments(folder, PAIRS);
    await attachments.put(attachment('ep1'));
    await attachments.put(attachment('ep2', 'blue'));
    await attachments.remove('ep1', 'held');
    await attachments.remove('ep2', 'held');
    expect(held()).toEqual([
      ['ep1', '20.1.1.2'],
      ['ep2', '20.1.1.2'],
    ]);
    await attachments.put(attachment('ep3'));
    expect(held()).toEqual([['ep2', '20.1.1.2']]);
    await attachments.letGo();
    expect([held(), attachments.held.size]).toEqual([[], 0]);
  });
});
