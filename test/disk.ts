/** A disk that a test may fill; of kernel tests, which have their mounts to themselves. */
import fs from 'node:fs';
import { onTestFinished } from 'vitest';
import { temporaryFolder } from './folder.ts';
import { sh } from './isolation.ts';

/** A folder on a disk of its own. */
export function disk(kilobytes: number): { folder: string; fill(): void; free(): void } {
  const folder = temporaryFolder();
  sh(`mount -t tmpfs -o size=${kilobytes}k tmpfs ${folder}`);
  onTestFinished(() => void sh(`umount -l ${folder}`));
  return {
    folder,
    fill: () => void sh(`dd if=/dev/zero of=${folder}/filling bs=1k 2>/dev/null || true`),
    free: () => fs.rmSync(`${folder}/filling`),
  };
}
