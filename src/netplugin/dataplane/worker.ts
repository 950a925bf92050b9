/** The thread that owns the kernel: calls come as messages, run one after the other, and are answered by id. */
import { parentPort } from 'node:worker_threads';
import { startClock } from '../clock.ts';
import { type Applier, openApplier } from './apply.ts';
import type { TimedReport } from './index.ts';
import { openUnpacker, type Parcel } from './parcel.ts';

export interface CallMessage {
  readonly id: number;
  readonly call: keyof Applier;
  readonly args: readonly unknown[];
}

export type AnswerMessage =
  | { readonly id: number; readonly value: unknown }
  | { readonly id: number; readonly error: string };

const port = parentPort;
if (port === null) throw new Error('worker.ts runs as a worker thread');
const applier = openApplier();
const unpack = openUnpacker();
/** As they come from the other thread: a state is packed. */
const calls: Record<keyof Applier, (...args: never[]) => unknown> = {
  ...applier,
  apply(parcel: Parcel, options: { verify: boolean }): TimedReport {
    const clock = startClock();
    const report = applier.apply(unpack(parcel), options);
    return { ...report, ...clock() };
  },
};

port.on('message', ({ id, call, args }: CallMessage) => {
  try {
    const run = calls[call] as (...args: readonly unknown[]) => unknown;
    port.postMessage({ id, value: run(...args) } satisfies AnswerMessage);
  } catch (error) {
    port.postMessage({ id, error: (error as Error).message } satisfies AnswerMessage);
  }
});
