/**
 * `netmaster init`: the cluster's authority, netmaster's own certificate, and an operator's. What is there stays as it is: where the authority
 * has been copied from another netmaster, the rest is made by it.
 */
import { createPrivateKey, type KeyObject, randomUUID, X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Pair } from '../tls/certificates.ts';
import { fingerprintOf, lifeOf } from '../tls/identity.ts';
import { FILES, FOLDER, namesOf } from './security.ts';

const DAY = 86_400_000;
/** Of netmaster's own certificate and the operator's. */
const LIFE = 825 * DAY;

export const INIT_USAGE = `netmaster init: makes the cluster's certificates, so that nobody reaches netmaster who may not

Usage: netmaster init [flags]

  --dir FOLDER   where the files go (default /var/lib/contiv/tls; as a service /var/lib/contiv-netmaster/tls): ca.crt, ca.key, netmaster.crt, netmaster.key, admin.crt, admin.key
  --name NAME    how clients call this machine: a name or an address (more than once for several; its host name, addresses,
                 localhost and netmaster are in the certificate anyway)
  --renew        makes netmaster's and the operator's certificate anew, by the authority that is there; netmaster that runs
                 shows its new one within seconds
  --help

What is there is not written over, but for a certificate that ends within a third of its time, which is made anew. ca.key signs the certificates of hosts: whoever has it may be any host and any operator. For a second
netmaster copy ca.crt and ca.key there first. admin.crt and admin.key are for netctl.
`;

export interface InitOptions {
  readonly folder: string;
  readonly names: readonly string[];
  readonly renew: boolean;
}

/** Throws an Error with one plain line where the command line is wrong. */
export function readInit(args: readonly string[]): InitOptions | 'help' {
  const { values } = parseArgs({
    args: [...args],
    options: {
      dir: { type: 'string' },
      name: { type: 'string', multiple: true },
      renew: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return 'help';
  if (values.dir === '') throw new Error('--dir is empty');
  const names = values.name ?? [];
  for (const name of names)
    if (net.isIP(name) === 0 && !/^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(name))
      throw new Error(`--name: '${name}' must be a name or an address alone, e.g. netmaster.example.com`);
  return { folder: values.dir ?? FOLDER, names, renew: values.renew ?? false };
}

/** What this machine is called by those who ask. */
function ownNames(): string[] {
  const host = os.hostname();
  const addresses = Object.values(os.networkInterfaces()).flatMap((all) =>
    (all ?? []).map(({ address }) => address).filter((address) => !/^fe80:/i.test(address)),
  );
  return ['localhost', 'netmaster', host, host.split('.')[0] as string, ...addresses];
}

/** Whole or not at all, and never over another: a file is there under its name only when all of it is on disk. */
function writeNew(file: string, text: string, mode: number, over: boolean): boolean {
  const draft = `${file}.${randomUUID()}`;
  try {
    const descriptor = fs.openSync(draft, 'wx', mode);
    try {
      fs.writeSync(descriptor, text);
      fs.fsyncSync(descriptor);
    } finally {
      fs.closeSync(descriptor);
    }
    if (over) fs.renameSync(draft, file);
    else fs.linkSync(draft, file);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    return false;
  } finally {
    fs.rmSync(draft, { force: true });
  }
}

/** netmaster's service and pod begin with netmaster init, and netmaster that runs looks itself (certificate.ts). */
export function isDue(certificate: string, authority: string): boolean {
  const { from, to } = lifeOf(certificate);
  // None holds for longer than its authority, which is never made anew: all that it signed would go with it.
  return Date.now() > from + (2 * (to - from)) / 3 && to < lifeOf(authority).to;
}

/** Certificate and key. */
type Files = readonly [certificate: string, key: string];
const AUTHORITY: Files = [FILES.authority, FILES.authorityKey];
const OWN: Files = [FILES.certificate, FILES.key];
const OPERATOR: Files = [FILES.admin, FILES.adminKey];

/** A key that cannot be read, such as one with a passphrase, is somebody's own, of which nothing is known. */
function goTogether({ certificate, key }: Pair): boolean {
  let known: KeyObject;
  try {
    known = createPrivateKey(key);
  } catch {
    return true;
  }
  return new X509Certificate(certificate).checkPrivateKey(known);
}

function openFolder(folder: string) {
  const at = (file: string): string => path.join(folder, file);
  const has = (file: string): boolean => fs.existsSync(at(file));
  const textOf = (file: string): string => fs.readFileSync(at(file), 'utf8');
  const pairOf = ([certificate, key]: Files): Pair => ({
    certificate: textOf(certificate),
    key: textOf(key),
  });

  /** Answers a line that says what it did or found. */
  async function ensure(
    what: string,
    files: Files,
    make: () => Promise<Pair>,
    again: (there: Pair | undefined) => boolean,
  ): Promise<string> {
    const [certificate, key] = files;
    const both = has(certificate) && has(key);
    const anew = again(both ? pairOf(files) : undefined);
    if (both && !anew) return `${what} is there: ${at(certificate)}`;
    if (!anew && (has(certificate) || has(key)))
      throw new Error(
        `${folder}: of ${certificate} and ${key} one alone is there: put the other one beside it, or take it away`,
      );
    const made = await make();
    // The key first: where there was none, both are there when the certificate is.
    const written =
      writeNew(at(key), made.key, 0o600, anew) && writeNew(at(certificate), made.certificate, 0o644, anew);
    if (!written) throw new Error(`${folder}: another netmaster init is at work there: try again`);
    return `made ${what}: ${at(certificate)}`;
  }

  /** What is of no use is made anew too: who ended between the two files of a renewal has left a key beside the certificate of another one. */
  const signed = (renew: boolean) => (there: Pair | undefined) =>
    renew ||
    (there !== undefined && (isDue(there.certificate, textOf(FILES.authority)) || !goTogether(there)));

  return {
    async ensureAuthority(): Promise<string> {
      const { makeAuthority } = await import('../tls/certificates.ts');
      const line = await ensure("the cluster's authority", AUTHORITY, makeAuthority, () => false);
      // It is never made anew: all that it signed would go with it.
      if (!goTogether(pairOf(AUTHORITY)))
        throw new Error(`${folder}: ${FILES.authorityKey} is not the key of ${FILES.authority}`);
      return line;
    },
    async ensureOwn(names: readonly string[], renew: boolean): Promise<string> {
      const { issuePair } = await import('../tls/certificates.ts');
      // One that is due is for whoever asks by the names that it had.
      const before =
        has(FILES.certificate) && !renew ? namesOf({ certificate: textOf(FILES.certificate) }) : [];
      const called = [...new Set([...ownNames(), ...names, ...before])];
      const subject = { role: 'netmaster', name: os.hostname(), names: called } as const;
      const make = (): Promise<Pair> => issuePair(pairOf(AUTHORITY), subject, LIFE);
      return ensure("netmaster's certificate", OWN, make, signed(renew));
    },
    async ensureOperator(renew: boolean): Promise<string> {
      const { issuePair } = await import('../tls/certificates.ts');
      const make = (): Promise<Pair> => issuePair(pairOf(AUTHORITY), { role: 'admin', name: 'admin' }, LIFE);
      return ensure("an operator's certificate", OPERATOR, make, signed(renew));
    },
  };
}

/** Answers a line for each thing that it did or found. */
export async function init({ folder, names, renew }: InitOptions): Promise<string[]> {
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const files = openFolder(folder);
  return [
    await files.ensureAuthority(),
    await files.ensureOwn(names, renew),
    await files.ensureOperator(renew),
    `the authority is sha256:${fingerprintOf(fs.readFileSync(path.join(folder, FILES.authority), 'utf8'))}`,
  ];
}

/** The same of netmaster's own certificate alone, where the authority is: an operator's may have been taken elsewhere. */
export const initOwn = (folder: string): Promise<string> => openFolder(folder).ensureOwn([], false);
