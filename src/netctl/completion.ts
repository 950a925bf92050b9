/**
 * Shell completion: the shell calls `netctl completion words ...` with what has been typed, and netctl answers
 * the words that fit, names of objects among them where netmaster answers at once.
 */
import type { Client } from '../client/client.ts';
import { type Command, UsageError } from './command.ts';
import { COMMANDS } from './commands.ts';

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_netctl() {
  local IFS=$'\\n'
  COMPREPLY=($(netctl completion words -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _netctl netctl`,
  zsh: `#compdef netctl
_netctl() { compadd -- \${(f)"$(netctl completion words -- "\${words[@]:1:$((CURRENT-1))}" 2>/dev/null)"} }
compdef _netctl netctl`,
  fish: `complete -c netctl -f -a '(netctl completion words -- (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'`,
};

/** Names of the tenant that the line names; all of what is in no tenant. */
async function names(client: Client, collection: string, typed: readonly string[]): Promise<string[]> {
  const tenant = /(?:^| )--?t(?:enant)?[= ](\S+)/.exec(typed.join(' '))?.[1] ?? 'default';
  const objects = await client
    .call('list', { collection })
    .then((answer) => answer.body)
    .catch(() => []);
  return objects.flatMap(({ key }) => {
    const parts = String(key).split(':');
    return parts.length === 1 || parts[0] === tenant ? (parts.at(-1) as string) : [];
  });
}

export const command: Command = {
  name: 'completion',
  summary: 'shell completion',
  subcommands: [
    ...Object.entries(SCRIPTS).map(([shell, script]) => ({
      name: shell,
      summary: `prints the completion script for ${shell}`,
      args: [],
      flags: [],
      examples: [
        shell === 'fish' ? 'netctl completion fish | source' : `source <(netctl completion ${shell})`,
      ],
      async run(invocation: { print(line: string): void }) {
        invocation.print(script);
      },
    })),
    {
      name: 'words',
      summary: 'prints the words that may follow (called by the shell)',
      args: ['[WORD...]'],
      flags: [],
      examples: ['netctl completion words -- net cr'],
      async run(invocation) {
        const typed = [...invocation.args];
        const current = typed.pop() ?? '';
        const [first, second] = typed.filter((word) => !word.startsWith('-'));
        const listed = COMMANDS.find((c) => c.name === first || c.aliases.includes(first ?? ''));
        let words: string[] = [];
        if (first === undefined) words = COMMANDS.flatMap((c) => [c.name, ...c.aliases]);
        else if (listed !== undefined) {
          const { command: found } = await listed.load();
          const bare = found.subcommands[0]?.name === '';
          const sub = bare
            ? found.subcommands[0]
            : found.subcommands.find((s) => s.name === second || s.aliases?.includes(second ?? ''));
          if (!bare && second === undefined)
            words = found.subcommands.flatMap((s) => [s.name, ...(s.aliases ?? [])]);
          else if (sub !== undefined && current.startsWith('-')) words = sub.flags.map((f) => `--${f.name}`);
          else if (sub?.completes !== undefined) words = await names(invocation.client, sub.completes, typed);
        } else throw new UsageError(`no command ${first}`);
        for (const word of words) if (word.startsWith(current)) invocation.print(word);
      },
    },
  ],
};
