/**
 * Passwords as they are kept: argon2id, as a PHC string, so that each says how it was made and later ones may cost more.
 *
 *   $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH
 *
 * A hash takes 19 MiB and some 30 ms of a processor, by design. So they are made one after the other, and only so many wait: whoever may
 * ask without showing who he is (the route of logins) must not fill this machine's memory by it.
 */
import { argon2, randomBytes, timingSafeEqual } from 'node:crypto';
import { Refusal } from './problem.ts';

/** KiB, and passes: OWASP's password storage cheat sheet. */
const COST = { memory: 19_456, passes: 2, parallelism: 1 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** That wait for their turn at most: a second of work. */
const WAITING = 32;

interface Made {
  readonly memory: number;
  readonly passes: number;
  readonly parallelism: number;
  readonly salt: Buffer;
  readonly hash: Buffer;
}

let last: Promise<unknown> = Promise.resolve();
let waiting = 0;

function derive(password: string, { salt, hash, ...cost }: Made): Promise<Buffer> {
  if (waiting >= WAITING)
    throw new Refusal(429, 'passwords: too many are being checked: try again in a moment');
  waiting++;
  const made = last.then(
    () =>
      new Promise<Buffer>((done, fail) => {
        // The same text is typed as other characters on other machines (NIST SP 800-63B).
        const message = password.normalize('NFKC');
        const parameters = { ...cost, message, nonce: salt, tagLength: hash.length };
        argon2('argon2id', parameters, (error, derived) => (error ? fail(error) : done(derived)));
      }),
  );
  last = made.catch(() => {}).finally(() => waiting--);
  return made;
}

const text = (bytes: Buffer): string => bytes.toString('base64').replace(/=+$/, '');

function write({ memory, passes, parallelism, salt, hash }: Made): string {
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${text(salt)}$${text(hash)}`;
}

function read(kept: string): Made {
  const match = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([\w+/]+)\$([\w+/]+)$/.exec(kept);
  if (match === null) throw new Error('a password in the store is of no known form');
  const [memory, passes, parallelism] = match.slice(1, 4).map(Number) as [number, number, number];
  const [salt, hash] = match.slice(4).map((part) => Buffer.from(part, 'base64')) as [Buffer, Buffer];
  return { memory, passes, parallelism, salt, hash };
}

const draft = (): Made => ({ ...COST, salt: randomBytes(SALT_BYTES), hash: randomBytes(HASH_BYTES) });

export async function hashPassword(password: string): Promise<string> {
  const made = draft();
  return write({ ...made, hash: await derive(password, made) });
}

/** Of nobody's password: what is compared where there is no such user, which is to take as long. */
const NOBODYS = draft();

/** `kept` undefined: there is no such user. Throws a Refusal where too many ask at once. */
export async function isPassword(password: string, kept: string | undefined): Promise<boolean> {
  const made = kept === undefined ? NOBODYS : read(kept);
  const same = timingSafeEqual(await derive(password, made), made.hash);
  return same && kept !== undefined;
}
