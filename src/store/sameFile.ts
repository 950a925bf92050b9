/**
 * Is a database still the file that was opened? SQLite goes on writing to one that has been deleted, moved or replaced, and nobody
 * ever reads what it writes; and to one that somebody else has written over, which breaks it. Both it and its log are looked at
 * by their path before and after each transaction: which file it is, its size, and when it was written last, which nobody but
 * us does.
 */
import fs from 'node:fs';

export interface SameFile {
  /** What is wrong, for a line that begins with `the store`; undefined: nothing. */
  problem(): string | undefined;
  /** We have written: what is there now, if it is the same file, is ours. */
  wrote(): void;
}

/** SQLite keeps the log beside the file that a symbolic link leads to. */
export const walOf = (file: string): string => `${fs.realpathSync(file)}-wal`;

const REMEDY =
  'netmaster answers on and writes nothing: put it back, or save what is declared with netctl export, restart netmaster, and netctl apply it';

/** Of the file and its log, as they are now. */
export function watchFile(file: string): SameFile {
  const paths = [file, walOf(file)];
  const look = (): (fs.BigIntStats | undefined)[] =>
    paths.map((path) => fs.statSync(path, { bigint: true, throwIfNoEntry: false }));
  const isSame = (a?: fs.BigIntStats, b?: fs.BigIntStats): boolean => a?.dev === b?.dev && a?.ino === b?.ino;
  let known = look();

  return {
    problem() {
      let now: ReturnType<typeof look>;
      try {
        now = look();
      } catch (error) {
        return `file ${file} cannot be looked at (${(error as Error).message}); ${REMEDY}`;
      }
      for (const [i, path] of paths.entries()) {
        const [before, after] = [known[i], now[i]];
        if (after === undefined && before !== undefined)
          return `file ${path} is gone: it was deleted or moved while netmaster runs; ${REMEDY}`;
        if (!isSame(before, after))
          return `file ${path} is another one than netmaster opened: it was replaced; ${REMEDY}`;
        if (before?.size !== after?.size || before?.mtimeNs !== after?.mtimeNs)
          return `file ${path} was written by somebody else than netmaster; ${REMEDY}`;
      }
      return undefined;
    },
    wrote() {
      const now = look();
      known = known.map((before, i) => (before === undefined || isSame(before, now[i]) ? now[i] : before));
    },
  };
}
