/** Floods of forged frames out of a container's namespace (flood.ts), by two senders: a processor each. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { inNamespace } from '../src/linux/netns.ts';

const PROGRAM = path.join(import.meta.dirname, 'flood.ts');
/** Seconds after which it ends by itself. */
const LONGEST = 60;

export interface Flood {
  /** Ends it; answers how many frames each sent. */
  stop(): Promise<number[]>;
}

export function startFlood(
  namespace: string,
  device: string,
  offset: number,
  frames: readonly Buffer[],
): Flood {
  const senders = [0, 1].map((processor) => {
    const program = [process.execPath, PROGRAM, device, String(LONGEST), String(offset)];
    const child = inNamespace(namespace, () =>
      spawn('taskset', ['-c', String(processor), ...program, ...frames.map((f) => f.toString('hex'))], {
        stdio: ['ignore', 'pipe', 'inherit'],
      }),
    );
    const ended = new Promise<number>((done, fail) => {
      let text = '';
      child.stdout.on('data', (data) => {
        text += data;
      });
      child.on('error', fail);
      child.on('close', () => (text === '' ? fail(new Error('a flood sent nothing')) : done(Number(text))));
    });
    ended.catch(() => {}); // said when it is stopped
    return { child, ended };
  });
  return {
    stop() {
      for (const { child } of senders) child.kill('SIGTERM');
      return Promise.all(senders.map(({ ended }) => ended));
    },
  };
}
