import { setTimeout as after } from 'node:timers/promises';
import { ApiError } from '../client/client.ts';
import type { HostState, Status } from '../protocol/hosts.ts';
import { type Command, type Invocation, UsageError } from './command.ts';
import { printJson } from './output.ts';
import { table } from './table.ts';

/** Exit status where something is wrong. */
const PROBLEMS = 2;
/** Milliseconds between looks of --watch. */
const LOOK = 2000;
/** Networks, and hosts of a kind, that a screen has room for. */
const ROOM = 15;
/** Nobody misses hosts that are not drained: the last one is shown where there are some. */
const STATES = ['ready', 'late', 'away', 'refused', 'draining'] as const;
const CLEAR = '\x1b[2J\x1b[H';

const UNITS = ['B', 'KB', 'MB', 'GB', 'TB'] as const;
function size(bytes: number): string {
  const unit = Math.min(UNITS.length - 1, bytes < 1 ? 0 : Math.floor(Math.log(bytes) / Math.log(1024)));
  const number = bytes / 1024 ** unit;
  return `${unit === 0 || number >= 10 ? Math.round(number) : number.toFixed(1)} ${UNITS[unit]}`;
}

function duration(seconds: number): string {
  const parts = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'min'],
    [seconds % 60, 's'],
  ] as const;
  const first = parts.findIndex(([count]) => count > 0);
  return first < 0
    ? '0 s'
    : parts
        .slice(first, first + 2)
        .map(([count, unit]) => `${count} ${unit}`)
        .join(' ');
}

const some = (names: readonly string[]): string =>
  names.length <= ROOM
    ? names.join(', ')
    : `${names.slice(0, ROOM).join(', ')} and ${names.length - ROOM} more`;

const fabricLine = ({
  state,
  controller,
  since,
  objects,
  subscribed,
}: NonNullable<Status['fabric']>): string =>
  [
    'ACI',
    `${controller === undefined ? '' : `${controller} `}${state} since ${since}`,
    `${objects} object${objects === 1 ? '' : 's'}`,
    ...(subscribed ? ['subscribed'] : []),
  ].join(', ');

const encryptionLine = ({ epoch, since, rotating, clear }: NonNullable<Status['encryption']>): string =>
  [
    'WireGuard',
    `keys of epoch ${epoch}${since === undefined ? '' : ` since ${since}`}`,
    ...(rotating === undefined
      ? []
      : [rotating.length === 0 ? 'rotating' : `rotating, waits for ${some(rotating)}`]),
    ...(clear === undefined ? [] : [`in the clear, as VLANs: ${some(clear)}`]),
  ].join(', ');

export function statusLines(
  { netmaster, hosts, fabric, encryption, networks, pending, problems }: Status,
  states: readonly HostState[],
): string[] {
  const named = (state: HostState['state']): string =>
    `${hosts[state]} ${state}${state === 'ready' || hosts[state] === 0 ? '' : ` (${some(states.filter((h) => h.state === state).map((h) => h.name))})`}`;
  const { place, bytes, netmasters } = netmaster;
  const store = [netmaster.store, place, bytes === undefined ? undefined : size(bytes)]
    .filter((text) => text)
    .join(' ');
  // The fullest first.
  const shown = [...networks]
    .sort((a, b) => b.used / Math.max(1, b.size) - a.used / Math.max(1, a.size))
    .slice(0, ROOM);
  const more = networks.length - shown.length;
  return [
    `netmaster  ${netmaster.version}, up ${duration(netmaster.uptime)}, store ${store}, revision ${netmaster.revision}`,
    ...(netmaster.security === 'none'
      ? ['security   none: whoever reaches netmaster may do everything (netmaster init)']
      : []),
    ...(netmasters.length > 1 ? [`netmasters ${netmasters.join(', ')}`] : []),
    `hosts      ${(hosts.draining > 0 ? STATES : STATES.slice(0, -1)).map(named).join(', ')}`,
    `pending    ${pending.length === 0 ? 'nothing: all hosts have applied all that was declared' : some(pending.map(({ host, lag }) => `${host} (${lag} revision${lag === 1 ? '' : 's'})`))}`,
    ...(encryption === undefined ? [] : [`encryption ${encryptionLine(encryption)}`]),
    ...(fabric === undefined ? [] : [`fabric     ${fabricLine(fabric)}`]),
    ...(netmaster.restored === undefined ? [] : [`restored   ${netmaster.restored}`]),
    '',
    ...(networks.length === 0
      ? ['no networks']
      : table(
          ['Network', 'Subnet', 'Addresses', 'In use'],
          shown.map((n) => [
            n.network,
            n.subnet,
            n.size < Number.MAX_SAFE_INTEGER ? n.size : 'over 2^53',
            `${n.used} (${Math.floor((100 * n.used) / Math.max(1, n.size))} %)${n.reserved ? `, ${n.reserved} in reserve` : ''}`,
          ]),
        )),
    ...(more > 0 ? [`and ${more} networks with less in use`] : []),
    '',
    ...(problems.length === 0
      ? ['all is well']
      : [
          `${problems.length} problem${problems.length === 1 ? '' : 's'}:`,
          ...problems.flatMap(({ of, problem, remedy }) => [`  ${of}: ${problem}`, `      -> ${remedy}`]),
        ]),
  ];
}

/** Answers the exit status, and what to print. */
async function look({
  client,
  text,
}: Invocation): Promise<{ status: number; lines: string[]; body: unknown }> {
  const { body } = await client.call('status').catch((error) => {
    if (!(error instanceof ApiError) || error.code !== 'unreachable') throw error;
    const { status, code, message } = error;
    throw new ApiError(status, code, `${message}: start it (systemctl start contiv-netmaster)`);
  });
  const status = body.problems.length === 0 ? 0 : PROBLEMS;
  const states = text('output') === 'json' ? [] : (await client.call('hostStates')).body;
  return { status, lines: statusLines(body, states), body };
}

export const command: Command = {
  name: 'status',
  summary: 'the whole cluster on one screen: what is there, what is wrong, and what mends it',
  subcommands: [
    {
      name: '',
      summary: [
        'Shows netmaster, hosts by state, the use of networks, what is not applied yet, and each problem with what mends it.',
        `Exit status: 0 all is well, ${PROBLEMS} there are problems, 3 netmaster does not answer.`,
      ].join('\n'),
      args: [],
      flags: [
        {
          name: 'watch',
          short: 'w',
          kind: 'switch',
          help: `again every ${LOOK / 1000} s, until it is interrupted`,
        },
        {
          name: 'output',
          short: 'o',
          kind: 'text',
          value: 'text|json',
          help: 'what to write',
          default: 'text',
        },
      ],
      examples: ['netctl status', 'netctl status -o json'],
      async run(invocation) {
        const format = invocation.text('output');
        if (!['text', 'json'].includes(format))
          throw new UsageError(`--output: '${format}' must be text or json`);
        const show = async (): Promise<void> => {
          const { status, lines, body } = await look(invocation);
          invocation.exitWith(status);
          if (format === 'json') printJson(invocation, body);
          else for (const line of lines) invocation.print(line);
        };
        if (!invocation.on('watch')) return show();
        for (;;) {
          if (format === 'text' && process.stdout.isTTY) invocation.print(CLEAR);
          try {
            await show();
          } catch (error) {
            // It may come back: that is what is watched.
            if (!(error instanceof ApiError) || error.code !== 'unreachable') throw error;
            invocation.print(error.message);
          }
          await after(LOOK);
        }
      },
    },
  ],
};
