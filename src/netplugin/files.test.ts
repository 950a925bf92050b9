import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../../test/folder.ts';
import { removeFiles } from './files.ts';

it('what netplugin has kept goes, with its folders where nothing else is in them', () => {
  const folder = temporaryFolder();
  const [stateDir, run] = [path.join(folder, 'state'), path.join(folder, 'run')];
  const fill = (): void => {
    for (const made of [stateDir, run]) fs.mkdirSync(made, { recursive: true });
    for (const file of ['attachments.json', 'view.db', 'view.db-wal', 'docker.json.new'])
      fs.writeFileSync(path.join(stateDir, file), '');
    for (const file of ['names.pid', 'own.sock']) fs.writeFileSync(path.join(run, file), '');
  };
  fill();
  removeFiles({ stateDir, controlSocket: path.join(run, 'own.sock'), keepState: false });
  expect(fs.readdirSync(folder)).toEqual([]);
  removeFiles({ stateDir, controlSocket: path.join(run, 'own.sock'), keepState: false });
  fill();
  removeFiles({ stateDir, controlSocket: path.join(run, 'own.sock'), keepState: true });
  expect(fs.readdirSync(folder)).toEqual(['state']);
  expect(fs.readdirSync(stateDir)).toHaveLength(4);
  fs.writeFileSync(path.join(stateDir, 'netmaster.db'), '');
  removeFiles({ stateDir, controlSocket: path.join(run, 'own.sock'), keepState: false });
  expect(fs.readdirSync(stateDir)).toEqual(['netmaster.db']);
});
