/** What the API refuses, with the status and the one line that the caller gets. */
import type { Elsewhere } from '../model/kind.ts';
import { oneLine } from '../model/text.ts';

export class Refusal extends Error {
  readonly status: number;
  readonly code: string;
  readonly field: string | undefined;
  /** Of the object in the set that is refused, from 1. */
  readonly position: number | undefined;
  /** What who may not see a tenant that the message names is told in its place (model/kind.ts). */
  readonly elsewhere: Elsewhere | undefined;
  /** The message may hold what the caller sent, whatever that is: it becomes one line of a bounded length here. */
  constructor(status: number, message: string, field?: string, position?: number, elsewhere?: Elsewhere) {
    super(oneLine(message));
    this.status = status;
    this.code = CODES[status] ?? (status < 500 ? 'invalid' : 'internal');
    this.field = field === undefined ? undefined : oneLine(field, 64);
    this.position = position;
    this.elsewhere = elsewhere && { ...elsewhere, message: oneLine(elsewhere.message) };
  }
}

const CODES: Readonly<Record<number, string>> = {
  400: 'invalid',
  401: 'unauthorized',
  403: 'forbidden',
  404: 'not_found',
  405: 'method_not_allowed',
  408: 'timeout',
  409: 'conflict',
  410: 'compacted',
  413: 'too_large',
  414: 'too_large',
  415: 'unsupported_media_type',
  417: 'invalid',
  421: 'misdirected',
  422: 'unprocessable',
  423: 'late_host',
  429: 'too_many',
  431: 'too_large',
  503: 'unavailable',
};
