/**
 * An answer of lines that has no end. Behind it no request is answered, so when its head is written its connection is taken from
 * Node's http: what that keeps to read requests, and of this one, is three quarters of what an open answer costs. What is written are
 * chunks (RFC 9112, 7.1); for a client of HTTP/1.0 the lines as they are.
 *
 * Node gives connections away to who asks for an upgrade, and looks for that whenever it has read something. There is no
 * other way of its own, so the request is made one that asks.
 */
import { type EventEmitter, once } from 'node:events';
import type { Socket } from 'node:net';
import type { FastifyReply, FastifyRequest } from 'fastify';

export interface Lines {
  /** Its `close`, `writableLength`, ... are what tells how it takes them. */
  readonly socket: Socket;
  /** Whole lines; `taken` is called when the kernel has them, or the connection is gone. */
  write(lines: Buffer, taken: () => void): void;
  /** `taken` is called when that is so of the head of the answer, which may wait behind what was asked for before. */
  begun(taken: () => void): void;
}

const NOTHING = Buffer.alloc(0);
const END = Buffer.from('\r\n');

/** A request may have come behind others on its connection, which are answered first. */
export async function turnOf({ raw: out }: FastifyReply): Promise<void> {
  if (out.socket === null && !out.destroyed) await Promise.race([once(out, 'socket'), once(out, 'close')]);
}

/**
 * Writes the head of the answer, when it is its turn. undefined: the client has gone, or has sent a request behind this one, for whose
 * answer it would wait in vain.
 */
export function openLines({ raw: asked }: FastifyRequest, reply: FastifyReply): Lines | undefined {
  reply.hijack();
  const { raw: out } = reply;
  // Node asks the server that the connection came to.
  const socket = asked.socket as Socket & { readonly server: EventEmitter };
  if (socket.destroyed) return undefined;
  out.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  out.flushHeaders();
  const { chunkedEncoding } = out;

  let isTaken = false;
  const take = (): void => {
    isTaken = true;
  };
  Object.assign(asked, { upgrade: true });
  socket.server.once('upgrade', take);
  socket.emit('data', NOTHING);
  socket.server.off('upgrade', take);
  if (!isTaken) {
    socket.destroy();
    return undefined;
  }
  out.detachSocket(socket);
  socket.on('error', () => {}); // it is closed then
  socket.on('end', () => socket.destroy());
  socket.resume(); // what is said meanwhile is for nobody, but its end is read

  return {
    socket,
    write(lines, taken) {
      if (!chunkedEncoding) {
        socket.write(lines, taken);
        return;
      }
      socket.cork();
      socket.write(`${lines.length.toString(16)}\r\n`, 'latin1');
      socket.write(lines);
      socket.write(END, taken);
      socket.uncork();
    },
    begun: (taken) => void socket.write(NOTHING, taken),
  };
}
