/**
 * The daemon's control socket, as birdc(8) speaks to it: a command is a line; each line of the answer begins with a code of four digits and
 * `-`, the last one with a code and a blank, and one that begins with a blank has the code of the line before. Codes from 8000 on are
 * refusals, from 9000 on wrong commands.
 */
import net from 'node:net';

/** Milliseconds until a daemon that does not answer is stuck. */
const PATIENCE = 5000;

export interface Control {
  /** Lines of the answer without codes. Rejects where it is a refusal, or the daemon has ended. One at a time. */
  ask(command: string): Promise<string[]>;
  /** When the connection is over: the daemon has ended, however that came. */
  readonly ended: Promise<void>;
  close(): void;
}

/** Rejects where nobody listens. */
export async function openControl(path: string): Promise<Control> {
  const socket = net.connect(path);
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  let lines: string[] = [];
  let rest = '';
  let waiting: { done(lines: string[]): void; failed(error: Error): void } | undefined;

  function settle(code: number): void {
    const [answer, asked] = [lines, waiting];
    lines = [];
    waiting = undefined;
    if (code >= 8000) asked?.failed(new Error(`bird: ${answer.at(-1)}`));
    else asked?.done(answer);
  }
  socket.setEncoding('utf8');
  socket.on('data', (piece: string) => {
    const all = `${rest}${piece}`.split('\n');
    rest = all.pop() ?? '';
    for (const line of all) {
      const [, code, more, text] = /^(\d{4})([- ])(.*)$/.exec(line) ?? [];
      lines.push(code === undefined ? line.replace(/^ /, '') : (text as string));
      if (more === ' ') settle(Number(code));
    }
  });
  socket.on('error', () => {}); // it is closed then
  socket.on('close', () => {
    waiting?.failed(new Error('bird has ended'));
    waiting = undefined;
    end();
  });

  const answer = (): Promise<string[]> =>
    new Promise((done, failed) => {
      const timer = setTimeout(() => {
        socket.destroy();
        failed(new Error(`bird does not answer within ${PATIENCE / 1000} s`));
      }, PATIENCE);
      const over = (): void => clearTimeout(timer);
      waiting = {
        done(lines) {
          over();
          done(lines);
        },
        failed(error) {
          over();
          failed(error);
        },
      };
    });
  let last: Promise<unknown> = answer(); // it says which version it is
  try {
    await last;
  } catch (error) {
    throw new Error(`no bird at ${path}: ${(error as Error).message}`);
  }
  return {
    ask(command) {
      const asked = last
        .catch(() => {})
        .then(() => {
          if (socket.destroyed) throw new Error('bird has ended');
          const answered = answer();
          socket.write(`${command}\n`);
          return answered;
        });
      last = asked;
      return asked;
    },
    ended,
    close: () => void socket.destroy(),
  };
}
