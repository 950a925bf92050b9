/** Routes that explain: traces, hits of rules and denied flows, and what agents send for them. */
import { Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import type { FlowReport, LiveAnswer, NamedDeniedFlow, Trace } from '../../client/protocol.ts';
import type { Rule } from '../../model/rule.ts';
import type { Flows } from '../flows.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import type { Questions } from '../questions.ts';
import { askHosts, trace } from '../trace.ts';
import { parameter, query, read } from './request.ts';

export interface Explaining {
  readonly mirror: Mirror;
  readonly flows: Flows;
  readonly questions: Questions;
}

/** Denied flows that inspect shows of a policy. */
const SHOWN = 10;

const Count = Type.Integer({ minimum: 0 });
const Direction = Type.Union([Type.Literal('in'), Type.Literal('out')]);
const FlowReportSchema = Type.Object(
  {
    reporter: Type.String(),
    sequence: Count,
    hits: Type.Array(
      Type.Object({ rule: Type.String(), packets: Count, bytes: Count }, { additionalProperties: false }),
    ),
    denied: Type.Array(
      Type.Object(
        {
          tenant: Type.String(),
          direction: Direction,
          from: Type.String(),
          to: Type.String(),
          protocol: Type.Integer({ minimum: 0, maximum: 255 }),
          port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
          rule: Type.String(),
          count: Count,
          last: Count,
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
);
const LiveAnswerSchema = Type.Object(
  {
    verdict: Type.Union([Type.Literal('allow'), Type.Literal('deny')]),
    rule: Type.String(),
    changed: Type.Array(Type.String()),
    problem: Type.Optional(Type.String()),
  },
  { additionalProperties: false },
);

export function routeExplain(api: FastifyInstance, { mirror, flows, questions }: Explaining): void {
  const tags = ['explain'];

  api.get('/api/v1/trace', { schema: { tags } }, async (request): Promise<Trace> => {
    const port = query(request, 'port');
    if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535))
      throw new Refusal(400, `port: '${port}' must be 1 to 65535`, 'port');
    const traced = trace(mirror, {
      tenant: query(request, 'tenant') ?? 'default',
      from: query(request, 'from') ?? '',
      to: query(request, 'to') ?? '',
      protocol: query(request, 'protocol') ?? 'tcp',
      port: port === undefined ? undefined : Number(port),
    });
    if (query(request, 'live') !== 'true') return traced;
    const live = await askHosts(traced, questions);
    const unasked = 'no kernel was asked: the packet comes to no rule, or an end has no container';
    return { ...traced, live, notes: live.length === 0 ? [...traced.notes, unasked] : traced.notes };
  });

  api.get('/api/v1/flows', { schema: { tags } }, async (request): Promise<NamedDeniedFlow[]> => {
    if (query(request, 'denied') !== 'true')
      throw new Refusal(400, 'denied: must be true: only denied flows are kept', 'denied');
    const tenant = query(request, 'tenant');
    if (tenant !== undefined && mirror.get('tenant', tenant) === undefined)
      throw new Refusal(404, `tenant ${tenant} does not exist`, 'tenant');
    const tenants =
      tenant === undefined
        ? mirror.list<{ tenantName: string }>('tenant').map((t) => t.tenantName)
        : [tenant];
    return tenants.flatMap((t) => flows.denied(t)).sort((a, b) => a.last - b.last);
  });

  api.post(
    '/api/v1/hosts/:name/flows',
    { schema: { tags, body: FlowReportSchema } },
    async (request, reply) => {
      const name = parameter(request, 'name');
      flows.report(name, read<FlowReport>(`flows of host ${name}`, FlowReportSchema, request.body));
      return reply.status(204).send();
    },
  );
  api.post(
    '/api/v1/hosts/:name/answers/:id',
    { schema: { tags, body: LiveAnswerSchema } },
    async (request, reply) => {
      const name = parameter(request, 'name');
      const answer = read<LiveAnswer>(`answer of host ${name}`, LiveAnswerSchema, request.body);
      questions.answer(name, parameter(request, 'id'), answer);
      return reply.status(204).send();
    },
  );
}

/** For inspect of a policy: its rules that decided something, with how often, and whom it denied last. */
export function policyFlows(key: string, { mirror, flows }: Explaining): Record<string, unknown> {
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
