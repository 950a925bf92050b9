/** Numbers and tables of them, for people. */
import fs from 'node:fs';

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

/** `share` 0.5 is the middle. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export const shown = (value: number | undefined): string => {
  if (value === undefined || Number.isNaN(value)) return '-';
  return value >= 100 ? Math.round(value).toString() : value.toFixed(value >= 10 ? 1 : 2);
};

/** Of the rounds that both had, the one's value divided by the other's. */
export const ratiosTo = (ones: readonly number[], others: readonly number[]): number[] =>
  ones.slice(0, others.length).map((value, round) => value / (others[round] as number));

/** A line that says whether the median of ratios to a peer's reaches a bound, by what is printed. `words` before it, `peer` behind it. */
export function ratioVerdict(
  words: string,
  ratios: readonly number[],
  peer: string,
  bound: number,
  better: 'higher' | 'lower',
): string {
  const rounded = Math.round(median(ratios) * 100) / 100;
  const met = better === 'higher' ? rounded >= bound : rounded <= bound;
  const quartiles = `(quartiles ${shown(quantile(ratios, 0.25))}, ${shown(quantile(ratios, 0.75))})`;
  const wanted = `wanted at ${better === 'higher' ? 'least' : 'most'} ${bound}`;
  return `${met ? 'pass' : 'FAIL'}  ${words} ${shown(median(ratios))} ${quartiles} of ${peer}, ${wanted}`;
}

/** Columns in line: words to the left (the first `words` ones and the last), numbers to the right. */
export function textTable(lines: readonly (readonly string[])[], words: number): string {
  const widths = (lines[0] ?? []).map((_, column) =>
    Math.max(...lines.map((line) => (line[column] as string).length)),
  );
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          column < words || column === line.length - 1
            ? cell.padEnd(widths[column] as number)
            : cell.padStart(widths[column] as number),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Of a process that runs, user and system, in seconds. */
export function processorTime(pid: number | undefined): number {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** Of a process that runs: a field in kB of a file of /proc, such as Pss of smaps_rollup or VmHWM of status, in megabytes. */
export function megabytes(pid: number | undefined, file: string, field: string): number {
  const text = fs.readFileSync(`/proc/${pid}/${file}`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(text)?.[1]) / 1024;
}
