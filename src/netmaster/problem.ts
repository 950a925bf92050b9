/** What the API refuses, with the status and the one line that the caller gets. */
export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly field: string | undefined;
  /** Of the object in the set that is refused, from 1. */
  readonly position: number | undefined;
  constructor(status: number, message: string, field?: string, position?: number) {
    super(message);
    this.status = status;
    this.code = CODES[status] ?? 'internal';
    this.field = field;
    this.position = position;
  }
}

const CODES: Readonly<Record<number, string>> = {
  400: 'invalid',
  404: 'not_found',
  405: 'method_not_allowed',
  409: 'conflict',
  410: 'compacted',
  413: 'too_large',
  415: 'unsupported_media_type',
  422: 'unprocessable',
  503: 'unavailable',
};
