/**
 * What netkube shows to netmaster: files, or in a pod a certificate that netmaster gives it for the token of its service account. That one
 * holds for an hour and is in memory alone, so nobody has to keep, hand out or renew anything.
 */
import { setTimeout as after } from 'node:timers/promises';
import { asObject, connect } from '../client/client.ts';
import { type Credentials, readCredentials } from '../client/credentials.ts';
import { readText } from '../client/textFile.ts';
import { lifeOf } from '../tls/identity.ts';
import type { Options } from './options.ts';

export interface Identity {
  readonly credentials: () => Credentials;
  close(): void;
}

/** Milliseconds until files are read again, and until what failed is tried again. */
const LOOK = 60_000;
const AGAIN = 1000;

/** Answers when there is a first certificate, however long netmaster takes. `failed` has a line, once until it is another. */
export async function openIdentity(
  {
    account,
    credentialFiles,
    identity,
    netmasters,
  }: Pick<Options, 'account' | 'credentialFiles' | 'identity' | 'netmasters'>,
  failed: (line: string) => void,
): Promise<Identity> {
  const stop = new AbortController();
  let current = readCredentials(credentialFiles);

  async function certified(): Promise<void> {
    const { authority } = readCredentials(credentialFiles);
    const believed = { ...(authority && { authority }) };
    const { requestCertificate } = await import('../tls/certificates.ts');
    const { key, request } = await requestCertificate(identity);
    const token = readText(`--kubernetes-token ${account}`, account).trim();
    const client = connect({ urls: netmasters, name: 'netkube', credentials: () => believed });
    try {
      const answer = await client.call('join', {}, { token, name: identity, request });
      current = { ...believed, key, ...asObject(answer, ['certificate']) };
    } finally {
      client.close();
    }
  }

  /** As it is now. Milliseconds until it is time again. */
  async function renew(): Promise<number> {
    if (account !== '') {
      await certified();
      const { from, to } = lifeOf(current.certificate as string);
      return (2 * (to - from)) / 3;
    }
    const now = readCredentials(credentialFiles);
    // The client makes new connections where it is another object.
    if (JSON.stringify(now) !== JSON.stringify(current)) current = now;
    return LOOK;
  }

  let said = '';
  async function turn(): Promise<number> {
    try {
      const pause = await renew();
      said = '';
      return pause;
    } catch (error) {
      const line = `what netkube shows to netmaster is not renewed; tried again: ${(error as Error).message}`;
      if (line !== said) failed(line);
      said = line;
      return AGAIN;
    }
  }

  let pause = account === '' ? LOOK : await turn();
  while (account !== '' && current.certificate === undefined) {
    await after(pause);
    pause = await turn();
  }
  void (async () => {
    for (;;) {
      await after(pause, undefined, { signal: stop.signal, ref: false });
      pause = await turn();
    }
  })().catch(() => {});
  return { credentials: () => current, close: () => stop.abort() };
}
