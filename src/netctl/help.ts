/** Help texts, from the commands themselves. */
import type { Command, Flag, Subcommand } from './command.ts';
import { COMMANDS } from './commands.ts';

export const GLOBAL_FLAGS: readonly Flag[] = [
  {
    name: 'netmaster',
    kind: 'text',
    value: 'URL[,URL...]',
    help: 'where netmaster answers (default $NETMASTER, else http://netmaster:9999, with certificates https://netmaster:9999)',
  },
  {
    name: 'tls-ca',
    kind: 'text',
    value: 'FILE',
    help: "netmaster's ca.crt (default $NETCTL_TLS_CA, else of ~/.netctl, else where netmaster init has made it)",
  },
  {
    name: 'tls-cert',
    kind: 'text',
    value: 'FILE',
    help: 'your certificate (default $NETCTL_TLS_CERT, else admin.crt there)',
  },
  {
    name: 'tls-key',
    kind: 'text',
    value: 'FILE',
    help: 'its key (default $NETCTL_TLS_KEY, else admin.key there)',
  },
  {
    name: 'token-file',
    kind: 'text',
    value: 'FILE',
    help: 'a token in place of a certificate (default $NETCTL_TOKEN_FILE, else token there)',
  },
  { name: 'insecure', kind: 'switch', help: 'take any certificate' },
  { name: 'help', short: 'h', kind: 'switch', help: 'help on a command' },
];

const flagLines = (flags: readonly Flag[]): string[] => {
  const left = flags.map(
    (f) =>
      `  --${f.name}${f.kind === 'switch' ? '' : ` ${f.value ?? 'VALUE'}`}${f.short ? `, -${f.short}` : ''}`,
  );
  const width = Math.max(0, ...left.map((l) => l.length));
  return flags.map(
    (f, i) =>
      `${(left[i] as string).padEnd(width)}  ${f.help}${f.default ? ` (default ${f.default})` : ''}${f.required ? ' (required)' : ''}`,
  );
};

export function overview(): string {
  return [
    'netctl: declares tenants, networks, groups and policies for containers',
    '',
    'Usage: netctl [flags] COMMAND [SUBCOMMAND] [flags] [arguments]',
    '',
    'Commands:',
    ...COMMANDS.map((c) => `  ${[c.name, ...c.aliases].join(', ').padEnd(20)}${c.summary}`),
    '',
    'Flags:',
    ...flagLines(GLOBAL_FLAGS),
    '',
    'Examples:',
    '  netctl net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254',
    '  netctl group create contiv-net web',
    '  netctl apply -f cluster.yaml',
    '  netctl net create --help',
  ].join('\n');
}

export function commandHelp(command: Command): string {
  if (command.subcommands[0]?.name === '') return subcommandHelp(command, command.subcommands[0]);
  return [
    `netctl ${command.name}: ${command.summary}`,
    '',
    'Subcommands:',
    ...command.subcommands.map(
      (s) =>
        `  ${[s.name, ...(s.aliases ?? [])].join(', ').padEnd(16)}${s.args.join(' ').padEnd(20)}${s.summary}`,
    ),
    '',
    'Examples:',
    ...command.subcommands.flatMap((s) => s.examples.slice(0, 1)).map((e) => `  ${e}`),
  ].join('\n');
}

export const usageLine = (command: Command, sub: Subcommand): string =>
  ['netctl', command.name, sub.name, sub.flags.length > 0 ? '[flags]' : '', ...sub.args]
    .filter((w) => w)
    .join(' ');

export function subcommandHelp(command: Command, sub: Subcommand): string {
  return [
    `${sub.summary}`,
    '',
    `Usage: ${usageLine(command, sub)}`,
    ...(sub.flags.length > 0 ? ['', 'Flags:', ...flagLines(sub.flags)] : []),
    '',
    'Examples:',
    ...sub.examples.map((e) => `  ${e}`),
  ].join('\n');
}
