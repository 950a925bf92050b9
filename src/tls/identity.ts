/** Whose a certificate is (certificates.ts writes it), and how an authority is told from others. */
import { createHash, X509Certificate } from 'node:crypto';

export const ORGANIZATION = 'contiv';
export const CERTIFICATE_ROLES = [
  'host',
  'netmaster',
  'orchestrator',
  'tenantReader',
  'operator',
  'reader',
  'admin',
] as const;
export type CertificateRole = (typeof CERTIFICATE_ROLES)[number];

export interface Holder {
  readonly role: CertificateRole;
  readonly name: string;
  /** Of a host; '' where there is none. */
  readonly admission: string;
  /** Of who has some tenants only. */
  readonly tenants: readonly string[];
}

/** By its subject: O=contiv:ROLE, CN=NAME, each once; OU=ADMISSION once, or OU=TENANT for each. undefined where it is none of ours. */
export function holderOf(certificate: X509Certificate): Holder | undefined {
  const { subject } = certificate.toLegacyObject();
  const { O, OU, CN } = subject as unknown as Readonly<Record<string, unknown>>;
  const role = CERTIFICATE_ROLES.find((known) => O === `${ORGANIZATION}:${known}`);
  if (role === undefined || typeof CN !== 'string') return undefined;
  const units = OU === undefined ? [] : typeof OU === 'string' ? [OU] : Array.isArray(OU) ? OU : undefined;
  if (units === undefined) return undefined;
  if (role === 'tenantReader' || role === 'operator')
    return { role, name: CN, admission: '', tenants: units };
  if (units.length > 1) return undefined;
  return { role, name: CN, admission: units[0] ?? '', tenants: [] };
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
