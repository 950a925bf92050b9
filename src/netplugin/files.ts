/** What netplugin keeps on a host: `netplugin leave` removes it, and nothing that is somebody else's in the same folders. */
import fs from 'node:fs';
import path from 'node:path';
import { HOST_FILES, HOST_FOLDER } from './certificate.ts';
import { KEYS_FILE, KEYS_FOLDER } from './hostKeys.ts';

const STATE = ['attachments.json', 'docker.json', 'stopped.json', 'view.db', 'view.db.broken'];
const SWARM = ['netplugin.sock'];
const RUNNING = ['names.pid', 'names.sock', 'netplugin.sock'];
/** Of SQLite, and of a file that was being written. */
const SUFFIXES = ['', '-wal', '-shm', '.new'];

interface Kept {
  readonly stateDir: string;
  readonly controlSocket: string;
  /** What is in the state directory stays. */
  readonly keepState: boolean;
}

/** The folders go where nothing is left in them. */
export function removeFiles({ stateDir, controlSocket, keepState }: Kept): void {
  const state = [
    [path.join(stateDir, HOST_FOLDER), HOST_FILES],
    [path.join(stateDir, 'swarm'), SWARM],
    [path.join(stateDir, KEYS_FOLDER), [KEYS_FILE]],
    [stateDir, STATE],
  ] as const;
  const running = [path.dirname(controlSocket), [...RUNNING, path.basename(controlSocket)]] as const;
  for (const [folder, files] of keepState ? [running] : [...state, running]) {
    for (const file of files)
      for (const suffix of SUFFIXES) fs.rmSync(path.join(folder, file + suffix), { force: true });
    try {
      fs.rmdirSync(folder);
    } catch (error) {
      if (!['ENOENT', 'ENOTEMPTY', 'EBUSY'].includes((error as NodeJS.ErrnoException).code ?? ''))
        throw error;
    }
  }
}
