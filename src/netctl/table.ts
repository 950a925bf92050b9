/** Aligned columns under a ruled heading. */

/** Narrower than this no column is made. */
const NARROW = 6;

/** `width`: characters that a line may have; absent: as many as it needs. What does not fit is cut in the widest columns. */
export function table(
  titles: readonly string[],
  rows: readonly (readonly unknown[])[],
  width = Number.POSITIVE_INFINITY,
): string[] {
  const cells = rows.map((row) => row.map(cell));
  const needed = titles.map((title, i) => Math.max(title.length, ...cells.map((row) => row[i]?.length ?? 0)));
  const widths = fitted(needed, width - 2 * (titles.length - 1));
  const line = (row: readonly string[]): string =>
    row
      .map((text, i) => cut(text, widths[i] ?? 0).padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd();
  return [line(titles), line(titles.map((title) => '-'.repeat(title.length))), ...cells.map(line)];
}

const cut = (text: string, width: number): string =>
  text.length <= width ? text : `${text.slice(0, width - 1)}…`;

/** The widest are as wide as leaves room for all; where there is no room even for narrow ones, the lines are longer. */
function fitted(needed: readonly number[], width: number): readonly number[] {
  const sum = (most: number): number => needed.reduce((total, one) => total + Math.min(one, most), 0);
  let most = Math.max(...needed);
  if (sum(most) <= width) return needed;
  while (most > NARROW && sum(most) > width) most--;
  let left = Math.max(0, width - sum(most));
  return needed.map((one) => {
    if (one <= most) return one;
    const more = Math.min(1, left);
    left -= more;
    return most + more;
  });
}

function cell(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (Array.isArray(value)) return value.map(cell).join(',');
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
