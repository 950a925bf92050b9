/** `netctl policy trace`: why can X not reach Y. */
import { asObject } from '../client/client.ts';
import { PORT_PROTOCOLS, protocolNumber } from '../model/rule.ts';
import type { Side } from '../model/verdict.ts';
import type { BackendTrace, LiveSide, Trace, TraceEnd } from '../protocol/messages.ts';
import { JSON_FLAG, type Subcommand, TENANT, UsageError } from './command.ts';
import { printJson } from './output.ts';
import { protocolName } from './protocols.ts';

export const trace: Subcommand = {
  name: 'trace',
  summary: 'says which rules decide whether a connection passes, as declared now',
  args: [],
  flags: [
    {
      name: 'from',
      kind: 'text',
      value: 'CONTAINER|NAMESPACE/POD|GROUP|IP',
      help: 'who connects; group:NAME or container:NAME where a name is both',
      required: true,
      completes: 'endpoints',
    },
    {
      name: 'to',
      kind: 'text',
      value: 'CONTAINER|NAMESPACE/POD|NAMESPACE/SERVICE|GROUP|IP',
      help: 'to whom; service:NAMESPACE/NAME where a name is that of a pod too',
      required: true,
      completes: 'endpoints',
    },
    {
      name: 'protocol',
      short: 'l',
      kind: 'text',
      value: 'tcp|udp|icmp|NUMBER',
      help: 'protocol of the connection',
      default: 'tcp',
    },
    {
      name: 'port',
      short: 'P',
      kind: 'number',
      value: '1-65535',
      help: 'port that is connected to; required for tcp and udp',
    },
    { name: 'live', kind: 'switch', help: 'asks the kernels of both hosts too' },
    TENANT,
    JSON_FLAG,
  ],
  examples: [
    'netctl policy trace --from=client --to=web --protocol=tcp --port=80',
    'netctl policy trace --from=web --to=10.0.0.7 --protocol=icmp --live',
    'netctl policy trace --from=shop/web-1 --to=shop/db-0 --port=5432',
    'netctl policy trace --from=shop/web-1 --to=service:shop/db --port=5432',
  ],
  async run(invocation) {
    const parameters = {
      tenant: invocation.text('tenant'),
      from: invocation.text('from'),
      to: invocation.text('to'),
      protocol: invocation.text('protocol'),
    };
    const port = invocation.text('port');
    if (port !== '' && (Number(port) < 1 || Number(port) > 65535))
      throw new UsageError(`--port: '${port}' must be 1 to 65535`);
    const protocol = invocation.text('protocol');
    if (port === '' && PORT_PROTOCOLS.includes(protocolNumber(protocol) ?? -1))
      throw new UsageError(`--port is missing: ${protocol} needs one, 1 to 65535; or say --protocol=icmp`);
    const answer = await invocation.client.call('trace', {
      ...parameters,
      ...(port === '' ? {} : { port }),
      ...(invocation.on('live') ? { live: 'true' } : {}),
    });
    const body = asObject(answer, ['protocol', 'from', 'to', 'out', 'in', 'verdict', 'notes']);
    if (invocation.on('json')) printJson(invocation, body);
    else for (const line of traceText(body)) invocation.print(line);
  },
};

/** For people; the verdict is the last line. */
export function traceText(traced: Trace): string[] {
  const { from, to, verdict, notes, service } = traced;
  return [
    `from  ${endText(from)}`,
    `to    ${endText(to)}`,
    `      ${asked(traced)}`,
    ...(service === undefined ? sidesText(traced) : backendsText(service)),
    ...notesText(notes),
    '',
    `${asked(traced)} from ${from.name} to ${to.name}: ${VERDICTS[verdict]}${verdict === 'partly' ? countText(service?.backends ?? []) : ''}`,
  ];
}

const asked = ({ protocol, port }: Pick<Trace, 'protocol' | 'port'>): string =>
  `${protocolName(protocol)}${port === undefined ? '' : ` ${port}`}`;

const notesText = (notes: readonly string[]): string[] =>
  notes.length === 0 ? [] : ['', ...notes.map((note) => `Note: ${note}`)];

const sidesText = ({ from, to, out, in: into, live }: BackendTrace | Trace): string[] => [
  ...sideText(`Leaving ${from.name}`, out, live, 'out'),
  ...sideText(`Entering ${to.name}`, into, live, 'in'),
];

/** What becomes of it at each. */
const backendsText = ({ chosen, backends }: NonNullable<Trace['service']>): string[] => [
  '',
  `Backends: ${chosen}`,
  ...backends.flatMap((backend) => [
    '',
    `-- ${endText(backend.to)}, ${asked(backend)}: ${VERDICTS[backend.verdict]}`,
    ...sidesText(backend),
    ...notesText(backend.notes),
  ]),
];

const countText = (backends: readonly BackendTrace[]): string =>
  `, by ${backends.filter(({ verdict }) => verdict === 'allow').length} of ${backends.length} backends`;

const VERDICTS: Readonly<Record<Trace['verdict'], string>> = {
  allow: 'allowed',
  deny: 'DENIED',
  unreachable: 'UNREACHABLE',
  partly: 'PARTLY allowed',
};

function endText({ name, address, group, network, host }: TraceEnd): string {
  const place = [
    group && !name.startsWith('group ') ? `group ${group}` : '',
    network ? `network ${network}` : '',
    host ? `on ${host}` : '',
  ].filter((part) => part !== '');
  return [name.endsWith(address) ? name : `${name} ${address}`, ...place].join(', ');
}

function sideText(
  title: string,
  { considered, decides, verdict, why }: Side,
  live: readonly LiveSide[] | undefined,
  direction: 'in' | 'out',
): string[] {
  const decider = considered.findIndex(({ rule }) => rule === decides);
  return [
    '',
    `${title}: ${verdict}, ${why}`,
    ...considered.map(({ rule, tier, matches, why: reason, loses }, i) => {
      const isDecider = rule === decides;
      const role = isDecider
        ? 'decides'
        : !matches
          ? 'does not match'
          : i < decider
            ? 'matches, and leaves it to those below'
            : loses === undefined
              ? 'matches, but comes later'
              : `matches, but loses (${loses})`;
      return `  ${isDecider ? '>' : ' '} ${tier === undefined ? '' : `${tier}: `}${rule}  ${role}: ${reason}`;
    }),
    ...(live ?? [])
      .filter((side) => side.direction === direction)
      .map((side) => `  kernel on ${side.host}: ${side.text}`),
  ];
}
