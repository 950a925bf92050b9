/** What the doctor says: a line for each thing that it looked at. */

export interface Finding {
  /** What it is about: `kernel`, `way to node2`, `container web`. */
  readonly of: string;
  /** `unknown`: it could not be looked at; why not is a finding too, or none of this host's faults. */
  readonly state: 'ok' | 'wrong' | 'unknown';
  readonly text: string;
  /** What mends it, where it is wrong. */
  readonly remedy?: string;
}

export const ok = (of: string, text: string): Finding => ({ of, state: 'ok', text });
export const unknown = (of: string, text: string): Finding => ({ of, state: 'unknown', text });
export const wrong = (of: string, text: string, remedy: string): Finding => ({
  of,
  state: 'wrong',
  text,
  remedy,
});

export const findingLine = ({ of, state, text, remedy }: Finding): string =>
  `${state.padEnd(7)}  ${of}: ${text}${remedy === undefined ? '' : ` -> ${remedy}`}`;

/** The last line. */
export function summary(findings: readonly Finding[]): string {
  const count = findings.filter(({ state }) => state === 'wrong').length;
  if (count > 0) return `${count} finding${count === 1 ? '' : 's'}`;
  return findings.some(({ state }) => state === 'unknown')
    ? 'nothing is wrong as far as could be looked'
    : 'all is well';
}
