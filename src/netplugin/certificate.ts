/**
 * The host's certificate: how the host gets it, and how it stays one that holds.
 *
 *   netplugin join URL TOKEN    the authority that netmaster shows is believed only where it is the one that the token names by its
 *                               fingerprint; before that is known the token goes nowhere
 *   STATE/host/                 ca.crt; host.pem, key and certificate in one file, so that one is never without the other; netmasters, the URLs
 *   --kubernetes-token FILE     in a pod of Kubernetes the agent joins by itself, by its service account's token, and joins again where what it
 *                               has is refused or has ended: netmaster asks the API server whose it is
 *   the agent                   renews it when a third of its life is left, by a new key, and reads it anew where the host has joined once more. New connections go by it, and the others go on
 *
 * While netmaster is asked the key is in joining.pem: who asks again by it, as the answer was lost, is who the token was used by.
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import { parseArgs } from 'node:util';
import type { Logger } from 'pino';
import { type Answer, ApiError, asObject, type Client, connect } from '../client/client.ts';
import { type CredentialFiles, type Credentials, readCredentials } from '../client/credentials.ts';
import { readText } from '../client/textFile.ts';
import { isHostName } from '../model/names.ts';
import type { CertificateAnswer } from '../protocol/security.ts';
import { fingerprint, lifeOf } from '../tls/identity.ts';
import { inTurn } from '../turns.ts';
import { writeText } from './file.ts';
import { HASTY_DELAY, RENEWAL_INTERVAL } from './intervals.ts';

export const JOIN_USAGE = `netplugin join: gets this host's certificate from netmaster

Usage: netplugin join URL[,URL...] TOKEN [flags]

TOKEN is what netctl token create has written; - reads it from standard input. Afterwards netplugin needs no --netmaster.

  --host NAME      name of this host (default: its host name)
  --state-dir DIR  where certificate and key go, below host/ (default /var/lib/contiv)
  --help

Example: netplugin join https://10.0.0.1:9999 join.3f9c...
`;

export interface JoinOptions {
  readonly urls: readonly string[];
  readonly token: string;
  readonly host: string;
  readonly stateDir: string;
}

/** Throws an Error with one plain line where the command line is wrong. */
export function readJoin(args: readonly string[]): JoinOptions | 'help' {
  const text = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { host: text, 'state-dir': text, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) return 'help';
  const [list = '', given, ...more] = positionals;
  if (given === undefined || more.length > 0)
    throw new Error('join takes a URL and a token: netplugin join https://10.0.0.1:9999 TOKEN');
  const urls = list.split(',').filter((url) => url !== '');
  for (const url of urls.length === 0 ? [''] : urls)
    if (!URL.canParse(url) || new URL(url).protocol !== 'https:')
      throw new Error(`URL: '${url}' is not one like https://10.0.0.1:9999`);
  const token = (given === '-' ? fs.readFileSync(0, 'utf8') : given).trim();
  if (!/^join\.[0-9a-f]{12}\.[\w-]{43}\.[\w-]{43}$/.test(token))
    throw new Error('TOKEN: is none that netctl token create has written: join.ID.SECRET.AUTHORITY');
  const host = values.host ?? os.hostname();
  if (!isHostName(host))
    throw new Error(
      `--host: '${host}' must be letters, digits, '-', '_' or '.', a letter or digit at both ends`,
    );
  if (values['state-dir'] === '') throw new Error('--state-dir is empty');
  return { urls, token, host, stateDir: values['state-dir'] ?? '/var/lib/contiv' };
}

export const HOST_FOLDER = 'host';
const FILES = { authority: 'ca.crt', pair: 'host.pem', joining: 'joining.pem', urls: 'netmasters' } as const;
export const HOST_FILES: readonly string[] = Object.values(FILES);
const fileOf = (stateDir: string, name: keyof typeof FILES): string =>
  path.join(stateDir, HOST_FOLDER, FILES[name]);

/** URLs of netmaster as of the last join; none where the host has not joined. */
export function joinedAt(stateDir: string): readonly string[] {
  try {
    fs.accessSync(fileOf(stateDir, 'pair'));
    return fs.readFileSync(fileOf(stateDir, 'urls'), 'utf8').trim().split(',');
  } catch {
    return [];
  }
}

/** Milliseconds until it is seen that a host whose certificate had ended has joined anew. */
const JOINED_ANEW = 10_000;
/** Milliseconds until a host in Kubernetes that is not let in asks again. */
const JOINING = 1000;
/** Milliseconds that a netmaster has for its greeting. */
const GREETING = 10_000;

/** The authority that signed what answers there, as PEM, where it has this fingerprint. Nothing is sent there. */
function authorityAt(url: string, wanted: string): Promise<string> {
  const { hostname, port } = new URL(url);
  const host = hostname.replace(/^\[|\]$/g, '');
  return new Promise((done, fail) => {
    const socket = tls.connect({
      host,
      port: Number(port || 443),
      rejectUnauthorized: false, // by the fingerprint instead, below
      ca: [], // nor are the 2 MB of Node's own authorities read, which stay in memory
      minVersion: 'TLSv1.3',
      timeout: GREETING,
    });
    const end = (error: Error): void => {
      socket.destroy();
      fail(error);
    };
    socket.once('timeout', () => end(new Error(`${url}: nothing answers by TLS in ${GREETING / 1000} s`)));
    socket.once('error', (error: NodeJS.ErrnoException) =>
      end(new Error(`${url}: netmaster cannot be reached by TLS: ${error.code ?? error.message}`)),
    );
    socket.once('secureConnect', () => {
      let certificate = socket.getPeerX509Certificate();
      for (let i = 0; certificate !== undefined && i < 10; i++) {
        if (fingerprint(certificate.raw) === wanted) {
          socket.destroy();
          done(certificate.toString());
          return;
        }
        certificate = certificate.issuerCertificate;
      }
      end(
        new Error(
          `${url}: shows another authority than the token names: it is another cluster's netmaster, or somebody stands between`,
        ),
      );
    });
  });
}

/** The host has its certificate on disk. Throws an Error with one plain line. */
export async function join({ urls, token, host, stateDir }: JoinOptions): Promise<void> {
  const { requestCertificate } = await import('../tls/certificates.ts');
  fs.mkdirSync(path.join(stateDir, HOST_FOLDER), { recursive: true, mode: 0o700 });
  const authority = await firstOf(urls, (url) => authorityAt(url, token.split('.')[3] as string));
  const joining = fileOf(stateDir, 'joining');
  const before = fs.existsSync(joining) ? fs.readFileSync(joining, 'utf8') : undefined;
  const { key, request } = await requestCertificate(host, before);
  if (before === undefined) writeText(joining, key);
  const client = connect({ urls, credentials: fixed({ authority }), name: `netplugin ${host}` });
  try {
    const { certificate } = asObject(await client.call('join', {}, { token, name: host, request }), [
      'certificate',
    ]);
    writeText(fileOf(stateDir, 'authority'), authority);
    writeText(fileOf(stateDir, 'urls'), `${urls.join()}\n`);
    writeText(fileOf(stateDir, 'pair'), key + certificate);
    fs.rmSync(joining, { force: true });
  } finally {
    client.close();
  }
}

const fixed = (credentials: Credentials) => (): Credentials => credentials;

async function firstOf<T>(urls: readonly string[], ask: (url: string) => Promise<T>): Promise<T> {
  const errors: string[] = [];
  for (const url of urls)
    try {
      return await ask(url);
    } catch (error) {
      errors.push((error as Error).message);
    }
  throw new Error(errors.join('; '));
}

/** What the agent shows to netmaster. */
export interface HostCertificate {
  readonly credentials: () => Credentials;
  /** From now on it is renewed when it is time. */
  keep(client: Client): void;
  close(): Promise<void>;
}

export interface HostCertificateOptions {
  readonly stateDir: string;
  readonly host: string;
  readonly urls: readonly string[];
  /** A PKI's, which renews them there; without them those of the join, where there was one. */
  readonly files: CredentialFiles;
  /** File with the token of the pod's service account, by which it joins; `files` has whom it believes. */
  readonly account?: string | undefined;
}

export function openHostCertificate(
  { stateDir, host, urls, files, account }: HostCertificateOptions,
  log: Logger,
): HostCertificate {
  const own = account === undefined && Object.keys(files).length > 0;
  const pair = fileOf(stateDir, 'pair');
  const hasJoined = (): boolean =>
    account === undefined ? joinedAt(stateDir).length > 0 : fs.existsSync(pair);
  let joined = !own && hasJoined();
  const from = (): CredentialFiles => {
    if (!joined) return files;
    const authority = account === undefined ? fileOf(stateDir, 'authority') : files['tls-ca'];
    return { 'tls-ca': authority, 'tls-cert': pair, 'tls-key': pair };
  };
  let current = readCredentials(from());

  async function renew(
    client: Client,
    ask: (client: Client, request: string) => Promise<Answer<CertificateAnswer>>,
  ): Promise<void> {
    const { requestCertificate } = await import('../tls/certificates.ts');
    const { key, request } = await requestCertificate(host);
    const { certificate } = asObject(await ask(client, request), ['certificate']);
    fs.mkdirSync(path.dirname(pair), { recursive: true, mode: 0o700 });
    writeText(pair, key + certificate);
  }

  /** What it has shows nothing any more, so it shows its service account's token. */
  async function joinAnew(account: string): Promise<void> {
    const token = readText(`--kubernetes-token ${account}`, account).trim();
    const { authority } = readCredentials({ 'tls-ca': files['tls-ca'] });
    const client = connect({
      urls,
      credentials: fixed({ ...(authority && { authority }) }),
      name: `netplugin ${host}`,
    });
    try {
      await renew(client, (client, request) => client.call('join', {}, { token, name: host, request }));
    } finally {
      client.close();
    }
    joined = true;
    log.info(`host ${host} has joined by the token of its service account`);
  }

  async function isRefused(client: Client): Promise<boolean> {
    try {
      await client.call('whoami');
      return false;
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) return true;
      throw error;
    }
  }

  function adopt(): void {
    const now = readCredentials(from());
    if (now.certificate === current.certificate && now.authority === current.authority) return;
    current = now;
    log.info('new connections to netmaster go by a new certificate of this host');
  }

  const life = (): { due: number; to: number } => {
    const { from, to } = lifeOf(current.certificate as string);
    return { due: from + (2 * (to - from)) / 3, to };
  };
  const hasEnded = (): boolean => joined && life().to <= Date.now();

  async function look(client: Client): Promise<void> {
    adopt(); // somebody may have joined anew, or their PKI has renewed it
    if (account !== undefined && (!joined || hasEnded() || (await isRefused(client))))
      await joinAnew(account);
    else if (joined && Date.now() >= life().due)
      await renew(client, (client, request) => client.call('certificate', { name: host }, { request }));
    adopt();
  }

  /** Milliseconds until the next look: when it is time, or while it is tried again, in a part of what is left. */
  function pause(): number {
    if (!joined) return account === undefined ? RENEWAL_INTERVAL : JOINING;
    if (hasEnded()) return account === undefined ? JOINED_ANEW : JOINING;
    const now = Date.now();
    const { due, to } = life();
    return Math.min(RENEWAL_INTERVAL, Math.max(HASTY_DELAY, now < due ? due - now : (to - now) / 8));
  }

  let turns: { close(): Promise<void> } | undefined;
  return {
    credentials: () => current,
    keep(client) {
      if (!own && !joined && account === undefined) return;
      let said = '';
      const looking = inTurn(() => look(client), {
        again(failures) {
          if (failures === 0) said = '';
          return pause();
        },
        failed(error) {
          const what =
            account !== undefined
              ? 'this host is not let in yet by its service account, or its certificate not renewed; tried again'
              : hasEnded()
                ? `this host's certificate has ended, and netmaster lets it in no more: netctl host revoke ${host}, netctl token create, and netplugin join here`
                : error instanceof ApiError && error.status === 401
                  ? 'this host is not let in'
                  : "this host's certificate is not renewed; tried again";
          if (what !== said) log.warn(`${what}: ${(error as Error).message}`);
          said = what;
        },
      });
      looking.begin();
      turns = looking;
    },
    async close() {
      await turns?.close();
    },
  };
}
