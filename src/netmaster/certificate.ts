/**
 * netmaster's own certificate while it runs. Its files are looked at again and again: what somebody has put there (`netmaster init --renew`, a PKI of
 * their own) is what new connections are shown, and where the authority's key is there too, a certificate that is to end is made anew as
 * `netmaster init` does it. Connections that are open go on as they are.
 */
import type { Logger } from 'pino';
import { inTurn } from '../turns.ts';
import { initOwn, isDue } from './init.ts';
import type { Security } from './security.ts';

/** Milliseconds. */
const LOOK = 10_000;

export interface KeptCertificate {
  /** What it was at first, and says when it is another. */
  readonly security: Security;
  close(): Promise<void>;
}

/**
 * `read`: what is there now; throws an Error with one plain line where it does not go together. `folder`: where `netmaster init` has made it; absent: it is of a
 * PKI that renews it itself.
 */
export function keepCertificate(
  first: Security,
  read: () => Security | undefined,
  folder: string | undefined,
  log: Logger,
): KeptCertificate {
  const users = new Set<(now: Security) => void>();
  let current = first;

  /** Answers whether the authority's key is there too. */
  function take(): boolean {
    const now = read();
    if (now === undefined) throw new Error(`${folder}: netmaster.crt is not there any more`);
    if (now.authority !== first.authority)
      throw new Error('ca.crt is another one, which netmaster goes by when it is started again');
    if (now.certificate !== current.certificate) {
      const next = { ...first, certificate: now.certificate, key: now.key };
      for (const use of users) use(next);
      // Not before all have it: where one does not take it, the next look tries again, and says so.
      current = next;
      log.info('new connections are shown a new certificate of netmaster');
    }
    return now.issuer !== undefined;
  }

  async function look(): Promise<void> {
    if (!take() || folder === undefined || !isDue(current.certificate, current.authority)) return;
    log.info(await initOwn(folder));
    take();
  }

  let failed = '';
  let told = '';
  const looks = inTurn(
    async () => {
      await look();
      failed = told = '';
    },
    {
      again: () => LOOK,
      failed(error) {
        const { message } = error as Error;
        // Key and certificate are written one after the other, and do not go together in between: told where it stays so.
        if (message === failed && message !== told) {
          log.warn(`netmaster's certificate is not taken anew or renewed; tried again: ${message}`);
          told = message;
        }
        failed = message;
      },
    },
  );
  looks.soon(LOOK);

  return {
    security: { ...first, renewed: (use) => void users.add(use) },
    close: () => looks.close(),
  };
}
