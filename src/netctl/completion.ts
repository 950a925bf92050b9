/**
 * Shell completion: the shell calls `netctl completion words ...` with what has been typed, and netctl answers
 * the words that fit, names of objects among them where netmaster answers at once.
 */
import { asList, type Client } from '../client/client.ts';
import { type Command, type Flag, type Subcommand, UsageError } from './command.ts';
import { COMMANDS } from './commands.ts';
import { GLOBAL_FLAGS } from './help.ts';

/** Where nothing completes a word, files do. */
const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_netctl() {
  local IFS=$'\\n'
  COMPREPLY=($(netctl completion words -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _netctl netctl`,
  zsh: `#compdef netctl
_netctl() {
  local -a found
  found=(\${(f)"$(netctl completion words -- "\${(@)words[2,CURRENT]}" 2>/dev/null)"})
  if (( $#found )); then compadd -- $found; else _files; fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
compdef _netctl netctl`,
  fish: `function __netctl_words
  set -l current (commandline -ct)
  set -l found (netctl completion words -- (commandline -opc)[2..] "$current" 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path "$current"
  end
end
complete -c netctl -f -a '(__netctl_words)'`,
};

/** What has been typed, the last word of it up to the cursor. */
interface Typed {
  readonly words: readonly string[];
  readonly current: string;
  /** What the shell takes for the beginning of the word, and does not want again. */
  readonly taken: string;
}

/** bash ends words at '=' and ':' too, and gives these as words of their own. */
function readWords(given: readonly string[]): Typed {
  const words: string[] = [];
  let taken = '';
  let isOpen = false;
  for (const word of given) {
    const isBreak = /^[=:]+$/.test(word);
    if (words.length > 0 && (isBreak || isOpen)) {
      const before = words.pop() as string;
      words.push(before + word);
      taken = isBreak ? before + word : before;
    } else {
      words.push(word);
      taken = '';
    }
    isOpen = isBreak;
  }
  const current = words.pop() ?? '';
  return { words, current, taken };
}

type Named = Readonly<Record<string, unknown>>;

/** As people call it: a container, a pod, or what the key ends with. */
function nameOf(collection: string, object: Named): string {
  if (collection !== 'endpoints') return String(object.key).split(':').at(-1) ?? '';
  if (object.workload) return String(object.workload).replace(':', '/');
  return String(object.containerName || object.endpointID);
}

/** Of the tenant that the line names; all of what is in no tenant. Nothing where netmaster does not answer. */
async function names(
  client: Client,
  what: string,
  { args, tenant }: { readonly args: readonly string[]; readonly tenant: string },
): Promise<string[]> {
  const get = what === 'kinds' || what === 'objects' ? await import('./get.ts') : undefined;
  if (what === 'kinds') return get?.READABLE.map((kind) => kind.name) ?? [];
  if (what === 'users')
    return client.call('users').then(
      ({ body }) => body.map(({ name }) => name),
      () => [],
    );
  // Also those that are away: what lives is another list.
  if (what === 'hosts')
    return client.call('hostStates').then(
      ({ body }) => [...new Set(body.map(({ name }) => name))],
      () => [],
    );
  const kind = get?.findKind(args[0] ?? '');
  const collection = kind?.collection ?? what;
  const objects: readonly Named[] = await client
    .call('list', { collection })
    .then(asList<Named>)
    .catch(() => []);
  return objects
    .filter(({ tenantName }) => collection === 'tenants' || (tenantName ?? tenant) === tenant)
    .flatMap((object) => {
      if (kind !== undefined && kind.keyFields.length > 2)
        return kind.keyFields
          .slice(1)
          .map((field) => object[field])
          .join(':');
      if (what === 'rules' && object.policyName !== args[0]) return [];
      return nameOf(collection, object);
    });
}

/** Those that the form of a value lists: `in|out`, not `A.B.C.D/LEN`. */
const listed = ({ value = '', completes }: Flag): string[] =>
  completes === undefined ? value.split('|').filter((one) => /^[a-z][a-z0-9-]*$/.test(one)) : [];

const byWord = (flags: readonly Flag[], word: string): Flag | undefined => {
  const name = /^--?([^=]+)/.exec(word)?.[1];
  return flags.find((flag) => flag.name === name || flag.short === name);
};

/** Words that go on from what was typed, behind a command and its subcommand. */
async function following(
  client: Client,
  sub: Subcommand,
  words: readonly string[],
  current: string,
): Promise<string[]> {
  const flags = [...sub.flags, ...GLOBAL_FLAGS];
  const args: string[] = [];
  let tenant = 'default';
  let open: Flag | undefined;
  for (const word of words) {
    const flag = open ?? byWord(word.startsWith('-') ? flags : [], word);
    const inline = open === undefined ? /=(.*)$/s.exec(word)?.[1] : word;
    if (flag?.name === 'tenant' && inline !== undefined) tenant = inline;
    if (flag === undefined && !word.startsWith('-')) args.push(word);
    open = open === undefined && inline === undefined && flag?.kind !== 'switch' ? flag : undefined;
  }
  const values = async (flag: Flag): Promise<string[]> =>
    flag.completes === undefined ? listed(flag) : names(client, flag.completes, { args, tenant });
  if (open !== undefined) return values(open);
  const [, prefix] = /^(--?[^=]+=)/.exec(current) ?? [];
  const flag = prefix === undefined ? undefined : byWord(flags, current);
  if (flag !== undefined) return (await values(flag)).map((value) => `${prefix}${value}`);
  if (current.startsWith('-')) return flags.map((f) => `--${f.name}`);
  const what = sub.completes?.[args.length];
  return what === undefined ? [] : names(client, what, { args, tenant });
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
        const { words: typed, current, taken } = readWords(invocation.args);
        const first = typed.findIndex((word) => !word.startsWith('-'));
        const name = typed[first];
        const listed = COMMANDS.find((c) => c.name === name || c.aliases.includes(name ?? ''));
        let words: string[] = [];
        if (name === undefined)
          words = current.startsWith('-')
            ? GLOBAL_FLAGS.map((f) => `--${f.name}`)
            : COMMANDS.flatMap((c) => [c.name, ...c.aliases]);
        else if (listed !== undefined) {
          const { command: found } = await listed.load();
          const bare = found.subcommands[0]?.name === '';
          const rest = typed.slice(first + 1);
          const second = bare ? '' : rest.shift();
          const sub = found.subcommands.find((s) => s.name === second || s.aliases?.includes(second ?? ''));
          if (second === undefined) words = found.subcommands.flatMap((s) => [s.name, ...(s.aliases ?? [])]);
          else if (sub !== undefined) words = await following(invocation.client, sub, rest, current);
        } else throw new UsageError(`no command ${name}`);
        for (const word of new Set(words))
          if (word.startsWith(current)) invocation.print(word.slice(taken.length));
      },
    },
  ],
};
