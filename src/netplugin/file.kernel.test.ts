import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { disk } from '../../test/disk.ts';
import { isolate } from '../../test/isolation.ts';
import { openAttachments } from './endpoints/attachments.ts';
import { readJson, writeJson } from './file.ts';
import { openCopy } from './intent/copy.ts';
import type { Attachment } from './intent/view.ts';

beforeAll(isolate);

describe('a full disk', () => {
  it('leaves a state file the old one, whole', async () => {
    const { folder } = disk(64);
    const file = `${folder}/state.json`;
    await writeJson(file, { kept: true });
    await expect(writeJson(file, 'x'.repeat(100_000))).rejects.toThrow(/ENOSPC/);
    expect(readJson(file, 'nothing is lost')).toEqual({ kept: true });
    // The draft that filled it is written over.
    await writeJson(file, { kept: false });
    expect(readJson(file, 'nothing is lost')).toEqual({ kept: false });
  });

  it('refuses an attachment, which then is not there; and lets one go', async () => {
    const { folder, fill, free } = disk(64);
    const attachment = (endpointID: string, more: Partial<Attachment> = {}): Attachment => ({
      endpoint: {
        endpointID,
        tenantName: 'default',
        networkName: 'net1',
        ipAddress: ['20.1.1.2'],
        macAddress: '02:02:14:01:01:02',
        homingHost: 'node1',
        status: 'running',
      },
      phase: 'joining',
      publications: [],
      runtime: 'docker',
      ...more,
    });
    const attachments = openAttachments(folder, 8);
    await attachments.put(attachment('ep1'));
    await attachments.put(attachment('ep2'));
    fill();
    await expect(attachments.put(attachment('ep3'))).rejects.toThrow(/ENOSPC/);
    await expect(attachments.put(attachment('ep1', { phase: 'joined' }))).rejects.toThrow(/ENOSPC/);
    await expect(attachments.remove('ep2')).rejects.toThrow(/ENOSPC/);
    expect([...attachments.all.values()].map((a) => [a.endpoint.endpointID, a.phase])).toEqual([
      ['ep1', 'joining'],
    ]);
    free();
    await attachments.put(attachment('ep1', { phase: 'joined' }));
    expect([...openAttachments(folder, 8).all.keys()]).toEqual(['ep1']);
  });

  it('does not cost the copy of what was declared', () => {
    const { folder, fill, free } = disk(512);
    const object = { kind: 'tenant', key: 'blue', object: { tenantName: 'blue' } };
    const copy = openCopy(folder);
    copy.save({ store: 's', revision: 7, underlays: new Map(), keys: new Map() }, [object], () => []);
    copy.close();
    fill();
    expect(() => openCopy(folder)).toThrow(/view\.db: .* is its disk full/);
    free();
    const again = openCopy(folder);
    onTestFinished(() => again.close());
    expect(again.load()).toMatchObject({ revision: 7, objects: [object] });
  });
});
