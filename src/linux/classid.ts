/**
 * A number of 32 bits as nft writes what `meta priority` holds: in two halves, hexadecimal, as the classes of tc(8) are
 * written; 0 is a word.
 */
export const classid = (number: number): string =>
  number === 0 ? 'none' : `${(number >>> 16).toString(16)}:${(number & 0xffff).toString(16)}`;
