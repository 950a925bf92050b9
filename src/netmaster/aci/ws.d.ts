/** It comes without types; of it netmaster uses the client, and the tests' fabric the server. */
declare module 'ws' {
  import type { EventEmitter } from 'node:events';
  import type { Agent, IncomingMessage } from 'node:http';
  import type { Duplex } from 'node:stream';

  export interface ClientOptions {
    agent?: Agent | undefined;
    /** Milliseconds until it is open. */
    handshakeTimeout?: number;
    /** Bytes of a message, at most. */
    maxPayload?: number;
    perMessageDeflate?: boolean;
    headers?: Readonly<Record<string, string>>;
  }

  /** Emits open, message, error, and close at the end in any case. */
  export class WebSocket extends EventEmitter {
    constructor(url: string, options?: ClientOptions);
    send(text: string): void;
    terminate(): void;
  }

  export class WebSocketServer extends EventEmitter {
    constructor(options: { noServer: true });
    handleUpgrade(
      request: IncomingMessage,
      socket: Duplex,
      head: Buffer,
      done: (socket: WebSocket) => void,
    ): void;
  }
}
