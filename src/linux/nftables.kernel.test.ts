import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import koffi from 'koffi';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { isolate } from '../../test/isolation.ts';
import { createNamespace, deleteNamespace, inNamespace, namespacePath } from './netns.ts';
import { type Nft, NftError, openNft } from './nftables.ts';

const libc = koffi.load('libc.so.6');
const dup = libc.func('int dup(int fd)');
const dup2 = libc.func('int dup2(int fd, int as)');
let nft: Nft;

beforeAll(() => {
  isolate();
  nft = openNft();
});
afterAll(() => nft.close());
beforeEach(() => nft.run('flush ruleset'));

const tables = (context: Nft): string[] =>
  context
    .list('list tables')
    .flatMap((item) => ('table' in item ? [(item.table as { name: string }).name] : []));

const elements = (set: string): unknown =>
  nft
    .list(`list set inet t ${set}`)
    .flatMap((item) => ('set' in item ? [(item.set as { elem?: unknown }).elem] : []))[0];

it('works where the process has more files open than select(2) can wait for', () => {
  const low = 1024;
  const files: number[] = [];
  // As many as there are: whoever comes next is above.
  while ((files.at(-1) ?? 0) < low) files.push(fs.openSync('/dev/null', 'r'));
  onTestFinished(() => {
    for (const fd of files) fs.closeSync(fd);
  });
  // One that is held for it; then an error, where the process would have ended.
  const one = openNft();
  one.run('add table inet t');
  expect(tables(one)).toEqual(['t']);
  expect(openNft).toThrow(/file descriptors/);
  one.close();
});

it('lists what it has no JSON for, and nothing is on standard error', () => {
  nft.run(`table inet t {
    map stay { type ipv4_addr : classid; size 16; flags dynamic,timeout; timeout 1d; }
    chain c { update @stay { ip saddr timeout 9s : meta priority }; }
  }`);
  const file = path.join(fs.mkdtempSync(path.join(os.tmpdir(), 'nft-')), 'stderr');
  const [kept, fd] = [dup(2), fs.openSync(file, 'w')];
  try {
    dup2(fd, 2);
    expect(JSON.stringify(nft.list('list table inet t'))).toContain('update @stay');
    fs.writeSync(2, 'heard');
  } finally {
    dup2(kept, 2);
    for (const each of [kept, fd]) fs.closeSync(each);
  }
  expect(fs.readFileSync(file, 'utf8')).toBe('heard');
  fs.rmSync(path.dirname(file), { recursive: true });
});

describe('run', () => {
  it('takes commands that list then shows', () => {
    nft.run('table inet t { set s { type ipv4_addr; }; chain c { ip saddr @s accept; }; }');
    nft.run('add element inet t s { 10.1.1.2, 10.1.1.1 }');
    expect(tables(nft)).toEqual(['t']);
    expect(elements('s')).toEqual(expect.arrayContaining(['10.1.1.1', '10.1.1.2']));
  });

  it('is all or nothing', () => {
    nft.run('table inet t { set s { type ipv4_addr; }; }');
    expect(() =>
      nft.run('add element inet t s { 10.1.1.1 }\nadd element inet t nowhere { 10.1.1.2 }'),
    ).toThrow(NftError);
    expect(elements('s')).toBeUndefined();
  });

  it("throws nft's first line, which says what is wrong", () => {
    const message = (commands: string): string => {
      try {
        nft.run(commands);
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    };
    expect(message('delete table inet nowhere')).toMatch(/Error: .*No such file or directory/);
    expect(message('gibberish here')).toMatch(/Error: syntax error/);
    expect(message('gibberish here')).not.toContain('\n');
  });

  it('works on after an error', () => {
    expect(() => nft.run('gibberish')).toThrow();
    nft.run('add table inet t');
    expect(tables(nft)).toEqual(['t']);
  });

  it('takes commands larger than a socket buffer', () => {
    nft.run('table inet t { set s { type ipv4_addr; }; }');
    const many = Array.from({ length: 20_000 }, (_, i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
    nft.run(`add element inet t s { ${many.join(', ')} }`);
    expect(elements('s')).toHaveLength(many.length);
  });
});

describe('list', () => {
  it('is empty where there is nothing', () => {
    expect(tables(nft)).toEqual([]);
  });

  it('writes protocols and priorities as numbers', () => {
    nft.run(
      'table inet t { map m { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { tcp . 80 : 10.1.1.1 . 8080 }; }; chain c { type filter hook input priority filter; }; }',
    );
    const listing = JSON.stringify(nft.list('list table inet t'));
    expect(listing).toContain('{"concat":[6,80]}');
    expect(listing).toContain('"prio":0');
  });

  it('throws where the table is not there', () => {
    expect(() => nft.list('list table inet nowhere')).toThrow(/No such file or directory/);
  });

  it('shows what others changed since', () => {
    const other = openNft();
    nft.run('add table inet t');
    expect(tables(other)).toEqual(['t']);
    nft.run('delete table inet t');
    expect(tables(other)).toEqual([]);
    other.close();
  });
});

it('a context stays in the namespace that it was opened in', () => {
  createNamespace('t-nft');
  try {
    const there = inNamespace(namespacePath('t-nft'), openNft);
    there.run('add table inet there');
    nft.run('add table inet here');
    expect(tables(there)).toEqual(['there']);
    expect(tables(nft)).toEqual(['here']);
    there.close();
  } finally {
    deleteNamespace('t-nft');
  }
});
