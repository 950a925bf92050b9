/** Entry of bin/netctl. */
import { netctl } from './run.ts';

// A reader that has seen enough (| head) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 3));
process.stderr.on('error', () => {});
void netctl(process.argv.slice(2), {
  env: process.env,
  width: process.stdout.columns,
  print: (line) => void process.stdout.write(`${line}\n`),
  printError: (line) => void process.stderr.write(`${line}\n`),
}).then((status) => {
  process.exitCode = status;
});
