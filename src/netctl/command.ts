/**
 * What a netctl command is: one file for each (network.ts, group.ts, ...), a line in commands.ts.
 *
 *   netctl COMMAND SUBCOMMAND [flags] [arguments]
 */
import type { Client } from '../client/client.ts';
import type { CredentialFiles } from '../client/credentials.ts';

export interface Flag {
  /** Long name, `pkt-tag`. All of -name, --name, -name=value, --name value are understood. */
  readonly name: string;
  /** `p`, `s6`, `tag`. */
  readonly short?: string;
  readonly kind: 'text' | 'number' | 'list' | 'switch';
  readonly help: string;
  /** Shown in help in place of the value, e.g. `A.B.C.D/LEN`. */
  readonly value?: string;
  readonly default?: string;
  readonly required?: boolean;
  /** Field of the object that it is given for, where that is not its name in camel case. */
  readonly field?: string;
  /** Title of the field's column in lists; none where absent. */
  readonly column?: string;
  /** What there is of it completes the value. Values that `value` lists complete it anyway. */
  readonly completes?: Completes;
}

/** Field of the object that a flag is given for. */
export const fieldOf = ({ name, field }: Flag): string =>
  field ?? name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase());

/** A collection; the kinds that `get` knows; objects of the kind that is the first argument; rules of the policy that is. */
export type Completes = string;

export interface Invocation {
  readonly client: Client;
  readonly args: readonly string[];
  text(flag: string): string;
  number(flag: string): number;
  list(flag: string): readonly string[];
  on(flag: string): boolean;
  /** It stands on the command line, with whatever value. */
  given(flag: string): boolean;
  /** Of the terminal, in characters; undefined where the output goes elsewhere. */
  readonly width: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Whom netctl speaks for, and whom it believes. */
  readonly credentials: CredentialFiles;
  /** Asked for on the terminal, where it is not shown, `new` ones twice; without a terminal the next line of standard input. */
  secret(question: string, is?: 'new'): Promise<string>;
  /** To standard output. */
  print(line: string): void;
  /** Exit status of a command that is done, where it is not 0. */
  exitWith(status: number): void;
  /** One of several things failed, the others go on: a line, and the exit status. Throws it where nothing else can do better. */
  fail(error: unknown): void;
  /** After a write: warns of what netmaster says about it, and of hosts that had not applied it in time. */
  warn(headers: Record<string, string | string[] | undefined>): void;
}

export interface Subcommand {
  readonly name: string;
  readonly aliases?: readonly string[];
  readonly summary: string;
  /** Names of the arguments: `NETWORK`, or `[NAME]` where it may be left out; the last one `NETWORK...` where there may be several. */
  readonly args: readonly string[];
  readonly flags: readonly Flag[];
  readonly examples: readonly string[];
  /** Exit status of wrong usage, where 1 means something else. */
  readonly misused?: number;
  /** What completes the arguments, in their order. */
  readonly completes?: readonly Completes[];
  run(invocation: Invocation): Promise<void>;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** A command without subcommands has one, named ''. */
  readonly subcommands: readonly Subcommand[];
}

/** Wrong usage: exit status 1, or the one that the command has for it, one line. */
export class UsageError extends Error {
  status = 1;
}

export const TENANT: Flag = {
  name: 'tenant',
  short: 't',
  kind: 'text',
  help: 'tenant',
  value: 'NAME',
  default: 'default',
  completes: 'tenants',
};
export const ALL: Flag = { name: 'all', short: 'a', kind: 'switch', help: 'of all tenants' };
export const JSON_FLAG: Flag = { name: 'json', short: 'j', kind: 'switch', help: 'as JSON' };
export const QUIET: Flag = { name: 'quiet', short: 'q', kind: 'switch', help: 'names only' };
export const LIST_FORMAT: Flag = {
  name: 'output',
  short: 'o',
  kind: 'text',
  value: 'wide|name|json|yaml',
  help: 'what to write; wide: more columns',
};
export const WIDE: Flag = { name: 'wide', kind: 'switch', help: 'with more columns' };
export const LIST_FLAGS: readonly Flag[] = [ALL, LIST_FORMAT, JSON_FLAG, QUIET, WIDE];
