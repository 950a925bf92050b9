/**
 * `netmaster init`: the cluster's authority, netmaster's own certificate, and an operator's. What is there stays as it is: where the authority
 * has been copied from another netmaster, the rest is made by it.
 */
import { randomUUID } from 'node:crypto';
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

/** Answers a line for each thing that it did or found. */
export async function init({ folder, names, renew }: InitOptions): Promise<string[]> {
  const { issuePair, makeAuthority } = await import('../tls/certificates.ts');
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  const at = (file: string): string => path.join(folder, file);
  const has = (file: string): boolean => fs.existsSync(at(file));
  const textOf = (file: string): string => fs.readFileSync(at(file), 'utf8');
  const lines: string[] = [];

  /** The key last: where that is there, both are. */
  async function ensure(
    what: string,
    [certificate, key]: readonly [string, string],
    make: () => Promise<Pair>,
    again: boolean,
  ): Promise<void> {
    const both = has(certificate) && has(key);
    const anew = again || (both && isDue(textOf(certificate), textOf(FILES.authority)));
    if (both && !anew) {
      lines.push(`${what} is there: ${at(certificate)}`);
      return;
    }
    if (!anew && (has(certificate) || has(key)))
      throw new Error(
        `${folder}: of ${certificate} and ${key} one alone is there: put the other one beside it, or take it away`,
      );
    const made = await make();
    const written =
      writeNew(at(key), made.key, 0o600, anew) && writeNew(at(certificate), made.certificate, 0o644, anew);
    if (!written) throw new Error(`${folder}: another netmaster init is at work there: try again`);
    lines.push(`made ${what}: ${at(certificate)}`);
  }

  await ensure("the cluster's authority", [FILES.authority, FILES.authorityKey], makeAuthority, false);
  const authority: Pair = { certificate: textOf(FILES.authority), key: textOf(FILES.authorityKey) };
  // One that is due is for whoever asks by the names that it had.
  const before = has(FILES.certificate) && !renew ? namesOf({ certificate: textOf(FILES.certificate) }) : [];
  const called = [...new Set([...ownNames(), ...names, ...before])];
  await ensure(
    "netmaster's certificate",
    [FILES.certificate, FILES.key],
    () => issuePair(authority, { role: 'netmaster', name: os.hostname(), names: called }, LIFE),
    renew,
  );
  await ensure(
    "an operator's certificate",
    [FILES.admin, FILES.adminKey],
    () => issuePair(authority, { role: 'admin', name: 'admin' }, LIFE),
    renew,
  );
  lines.push(`the authority is sha256:${fingerprintOf(authority.certificate)}`);
  return lines;
}
