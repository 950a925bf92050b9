/** Text from outside: what may be kept, and how messages of one line show it. */

/** Control characters, halves of surrogate pairs, and Unicode's own line ends. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u2028\u2029]/u;
/** The same, and what turns the direction of the text behind it (Unicode UAX #9). */
const UNSEEN = /[\p{Cc}\p{Cs}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

export const isPrintable = (text: string): boolean => !UNPRINTABLE.test(text);

/** Leaves out the middle of what is longer, in a message what was given: the end says what would be right. */
function shorten(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const tail = Math.floor(limit * 0.4);
  return `${text.slice(0, limit - tail - 1)}…${text.slice(text.length - tail)}`;
}

/** The text as one line for people, of `limit` characters at most: what cannot be seen is escaped as in JSON. */
export function oneLine(text: string, limit = 400): string {
  // First, so that escaping does not look at megabytes; and once more, because that makes it longer.
  const line = shorten(text, limit).replace(
    UNSEEN,
    (c) => SHORT[c] ?? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  return shorten(line, limit);
}
const SHORT: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** A value of any shape for a message: `"web"`, `5`, `null`, `a list`, `an object`. */
export function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  return typeof value === 'string' ? `'${oneLine(value, 200)}'` : String(value);
}
