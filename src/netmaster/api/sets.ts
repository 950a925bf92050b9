/** Many objects at once: protocol/declared.ts. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { KINDS, kindByName } from '../../model/kinds.ts';
import { checkWord } from '../../model/names.ts';
import { shown } from '../../model/text.ts';
import type { ObjectOutcome } from '../../protocol/declared.ts';
import { SETS } from '../../protocol/routes.ts';
import { applySet, type Declared, exportSet, type Named, readSet, readTargets, removeSet } from '../batch.ts';
import { Refusal } from '../problem.ts';
import { viewOf } from '../scope.ts';
import { whomOf } from './access.ts';
import { callerOf, readSwitch, scopeOf, waitSeconds } from './request.ts';
import { serve } from './serve.ts';
import { reportLate, type WriteParts, type WrittenObject, warn } from './writes.ts';

function readNamed(name: string | undefined, prune: boolean): Named | undefined {
  if (name === undefined && prune)
    throw new Refusal(400, 'set: is missing: prune needs the name of the set whose objects go', 'set');
  if (name === undefined) return undefined;
  const problem = checkWord('set', 'set', name);
  if (problem !== undefined) throw new Refusal(400, problem.message, 'set');
  return { name, prune };
}

/** Of a set an orchestrator's controller writes what it might write one by one; nobody's sets are its. */
function holdToOrchestrators({ identity }: FastifyRequest, set: readonly Declared[], named?: Named): void {
  if (identity?.role !== 'orchestrator') return;
  const whom = whomOf(identity);
  if (named !== undefined) throw new Refusal(403, `set ${named.name}: ${whom} may not name one`, 'set');
  const other = set.find(({ kind }) => !kind.forOrchestrators);
  if (other !== undefined)
    throw new Refusal(403, `${other.kind.name}: ${whom} may not write objects of this kind`, 'kind');
}

export function serveSets(server: FastifyInstance, { mirror, writer, acknowledgements }: WriteParts): void {
  serve(server, SETS, {
    async apply({ query, request, reply }) {
      const seconds = waitSeconds(query);
      const dryRun = readSwitch(query, 'dryRun');
      const named = readNamed(query.set, readSwitch(query, 'prune'));
      const set = readSet(request.body);
      holdToOrchestrators(request, set, named);
      const [deciding, caller, scope] = [{ mirror, writer }, callerOf(request), scopeOf(request)];
      const { answer, revision } = await applySet(set, named, dryRun, deciding, caller, scope);
      await warn(reply, writtenOf(set, answer));
      if (!dryRun) await reportLate(acknowledgements, reply, revision, seconds);
      return { dryRun, revision, objects: answer };
    },
    async removeSet({ query, request, reply }) {
      const seconds = waitSeconds(query);
      const dryRun = readSwitch(query, 'dryRun');
      const targets = readTargets(request.body);
      const [deciding, caller, scope] = [{ mirror, writer }, callerOf(request), scopeOf(request)];
      const { answer, revision } = await removeSet(targets, dryRun, deciding, caller, scope);
      if (!dryRun) await reportLate(acknowledgements, reply, revision, seconds);
      return { dryRun, revision, objects: answer };
    },
    export({ query: { kind }, request }) {
      if (kind !== undefined && !kindByName.has(kind))
        throw new Refusal(
          404,
          `kind: ${shown(kind)} must be one of ${KINDS.map((k) => k.name).join(', ')}`,
          'kind',
        );
      const scope = scopeOf(request);
      return { objects: exportSet(viewOf(mirror, scope), kind, scope) };
    },
  });
}

const writtenOf = (set: readonly Declared[], outcomes: readonly ObjectOutcome[]): WrittenObject[] =>
  set.map(({ kind, object, position }) => ({
    kind,
    object,
    outcome: outcomes[position - 1] as ObjectOutcome,
  }));
