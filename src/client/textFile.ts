/** Files that somebody names by a flag or a field. */
import fs from 'node:fs';

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EACCES: 'it may not be read',
  EISDIR: 'it is a folder',
};

/** Throws an Error with one plain line, which begins with `what`: the flag or field, and the file as it is named there. */
export function readText(what: string, file: string): string {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    throw new Error(`${what}: ${REASONS[code] ?? code}`);
  }
}
