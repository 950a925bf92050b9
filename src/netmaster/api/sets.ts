/** Many objects at once: protocol/declared.ts. */
import type { FastifyInstance } from 'fastify';
import { KINDS, kindByName } from '../../model/kinds.ts';
import { shown } from '../../model/text.ts';
import type { ObjectOutcome } from '../../protocol/declared.ts';
import { SETS } from '../../protocol/routes.ts';
import { type Declared, decideApply, exportSet, readSet } from '../batch.ts';
import { Refusal } from '../problem.ts';
import { callerOf, readSwitch, waitSeconds } from './request.ts';
import { serve } from './serve.ts';
import { reportLate, type WriteParts, type WrittenObject, warn } from './writes.ts';

export function serveSets(server: FastifyInstance, { mirror, writer, acknowledgements }: WriteParts): void {
  serve(server, SETS, {
    async apply({ query, request, reply }) {
      const seconds = waitSeconds(query);
      const dryRun = readSwitch(query, 'dryRun');
      const set = readSet(request.body);
      if (dryRun) {
        const { answer } = decideApply(set, mirror);
        await warn(reply, writtenOf(set, answer));
        return { dryRun: true, revision: mirror.revision, objects: answer };
      }
      const { answer, revision } = await writer.write(() => decideApply(set, mirror), callerOf(request));
      await warn(reply, writtenOf(set, answer));
      await reportLate(acknowledgements, reply, revision, seconds);
      return { dryRun: false, revision, objects: answer };
    },
    export({ query: { kind } }) {
      if (kind !== undefined && !kindByName.has(kind))
        throw new Refusal(
          404,
          `kind: ${shown(kind)} must be one of ${KINDS.map((k) => k.name).join(', ')}`,
          'kind',
        );
      return { objects: exportSet(mirror, kind) };
    },
  });
}

const writtenOf = (set: readonly Declared[], outcomes: readonly ObjectOutcome[]): WrittenObject[] =>
  set.map(({ kind, object, position }) => ({
    kind,
    object,
    outcome: outcomes[position - 1] as ObjectOutcome,
  }));
