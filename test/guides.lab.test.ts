/** README.md, docs/guide and docs/operate, line by line as somebody types them (guides.ts), in the order in which the README names them. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Block, blocks, openGuide, pages } from './guides.ts';
import { clear, differences, on, until } from './lab.ts';

/** What one page leaves is what the next ones go on with, from the quick start on. */
const LEAVES = (page: string): boolean => page !== 'README.md';

const guide = openGuide();
afterAll(async () => {
  guide.close();
  await clear();
});

// What the file before has changed by hand, and was put right, the doctor finds for a minute.
beforeAll(async () => {
  await until(
    'a host with which nothing is wrong',
    async () => (await on('node1', 'netctl doctor')).status === 0,
    120,
  );
});

let failed = false;
beforeEach((context) => {
  if (failed) context.skip('a line before this did not hold');
});
afterEach((context) => {
  failed ||= context.task.result?.state === 'fail';
});

const PAGES = pages().filter((page) => blocks(page).some(({ mark }) => mark.kind === 'typed'));
describe.each(PAGES)('%s', (page) => {
  const sections = new Map<string, Block[]>();
  for (const block of blocks(page))
    if (['typed', 'file'].includes(block.mark.kind))
      sections.set(block.section, [...(sections.get(block.section) ?? []), block]);
  it.each([...sections])('%s', async (_, section) => {
    for (const block of section) await guide.type(block);
  });
  if (!LEAVES(page)) it('leaves what clear() takes away', () => clear());
});

it('and kernel, names and netmaster are as they should be', async () => {
  expect(await differences()).toBe('');
});
