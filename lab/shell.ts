/** Commands of the system, as the lab runs them. */
import { type ExecFileException, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';

/** What a command printed on standard output. Throws an Error with its own words where it fails. */
export function run(command: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((done, fail) => {
    const child = execFile(
      command,
      args,
      { maxBuffer: 1 << 28 },
      (error: ExecFileException | null, out, err) => {
        if (error === null) done(out);
        else fail(new Error(`${command} ${args.join(' ')}: ${err.trim() || error.message}`));
      },
    );
    if (input !== undefined) child.stdin?.end(input);
  });
}

/** Like run, for what may well fail: undefined then. */
export const tryRun = (command: string, args: readonly string[]): Promise<string | undefined> =>
  run(command, args).catch(() => undefined);

/** Runs a command that takes minutes and says how far it is. Throws with `failed` where it fails, which it has said itself. */
export async function show(failed: string, command: string, args: readonly string[]): Promise<void> {
  const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(failed);
}

/** Polls until it answers something other than undefined or false. Throws with `what` after `seconds`. */
export async function until<T>(
  what: string,
  seconds: number,
  look: () => Promise<T | undefined | false> | T | undefined | false,
): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((done) => setTimeout(done, 50));
  }
}
