/**
 * A process that writes to the SQLite file of its argument until it is killed: transactions number 1, 2, 3, ... of
 * three keys each, and on stdout the number of each one that was acknowledged.
 */
import { writeSync } from 'node:fs';
import { openSqlite } from '../src/store/sqlite.ts';

const store = openSqlite(process.argv[2] ?? '');
const { entries } = await store.list('a/');
let number = Math.max(0, ...entries.map((e) => Number(e.key.slice(2))));

async function write(): Promise<never> {
  for (;;) {
    const mine = ++number;
    // Some are larger than a page, so that a transaction is more than one write to the file.
    const value = { number: mine, text: 'x'.repeat((mine % 10) * 1000) };
    await store.transact(
      [],
      ['a', 'b', 'c'].map((part) => ({ key: `${part}/${mine}`, value })),
    );
    writeSync(1, `${mine}\n`);
    await new Promise(setImmediate);
  }
}

await Promise.all(Array.from({ length: 8 }, write));
