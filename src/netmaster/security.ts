/** What netmaster shows that it is itself by, and who it believes: files in PEM. `netmaster init` makes them (init.ts). */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import tls from 'node:tls';
import { readText } from '../client/textFile.ts';
import type { Pair } from '../tls/certificates.ts';

export interface Security extends Pair {
  /** Certificates of who signs those of clients. */
  readonly authority: string;
  /** By it hosts' certificates are signed here; absent: somebody else's PKI signs them, and says which are revoked. */
  readonly issuer?: Pair;
  /** Milliseconds that a host's certificate holds. */
  readonly hostLife: number;
  /** Calls it with what netmaster shows from then on; absent: it stays what it is (certificate.ts). */
  readonly renewed?: (use: (now: Security) => void) => void;
}

/** As a service it may write to this folder alone (systemd.exec(5), StateDirectory=). */
export const FOLDER = path.join(process.env.STATE_DIRECTORY || '/var/lib/contiv', 'tls');
export const FILES = {
  authority: 'ca.crt',
  authorityKey: 'ca.key',
  certificate: 'netmaster.crt',
  key: 'netmaster.key',
  admin: 'admin.crt',
  adminKey: 'admin.key',
} as const;

export function readSecurity(
  files: { readonly cert: string; readonly key: string; readonly ca: string },
  hostLife: number,
): Security {
  const certificate = readText(`--tls-cert ${files.cert}`, files.cert);
  const key = readText(`--tls-key ${files.key}`, files.key);
  const authority = readText(`--tls-ca ${files.ca}`, files.ca);
  const parsed = parse('tls-cert', files.cert, certificate);
  parse('tls-ca', files.ca, authority);
  let matches: boolean;
  try {
    matches = parsed.checkPrivateKey(createPrivateKey(key));
  } catch {
    throw new Error(`--tls-key ${files.key}: is no private key in PEM`);
  }
  if (!matches) throw new Error(`--tls-key ${files.key}: is not the key of ${files.cert}`);
  // It takes less than can be read: no short keys, and no file whose further certificates are none.
  try {
    tls.createSecureContext({ cert: certificate, key, ca: authority });
  } catch (error) {
    throw new Error(`--tls-cert ${files.cert}: TLS does not take it: ${(error as Error).message}`);
  }
  return { certificate, key, authority, hostLife };
}

function parse(flag: string, file: string, text: string): X509Certificate {
  try {
    return new X509Certificate(text);
  } catch {
    throw new Error(`--${flag} ${file}: is no certificate in PEM`);
  }
}

/** Of a folder that `netmaster init` has filled; undefined where it has not. */
export function readFolder(folder: string, hostLife: number): Security | undefined {
  const at = (file: string): string => path.join(folder, file);
  if (!fs.existsSync(at(FILES.certificate))) return undefined;
  const security = readSecurity(
    { cert: at(FILES.certificate), key: at(FILES.key), ca: at(FILES.authority) },
    hostLife,
  );
  if (!fs.existsSync(at(FILES.authorityKey))) return security;
  const issuer = {
    certificate: security.authority,
    key: readText(`--tls-dir ${at(FILES.authorityKey)}`, at(FILES.authorityKey)),
  };
  return { ...security, issuer };
}

/** Names and addresses in netmaster's certificate: it is called so. */
export const namesOf = ({ certificate }: Pick<Pair, 'certificate'>): string[] =>
  [...(new X509Certificate(certificate).subjectAltName ?? '').matchAll(/(?:DNS|IP Address):([^,\s]+)/g)].map(
    ([, name]) => name as string,
  );
