/**
 * What SQLite leaves out of a write-ahead log when it opens one, which it does without a word: everything behind the last
 * frame that ends a transaction and whose checksum, which goes on from frame to frame, holds (sqlite.org/fileformat2.html,
 * 4.1 to 4.4; the names are that page's).
 *
 *   header (32 bytes: magic, version, page size, count, salt-1, salt-2, checksum) frame frame ...
 *   frame: page number, size of the database where it ends a transaction, salt-1, salt-2, checksum; then the page
 *
 * A log is begun anew from its top with salt-1 one higher and a salt-2 by chance. What is behind the new frames then is of an
 * earlier time, was taken into the database long ago, and is not missing.
 */
import fs from 'node:fs';

const HEADER = 32;
const FRAME = 24;
/** Beginnings after which frames still count as an earlier time's: more than a log ever sees. */
const EARLIER = 1 << 24;

export interface LeftOut {
  /** Where it begins in the file. */
  readonly from: number;
  readonly bytes: number;
}

/** undefined: nothing, also where there is no log. Of a file that nobody writes meanwhile. */
export function leftOutOf(wal: string): LeftOut | undefined {
  if (!fs.existsSync(wal)) return undefined;
  const file = fs.openSync(wal, 'r');
  try {
    return judge(file, fs.fstatSync(file).size);
  } finally {
    fs.closeSync(file);
  }
}

function judge(file: number, size: number): LeftOut | undefined {
  if (size === 0) return undefined;
  const header = Buffer.alloc(HEADER);
  if (fs.readSync(file, header, 0, HEADER, 0) < HEADER) return { from: 0, bytes: size };
  const isLittle = header.readUInt32BE(0) === 0x377f0682;
  const pageSize = header.readUInt32BE(8);
  const salts = [header.readUInt32BE(16), header.readUInt32BE(20)] as const;
  let sum = checksum([0, 0], header.subarray(0, 24), isLittle);
  if (sum[0] !== header.readUInt32BE(24) || sum[1] !== header.readUInt32BE(28))
    return { from: 0, bytes: size };

  const frame = Buffer.alloc(FRAME + pageSize);
  let isIntact = true;
  /** End of the last transaction that is whole. */
  let end = HEADER;
  /** End of what was written since the log was begun. */
  let written = HEADER;
  for (let at = HEADER; at < size; at += frame.length) {
    const length = fs.readSync(file, frame, 0, frame.length, at);
    const salt = length < FRAME ? undefined : [frame.readUInt32BE(8), frame.readUInt32BE(12)];
    const age = salt === undefined ? 0 : (salts[0] - (salt[0] as number)) >>> 0;
    const isEarlier = age > 0 && age < EARLIER && frame.readUInt32BE(0) !== 0;
    // The rest of a frame that is too short to tell is of the time that those before it are of.
    if (isEarlier || (salt === undefined && written < at)) {
      isIntact = false;
      continue;
    }
    written = at + length;
    if (!isIntact || length < frame.length || salt?.[0] !== salts[0] || salt[1] !== salts[1]) {
      isIntact = false;
      continue;
    }
    sum = checksum(checksum(sum, frame.subarray(0, 8), isLittle), frame.subarray(FRAME), isLittle);
    isIntact = sum[0] === frame.readUInt32BE(16) && sum[1] === frame.readUInt32BE(20);
    if (isIntact && frame.readUInt32BE(4) !== 0) end = written;
  }
  return written === end ? undefined : { from: end, bytes: written - end };
}

type Sum = readonly [number, number];

/** Goes on from `start`; the length is a multiple of 8. */
function checksum(start: Sum, bytes: Buffer, isLittle: boolean): Sum {
  let [a, b] = start;
  for (let i = 0; i < bytes.length; i += 8) {
    a = (a + (isLittle ? bytes.readUInt32LE(i) : bytes.readUInt32BE(i)) + b) >>> 0;
    b = (b + (isLittle ? bytes.readUInt32LE(i + 4) : bytes.readUInt32BE(i + 4)) + a) >>> 0;
  }
  return [a, b];
}
