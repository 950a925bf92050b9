/** Small state files of the agent: written whole, so that a kill at any moment leaves the old or the new one. */
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

const open = promisify(fs.open);
const writeFile = promisify(fs.writeFile);
const rename = promisify(fs.rename);
const fsync = promisify(fs.fsync);

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

/** Created or emptied; what is written to it is durable when the write returns, as after fdatasync (open(2)). */
const DURABLE = fs.constants.O_WRONLY | fs.constants.O_CREAT | fs.constants.O_TRUNC | fs.constants.O_DSYNC;

/**
 * The same of JSON, when it resolves, while the program goes on: fsync takes milliseconds, on a busy disk tenths of a second. One at a
 * time of a file. Four calls one after the other and no more: behind each the program may be busy when it ends, with a pass of the data
 * plane, and many containers that start wait for the file meanwhile.
 */
export async function writeJson(file: string, value: unknown): Promise<void> {
  const draft = `${file}.new`;
  const folder = fs.openSync(path.dirname(file), 'r');
  try {
    const to = await open(draft, DURABLE, 0o600);
    try {
      await writeFile(to, JSON.stringify(value));
    } finally {
      fs.closeSync(to);
    }
    await rename(draft, file);
    await fsync(folder);
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
