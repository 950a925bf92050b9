/** Whose a certificate is (certificates.ts writes it), and how an authority is told from others. */
import { createHash, X509Certificate } from 'node:crypto';

export const ORGANIZATION = 'contiv';
export const CERTIFICATE_ROLES = ['host', 'netmaster', 'reader', 'admin'] as const;
export type CertificateRole = (typeof CERTIFICATE_ROLES)[number];

export interface Holder {
  readonly role: CertificateRole;
  readonly name: string;
  /** Of a host; '' where there is none. */
  readonly admission: string;
}

/** By its subject: O=contiv:ROLE, CN=NAME, OU=ADMISSION, each once. undefined where it is none of ours. */
export function holderOf(certificate: X509Certificate): Holder | undefined {
  const { subject } = certificate.toLegacyObject();
  const { O, OU, CN } = subject as unknown as Readonly<Record<string, unknown>>;
  const role = CERTIFICATE_ROLES.find((known) => O === `${ORGANIZATION}:${known}`);
  if (role === undefined || typeof CN !== 'string') return undefined;
  if (OU !== undefined && typeof OU !== 'string') return undefined;
  return { role, name: CN, admission: OU ?? '' };
}

/** SHA-256 of the certificate (DER), by which a join token names the authority. */
export const fingerprint = (der: Buffer): string => createHash('sha256').update(der).digest('base64url');
export const fingerprintOf = (pem: string): string => fingerprint(new X509Certificate(pem).raw);

/** Milliseconds that a certificate is valid before it was made: clocks of hosts differ. */
export const BEFORE = 5 * 60_000;

/** Milliseconds, Unix time: when one that the cluster's authority has signed was made, and when it ends. */
export function lifeOf(pem: string): { from: number; to: number } {
  const { validFromDate, validToDate } = new X509Certificate(pem);
  return { from: validFromDate.getTime() + BEFORE, to: validToDate.getTime() };
}
