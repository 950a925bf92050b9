/** Entry of bin/netctl. */
import { netctl } from './run.ts';

// A reader that has seen enough (| head) is no error; a full disk is.
process.stdout.on('error', ({ code, message }: NodeJS.ErrnoException) => {
  if (code === 'EPIPE') process.exit(0);
  const reason = code === 'ENOSPC' ? 'the disk that it goes to is full' : message;
  process.stderr.write(`netctl: the output cannot be written: ${reason}\n`);
  process.exit(3);
});
process.stderr.on('error', () => {});
let secrets: ((question: string, is?: 'new') => Promise<string>) | undefined;
void netctl(process.argv.slice(2), {
  env: process.env,
  width: process.stdout.columns,
  print: (line) => void process.stdout.write(`${line}\n`),
  printError: (line) => void process.stderr.write(`${line}\n`),
  secret: async (question, is) => {
    secrets ??= (await import('./secret.ts')).openSecrets(process.stdin.setEncoding('utf8'), process.stderr);
    return secrets(question, is);
  },
}).then((status) => {
  process.exitCode = status;
  if (secrets !== undefined) process.stdin.destroy(); // nobody waits for what else is typed
});
