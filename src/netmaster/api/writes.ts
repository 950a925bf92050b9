/** What the answer to a write says besides: which hosts are late, what it changed, and what may surprise. */
import type { FastifyReply } from 'fastify';
import type { Kind } from '../../model/kind.ts';
import type { FieldChanges, ObjectOutcome } from '../../protocol/declared.ts';
import { AWAY_HEADER, CHANGES_HEADER, LATE_HEADER, WARNING_HEADER } from '../../protocol/wire.ts';
import type { Acknowledgements } from '../acknowledgements.ts';
import type { Plain } from '../fields.ts';
import { hidingNames } from '../hidden.ts';
import type { Mirror } from '../mirror.ts';
import type { Writer } from '../writer.ts';

/** What handlers write with. */
export interface WriteParts {
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly acknowledgements: Acknowledgements;
}

/** A header has its limits; bytes of the changes. */
const MAX_WARNINGS = 10;
const MAX_HOSTS = 50;
const MAX_CHANGES = 4096;

/** Clients refuse an answer with more than 16 KiB of headers: `node1,node2,and 300 more`. */
export function listed(names: readonly string[]): string {
  const first = names.slice(0, MAX_HOSTS);
  const more = names.length - first.length;
  return [...first, ...(more === 0 ? [] : [`and ${more} more`])].join(',');
}

/** Names the hosts that have not applied it in time, but for the one that wrote it, and those that are away. */
export async function reportLate(
  acknowledgements: Acknowledgements,
  reply: FastifyReply,
  revision: number,
  seconds: number,
  writer?: string,
): Promise<string[]> {
  const late = await acknowledgements.wait(revision, seconds, writer);
  if (late.length > 0) void reply.header(LATE_HEADER, listed(late));
  const away = acknowledgements.away(revision);
  if (away.length > 0) void reply.header(AWAY_HEADER, listed(away));
  return late;
}

/** Says what became another of an object that was there before. */
export function reportChanges(reply: FastifyReply, { result, fields }: ObjectOutcome): void {
  if (result !== 'changed' || fields === undefined) return;
  const whole = ascii(fields);
  const names = (): FieldChanges => Object.fromEntries(Object.keys(fields).map((field) => [field, {}]));
  void reply.header(CHANGES_HEADER, whole.length <= MAX_CHANGES ? whole : ascii(names()));
}

const ascii = (value: unknown): string =>
  JSON.stringify(value).replace(
    /[^ -~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );

/** An object that was sent, and what came of it. */
export interface WrittenObject {
  readonly kind: Kind;
  readonly object: Plain;
  readonly outcome: ObjectOutcome;
}

/** Of what was written: names that hide others, and what nothing acts on or does not count. */
export async function warn(reply: FastifyReply, written: readonly WrittenObject[]): Promise<void> {
  // Changes leave names as they are.
  const created = written.flatMap(({ outcome }) => (outcome.result === 'created' ? [outcome] : []));
  const all = [...(await hidingNames(created)), ...written.flatMap(newRemarks)];
  const more = all.length - MAX_WARNINGS;
  const lines = more > 0 ? [...all.slice(0, MAX_WARNINGS), `and ${more} more such warnings`] : all;
  if (lines.length > 0) void reply.header(WARNING_HEADER, lines.join('; '));
}

/** Remarks on an object that did not hold for what it was before. */
function newRemarks({ kind, object, outcome: { key, result, fields = {} } }: WrittenObject): string[] {
  if (result === 'unchanged') return [];
  const said = (of: Plain): string[] =>
    [kind.note?.(of as never) ?? [], kind.remarks?.(of as never) ?? []].flat();
  const before = Object.entries(fields).map(([field, change]) => [field, change.before] as const);
  const known = result === 'created' ? [] : said({ ...object, ...Object.fromEntries(before) });
  const what = kind.name === key ? key : `${kind.name} ${key}`;
  return said(object).flatMap((line) => (known.includes(line) ? [] : [`${what}: ${line}`]));
}
