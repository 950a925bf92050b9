/** Commands of the system, as the lab runs them. */
import { type ExecFileException, execFile } from 'node:child_process';

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
