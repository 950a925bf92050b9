/** Errors as the CNI specification has them: a code and one plain line. */
export const CODES = {
  incompatible: 1,
  unknownContainer: 3,
  environment: 4,
  io: 5,
  decoding: 6,
  configuration: 7,
  tryAgainLater: 11,
  /** STATUS: no ADD can be served. */
  unavailable: 50,
  /** From 100 on they are a plugin's own. Refused by netmaster or the kernel. */
  refused: 100,
  /** CHECK: something differs from what was given. */
  differs: 101,
} as const;

export class CniError extends Error {
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}
