/** Routes that explain: traces, hits of rules and denied flows, and what agents send for them. */
import type { FastifyInstance } from 'fastify';
import { type NetworkPolicy, networkPolicyName, networkPolicyRuleName } from '../../model/networkPolicy.ts';
import type { Rule } from '../../model/rule.ts';
import { shown } from '../../model/text.ts';
import type { BackendTrace, Trace } from '../../protocol/messages.ts';
import { EXPLAIN } from '../../protocol/routes.ts';
import type { Counts, Flows } from '../flows.ts';
import type { Mirror } from '../mirror.ts';
import { decideTold } from '../occurrences.ts';
import { Refusal } from '../problem.ts';
import type { Questions } from '../questions.ts';
import { mustHave, viewOf } from '../scope.ts';
import { askHosts, trace } from '../trace.ts';
import type { Writer } from '../writer.ts';
import { callerOf, readSwitch, registered, scopeOf } from './request.ts';
import { serve } from './serve.ts';

export interface Explaining {
  readonly mirror: Mirror;
  readonly flows: Flows;
  readonly questions: Questions;
  /** Of all netmasters. */
  counts(): Promise<Counts>;
}

/** Denied flows that inspect shows of a policy. */
const SHOWN = 10;

export function serveExplain(
  server: FastifyInstance,
  { mirror, flows, questions, counts, writer }: Explaining & { readonly writer: Writer },
): void {
  serve(server, EXPLAIN, {
    async trace({ query, request }) {
      const scope = scopeOf(request);
      const { tenant = 'default', from = '', to = '', protocol = 'tcp', port } = query;
      const isLive = readSwitch(query, 'live');
      if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535))
        throw new Refusal(400, `port: ${shown(port)} must be 1 to 65535`, 'port');
      mustHave(scope, tenant, 'trace', 'tenant');
      const traced = trace(viewOf(mirror, scope), {
        tenant,
        from,
        to,
        protocol,
        port: port === undefined ? undefined : Number(port),
      });
      if (!isLive) return traced;
      if (traced.service === undefined) return withKernels(traced, questions);
      const backends = traced.service.backends.map((backend) => withKernels(backend, questions));
      return { ...traced, service: { ...traced.service, backends: await Promise.all(backends) } };
    },

    async flows({ query, request }) {
      const [isDenied, isAllowed] = [readSwitch(query, 'denied'), readSwitch(query, 'allowed')];
      if (isDenied === isAllowed)
        throw new Refusal(400, 'denied: one of denied and allowed must be true', 'denied');
      const { tenant } = query;
      if (tenant !== undefined && mirror.get('tenant', tenant) === undefined)
        throw new Refusal(404, `tenant ${tenant} does not exist`, 'tenant');
      const tenants =
        tenant === undefined
          ? viewOf(mirror, scopeOf(request))
              .list<{ tenantName: string }>('tenant')
              .map((t) => t.tenantName)
          : [tenant];
      const { denied, allowed } = await counts();
      return tenants.flatMap(isDenied ? (t) => denied(t) : (t) => allowed(t)).sort((a, b) => a.last - b.last);
    },

    async report({ parameters: { name }, body, request }) {
      const host = registered(name, mirror);
      const report = body(`flows of host ${host}`);
      flows.report(host, report);
      const { reporter, events = [] } = report;
      if (events.length > 0)
        await writer.write(() => decideTold(mirror, host, reporter, events), callerOf(request));
    },
    answer({ parameters: { name, id }, body }) {
      const host = registered(name, mirror);
      questions.answer(host, id, body(`answer of host ${host}`));
    },
  });
}

async function withKernels<T extends Trace | BackendTrace>(traced: T, questions: Questions): Promise<T> {
  const live = await askHosts(traced, questions);
  const unasked = 'no kernel was asked: the packet comes to no rule, or an end has no container';
  return { ...traced, live, notes: live.length === 0 ? [...traced.notes, unasked] : traced.notes };
}

/** For inspect of a policy: its rules that decided something, with how often, and whom it denied last. */
export async function policyFlows(
  key: string,
  { mirror, counts }: Pick<Explaining, 'mirror' | 'counts'>,
): Promise<Record<string, unknown>> {
  const flows = await counts();
  const rules = mirror.users<Rule>('policy', key, 'rule');
  const hits = rules.flatMap((rule) => {
    const found = flows.hits(`${key}:${rule.ruleId}`);
    return found === undefined ? [] : [{ ruleId: rule.ruleId, action: rule.action, ...found }];
  });
  const [tenant = ''] = key.split(':');
  const denied = flows.denied(tenant).filter((flow) => flow.rule.startsWith(`${key}:`));
  return {
    ...(hits.length === 0 ? {} : { hits }),
    ...(denied.length === 0 ? {} : { denied: denied.slice(-SHOWN) }),
  };
}

/** The same of a network policy, and how often it denied as no rule accepted. */
export async function networkPolicyFlows(
  policy: NetworkPolicy,
  { mirror, counts }: Pick<Explaining, 'mirror' | 'counts'>,
): Promise<Record<string, unknown>> {
  const flows = await counts();
  const names = [networkPolicyName(policy), ...policy.rules.map((_, i) => networkPolicyRuleName(policy, i))];
  const hits = names.flatMap((rule) => {
    const found = flows.hits(rule);
    return found === undefined ? [] : [{ rule, ...found }];
  });
  const tenants = mirror.list<{ tenantName: string }>('tenant').map((t) => t.tenantName);
  const denied = tenants
    .flatMap((tenant) => flows.denied(tenant))
    .filter((flow) => names.includes(flow.rule))
    .sort((a, b) => a.last - b.last);
  return {
    ...(hits.length === 0 ? {} : { hits }),
    ...(denied.length === 0 ? {} : { denied: denied.slice(-SHOWN) }),
  };
}
