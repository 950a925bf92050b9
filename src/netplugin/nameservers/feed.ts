/** The agent's line to the process that answers names. */
import http from 'node:http';
import { lines } from '../../client/lines.ts';
import type { WatchedObject } from '../../protocol/messages.ts';
import { openPacker, type ServedRouter } from './parcel.ts';
import type { Health, Said, Told } from './protocol.ts';

/** Milliseconds until a process that does not say how it is does not answer queries either. */
const PATIENCE = 3000;

export interface Feed {
  list(objects: readonly WatchedObject[]): void;
  change(objects: readonly WatchedObject[]): void;
  /** True when the nameservers go by these routers and by all that was told before; false where the line has ended first. */
  serve(routers: readonly ServedRouter[]): Promise<boolean>;
  /** Resolves when it has, however that came. */
  readonly ended: Promise<void>;
  close(): void;
}

export function openFeed(socketPath: string): Feed {
  const pack = openPacker();
  const waiting = new Map<number, (holds: boolean) => void>();
  let last = 0;
  const request = http.request({ socketPath, method: 'POST', path: '/feed', agent: false });
  const ended = new Promise<void>((done) => {
    request.once('error', () => {}); // it is closed then
    request.once('close', done);
  }).then(() => {
    for (const done of waiting.values()) done(false);
    waiting.clear();
  });
  request.once('response', (response) => {
    void (async () => {
      for await (const line of lines(response)) {
        const { holds } = JSON.parse(line) as Said;
        for (const [id, done] of waiting)
          if (id <= holds) {
            waiting.delete(id);
            done(true);
          }
      }
    })()
      .catch(() => {})
      .finally(() => request.destroy());
  });
  request.flushHeaders();
  const tell = (told: Told): void => void request.write(`${JSON.stringify(told)}\n`);
  return {
    list: (objects) => tell({ type: 'list', objects }),
    change: (objects) => tell({ type: 'changes', objects }),
    serve(routers) {
      if (request.destroyed) return Promise.resolve(false);
      const id = ++last;
      tell({ type: 'routers', id, parcel: pack(routers) });
      return new Promise((done) => waiting.set(id, done));
    },
    ended,
    close: () => void request.destroy(),
  };
}

/** undefined where nobody answers in time. */
export function askHealth(socketPath: string): Promise<Health | undefined> {
  return new Promise((done) => {
    const request = http.get({ socketPath, path: '/health', agent: false, timeout: PATIENCE }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (piece) => {
        text += piece;
      });
      response.on('end', () => done(JSON.parse(text) as Health));
      response.on('error', () => done(undefined));
    });
    request.on('timeout', () => request.destroy());
    request.on('error', () => done(undefined));
  });
}
