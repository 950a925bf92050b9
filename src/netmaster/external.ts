/** External endpoints: what hosts find of them, and how they are shown beside endpoints. */
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import type { Failing, StoredExternalEndpoint } from '../model/externalEndpoint.ts';
import { memberOf } from '../model/externalMember.ts';
import { oneLine } from '../model/text.ts';
import type { CheckedReport } from '../protocol/messages.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { View } from './tables.ts';
import type { Decision } from './writer.ts';

export function externalMember(view: View, external: StoredExternalEndpoint): Endpoint {
  const { tenantName, groupName } = external;
  const group = view.get<EndpointGroup>('endpointGroup', `${tenantName}:${groupName}`);
  return memberOf(external, group?.networkName ?? '');
}

/** Of a tenant: those that refer to it. */
export const externalMembers = (view: View, tenant: string): readonly Endpoint[] =>
  view
    .users<StoredExternalEndpoint>('tenant', tenant, 'externalEndpoint')
    .map((external) => externalMember(view, external));

/**
 * What a host found that asked: written where it is another than before, so that a machine that is down costs one write, however many
 * hosts ask it and however often. `now`: milliseconds, Unix time.
 */
export function decideChecked(
  view: View,
  host: string,
  { endpoint: key, healthCheck, problem }: CheckedReport,
  now = Date.now(),
): Decision<undefined> {
  const nothing = { checks: [], writes: [], answer: undefined };
  const stored = view.stored<StoredExternalEndpoint>('externalEndpoint', key);
  // Deleted meanwhile, or declared anew with another check.
  if (stored === undefined || stored.object.healthCheck !== healthCheck) return nothing;
  const { failing, ...external } = stored.object;
  if ((failing === undefined) === (problem === undefined)) return nothing;
  // The machinery of a tenant's is asked by hosts that have something of that tenant's.
  const { tenantName } = external;
  if (!view.users<Endpoint>('tenant', tenantName, 'endpoint').some((e) => e.homingHost === host))
    throw new Refusal(
      403,
      `host ${host} has no endpoint of tenant ${tenantName}, and does not ask its external endpoints`,
    );
  const why = problem === undefined ? undefined : oneLine(problem, 200);
  const value: StoredExternalEndpoint =
    why === undefined
      ? external
      : { ...external, failing: { host, since: new Date(now).toISOString(), why } satisfies Failing };
  return {
    checks: [{ key: storeKey('externalEndpoint', key), revision: stored.revision }],
    writes: [{ key: storeKey('externalEndpoint', key), value }],
    answer: undefined,
    events: [
      {
        kind: 'endpoint',
        action: why === undefined ? 'recovered' : 'failed',
        object: 'externalEndpoint',
        key,
        tenant: tenantName,
        host,
        fields: {},
        text: `${healthCheck} ${why === undefined ? 'is answered again' : `fails: ${why}`}`,
      },
    ],
  };
}

/** By its key, or by its name where one alone has it. */
export function findExternal(view: View, name: string): StoredExternalEndpoint | undefined {
  const exact = view.get<StoredExternalEndpoint>('externalEndpoint', name);
  if (exact !== undefined) return exact;
  const [found, ...others] = view
    .list<StoredExternalEndpoint>('externalEndpoint')
    .filter(({ endpointName }) => endpointName === name);
  return others.length === 0 ? found : undefined;
}
