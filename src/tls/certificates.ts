/**
 * The cluster's certificates: X.509 (RFC 5280), ECDSA on P-256. Whose one is stands in its subject, in words that only who has the
 * authority's key can write there: O is the role, CN the name, OU of a host which admission it was given under, of an operator each of his
 * tenants.
 *
 * Loaded only where a certificate is made: the library is large. Reading whose one is needs none of it (identity.ts).
 */
import 'reflect-metadata'; // the library's container of parts asks for it as it is loaded
import { createHash, webcrypto } from 'node:crypto';
import net from 'node:net';
import * as x509 from '@peculiar/x509';
import { BEFORE, type CertificateRole, ORGANIZATION } from './identity.ts';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const DAY = 86_400_000;
export const AUTHORITY_LIFE = 3650 * DAY;

/** As PEM. */
export interface Pair {
  readonly certificate: string;
  readonly key: string;
}

export interface Subject {
  readonly role: CertificateRole;
  readonly name: string;
  /** Of a host. */
  readonly admission?: string;
  /** Of who has some tenants only. */
  readonly tenants?: readonly string[];
  /** Names and addresses that it is asked by, where it is a server's. */
  readonly names?: readonly string[];
}

const makeKeys = (): Promise<CryptoKeyPair> =>
  webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']) as Promise<CryptoKeyPair>;

type CryptoKeyPair = webcrypto.CryptoKeyPair;

async function keyText({ privateKey }: CryptoKeyPair): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', privateKey);
  return `${x509.PemConverter.encode(der, 'PRIVATE KEY')}\n`;
}

async function readKey(text: string): Promise<webcrypto.CryptoKey> {
  const [der] = x509.PemConverter.decode(text);
  return webcrypto.subtle.importKey('pkcs8', der as ArrayBuffer, ALGORITHM, true, ['sign']);
}

/** Drawn by chance, positive (RFC 5280, 4.1.2.2). */
function serialNumber(): string {
  const bytes = webcrypto.getRandomValues(new Uint8Array(16));
  bytes[0] = ((bytes[0] as number) & 0x3f) | 0x40;
  return Buffer.from(bytes).toString('hex');
}

const pem = (certificate: x509.X509Certificate): string => `${certificate.toString('pem')}\n`;

export async function makeAuthority(): Promise<Pair> {
  const keys = await makeKeys();
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ O: [ORGANIZATION] }, { CN: [`contiv cluster ${serialNumber().slice(0, 8)}`] }],
    notBefore: new Date(now - BEFORE),
    notAfter: new Date(now + AUTHORITY_LIFE),
    keys: keys as never,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as never),
    ],
  });
  return { certificate: pem(certificate), key: await keyText(keys) };
}

async function sign(
  authority: Pair,
  publicKey: webcrypto.CryptoKey | x509.PublicKey,
  subject: Subject,
  life: number,
): Promise<string> {
  const issuer = new x509.X509Certificate(authority.certificate);
  const { role, name, admission, tenants = [], names } = subject;
  const now = Date.now();
  const usages = [
    x509.ExtendedKeyUsage.clientAuth,
    ...(names === undefined ? [] : [x509.ExtendedKeyUsage.serverAuth]),
  ];
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: [
      { O: [`${ORGANIZATION}:${role}`] },
      ...(admission === undefined ? [] : [{ OU: [admission] }]),
      ...tenants.map((tenant) => ({ OU: [tenant] })),
      { CN: [name] },
    ],
    issuer: issuer.subjectName,
    notBefore: new Date(now - BEFORE),
    notAfter: new Date(Math.min(now + life, issuer.notAfter.getTime())),
    publicKey: publicKey as never,
    signingKey: (await readKey(authority.key)) as never,
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(usages),
      new x509.SubjectAlternativeNameExtension(
        (names ?? [name]).map((value) => ({ type: net.isIP(value) === 0 ? 'dns' : 'ip', value }) as const),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(issuer as never),
    ],
  });
  return pem(certificate);
}

/** A key of its own and its certificate, for `life` milliseconds. */
export async function issuePair(authority: Pair, subject: Subject, life: number): Promise<Pair> {
  const keys = await makeKeys();
  return {
    certificate: await sign(authority, keys.publicKey, subject, life),
    key: await keyText(keys),
  };
}

/** A signing request (PKCS #10, DER in base64) for a name, by the key that is given, or a new one. */
export async function requestCertificate(
  name: string,
  key?: string,
): Promise<{ key: string; request: string }> {
  let keys: CryptoKeyPair;
  if (key === undefined) keys = await makeKeys();
  else {
    const privateKey = await readKey(key);
    const jwk = await webcrypto.subtle.exportKey('jwk', privateKey);
    const { d: _, key_ops: _ops, ...open } = jwk;
    const publicKey = await webcrypto.subtle.importKey('jwk', open, ALGORITHM, true, ['verify']);
    keys = { privateKey, publicKey };
  }
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys: keys as never,
    signingAlgorithm: ALGORITHM,
  });
  return { key: key ?? (await keyText(keys)), request: request.toString('base64') };
}

/** A signing request that is in order. */
export interface Asked {
  readonly name: string;
  /** Of its key: asked again by the same one, it is the same client. */
  readonly keyHash: string;
  readonly publicKey: x509.PublicKey;
}

/** Throws an Error with one plain line where it is none, has been changed, or is by another kind of key. */
export async function readRequest(text: string): Promise<Asked> {
  let request: x509.Pkcs10CertificateRequest;
  try {
    request = new x509.Pkcs10CertificateRequest(Buffer.from(text, 'base64'));
  } catch {
    throw new Error('is not a signing request (PKCS #10) in base64');
  }
  const { name, namedCurve } = request.publicKey.algorithm as { name: string; namedCurve?: string };
  if (name !== 'ECDSA' || namedCurve !== 'P-256') throw new Error('must be by an ECDSA key on P-256');
  const holds = await request.verify().catch(() => false);
  if (!holds) throw new Error('is not signed by its own key');
  return {
    name: request.subjectName.getField('CN')[0] ?? '',
    keyHash: createHash('sha256').update(Buffer.from(request.publicKey.rawData)).digest('hex'),
    publicKey: request.publicKey,
  };
}

/** What was asked for, for `life` milliseconds. */
export const issue = (authority: Pair, asked: Asked, subject: Subject, life: number): Promise<string> =>
  sign(authority, asked.publicKey, subject, life);
