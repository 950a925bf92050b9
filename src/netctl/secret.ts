/** Passwords: asked for on a terminal, which does not show them, or read as lines of standard input. Never on the command line, which is everybody's to read. */
import { UsageError } from './command.ts';

export interface Input extends AsyncIterable<Buffer | string> {
  readonly isTTY?: boolean;
  setRawMode?(raw: boolean): unknown;
}

export interface Output {
  write(text: string): unknown;
}

/** A password is no novel. */
const LONGEST = 1024;

/** Throws a UsageError where the input ends, two answers differ, or Ctrl-C is typed. */
export function openSecrets(input: Input, output: Output): (question: string, is?: 'new') => Promise<string> {
  const pieces = input[Symbol.asyncIterator]();
  let rest = '';

  /** Characters as they come. */
  async function next(): Promise<string | undefined> {
    if (rest === '') {
      const { value, done } = await pieces.next();
      if (done) return undefined;
      rest = String(value);
    }
    const [first = ''] = rest;
    rest = rest.slice(first.length);
    return first;
  }

  async function line(): Promise<string> {
    let text = '';
    for (;;) {
      const character = await next();
      if (character === '\u0003') throw new UsageError('ended by Ctrl-C');
      if (!input.isTTY && character === '\r') continue; // of a file with lines that end in CR LF
      if (character === undefined || character === '\n' || character === '\r' || character === '\u0004')
        return text;
      if (input.isTTY && (character === '\u007f' || character === '\b'))
        text = [...text].slice(0, -1).join('');
      else text += character;
      if (text.length > LONGEST) throw new UsageError(`a password has ${LONGEST} characters at most`);
    }
  }

  async function asked(question: string): Promise<string> {
    output.write(`${question}: `);
    input.setRawMode?.(true);
    try {
      return await line();
    } finally {
      input.setRawMode?.(false);
      output.write('\n');
    }
  }

  return async (question, is) => {
    if (!input.isTTY) return line();
    const first = await asked(question);
    if (is === 'new' && (await asked(`${question}, again`)) !== first)
      throw new UsageError('the two passwords differ');
    return first;
  };
}
