/**
 * A rule of a policy: which first packets of connections pass to (`in`) or from (`out`) the endpoints of the groups
 * that carry the policy. The matching rule with the highest priority number decides, at equal priority deny.
 */
import { type Static, Type } from '@sinclair/typebox';
import { parsePrefix } from './address.ts';
import type { EndpointGroup } from './endpointGroup.ts';
import type { Kind, Problem, Reference, World } from './kind.ts';
import { checkWord, Name } from './names.ts';

const Peer = (description: string, maxLength = 63) => Type.Optional(Type.String({ description, maxLength }));

export const RuleSchema = Type.Object(
  {
    tenantName: Name('tenant that the policy belongs to'),
    policyName: Name('policy that the rule is of'),
    ruleId: Name('name of the rule in its policy'),
    direction: Type.Union([Type.Literal('in'), Type.Literal('out')], {
      description: 'in judges packets to the endpoints of groups with the policy, out packets from them',
    }),
    priority: Type.Optional(
      Type.Integer({ description: 'the highest number decides; 1 where absent', minimum: 1, maximum: 100 }),
    ),
    fromEndpointGroup: Peer('in: only from endpoints of this group'),
    toEndpointGroup: Peer('out: only to endpoints of this group'),
    fromNetwork: Peer('in: only from this network'),
    toNetwork: Peer('out: only to this network'),
    fromIpAddress: Peer('in: only from this address or prefix', 64),
    toIpAddress: Peer('out: only to this address or prefix', 64),
    protocol: Type.Optional(
      Type.String({
        description: 'tcp, udp, icmp or a protocol number 0 to 255; any where absent',
        maxLength: 8,
      }),
    ),
    protocols: Type.Optional(
      Type.String({ description: 'several in place of protocol, as tcp,udp', maxLength: 64 }),
    ),
    port: Type.Optional(
      Type.Integer({
        description: 'destination port; without protocol: of TCP, UDP and SCTP',
        minimum: 1,
        maximum: 65535,
      }),
    ),
    ports: Type.Optional(
      Type.String({
        description: 'several in place of port, and ranges, as 80,443,8000-8999',
        maxLength: 400,
      }),
    ),
    action: Type.Union([Type.Literal('allow'), Type.Literal('deny')], {
      description: 'what happens to a connection that it matches',
    }),
    log: Type.Optional(
      Type.Boolean({
        description: "connections that it decides are told in the agents' logs, and kept as flows",
      }),
    ),
  },
  { $id: 'rule', additionalProperties: false },
);
export type Rule = Static<typeof RuleSchema>;

const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17 };
/** Protocols with ports: TCP, UDP, SCTP. */
export const PORT_PROTOCOLS: readonly number[] = [6, 17, 132];

/** The IP protocol number of `tcp`, `udp`, `icmp` or a number from 0 to 255; undefined where it is none. */
export function protocolNumber(text: string): number | undefined {
  if (Object.hasOwn(PROTOCOLS, text)) return PROTOCOLS[text];
  return /^(?:0|[1-9]\d{0,2})$/.test(text) && Number(text) <= 255 ? Number(text) : undefined;
}

/** Numbers that a text like `tcp,udp` names; undefined where something in it is none, or is there twice. */
export function protocolNumbers(text: string): readonly number[] | undefined {
  const numbers = text.split(',').map(protocolNumber);
  const known = numbers.filter((number) => number !== undefined);
  return known.length === numbers.length && new Set(known).size === known.length ? known : undefined;
}

/** Ports from first to last. */
export interface PortSpan {
  readonly first: number;
  readonly last: number;
}

/** What a text like `80,443,8000-8999` names, in its order; undefined where something in it is no port and no range of them. */
export function portSpans(text: string): readonly PortSpan[] | undefined {
  const spans = text.split(',').map((part) => {
    const [, first, last = first] = /^([1-9]\d{0,4})(?:-([1-9]\d{0,4}))?$/.exec(part) ?? [];
    return { first: Number(first), last: Number(last) };
  });
  return spans.every(({ first, last }) => first <= last && last <= 65535) ? spans : undefined;
}

export const PORTS_WANTED = 'must be ports from 1 to 65535 and ranges of them, like 80,443,8000-8999';
export const PROTOCOLS_WANTED = 'must be tcp, udp, icmp or numbers from 0 to 255, each once, like tcp,udp';

/** Reference to a group or network of the tenant. */
const peer = (
  field: 'fromEndpointGroup' | 'toEndpointGroup' | 'fromNetwork' | 'toNetwork',
  kind: string,
  links: Pick<Reference<Rule>, 'link' | 'backLink'>,
): Reference<Rule> => ({
  field,
  kind,
  keys: (r) => (r[field] ? [`${r.tenantName}:${r[field]}`] : []),
  ...links,
});
const MATCH = { link: 'MatchEndpointGroup', backLink: 'MatchRules' };

export const rule: Kind<typeof RuleSchema> = {
  name: 'rule',
  collection: 'rules',
  schema: RuleSchema,
  keyFields: ['tenantName', 'policyName', 'ruleId'],
  updatable: false,
  forOrchestrators: true,
  references: [
    {
      field: 'policyName',
      kind: 'policy',
      keys: (r) => [`${r.tenantName}:${r.policyName}`],
      link: 'Policies',
      many: true,
      backLink: 'Rules',
      owned: () => true,
    },
    peer('fromEndpointGroup', 'endpointGroup', MATCH),
    peer('toEndpointGroup', 'endpointGroup', MATCH),
    peer('fromNetwork', 'network', {}),
    peer('toNetwork', 'network', {}),
  ],
  forTenants: {
    sets: [
      'tenantName',
      'policyName',
      'ruleId',
      'direction',
      'priority',
      'fromEndpointGroup',
      'toEndpointGroup',
      'fromNetwork',
      'toNetwork',
      'fromIpAddress',
      'toIpAddress',
      'protocol',
      'protocols',
      'port',
      'ports',
      'action',
      'log',
    ],
  },
  normalize: (r) => ({ ...r, priority: r.priority ?? 1 }),
  check(r, world) {
    const what = `rule ${r.tenantName}:${r.policyName}:${r.ruleId}`;
    const wrong = (field: keyof Rule, text: string): Problem => ({
      field,
      status: 400,
      message: `${what}: ${field} ${text}`,
    });
    return checkWord('rule', 'ruleId', r.ruleId) ?? checkPeer(r, world, wrong) ?? checkService(r, wrong);
  },
};

type Wrong = (field: keyof Rule, text: string) => Problem;

/** At most one of group, network and address, on the side that the direction has. */
function checkPeer(r: Rule, world: World, wrong: Wrong): Problem | undefined {
  const [here, there] = r.direction === 'in' ? (['from', 'to'] as const) : (['to', 'from'] as const);
  for (const field of [`${there}EndpointGroup`, `${there}Network`, `${there}IpAddress`] as const)
    if (r[field])
      return wrong(
        field,
        `does not go with direction ${r.direction}, which takes ${field.replace(there, here)}`,
      );
  const [groupField, networkField, addressField] = [
    `${here}EndpointGroup`,
    `${here}Network`,
    `${here}IpAddress`,
  ] as const;
  const [group, network, address] = [r[groupField], r[networkField], r[addressField]];
  if (address && (group || network))
    return wrong(addressField, `does not go with ${group ? groupField : networkField}: give one of them`);
  if (group && network) {
    const found = world.get<EndpointGroup>('endpointGroup', `${r.tenantName}:${group}`);
    if (found !== undefined && found.networkName !== network)
      return wrong(networkField, `is ${network}, but group ${group} is in network ${found.networkName}`);
  }
  // Bits behind the length are as a network's: they mean nothing.
  if (address && parsePrefix(address) === undefined)
    return wrong(addressField, `'${address}' must be an address or a prefix like 20.1.1.0/28 or fd00:1::/64`);
  return undefined;
}

function checkService(r: Rule, wrong: Wrong): Problem | undefined {
  if (r.protocol && protocolNumber(r.protocol) === undefined)
    return wrong('protocol', `'${r.protocol}' must be tcp, udp, icmp or a number from 0 to 255`);
  if (r.protocols && protocolNumbers(r.protocols) === undefined)
    return wrong('protocols', `'${r.protocols}' ${PROTOCOLS_WANTED}`);
  if (r.ports && portSpans(r.ports) === undefined) return wrong('ports', `'${r.ports}' ${PORTS_WANTED}`);
  if (r.protocol && r.protocols) return wrong('protocols', 'does not go with protocol: give one of them');
  if (r.port && r.ports) return wrong('ports', 'does not go with port: give one of them');
  const portless = (r.protocols || r.protocol || '')
    .split(',')
    .find((text) => text !== '' && !PORT_PROTOCOLS.includes(protocolNumber(text) as number));
  const field = r.ports ? 'ports' : 'port';
  if (r[field] && portless !== undefined)
    return wrong(
      field,
      `does not go with protocol ${portless}, which has no ports: only tcp, udp and 132 have`,
    );
  return undefined;
}
