/** What netmaster knows of hosts and of the whole cluster, for operators, and the removal of one that is away for good. */
import type { FastifyInstance } from 'fastify';
import { ROSTER } from '../../protocol/routes.ts';
import type { Store } from '../../store/store.ts';
import { decideRotation } from '../keyEpochs.ts';
import { presentEndpoint } from '../oper.ts';
import { decideDrain, decideHostRemoval, decideUndrain, endpointsOf, type Roster } from '../roster.ts';
import type { Security } from '../security.ts';
import { clusterStatus } from '../status.ts';
import { decideRevocation } from '../tokens.ts';
import { callerOf, waitSeconds } from './request.ts';
import { serve } from './serve.ts';
import { reportLate, type WriteParts } from './writes.ts';

export interface RosterParts extends WriteParts {
  readonly store: Store;
  readonly roster: Roster;
  readonly version: string;
  readonly security?: Security | undefined;
}

export function serveRoster(server: FastifyInstance, parts: RosterParts): void {
  const { mirror, writer, acknowledgements, roster } = parts;
  serve(server, ROSTER, {
    status: () => clusterStatus(parts),
    hostStates: () => roster.states(),
    hostState: ({ parameters: { name } }) => ({
      ...roster.state(name),
      endpoints: endpointsOf(mirror, name).map((endpoint) => presentEndpoint(endpoint, mirror)),
    }),
    async hostDrain({ parameters: { name }, query, request, reply }) {
      const seconds = waitSeconds(query);
      const { answer, revision } = await writer.write(() => decideDrain(mirror, name), callerOf(request));
      return { draining: answer, late: await reportLate(acknowledgements, reply, revision, seconds) };
    },
    async hostUndrain({ parameters: { name }, query, request, reply }) {
      const seconds = waitSeconds(query);
      const { revision } = await writer.write(() => decideUndrain(mirror, name), callerOf(request));
      return { late: await reportLate(acknowledgements, reply, revision, seconds) };
    },
    async rotateKeys({ query, request, reply }) {
      const seconds = waitSeconds(query);
      const { answer, revision } = await writer.write(() => decideRotation(mirror), callerOf(request));
      return { epoch: answer, late: await reportLate(acknowledgements, reply, revision, seconds) };
    },
    async hostRemove({ parameters: { name }, query, request, reply }) {
      const seconds = waitSeconds(query);
      const { answer, revision } = await writer.write(() => {
        const removal = decideHostRemoval(mirror, name);
        const revocation = decideRevocation(mirror, name);
        return {
          ...removal,
          checks: [...removal.checks, ...revocation.checks],
          writes: [...removal.writes, ...revocation.writes],
          events: [...(removal.events ?? []), ...(revocation.events ?? [])],
        };
      }, callerOf(request));
      const late = await reportLate(acknowledgements, reply, revision, seconds);
      return { revision, late, endpoints: answer };
    },
  });
}
