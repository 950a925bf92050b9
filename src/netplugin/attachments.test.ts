import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { openAttachments } from './attachments.ts';
import type { Attachment } from './view.ts';

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
  ...more,
});

describe('attachments', () => {
  it('outlive the agent: what was put is there when put returns', () => {
    const folder = temporaryFolder();
    const before = openAttachments(folder);
    const published = attachment('ep1', 'default', {
      sandbox: '/run/sandbox',
      publications: [{ protocol: 'tcp', hostAddress: '', hostPort: 80, address: '20.1.1.2', port: 80 }],
    });
    before.put(published);
    before.put(attachment('ep2', 'blue', { phase: 'joining' }));
    const after = openAttachments(folder);
    expect([...after.all]).toEqual([...before.all]);
    expect(after.all.get('ep1')).toEqual(published);
    expect([...after.slots]).toEqual([...before.slots]);
  });

  it('that are removed stay removed', () => {
    const folder = temporaryFolder();
    const attachments = openAttachments(folder);
    attachments.put(attachment('ep1'));
    expect(attachments.remove('ep1')).toBe(true);
    expect(attachments.remove('ep1')).toBe(false);
    expect(openAttachments(folder).all.size).toBe(0);
  });

  it('are replaced by their id', () => {
    const attachments = openAttachments(temporaryFolder());
    attachments.put(attachment('ep1', 'default', { phase: 'joining' }));
    attachments.put(attachment('ep1'));
    expect([...attachments.all.values()].map((a) => a.phase)).toEqual(['joined']);
  });

  it('survive a kill in the middle of writing', () => {
    const folder = temporaryFolder();
    openAttachments(folder).put(attachment('ep1'));
    fs.writeFileSync(path.join(folder, 'attachments.json.new'), '{"attachm');
    expect([...openAttachments(folder).all.keys()]).toEqual(['ep1']);
  });

  it('are not forgotten silently where the file is torn', () => {
    const folder = temporaryFolder();
    fs.writeFileSync(path.join(folder, 'attachments.json'), '{"attachm');
    expect(() => openAttachments(folder)).toThrow(/attachments\.json: not JSON/);
  });
});

describe('transit slots', () => {
  it('are one a tenant, from the lowest', () => {
    const attachments = openAttachments(temporaryFolder());
    for (const [id, tenant] of [
      ['a1', 'a'],
      ['a2', 'a'],
      ['b1', 'b'],
    ] as const)
      attachments.put(attachment(id, tenant));
    expect([...attachments.slots]).toEqual([
      ['a', 0],
      ['b', 1],
    ]);
  });

  it('stay with their tenant while it has containers, also over a restart', () => {
    const folder = temporaryFolder();
    const attachments = openAttachments(folder);
    attachments.put(attachment('a1', 'a'));
    attachments.put(attachment('b1', 'b'));
    attachments.remove('a1');
    expect([...attachments.slots]).toEqual([['b', 1]]);
    const restarted = openAttachments(folder);
    restarted.put(attachment('c1', 'c'));
    expect([...restarted.slots]).toEqual([
      ['b', 1],
      ['c', 0],
    ]);
  });
});
