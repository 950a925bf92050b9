/** Small state files of the agent: written whole, so that a kill at any moment leaves the old or the new one. */
import fs from 'node:fs';
import path from 'node:path';

/** Durable when it returns (fsync of the file, rename, fsync of the folder). */
export function writeJson(file: string, value: unknown): void {
  const draft = `${file}.new`;
  const fd = fs.openSync(draft, 'w', 0o600);
  try {
    fs.writeFileSync(fd, JSON.stringify(value)); // writeSync stops short, without an error, where the disk is full
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
  fs.renameSync(draft, file);
  const folder = fs.openSync(path.dirname(file), 'r');
  try {
    fs.fsyncSync(folder);
  } finally {
    fs.closeSync(folder);
  }
}

/** undefined where there is no such file; one that is not JSON is an error, which says what the `loss` of it means. */
export function readJson<T>(file: string, loss: string): T | undefined {
  let text: string;
  try {
    text = fs.readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    return JSON.parse(text) as T;
  } catch {
    throw new Error(`${file}: not JSON; restore it, or move it away and start again: ${loss}`);
  }
}
