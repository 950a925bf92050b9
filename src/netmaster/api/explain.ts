/** Routes that explain: traces, hits of rules and denied flows, and what agents send for them. */
import { Type } from '@sinclair/typebox';
import type { FastifyInstance } from 'fastify';
import type { FlowReport, LiveAnswer, NamedDeniedFlow, Trace } from '../../client/protocol.ts';
import type { Rule } from '../../model/rule.ts';
import { shown } from '../../model/text.ts';
import type { Flows } from '../flows.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import type { Questions } from '../questions.ts';
import { askHosts, trace } from '../trace.ts';
import { parameter, read, readQuery, readSwitch, registered } from './request.ts';

export interface Explaining {
  readonly mirror: Mirror;
  readonly flows: Flows;
  readonly questions: Questions;
}

/** Denied flows that inspect shows of a policy. */
const SHOWN = 10;

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** Milliseconds that a Date can hold (ECMA-262, time values). */
const Time = Type.Integer({ minimum: 0, maximum: 8.64e15 });
const Key = Type.String({ maxLength: 200 });
const Address = Type.String({ maxLength: 64 });
const Direction = Type.Union([Type.Literal('in'), Type.Literal('out')]);
const FlowReportSchema = Type.Object(
  {
    reporter: Type.String({ maxLength: 128 }),
    sequence: Count,
    hits: Type.Array(
      Type.Object({ rule: Key, packets: Count, bytes: Count }, { additionalProperties: false }),
    ),
    denied: Type.Array(
      Type.Object(
        {
          tenant: Type.String({ maxLength: 63 }),
          direction: Direction,
          from: Address,
          to: Address,
          protocol: Type.Integer({ minimum: 0, maximum: 255 }),
          port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
          rule: Key,
          count: Count,
          last: Time,
        },
        { additionalProperties: false },
      ),
    ),
    refused: Type.Optional(
      Type.Array(
        Type.Object(
          {
            endpoint: Key,
            reason: Type.Union([Type.Literal('source'), Type.Literal('connections')]),
            packets: Count,
            last: Time,
            address: Type.Optional(Address),
            mac: Type.Optional(Type.String({ maxLength: 17 })),
          },
          { additionalProperties: false },
        ),
      ),
    ),
  },
  { additionalProperties: false },
);
const LiveAnswerSchema = Type.Object(
  {
    verdict: Type.Union([Type.Literal('allow'), Type.Literal('deny')]),
    rule: Key,
    changed: Type.Array(Type.String({ maxLength: 1000 }), { maxItems: 1000 }),
    problem: Type.Optional(Type.String({ maxLength: 1000 })),
  },
  { additionalProperties: false },
);

export function routeExplain(api: FastifyInstance, { mirror, flows, questions }: Explaining): void {
  const tags = ['explain'];

  api.get('/api/v1/trace', { schema: { tags } }, async (request): Promise<Trace> => {
    const query = readQuery(request, ['tenant', 'from', 'to', 'protocol', 'port', 'live']);
    const { tenant = 'default', from = '', to = '', protocol = 'tcp', port } = query;
    const isLive = readSwitch(query, 'live');
    if (port !== undefined && !(/^\d{1,5}$/.test(port) && Number(port) >= 1 && Number(port) <= 65535))
      throw new Refusal(400, `port: ${shown(port)} must be 1 to 65535`, 'port');
    const traced = trace(mirror, {
      tenant,
      from,
      to,
      protocol,
      port: port === undefined ? undefined : Number(port),
    });
    if (!isLive) return traced;
    const live = await askHosts(traced, questions);
    const unasked = 'no kernel was asked: the packet comes to no rule, or an end has no container';
    return { ...traced, live, notes: live.length === 0 ? [...traced.notes, unasked] : traced.notes };
  });

  api.get('/api/v1/flows', { schema: { tags } }, async (request): Promise<NamedDeniedFlow[]> => {
    const query = readQuery(request, ['denied', 'tenant']);
    if (!readSwitch(query, 'denied'))
      throw new Refusal(400, 'denied: must be true: only denied flows are kept', 'denied');
    const { tenant } = query;
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
      const name = registered(request, mirror);
      flows.report(name, read<FlowReport>(`flows of host ${name}`, FlowReportSchema, request.body));
      return reply.status(204).send();
    },
  );
  api.post(
    '/api/v1/hosts/:name/answers/:id',
    { schema: { tags, body: LiveAnswerSchema } },
    async (request, reply) => {
      const name = registered(request, mirror);
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
