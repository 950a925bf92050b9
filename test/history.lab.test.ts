/** What judges the churn's histories (history.ts), on histories that are made up: it must see what is wrong, and take what is right. */
import { describe, expect, it } from 'vitest';
import { type Operation, outcomes, readHistory, violations } from './history.ts';

let count = 0;
const base = { client: 0, key: 'default:r', to: 'https://n' };
/** Sent and answered then; `before` is what its answer says was there. */
const known = (sent: number, answered: number, before: number, what: Partial<Operation>): Operation => ({
  ...{ n: count++, ...base, do: 'read', sent, answered, is: { before } },
  ...what,
});
const read = (sent: number, answered: number, before: number, what: Partial<Operation> = {}): Operation =>
  known(sent, answered, before, { do: 'read', ...what });
const write = (sent: number, answered: number, before: number, value: number): Operation =>
  known(sent, answered, before, { do: 'write', value });
const lost = (sent: number, value: number): Operation => ({
  ...{ n: count++, ...base, do: 'write', value, sent, answered: sent + 1, is: 'lost', why: '503 no answer' },
});
const failed = (sent: number, value: number): Operation => ({ ...lost(sent, value), is: 'failed' });

describe('refused is', () => {
  it.each<[string, Operation[]]>([
    ['a write that was acknowledged and is lost', [write(0, 1, 0, 7), write(2, 3, 7, 8), read(4, 5, 7)]],
    ['one that is gone', [write(0, 1, 0, 7), read(2, 3, 0)]],
    ['one that was refused and done', [write(0, 1, 0, 7), failed(2, 8), read(4, 5, 8)]],
    ['one that happened twice', [write(0, 1, 0, 7), lost(2, 8), write(4, 5, 8, 9), read(6, 7, 8)]],
    ['that two made one object', [write(0, 9, 0, 7), write(1, 8, 0, 8)]],
    ['a read that shows what was over', [write(0, 1, 0, 7), write(2, 3, 7, 8), read(4, 6, 8), read(7, 8, 7)]],
    ['what nobody wrote', [write(0, 1, 0, 7), read(2, 3, 5)]],
    ['a stale read of what came later', [read(0, 1, 7, { stale: true }), write(2, 3, 0, 7)]],
    ['a deletion of nothing', [known(0, 1, -1, { do: 'delete' })]],
  ])('%s', async (_, history) => {
    const [found = '', ...others] = await violations(history);
    expect(found).toContain('default:r: no order explains it\n  ');
    expect(found.split('\n')).toHaveLength(history.length + 1);
    expect(others).toEqual([]);
  });
});

describe('taken is', () => {
  it.each<[string, Operation[]]>([
    ['either order of two that meet', [write(0, 9, 0, 7), write(1, 8, 7, 8), read(2, 7, 0), read(3, 6, 7)]],
    [
      'one without an answer that was done later',
      [write(0, 1, 0, 7), lost(2, 8), read(4, 5, 7), read(6, 7, 8)],
    ],
    ['one without an answer that was never done', [write(0, 1, 0, 7), lost(2, 8), read(9, 10, 7)]],
    ['one that was refused', [write(0, 1, 0, 7), failed(2, 8), read(4, 5, 7)]],
    [
      'a read that says that it is stale',
      [write(0, 1, 0, 7), write(2, 3, 7, 8), read(4, 6, 7, { stale: true })],
    ],
    [
      'a deletion, and that there is nothing afterwards',
      [write(0, 1, 0, 7), known(2, 3, -1, { do: 'delete' }), known(4, 5, 0, { do: 'delete' }), read(6, 7, 0)],
    ],
  ])('%s', async (_, history) => {
    expect(await violations(history)).toEqual([]);
  });
});

it('of several objects the one is named that is wrong', async () => {
  const other = { key: 'default:s' };
  const found = await violations([
    write(0, 1, 0, 7),
    { ...write(0, 1, 0, 8), ...other },
    read(2, 3, 0, other),
    read(2, 3, 7),
  ]);
  expect(found).toHaveLength(1);
  expect(found[0]).toMatch(
    /^default:s: no order explains it\n {2}0\.0 to 1\.0 client 0 .* write 8: nothing was there\n/,
  );
});

it('a history is read up to where its writer was ended', () => {
  const sent = { n: 1, client: 0, key: 'k', do: 'write', value: 3, to: 'u', sent: 1 };
  const text = [sent, { n: 1, answered: 2, is: { before: 0 } }, { ...sent, n: 2 }]
    .map((line) => `${JSON.stringify(line)}\n`)
    .join('');
  const history = readHistory(`${text}{"n":2,"answ`);
  expect(history).toHaveLength(2);
  expect(outcomes(history)).toEqual({ done: 1, failed: 0, lost: 1, stale: 0 });
});
