/** What the answer to a write says besides: which hosts are late, and what may surprise. */
import type { FastifyReply } from 'fastify';
import type { ObjectOutcome } from '../../protocol/declared.ts';
import { LATE_HEADER, WARNING_HEADER } from '../../protocol/wire.ts';
import type { Acknowledgements } from '../acknowledgements.ts';
import { hidingNames } from '../hidden.ts';
import type { Mirror } from '../mirror.ts';
import type { Writer } from '../writer.ts';

/** What handlers write with. */
export interface WriteParts {
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly acknowledgements: Acknowledgements;
}

/** A header has its limits. */
const MAX_WARNINGS = 10;

/** Names the hosts that have not applied it in time, but for the one that wrote it. */
export async function reportLate(
  acknowledgements: Acknowledgements,
  reply: FastifyReply,
  revision: number,
  seconds: number,
  writer?: string,
): Promise<string[]> {
  const late = await acknowledgements.wait(revision, seconds, writer);
  if (late.length > 0) void reply.header(LATE_HEADER, late.join(','));
  return late;
}

/** Of what was created: changes leave names as they are. */
export async function warn(
  reply: FastifyReply,
  created: readonly { readonly kind: string; readonly key: string }[],
): Promise<void> {
  const all = await hidingNames(created);
  const more = all.length - MAX_WARNINGS;
  const lines = more > 0 ? [...all.slice(0, MAX_WARNINGS), `and ${more} more such names`] : all;
  if (lines.length > 0) void reply.header(WARNING_HEADER, lines.join('; '));
}

export const createdOf = (outcomes: readonly ObjectOutcome[]): ObjectOutcome[] =>
  outcomes.filter(({ result }) => result === 'created');
