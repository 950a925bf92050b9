/** What a client shows that it is itself by, and whom it believes: from files, as a command line is everybody's to read. */
import { readText } from './textFile.ts';

export interface Credentials {
  /** Certificates of the authority that netmaster's must be signed by; PEM, as the others. Absent: those that the machine believes. */
  readonly authority?: string;
  readonly certificate?: string;
  readonly key?: string;
  readonly token?: string;
}

/** Names of files, by the flags and variables that say them. */
export interface CredentialFiles {
  readonly 'tls-ca'?: string | undefined;
  readonly 'tls-cert'?: string | undefined;
  readonly 'tls-key'?: string | undefined;
  readonly 'token-file'?: string | undefined;
}
export const CREDENTIAL_FLAGS = ['tls-ca', 'tls-cert', 'tls-key', 'token-file'] as const;

/** Throws an Error with one plain line where a file cannot be read, or one of two is missing. */
export function readCredentials(files: CredentialFiles): Credentials {
  const { 'tls-cert': cert, 'tls-key': key } = files;
  if ((cert === undefined) !== (key === undefined))
    throw new Error(`--${cert === undefined ? 'tls-cert' : 'tls-key'} is missing: they go together`);
  const read = (flag: (typeof CREDENTIAL_FLAGS)[number]): string | undefined => {
    const file = files[flag];
    return file === undefined ? undefined : readText(`--${flag} ${file}`, file);
  };
  const [authority, certificate, keyText, token] = CREDENTIAL_FLAGS.map(read);
  return {
    ...(authority === undefined ? {} : { authority }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(keyText === undefined ? {} : { key: keyText }),
    ...(token === undefined ? {} : { token: token.trim() }),
  };
}
