import { expect, it } from 'vitest';
import { FORMER_OF_BOTH, translateFlags } from './formerFlags.ts';

const FORMER = {
  ...FORMER_OF_BOTH,
  'listen-url': { as: 'listen' },
  etcd: { instead: 'write --store etcd://' },
};

it('a flag of 1.x is the one of ours that means the same, with one dash or two and its value either way', () => {
  expect(translateFlags(['--listen-url', ':9999', '-listen-url=:9998', '--listen', 'x'], FORMER)).toEqual([
    '--listen',
    ':9999',
    '--listen=:9998',
    '--listen',
    'x',
  ]);
});

it('of one that there is no more it is said what is there instead', () => {
  expect(() => translateFlags(['--store', 'memory', '-etcd=http://x'], FORMER)).toThrow(
    '--etcd is a flag of Contiv 1.x that there is no more: write --store etcd://',
  );
  expect(() => translateFlags(['--cluster-mode', 'docker'], FORMER)).toThrow('leave it out');
});

it('all other words are as they were', () => {
  const words = ['leave', '-h', '--', '--constructor', '-x', 'listen-url', '--listen-urls', ''];
  expect(translateFlags(words, FORMER)).toEqual(words);
});
