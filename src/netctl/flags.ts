/**
 * Command lines in all spellings of 1.x: `-flag value`, `--flag=value`, short names of several letters (`-s6`),
 * before, between or after the arguments; `--` ends the flags.
 */
import { type Flag, UsageError } from './command.ts';

export interface Parsed {
  readonly args: string[];
  readonly values: Map<string, string[]>;
}

export function parseFlags(words: readonly string[], flags: readonly Flag[]): Parsed {
  const byName = new Map(
    flags.flatMap((f) => [[f.name, f] as const, ...(f.short ? [[f.short, f] as const] : [])]),
  );
  const args: string[] = [];
  const values = new Map<string, string[]>();
  for (let i = 0; i < words.length; i++) {
    const word = words[i] as string;
    if (word === '--') {
      args.push(...words.slice(i + 1));
      break;
    }
    if (!word.startsWith('-') || word === '-') {
      args.push(word);
      continue;
    }
    const [, name = '', inline] = /^--?([^=]*)(?:=(.*))?$/s.exec(word) ?? [];
    const flag = byName.get(name);
    if (flag === undefined) {
      const near = nearest(name, [...byName.keys()]);
      throw new UsageError(
        `unknown flag ${word.split('=')[0]}${near === undefined ? '' : `: did you mean --${byName.get(near)?.name}?`}`,
      );
    }
    let value = inline;
    if (flag.kind === 'switch') {
      value ??= 'true';
      if (value !== 'true' && value !== 'false')
        throw new UsageError(`--${flag.name}: '${value}' must be true or false`);
    } else if (value === undefined) {
      value = words[++i];
      if (value === undefined)
        throw new UsageError(`--${flag.name} needs a value: --${flag.name}=${flag.value ?? 'VALUE'}`);
    }
    if (flag.kind === 'number' && !/^\d{1,15}$/.test(value))
      throw new UsageError(`--${flag.name}: '${value}' must be a whole number`);
    const before = flag.kind === 'list' ? (values.get(flag.name) ?? []) : [];
    values.set(flag.name, [...before, value]);
  }
  for (const flag of flags)
    if (flag.required && values.get(flag.name)?.every((value) => value === '') !== false)
      throw new UsageError(`--${flag.name} is missing: ${flag.help}`);
  return { args, values };
}

/** No name is longer; the distance to long words takes long. */
const MAX_NAME = 32;

/** The candidate that is at most two edits away, or the only one that begins so. */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  if (word.length > MAX_NAME) return undefined;
  const longer = word.length < 2 ? [] : candidates.filter((c) => c.startsWith(word));
  if (longer.length === 1) return longer[0];
  const scored = candidates.map((c) => ({ c, d: distance(word, c) })).sort((a, b) => a.d - b.d);
  return scored[0] !== undefined && scored[0].d <= Math.min(2, word.length - 1) ? scored[0].c : undefined;
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(
        (row[j] as number) + 1,
        (next[j - 1] as number) + 1,
        (row[j - 1] as number) + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
    row = next;
  }
  return row[b.length] as number;
}
