import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { shellWords } from './shellWords.ts';

it.each([
  'docker run -itd --name=web --net web.contiv-net contiv/lab sh',
  "docker inspect -f '{{.State.Pid}}' web",
  `sh -c 'exit 7' "two words" ''  --label="a b"c`,
  `echo 'a "quoted" $word' "it's; * one"`,
])('has the words that a shell has: %s', (line) => {
  const printed = execFileSync('sh', ['-c', `printf '%s\\n' ${line}`], { encoding: 'utf8' });
  expect(shellWords(line)).toEqual(printed.split('\n').slice(0, -1));
});

it.each(['echo $HOME', 'a | b', 'echo "$HOME"', 'ls *', "echo 'open", 'a; b', 'echo \\ a'])(
  'refuses a line that a shell would act on: %s',
  (line) => {
    expect(() => shellWords(line)).toThrow('not a line of words');
  },
);
