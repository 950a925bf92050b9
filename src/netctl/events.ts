import { setTimeout as after } from 'node:timers/promises';
import { ApiError, asList } from '../client/client.ts';
import type { Event } from '../protocol/events.ts';
import { EVENT_KINDS } from '../protocol/wire.ts';
import { type Command, type Invocation, UsageError } from './command.ts';
import { shownChange } from './objects.ts';

/** Milliseconds until a watch that broke off is begun again. */
const RETRY = 1000;

const UNITS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time as it is, or so long ago: `10m`. */
function sinceOf(text: string): string | undefined {
  if (text === '') return undefined;
  const [, number, unit = ''] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  if (number !== undefined)
    return new Date(Math.max(0, Date.now() - Number(number) * (UNITS[unit] as number))).toISOString();
  // A day, or a time without a zone, is one of here.
  const time = /^\d{4}-\d\d-\d\d(?:[T ][\d:.]+(?:Z|[+-]\d\d:\d\d)?)?$/.test(text)
    ? new Date(text.length === 10 ? `${text}T00:00` : text)
    : undefined;
  if (time === undefined || Number.isNaN(time.getTime()))
    throw new UsageError(`--since: '${text}' must be like 10m, 2h, 3d, 2026-11-28 or 2026-11-28T09:30:00Z`);
  return time.toISOString();
}

/** Of an id of a container or an endpoint so much as tells it from others. */
const LONG_ID = /\b([0-9a-f]{12})[0-9a-f]{52}\b/g;

/** `2026-11-28T09:30:00Z intent changed endpointGroup default:web: policies: prod_web -> none (netctl root@node1, 10.0.0.5)`. */
export function eventLine(event: Event): string {
  const { time, kind, action, object, key, host, fields = {}, text, by, from } = event;
  const what = [object, key].filter((part) => part !== undefined).join(' ');
  const changes =
    action === 'changed' ? Object.entries(fields).map(([field, c]) => shownChange(field, c)) : [];
  const said = [text, ...changes].filter((part) => part !== undefined && part !== '').join('; ');
  const who = [by, from].filter((part) => part !== undefined).join(', ');
  // Who told it says where: `netplugin node1`, or `host node1 (netplugin node1)`.
  const isSaid = by?.replace(/\)$/, '').endsWith(` ${host}`) === true;
  const where = kind === 'endpoint' || host === undefined || object === 'host' || isSaid ? '' : `on ${host}`;
  return [
    time.replace(/\.\d+Z$/, 'Z'),
    kind,
    [action === 'told' ? '' : action, what, where].filter((part) => part !== '').join(' ') +
      (said === '' ? '' : what === '' && where === '' ? said : `: ${said}`),
    who === '' ? '' : `(${who})`,
  ]
    .filter((part) => part !== '')
    .join(' ')
    .replace(LONG_ID, '$1');
}

async function follow(
  invocation: Invocation,
  wanted: Readonly<Record<string, string | undefined>>,
  show: (event: Event) => void,
): Promise<void> {
  let last: string | undefined;
  for (let connected = false; ; ) {
    // What is behind the last event is all that is still wanted, also of another netmaster.
    const parameters = last === undefined ? wanted : { ...wanted, since: undefined, after: last };
    try {
      for await (const message of invocation.client.lines('followEvents', parameters)) {
        if (message.type === 'event' || message.type === 'ping') connected = true;
        if (message.type !== 'event') continue;
        last = message.event.id;
        show(message.event);
      }
    } catch (error) {
      if (!connected || !(error instanceof ApiError) || ![0, 503].includes(error.status)) throw error;
      await after(RETRY);
    }
  }
}

export const command: Command = {
  name: 'events',
  summary: 'what happened: changes, hosts, containers, repairs',
  subcommands: [
    {
      name: '',
      summary: [
        'Lists what happened, the newest last: changes of intent with before and after and who made them, hosts and',
        'endpoints that came and went, repairs by agents, containers that were not attached, names that were not offered to',
        'Docker, neighbors and fabrics that were reached or lost, and people who logged in.',
        '',
        `Kinds: ${EVENT_KINDS.join(', ')}`,
      ].join('\n'),
      args: [],
      flags: [
        { name: 'follow', short: 'f', kind: 'switch', help: 'goes on with what comes' },
        {
          name: 'kind',
          short: 'k',
          kind: 'list',
          value: 'KIND[,KIND...]',
          help: 'only these (may be repeated)',
        },
        { name: 'since', short: 's', kind: 'text', value: 'TIME|10m', help: 'from then on' },
        {
          name: 'last',
          short: 'n',
          kind: 'number',
          value: 'NUMBER',
          help: 'so many, the newest',
          default: '100',
        },
        { name: 'tenant', short: 't', kind: 'text', value: 'NAME', help: 'only of this tenant' },
        {
          name: 'output',
          short: 'o',
          kind: 'text',
          value: 'text|json',
          help: 'json: an object a line',
          default: 'text',
        },
      ],
      examples: [
        'netctl events',
        'netctl events --kind intent --since 1d',
        'netctl events --kind repair,denial -o json',
      ],
      async run(invocation) {
        const output = invocation.text('output');
        if (output !== 'text' && output !== 'json')
          throw new UsageError(`--output: '${output}' must be text or json`);
        const last = invocation.number('last');
        if (last < 1 || last > 100_000)
          throw new UsageError(`--last: '${invocation.text('last')}' must be 1 to 100000`);
        const show = (event: Event): void =>
          invocation.print(output === 'json' ? JSON.stringify(event) : eventLine(event));
        const kind = invocation.list('kind').join(',');
        const since = sinceOf(invocation.text('since'));
        const tenant = invocation.text('tenant');
        const wanted = {
          ...(kind === '' ? {} : { kind }),
          ...(since === undefined ? {} : { since }),
          ...(tenant === '' ? {} : { tenant }),
        };
        const listed = asList<Event>(
          await invocation.client.call('events', { ...wanted, limit: String(last) }),
        );
        for (const event of listed) show(event);
        if (!invocation.on('follow')) return;
        const newest = listed.at(-1)?.id;
        await follow(
          invocation,
          newest === undefined ? wanted : { ...wanted, since: undefined, after: newest },
          show,
        );
      },
    },
  ],
};
