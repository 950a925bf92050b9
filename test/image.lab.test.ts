/** packaging/kubernetes/image.sh: an archive that runtimes read, whose programs run with nothing but what is in it. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { temporaryFolder } from './folder.ts';

const PACKAGING = path.join(path.dirname(import.meta.dirname), 'packaging/kubernetes');

const digest = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');

function make(file: string): void {
  execFileSync(path.join(PACKAGING, 'image.sh'), [file], { encoding: 'utf8' });
}

function unpack(tar: string, folder: string): string {
  mkdirSync(folder);
  execFileSync('tar', ['-xf', tar, '-C', folder]);
  return folder;
}

/** Each container's command in the manifests, by its name. */
function commands(): Map<string, string> {
  const found = ['30-netmaster', '40-netkube', '50-netplugin'].flatMap((name) =>
    parseAllDocuments(readFileSync(path.join(PACKAGING, `manifests/${name}.yaml`), 'utf8')).flatMap(
      (each) => {
        const { spec } = each.toJS() as {
          spec?: { template: { spec: { containers: { name: string; command: string[] }[] } } };
        };
        return spec?.template.spec.containers ?? [];
      },
    ),
  );
  return new Map(found.map(({ name, command }) => [name, command[0] as string]));
}

it('image.sh makes the same image each time, and what the manifests start runs in it', () => {
  const folder = temporaryFolder();
  const [first, second] = [path.join(folder, 'first.tar'), path.join(folder, 'second.tar')];
  make(first);
  make(second);
  expect(digest(second)).toBe(digest(first));

  const archive = unpack(first, path.join(folder, 'archive'));
  const read = (name: string): unknown => JSON.parse(readFileSync(path.join(archive, name), 'utf8'));
  expect(read('manifest.json')).toEqual([
    { Config: 'config.json', RepoTags: ['contiv/netplugin:2.0.0'], Layers: ['layer.tar'] },
  ]);
  expect(read('config.json')).toMatchObject({
    rootfs: { type: 'layers', diff_ids: [`sha256:${digest(path.join(archive, 'layer.tar'))}`] },
  });

  const root = unpack(path.join(archive, 'layer.tar'), path.join(folder, 'root'));
  // By it containerd says where a pod's namespace is.
  expect(readlinkSync(path.join(root, 'var/run'))).toBe('../run');
  const inside = (...words: string[]): string =>
    execFileSync('/usr/sbin/chroot', [root, ...words], {
      encoding: 'utf8',
      env: { PATH: '/usr/local/bin:/bin', CNI_COMMAND: 'VERSION' },
      input: '{"cniVersion":"1.0.0"}',
    });
  expect([...commands().keys()]).toEqual(['netmaster', 'netkube', 'netplugin']);
  for (const [name, command] of commands()) expect(inside(command, '--help')).toContain(`Usage: ${name}`);
  expect(inside('netctl', '--help')).toContain('netctl');
  const lib = '/usr/local/lib/contiv';
  expect(JSON.parse(inside(`${lib}/dist/contiv-cni`))).toMatchObject({ cniVersion: '1.0.0' });
  // What netplugin calls in process.
  const load = `typeof require('${lib}/node_modules/koffi').load('libnftables.so.1').func`;
  expect(inside(`${lib}/node_modules/node/bin/node`, '--print', load)).toBe('function\n');
});
