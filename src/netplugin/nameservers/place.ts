/**
 * Which process answers names on this host: a file of lines `PID START`, the newest first. While one takes over from another both
 * are in it, so that the older one is ended whoever else was killed in between.
 */
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Running {
  readonly pid: number;
  /** Clock ticks since boot: the same pid with another start is another process. */
  readonly start: string;
}

/** undefined: there is no such process, or it has ended and nobody has asked how. */
export function runningProcess(pid: number): Running | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return state === 'Z' ? undefined : { pid, start: fields[18] as string }; // field 22 (proc(5))
  } catch {
    return undefined;
  }
}

export const placeIn = (folder: string): string => path.join(folder, 'names.pid');

/** Those of the file that run. */
export function readPlace(file: string): Running[] {
  const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  return text.split('\n').flatMap((line) => {
    const [pid, start] = line.split(' ');
    const running = runningProcess(Number(pid));
    return running !== undefined && running.start === start ? [running] : [];
  });
}

export function writePlace(file: string, processes: readonly Running[]): void {
  fs.writeFileSync(`${file}.new`, processes.map(({ pid, start }) => `${pid} ${start}\n`).join(''), {
    mode: 0o600,
  });
  fs.renameSync(`${file}.new`, file);
}

export interface Place {
  /** Ends those that were here before. */
  take(): void;
  /** Another has come. */
  lost(): boolean;
}

/** Milliseconds that one has to end by itself. */
const PATIENCE = 8000;
const LOOKS = 50;

/** Names are answered on this host no more, when it resolves. */
export async function endNames(folder: string): Promise<void> {
  const ending = readPlace(placeIn(folder));
  const there = (): Running[] => ending.filter(({ pid, start }) => runningProcess(pid)?.start === start);
  for (const { pid } of ending) process.kill(pid, 'SIGTERM');
  for (let waited = 0; there().length > 0 && waited < PATIENCE; waited += LOOKS) await sleep(LOOKS);
  for (const { pid } of there()) process.kill(pid, 'SIGKILL');
}

/** Enters this process. What was here goes on until the place is taken. */
export function enterPlace(file: string): Place {
  const self = runningProcess(process.pid) as Running;
  const lost = (): boolean => readPlace(file)[0]?.pid !== self.pid;
  let earlier = readPlace(file).filter(({ pid }) => pid !== self.pid);
  writePlace(file, [self, ...earlier]);
  return {
    lost,
    take() {
      const ending = earlier;
      earlier = [];
      const signal = (which: NodeJS.Signals): void => {
        for (const { pid, start } of ending)
          if (runningProcess(pid)?.start === start) process.kill(pid, which);
      };
      signal('SIGTERM');
      if (ending.length > 0)
        setTimeout(() => {
          signal('SIGKILL'); // a stopped one does not hear the first
          if (!lost()) writePlace(file, [self]);
        }, PATIENCE);
    },
  };
}
