/** `bin/lab exec` is a shell on the host: terminal, exit status, signals, standard input. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { clear, LAB, must, netctl, on, until } from './lab.ts';

const COMMAND = path.join(import.meta.dirname, '../bin/lab');

interface Session {
  out(): string;
  send(text: string): void;
  signal(name: NodeJS.Signals): void;
  /** Exit status, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals | null>;
}

function open(command: string, args: readonly string[]): Session {
  const child = spawn(command, args, { env: { ...process.env, LAB, TERM: 'dumb' } });
  let out = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return {
    out: () => out,
    send: (text) => void (text === '' ? child.stdin.end() : child.stdin.write(text)),
    signal: (name) => void child.kill(name),
    ended: new Promise((done) => child.on('close', (status, signal) => done(status ?? signal))),
  };
}
const exec = (...command: string[]): Session => open(COMMAND, ['exec', 'node1', '--', ...command]);
/**
 * Under script(1), which gives it a terminal and passes its exit status on. `exec`: a shell that stays in front of it
 * would end by Ctrl-C itself.
 */
const onTerminal = (command: string): Session =>
  open('script', ['-qec', `exec ${COMMAND} exec node1 -- ${command}`, '/dev/null']);

const TRAP = `trap 'echo got INT; exit 5' INT; trap 'echo got TERM; exit 6' TERM; echo ready; while :; do sleep 0.1; done`;

beforeAll(() => netctl('net create shell --subnet=10.15.0.0/24 --gateway=10.15.0.254'));
afterAll(clear);

describe('lab exec', () => {
  it('begins in the folder that it is called in', async () => {
    expect(await must('node1', 'pwd')).toBe(process.cwd());
    expect(await must('node1', 'sh -c', 'printf "%s|" "$@"', 'sh', 'a  b', '$HOME')).toBe('a  b|$HOME|');
  });

  it('passes on the exit status, also of docker run and of an unknown command', async () => {
    expect((await on('node1', "sh -c 'exit 7'")).status).toBe(7);
    const run = "docker run --rm --net=shell contiv/lab sh -c 'exit 9'";
    expect((await on('node1', run)).status).toBe(9);
    expect((await on('node1', 'no-such-command')).status).toBe(127);
  });

  it('passes arguments on as they are', async () => {
    expect(await must('node1', 'printf', '[%s]', 'a b', '$HOME', '', "it's", '-- *')).toBe(
      "[a b][$HOME][][it's][-- *]",
    );
  });

  it('passes standard input on, with its end, into a container too', async () => {
    const bytes = Array.from({ length: 50_000 }, (_, i) => `line ${i}\n`).join('');
    for (const command of [
      ['wc', '-c'],
      ['docker', 'run', '-i', '--rm', '--net=shell', 'contiv/lab', 'wc', '-c'],
    ]) {
      const session = exec(...command);
      session.send(bytes);
      session.send('');
      expect(await session.ended).toBe(0);
      expect(Number(session.out())).toBe(bytes.length);
    }
  });

  it.each([
    ['SIGINT', 'got INT', 5],
    ['SIGTERM', 'got TERM', 6],
  ] as const)('passes %s on to the command', async (signal, said, status) => {
    const session = exec('sh', '-c', TRAP);
    await until('start', async () => session.out().includes('ready'));
    session.signal(signal);
    expect(await session.ended).toBe(status);
    expect(session.out()).toContain(said);
  });

  it('ends by the signal that ends the command', async () => {
    const session = exec('sh', '-c', 'echo ready; exec sleep 100000');
    await until('start', async () => session.out().includes('ready'));
    session.signal('SIGTERM');
    expect(await session.ended).toBe('SIGTERM');
  });

  it('gives the command the terminal, and docker run -it one in the container', async () => {
    const session = onTerminal('docker run -it --rm --net=shell contiv/lab sh');
    await until('prompt', async () => session.out().includes('# '));
    session.send('tty\n');
    await until('terminal', async () => session.out().includes('/dev/pts/0'));
    session.send('exit 11\n');
    expect(await session.ended).toBe(11);
  });

  it('is interrupted by Ctrl-C on the terminal', async () => {
    const session = onTerminal(`sh -c "${TRAP}"`);
    await until('start', async () => session.out().includes('ready'));
    session.send('\x03');
    expect(await session.ended).toBe(5);
    expect(session.out()).toContain('got INT');
  });

  it('starts the user’s shell where no command is given', async () => {
    const session = open(COMMAND, ['exec', 'node1']);
    session.send('hostname; exit 4\n');
    expect(await session.ended).toBe(4);
    expect(session.out()).toBe('node1\n');
  });
});
