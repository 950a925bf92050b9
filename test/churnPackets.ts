/** What senders and receivers of the churn (churn.ts) have in common: a packet's contents, which the receiver keeps as they are. */

/** Who sends, where to, and how many there are before. All clocks of a machine's containers are one. */
export interface Sent {
  readonly sender: number;
  readonly flow: number;
  /** Of the sender's start, which counts anew. */
  readonly run: number;
  readonly sequence: number;
  /** Milliseconds of the monotonic clock, when it was sent. */
  readonly at: number;
}

export const SIZE = 24;

export function writeSent(into: Buffer, { sender, flow, run, sequence, at }: Sent): Buffer {
  into.writeUInt16BE(sender, 0);
  into.writeUInt16BE(flow, 2);
  into.writeUInt32BE(run, 4);
  into.writeUInt32BE(sequence, 8);
  into.writeDoubleBE(at, 16);
  return into;
}

export const readSent = (from: Buffer, offset: number): Sent => ({
  sender: from.readUInt16BE(offset),
  flow: from.readUInt16BE(offset + 2),
  run: from.readUInt32BE(offset + 4),
  sequence: from.readUInt32BE(offset + 8),
  at: from.readDoubleBE(offset + 16),
});

export const now = (): number => Number(process.hrtime.bigint() / 1000n) / 1000;

/** Ports of receivers: who may send to the first does so all the time; who may send to the others changes. */
export const FLOWS = { always: 7001, byRule: 7002, byGroup: 7003, tcp: 7004 } as const;

/** What a sender's container is told: one packet in so many milliseconds from each thread, `burst` of them at once. */
export interface Stream {
  readonly to: string;
  readonly port: number;
  readonly burst: number;
  readonly everyMs: number;
  /** One thread on each of two processors, both on one socket; else one. */
  readonly threads: 1 | 2;
}
