import { expect, it } from 'vitest';
import { table } from './table.ts';

const LONG = 'x'.repeat(40);

it('a table is as wide as it needs where no width is given, or it fits', () => {
  const whole = ['Name  Value', '----  -----', `web   ${LONG}`];
  expect(table(['Name', 'Value'], [['web', LONG]])).toEqual(whole);
  expect(table(['Name', 'Value'], [['web', LONG]], 46)).toEqual(whole);
});

it('what does not fit is cut in the widest columns, and all of the width is used', () => {
  const lines = table(['Name', 'A', 'B'], [['web', LONG, `${LONG}y`]], 41);
  expect(lines).toEqual([
    'Name  A                  B',
    '----  -                  -',
    `web   ${'x'.repeat(16)}…  ${'x'.repeat(15)}…`,
  ]);
  expect(Math.max(...lines.map((line) => line.length))).toBe(41);
});

it('no column is made narrower than can be read', () => {
  expect(table(['A', 'B'], [[LONG, LONG]], 5)).toEqual(['A       B', '-       -', 'xxxxx…  xxxxx…']);
});

it('lists and objects are shown in a cell', () => {
  expect(table(['A', 'B'], [[['a', 'b'], { c: 1 }]])[2]).toBe('a,b  {"c":1}');
});
