/** Small state files of the agent: written whole, so that a kill at any moment leaves the old or the new one. */
import fs from 'node:fs';
import { open, rename } from 'node:fs/promises';
import path from 'node:path';

/** Durable when it returns (fsync of the file, rename, fsync of the folder). Nobody but root may read it. */
export function writeText(file: string, text: string): void {
  const draft = `${file}.new`;
  const fd = fs.openSync(draft, 'w', 0o600);
  try {
    fs.writeFileSync(fd, text); // writeSync stops short, without an error, where the disk is full
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

/**
 * The same of JSON, when it resolves, while the program goes on: fsync takes milliseconds, on a busy disk tenths of a second. One at a
 * time of a file.
 */
export async function writeJson(file: string, value: unknown): Promise<void> {
  const draft = `${file}.new`;
  const opened = await open(draft, 'w', 0o600);
  try {
    await opened.writeFile(JSON.stringify(value));
    await opened.sync();
  } finally {
    await opened.close();
  }
  await rename(draft, file);
  const folder = await open(path.dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
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
