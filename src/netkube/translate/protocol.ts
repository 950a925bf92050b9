/** Protocols as Kubernetes names them. */

const NUMBERS: Readonly<Record<string, number>> = { TCP: 6, UDP: 17, SCTP: 132 };

/** IANA number. TCP where none is named, as the API defines. */
export function protocolOf(name = 'TCP'): number {
  const number = NUMBERS[name];
  if (number === undefined) throw new Untranslatable(`protocol '${name}' must be TCP, UDP or SCTP`);
  return number;
}

/** An object that netmaster has nothing for. The message says what of it, and what would do. */
export class Untranslatable extends Error {}
