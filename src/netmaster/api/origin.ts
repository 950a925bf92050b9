/**
 * netmaster believes no browser. Whoever looks at a page of somebody else's has that page's scripts send requests to
 * netmaster from within: as a form or text that no preflight asks about, or, where the page's name has just been made to lead to
 * netmaster (DNS rebinding), as if the page were netmaster's own. Two headers tell, which scripts cannot set:
 *
 *   Host      what the client thinks it speaks to: an address or a name of netmaster's
 *   Origin    of whom the page is that asks: nobody's, for clients that are no browsers; browsers say it with every write
 *
 * A request without Host comes from no browser (HTTP/1.0, RFC 9112 3.2). Browsers tell of Sec-Fetch-Site what they send
 * to this machine itself or by TLS, also with a picture or a script of a page, which have no Origin (W3C Fetch Metadata).
 */
import type { IncomingMessage } from 'node:http';
import net from 'node:net';
import os from 'node:os';
import { shown } from '../../model/text.ts';
import { Refusal } from '../problem.ts';

const HEARD = 'browsers may have been led here';
/** That are remembered: clients ask by a few. */
const RIGHT = 100;
const READS = new Set(['GET', 'HEAD']);

/** `names`: how netmaster is called beside its addresses, the machine's host name, and where netctl asks by itself. */
export function openOrigins(names: readonly string[]): (request: IncomingMessage) => void {
  const host = os.hostname();
  const called = new Set(['localhost', 'netmaster', host, host.split('.')[0] as string, ...names].map(plain));

  /** Host and local address of requests that were for netmaster by what does not change while it runs. */
  const right = new Set<string>();

  /** Most requests: no browser's, and as one before it. */
  function isUsual({ url = '', headers, rawHeaders, socket }: IncomingMessage): boolean {
    const { host: said, origin, 'sec-fetch-site': site } = headers;
    if (said === undefined || origin !== undefined || site !== undefined || !url.startsWith('/'))
      return false;
    return hostsOf(rawHeaders).length === 1 && right.has(`${said} ${socket.localAddress}`);
  }

  function isLasting(name: string, local: string | undefined): boolean {
    if (called.has(name)) return true;
    if (net.isIP(name) === 0) return false;
    if (name === '::1' || (net.isIPv4(name) && name.startsWith('127.'))) return true;
    return local !== undefined && name === plain(local);
  }

  function isOwn(name: string, local: string | undefined): boolean {
    if (isLasting(name, local)) return true;
    if (net.isIP(name) === 0) return false;
    // Where the kernel has translated the address: asked last, since they are read anew.
    return Object.values(os.networkInterfaces()).some((all) => all?.some((a) => plain(a.address) === name));
  }

  /** Throws a Refusal where the request is not for netmaster, or a page of another's makes it. */
  return (request) => {
    if (isUsual(request)) return;
    const { method = '', url = '', headers, rawHeaders, socket } = request;
    const what = `${method} ${url}`;
    const target = /^[a-z]+:\/\/([^/?#]*)/i.exec(url)?.[1];
    const said = hostsOf(rawHeaders);
    const authorities = target === undefined ? said : [...said, target];
    for (const authority of authorities) {
      const name = nameOf(authority);
      if (name === undefined || !isOwn(name, socket.localAddress))
        throw new Refusal(
          421,
          `${what}: host ${shown(authority)} is not netmaster's, and ${HEARD}: ask by its address, or start netmaster with --name`,
        );
      if (target === undefined && right.size < RIGHT && isLasting(name, socket.localAddress))
        right.add(`${authority} ${socket.localAddress}`);
    }
    const { origin, 'sec-fetch-site': site } = headers;
    if (origin === undefined) {
      if (site !== undefined && site !== 'same-origin' && site !== 'none')
        throw new Refusal(403, `${what}: a page of another server asks; netmaster answers none but its own`);
      return;
    }
    const page = /^https?:\/\/([^/?#]*)$/i.exec(origin)?.[1];
    const name = page === undefined ? undefined : nameOf(page);
    const isSame = authorities.length > 0 && portOf(origin) === portOf(origin, authorities.at(-1));
    if (name === undefined || !isOwn(name, socket.localAddress) || !isSame)
      throw new Refusal(
        403,
        `${what}: origin ${shown(origin)} is not netmaster's, and it answers no page of another server`,
      );
    const type = headers['content-type'] ?? '';
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
    if (!READS.has(method) && hasBody && !/^application\/json\s*(?:;|$)/i.test(type))
      throw new Refusal(
        415,
        `${what}: content-type ${shown(type)} must be application/json where an origin is given`,
      );
  };
}

/** All of them: of several Node's `headers` has the first. */
function hostsOf(rawHeaders: readonly string[]): string[] {
  const found: string[] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') found.push(rawHeaders[i + 1] as string);
  }
  return found;
}

/** An address or name as it is compared: without brackets and zone, of one spelling. */
function plain(text: string): string {
  const name = text
    .toLowerCase()
    .replace(/^\[|\]$/g, '')
    .replace(/%.*$/, '');
  // A socket that listens on both families shows IPv4 peers like this (RFC 4291 2.5.5.2).
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(name)?.[1];
  if (mapped !== undefined) return mapped;
  return net.isIPv6(name) ? new URL(`http://[${name}]`).hostname.slice(1, -1) : name.replace(/\.$/, '');
}

/** The host of HOST[:PORT]; undefined where it is not of that form. */
function nameOf(authority: string): string | undefined {
  const match = /^(\[[\da-f:.]+\]|[\w.-]+)(?::\d{0,5})?$/i.exec(authority);
  return match === null ? undefined : plain(match[1] as string);
}

/** Of an origin, or of a host as that origin's scheme has it. */
function portOf(origin: string, authority?: string): string | undefined {
  const { protocol, port } = URL.parse(origin) ?? {};
  return authority === undefined ? port : URL.parse(`${protocol}//${authority}`)?.port;
}
