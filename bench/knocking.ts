/**
 * Sends a datagram each 10 ms to who sends it back, each a connection of its own, as what is established outlives the rule that let it pass. Prints
 * a line of JSON whenever they begin to be answered, or have ceased to be.
 *
 *   node bench/knocking.ts serve PORT          prints "listening"
 *   node bench/knocking.ts ADDRESS PORT
 */
import dgram from 'node:dgram';

export interface Turn {
  readonly answered: boolean;
  /** When the first answer came, or the last one: milliseconds since the epoch. */
  readonly at: number;
}

/** Milliseconds without an answer after which there is none any more: longer than a busy machine keeps a process waiting. */
const SILENCE = 2000;

const EVERY = 10;
/** Taken in turn: from one that was answered before, a connection is known for minutes. */
const [FIRST_PORT, LAST_PORT] = [1024, 65_535];

const [to = '', port] = process.argv.slice(2);
const now = (): number => performance.timeOrigin + performance.now();

if (to === 'serve') {
  const socket = dgram.createSocket('udp4');
  socket.on('message', (bytes, from) => socket.send(bytes, from.port, from.address));
  socket.bind(Number(port), () => process.stdout.write('listening\n'));
} else {
  let answered = false;
  let last = 0;
  let from = FIRST_PORT;
  const say = (turn: Turn): void => void process.stdout.write(`${JSON.stringify(turn)}\n`);
  setInterval(() => {
    const socket = dgram.createSocket('udp4');
    const ended = setTimeout(() => socket.close(), SILENCE);
    socket.on('error', () => {}); // whoever is refused tries again
    socket.on('message', () => {
      clearTimeout(ended);
      socket.close();
      last = now();
      if (!answered) say({ answered: true, at: last });
      answered = true;
    });
    socket.bind(from, () => socket.send('?', Number(port), to, () => {}));
    from = from === LAST_PORT ? FIRST_PORT : from + 1;
    if (answered && now() - last > SILENCE) {
      answered = false;
      say({ answered, at: last });
    }
  }, EVERY);
}
