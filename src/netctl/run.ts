/** Runs a command line. */
import os from 'node:os';
import { ApiError, connect } from '../client/client.ts';
import { oneLine } from '../model/text.ts';
import { AWAY_HEADER, LATE_HEADER, WARNING_HEADER } from '../protocol/wire.ts';
import { type Command, type Flag, fieldOf, type Invocation, type Subcommand, UsageError } from './command.ts';
import { COMMANDS } from './commands.ts';
import { credentialFiles, findCredentials } from './credentials.ts';
import { nearest, parseFlags } from './flags.ts';
import { commandHelp, GLOBAL_FLAGS, overview, subcommandHelp, usageLine } from './help.ts';

/** What a command line touches besides netmaster. */
export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Until netmaster's answer; 30 s where absent. */
  readonly timeoutMs?: number;
  /** Characters of a line of the terminal; absent where output goes elsewhere. */
  readonly width?: number | undefined;
  print(line: string): void;
  printError(line: string): void;
  /** Of a person, or of standard input (secret.ts). */
  secret?(question: string, is?: 'new'): Promise<string>;
}

/** What stands before the command, with the flag's value where it takes one. */
function splitGlobal(words: readonly string[]): { global: string[]; rest: string[] } {
  const global: string[] = [];
  let i = 0;
  while (i < words.length && /^-./s.test(words[i] as string)) {
    const word = words[i] as string;
    global.push(word);
    i++;
    if (/^--?(?:netmaster|tls-ca|tls-cert|tls-key|token-file)$/.test(word) && i < words.length)
      global.push(words[i++] as string);
  }
  return { global, rest: words.slice(i) };
}

async function findCommand(name: string): Promise<Command> {
  const listed = COMMANDS.find((c) => c.name === name || c.aliases.includes(name));
  if (listed !== undefined) return (await listed.load()).command;
  const what = WORDS[name] ?? name;
  if (SUBCOMMANDS.has(what))
    throw new UsageError(
      `unknown command '${name}': what it is about comes first, as in netctl network ${what}`,
    );
  const near = nearest(
    name,
    COMMANDS.flatMap((c) => [c.name, ...c.aliases]),
  );
  throw new UsageError(
    `unknown command '${name}'${near === undefined ? ': see netctl --help' : `: did you mean ${near}?`}`,
  );
}

/** What most commands have. */
const SUBCOMMANDS: ReadonlySet<string> = new Set(['create', 'ls', 'inspect', 'rm']);
/** What other tools call it. */
const WORDS: Readonly<Record<string, string>> = {
  add: 'create',
  new: 'create',
  describe: 'inspect',
  show: 'inspect',
  list: 'ls',
  remove: 'rm',
};

function findSubcommand(command: Command, name: string | undefined): Subcommand {
  const found = command.subcommands.find((s) => s.name === (name ?? '') || s.aliases?.includes(name ?? ''));
  if (found !== undefined) return found;
  const names = command.subcommands.map((s) => s.name);
  const meant = WORDS[name ?? ''] ?? '';
  const near = names.includes(meant) ? meant : name === undefined ? undefined : nearest(name, names);
  throw new UsageError(
    name === undefined
      ? `netctl ${command.name} needs a subcommand: ${names.join(', ')}`
      : `unknown subcommand '${name}' of netctl ${command.name}: ${near === undefined ? `it has ${names.join(', ')}` : `did you mean ${near}?`}`,
  );
}

/** Who typed it, also behind sudo. */
function userOf(env: Terminal['env']): string {
  try {
    return env.SUDO_USER || os.userInfo().username;
  } catch {
    return String(process.getuid?.() ?? ''); // nobody has this number
  }
}

/** Exit status: the server refused or could not be reached. */
const REFUSED = 3;

/** Answers the exit status. */
async function run(words: readonly string[], terminal: Terminal): Promise<number> {
  const { print } = terminal;
  const show = (text: string): number => {
    print(text);
    return 0;
  };
  const asksVersion = words.length === 1 && /^(--?version|-v)$/.test(words[0] as string);
  const { global, rest } = splitGlobal(asksVersion ? ['version'] : words);
  const asksHelp = (word: string | undefined): boolean => /^(--?help|-h)$/.test(word ?? '');
  parseFlags(global, GLOBAL_FLAGS);
  if (rest.length === 0 || asksHelp(global.at(-1)) || (rest[0] === 'help' && rest.length === 1))
    return show(overview());
  const [name, ...words2] = rest[0] === 'help' ? [...rest.slice(1), '--help'] : rest;
  const command = await findCommand(name as string);
  const bare = command.subcommands[0]?.name === '';
  if (!bare && (words2.length === 0 || words2[0] === 'help' || asksHelp(words2[0])))
    return show(commandHelp(command));
  if (!bare && words2[0]?.startsWith('-'))
    throw new UsageError(
      `${words2[0].split('=')[0]} stands before the subcommand: write netctl ${command.name} SUBCOMMAND, then its flags`,
    );
  const sub = findSubcommand(command, bare ? undefined : words2[0]);
  const tail = bare ? words2 : words2.slice(1);
  const end = tail.indexOf('--');
  if (tail.slice(0, end < 0 ? tail.length : end).some(asksHelp)) return show(subcommandHelp(command, sub));

  try {
    return await runSubcommand(command, sub, { global, tail }, terminal);
  } catch (error) {
    if (error instanceof UsageError) error.status = sub.misused ?? 1;
    throw error;
  }
}

/** Words before the command, and those behind it. */
interface Typed {
  readonly global: readonly string[];
  readonly tail: readonly string[];
}

async function runSubcommand(
  command: Command,
  sub: Subcommand,
  { global, tail }: Typed,
  { env, timeoutMs, width, print, printError, secret }: Terminal,
): Promise<number> {
  let status = 0;
  const flags = [...sub.flags, ...GLOBAL_FLAGS];
  // A `--` in front of the command ended the flags there only.
  const { args, values } = parseFlags([...global.filter((word) => word !== '--'), ...tail], flags);
  if (values.get('help')?.at(-1) === 'true') {
    print(subcommandHelp(command, sub));
    return 0;
  }
  const last = sub.args.at(-1);
  const required = sub.args.filter((name) => !name.startsWith('[')).length;
  if (args.length < required || (args.length > sub.args.length && !/\.\.\.\]?$/.test(last ?? '')))
    throw new UsageError(`usage: ${usageLine(command, sub)}`);
  const empty = last === '[WORD...]' ? -1 : args.indexOf('');
  if (empty >= 0)
    throw new UsageError(`${sub.args[empty] ?? last} is empty: usage: ${usageLine(command, sub)}`);
  const value = (flag: string): string =>
    values.get(flag)?.at(-1) ?? flags.find((f) => f.name === flag)?.default ?? '';
  const from = value('netmaster') ? '--netmaster' : 'NETMASTER';
  const named = value('netmaster') || env.NETMASTER;
  const files = credentialFiles(value, env);
  const credentials = findCredentials(files);
  const scheme = credentials.authority === undefined ? 'http' : 'https';
  const urls = (named || `${scheme}://netmaster:9999`).split(',').filter((u) => u);
  for (const url of urls.length === 0 ? [''] : urls)
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new UsageError(`${from}: '${url}' is not a URL like http://netmaster:9999`);
  let stale = false;
  const client = connect({
    urls,
    onStale() {
      stale = true;
    },
    insecure: value('insecure') === 'true',
    // Where netmaster has none, there is nobody to show it to.
    credentials: urls.every((url) => url.startsWith('https:')) ? () => credentials : undefined,
    name: `netctl ${userOf(env)}@${os.hostname()}`,
    ...(timeoutMs ? { timeoutMs } : {}),
  });
  const invocation: Invocation = {
    client,
    args,
    text: value,
    number: (flag) => Number(value(flag)),
    list: (flag) => values.get(flag) ?? [],
    on: (flag) => value(flag) === 'true',
    given: (flag) => values.has(flag),
    width,
    env,
    credentials: files,
    async secret(question, is) {
      if (secret === undefined) throw new UsageError('nobody is there who could be asked for a password');
      const given = await secret(question, is);
      if (given === '') throw new UsageError('the password is empty: type it, or give it on standard input');
      return given;
    },
    print,
    exitWith(code) {
      status = code;
    },
    fail(error) {
      // One that cannot be reached is so for the others too.
      if (!(error instanceof ApiError) || error.code === 'unreachable') throw error;
      printError(`netctl: ${oneLine(error.message, 800)}`);
      status = REFUSED;
    },
    warn(headers) {
      for (const line of String(headers[WARNING_HEADER] ?? '').split('; '))
        if (line) printError(`netctl: warning: ${line}`);
      const late = headers[LATE_HEADER];
      if (late) printError(`netctl: warning: not yet applied on ${late}`);
      const away = headers[AWAY_HEADER];
      if (away)
        printError(
          `netctl: warning: hosts that are away have not applied it, and containers there go on as before: ${away}`,
        );
    },
  };
  try {
    await sub.run(invocation);
  } catch (caught) {
    const error = asTyped(caught, sub.flags);
    if (named || !(error instanceof ApiError) || error.code !== 'unreachable') throw error;
    throw new ApiError(error.status, error.code, `${error.message}: set NETMASTER or --netmaster`);
  } finally {
    client.close();
    if (stale)
      printError("netctl: warning: netmaster's store does not answer: what it knows may have changed since");
  }
  return status;
}

/** A refusal that names the field as the flag is called that it was given by. */
function asTyped(error: unknown, flags: readonly Flag[]): unknown {
  if (!(error instanceof ApiError) || error.field === undefined) return error;
  const names = new Map(flags.map((flag) => [fieldOf(flag), `--${flag.name}`]));
  const { field } = error;
  // A field that is also a word of the language is one where it is what is wrong, and stands where that is said.
  const message = error.message.replace(
    /^[a-z]\w*(?=: )|(?<=: )[a-z]\w*(?= )|\b[a-z]+[A-Z0-9]\w*\b/g,
    (word) => (word === field || /[A-Z0-9]/.test(word) ? (names.get(word) ?? word) : word),
  );
  return new ApiError(error.status, error.code, message, error.field, error.position);
}

/** Answers the exit status: 0 done, or what the command says, 1 wrong usage, 3 the server refused or could not be reached. */
export async function netctl(words: readonly string[], terminal: Terminal): Promise<number> {
  try {
    return await run(words, terminal);
  } catch (error) {
    const usage = error instanceof UsageError;
    const known = usage || error instanceof ApiError;
    // A mistake of ours is one line too.
    const text = known ? error.message : `failed: ${(error as Error).message}`;
    terminal.printError(`netctl: ${oneLine(text, 800)}`);
    return usage ? error.status : REFUSED;
  }
}
