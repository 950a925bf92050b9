/** The session of the one who has logged in: ~/.netctl/token, for its owner alone, and whom it was got from, where no ca.crt is there yet. */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { type Invocation, UsageError } from './command.ts';
import { AUTHORITY, ownFolder, TOKEN } from './credentials.ts';

const FORM = /^session\./;

function tokenFile(env: Invocation['env']): string {
  const folder = ownFolder(env);
  if (folder === undefined) throw new UsageError('HOME is not set: the session is kept in .netctl below it');
  return path.join(folder, TOKEN);
}

/** What goes ahead of a session that is kept, in every command. */
const AHEAD = ['NETCTL_TOKEN_FILE', 'NETCTL_TLS_CERT'];

/** Before anybody is asked for anything. Throws a UsageError where a session would not be kept, or not be used. */
export function checkKeeping({ env }: Invocation): void {
  keptSession(env);
  const ahead = AHEAD.find((name) => env[name]);
  if (ahead !== undefined)
    throw new UsageError(`${ahead} is set, and goes ahead of a session: unset it, then log in`);
}

/** It is what netctl shows: no flag has named another. */
export const isKeptShown = ({ env, credentials }: Invocation): boolean =>
  credentials['token-file'] === tokenFile(env);

/** undefined: there is none. Throws a UsageError where there is another token. */
export function keptSession(env: Invocation['env']): string | undefined {
  const file = tokenFile(env);
  let token: string;
  try {
    token = fs.readFileSync(file, 'utf8').trim();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    throw new UsageError(`${file}: ${code === 'EACCES' ? 'it may not be read' : code}`);
  }
  if (!FORM.test(token))
    throw new UsageError(`${file}: holds a token that netctl login has not got: move it away first`);
  return token;
}

export function keepSession({ env, credentials }: Invocation, token: string): void {
  const file = tokenFile(env);
  const folder = path.dirname(file);
  try {
    fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
    writeWhole(file, `${token}\n`);
    // What a flag or a variable has named is believed from now on: the next command finds it.
    const [named, own] = [credentials['tls-ca'], path.join(folder, AUTHORITY)];
    if (named !== undefined && !fs.existsSync(own)) writeWhole(own, fs.readFileSync(named, 'utf8'));
  } catch (error) {
    throw new UsageError(`the session cannot be kept in ${folder}: ${(error as NodeJS.ErrnoException).code}`);
  }
}

/** Beside it and renamed; what was there under another mode, or as a link, is not written into. */
function writeWhole(file: string, text: string): void {
  const draft = `${file}.${randomBytes(6).toString('hex')}`;
  fs.writeFileSync(draft, text, { mode: 0o600, flag: 'wx' });
  fs.renameSync(draft, file);
}

export const forgetSession = (env: Invocation['env']): void => fs.rmSync(tokenFile(env), { force: true });
