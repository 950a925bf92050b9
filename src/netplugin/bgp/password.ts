/**
 * The password of a host's sessions (TCP MD5, RFC 2385): a file on that host, root's alone, which netmaster knows by name only. So it is in no
 * object, store, backup or export, in no command line and no log.
 */
import fs from 'node:fs';

export type Password = { readonly text: string } | { readonly problem: string; readonly remedy: string };

/** Bytes that the kernel takes (TCP_MD5SIG_MAXKEYLEN, linux/tcp.h). */
const LONGEST = 80;

export function readPassword(file: string): Password {
  const wrong = (problem: string, remedy: string): Password => ({
    problem: `BGP: ${file} ${problem}`,
    remedy,
  });
  const stat = fs.lstatSync(file, { throwIfNoEntry: false });
  if (stat === undefined)
    return wrong('is not there, so no session is begun', 'put the password of the sessions there, mode 0600');
  if (!stat.isFile()) return wrong('is not a file', 'put a file there, mode 0600');
  if ((stat.mode & 0o077) !== 0 || stat.uid !== 0)
    return wrong('is not root’s alone', `chown root ${file}; chmod 600 ${file}`);
  const text = fs.readFileSync(file, 'utf8').replace(/\r?\n$/, '');
  // The daemon's configuration has no way to write a quotation mark in a text.
  if (!/^[\x20-\x21\x23-\x7e]+$/.test(text) || text.length > LONGEST)
    return wrong(
      'is not one line with a password',
      `write one line of at most ${LONGEST} characters of ASCII, without quotation marks`,
    );
  return { text };
}
