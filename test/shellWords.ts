const WORD = /(?:[^\s'"]|'[^']*'|"[^"]*")+/g;
/** What a shell would act on, or an open quote. */
const ACTED_ON = /[$`\\|&;<>()*?'"]/;
const QUOTED = /'([^']*)'|"([^"$`\\]*)"/g;

/** The words of a line as it is typed, with quotes where a word has spaces. Throws where a line needs a shell. */
export function shellWords(line: string): string[] {
  if (ACTED_ON.test(line.replaceAll(QUOTED, ''))) throw new Error(`not a line of words: ${line}`);
  return (line.match(WORD) ?? []).map((word) => word.replaceAll(QUOTED, '$1$2'));
}
