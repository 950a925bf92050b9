/**
 * Whom netctl speaks for: what flags name, else what the environment does, else the token in ~/.netctl, where netctl login puts it, else
 * what is in the first of these folders that has a ca.crt which may be read: ~/.netctl, and on netmaster's machine what netmaster init
 * has made.
 */
import fs from 'node:fs';
import path from 'node:path';
import {
  CREDENTIAL_FLAGS,
  type CredentialFiles,
  type Credentials,
  readCredentials,
} from '../client/credentials.ts';
import { UsageError } from './command.ts';

/** Of the user; undefined where there is no home. */
export const ownFolder = ({ HOME }: Readonly<Record<string, string | undefined>>): string | undefined =>
  HOME ? path.join(HOME, '.netctl') : undefined;
export const TOKEN = 'token';
export const AUTHORITY = 'ca.crt';

/** As netmaster has it (netmaster/security.ts): as a service, and without. */
const MADE = ['/var/lib/contiv-netmaster/tls', '/var/lib/contiv/tls'];

function folderOf(own: string | undefined): string | undefined {
  const folders = [...(own === undefined ? [] : [own]), ...MADE];
  return folders.find((folder) => {
    try {
      fs.accessSync(path.join(folder, AUTHORITY), fs.constants.R_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const variableOf = (flag: string): string => `NETCTL_${flag.replaceAll('-', '_').toUpperCase()}`;

/** Empty where nothing is given, and nothing is there. */
export function findCredentials(files: CredentialFiles): Credentials {
  try {
    return readCredentials(files);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** Where they are. */
export function credentialFiles(
  flag: (name: string) => string,
  env: Readonly<Record<string, string | undefined>>,
): CredentialFiles {
  const given = Object.fromEntries(
    CREDENTIAL_FLAGS.map((name) => [name, flag(name) || env[variableOf(name)] || undefined]),
  ) as CredentialFiles;
  const own = ownFolder(env);
  const folder = folderOf(own);
  const inFolder = (file: string, of = folder): string | undefined => {
    const found = of && path.join(of, file);
    return found !== undefined && fs.existsSync(found) ? found : undefined;
  };
  // A certificate and a token of two places would be two people.
  const shows = given['tls-cert'] ?? given['tls-key'] ?? given['token-file'];
  const token = inFolder(TOKEN, own) ?? inFolder(TOKEN);
  const kept: CredentialFiles =
    shows !== undefined
      ? {}
      : token !== undefined
        ? { 'token-file': token }
        : { 'tls-cert': inFolder('admin.crt'), 'tls-key': inFolder('admin.key') };
  const named = Object.fromEntries(Object.entries(given).filter(([, file]) => file !== undefined));
  return { 'tls-ca': inFolder(AUTHORITY), ...kept, ...named };
}
