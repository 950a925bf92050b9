import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { isHostName } from '../model/names.ts';
import { type Command, type Invocation, UsageError } from './command.ts';
import { credentialFiles } from './credentials.ts';

/** Exit status where it cannot look. */
export const CANNOT_LOOK = 2;

/** It takes the kernel to look, which netplugin knows: that program is on each host, and this one elsewhere too. */
function netplugin(words: readonly string[], { print, exitWith, env }: Invocation): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn('netplugin', ['doctor', ...words], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const said: string[] = [];
    createInterface(child.stdout).on('line', print);
    createInterface(child.stderr).on('line', (line) => said.push(line));
    child.on('error', ({ code, message }: NodeJS.ErrnoException) =>
      fail(
        new UsageError(
          code === 'ENOENT'
            ? 'doctor: netplugin is not on this machine: run it on a host'
            : `doctor: netplugin cannot be run: ${message}`,
        ),
      ),
    );
    child.on('close', (status, signal) => {
      if (said.length > 0)
        return fail(
          new UsageError(
            `doctor: ${said.join('; ').replace(/^netplugin: | \(see netplugin --help\)$/g, '')}`,
          ),
        );
      if (signal !== null) return fail(new UsageError(`doctor: it was ended by ${signal}`));
      exitWith(status ?? CANNOT_LOOK);
      done();
    });
  });
}

export const command: Command = {
  name: 'doctor',
  summary: 'what is wrong on this host, and what mends it',
  subcommands: [
    {
      name: '',
      summary: [
        'Looks at this host, as root: what its kernel can do, the way to each other host and the MTU of it, the clock, drift, other',
        'firewalls, addresses that nothing stands behind, and what Docker has left. A line for each, with what mends it.',
        `Exit status: 0 nothing is wrong, 1 there are findings, ${CANNOT_LOOK} it cannot look: wrong usage, not root, no host.`,
      ].join('\n'),
      args: [],
      flags: [
        {
          name: 'output',
          short: 'o',
          kind: 'text',
          value: 'text|json',
          help: 'what to write',
          default: 'text',
        },
        {
          name: 'host',
          kind: 'text',
          value: 'NAME',
          help: 'what this host is called, where its agent does not say',
          completes: 'hosts',
        },
      ],
      examples: ['netctl doctor', 'netctl doctor -o json'],
      misused: CANNOT_LOOK,
      run(invocation) {
        const { text, given, env } = invocation;
        const output = text('output');
        if (!['text', 'json'].includes(output))
          throw new UsageError(`--output: '${output}' must be text or json`);
        const host = text('host');
        if (given('host') && !isHostName(host))
          throw new UsageError(
            `--host: '${host}' must be letters, digits, '-', '_' or '.', a letter or digit at both ends`,
          );
        const netmaster = text('netmaster') || env.NETMASTER;
        const words = [
          ...['--output', output],
          ...(netmaster ? ['--netmaster', netmaster] : []),
          ...(given('host') ? ['--host', host] : []),
          ...Object.entries(credentialFiles(text, env)).flatMap(([flag, file]) =>
            file === undefined ? [] : [`--${flag}`, file],
          ),
        ];
        return netplugin(words, invocation);
      },
    },
  ],
};
