import { ApiError, asList, objectsOf } from '../client/client.ts';
import { KINDS } from '../model/kinds.ts';
import type { DeclaredObject } from '../protocol/declared.ts';
import { type Command, type Invocation, TENANT, UsageError } from './command.ts';
import { nearest } from './flags.ts';
import { formatOf, outputFlag, printObjects, wideTable, yamlOf } from './output.ts';

export interface Readable {
  readonly name: string;
  readonly collection: string;
  readonly keyFields: readonly string[];
}

/** Written by the agents of the hosts: apply does not take them. */
const OF_HOSTS: readonly Readable[] = [
  { name: 'endpoint', collection: 'endpoints', keyFields: ['endpointID'] },
  { name: 'host', collection: 'hosts', keyFields: ['name'] },
];
const OUTPUTS: readonly string[] = ['yaml', 'json', 'name', 'wide'];

export const READABLE: readonly Readable[] = [...KINDS, ...OF_HOSTS];

/** As the other commands call them, beside the names of kinds and of collections. */
const ALSO: Readonly<Record<string, string>> = {
  net: 'network',
  group: 'endpointGroup',
  groups: 'endpointGroup',
  policies: 'policy',
  service: 'serviceLB',
  services: 'serviceLB',
  'app-profile': 'appProfile',
  'external-contracts': 'extContractsGroup',
  'aci-gw': 'aciGw',
  ep: 'endpoint',
};

const WORDS = new Map(
  READABLE.flatMap((kind) => [
    [kind.name.toLowerCase(), kind] as const,
    [kind.collection.toLowerCase(), kind] as const,
    ...Object.entries(ALSO)
      .filter(([, name]) => name === kind.name)
      .map(([word]) => [word, kind] as const),
  ]),
);

export const command: Command = {
  name: 'get',
  summary: 'writes objects of a kind, as apply reads them',
  subcommands: [
    {
      name: '',
      summary: [
        'Writes the objects of a kind, or one of them, as apply reads them: with the tags and addresses that they were',
        'given. Endpoints and hosts can be read only: apply does not take them.',
        '',
        `Kinds: ${READABLE.map((kind) => kind.name).join(', ')}`,
      ].join('\n'),
      args: ['KIND', '[NAME]'],
      flags: [
        outputFlag(OUTPUTS, 'yaml'),
        { name: 'watch', short: 'w', kind: 'switch', help: 'then each of them that changes, as it does' },
        TENANT,
        { name: 'all', short: 'a', kind: 'switch', help: 'of all tenants' },
      ],
      examples: [
        'netctl get network contiv-net',
        'netctl get group -a -o json',
        'netctl get network -o wide',
        'netctl get rule prod_web:1 | netctl apply -f -',
      ],
      completes: ['kinds', 'objects'],
      async run(invocation) {
        const [word = '', name] = invocation.args;
        const kind = findKind(word);
        const format = formatOf(invocation, OUTPUTS);
        if (invocation.on('watch')) return watch(invocation, kind, name, format);
        const found = await select(invocation, kind, name);
        if (name !== undefined && found.length === 0)
          throw new ApiError(
            404,
            'not_found',
            `${kind.name} ${keyOf(invocation, kind, name)} does not exist`,
          );
        const objects = found.map((entry) => entry.object);
        if (format === 'name') for (const entry of found) invocation.print(entry.key);
        else if (format === 'wide') for (const line of wideTable(objects)) invocation.print(line);
        else await printObjects(invocation, objects, name !== undefined);
      },
    },
  ],
};

interface Selected {
  readonly key: string;
  readonly object: DeclaredObject;
}

/** Of NAME, or of all of the key: blue:net1. */
export function keyOf(invocation: Invocation, { keyFields }: Readable, name: string): string {
  const isWhole = name.split(':').length === keyFields.length;
  return keyFields[0] === 'tenantName' && !isWhole ? `${invocation.text('tenant')}:${name}` : name;
}

/** Those that the line is about. */
export async function select(
  invocation: Invocation,
  kind: Readable,
  name: string | undefined,
): Promise<readonly Selected[]> {
  const tenant = invocation.text('tenant');
  const loaded = (await load(invocation, kind)).map((object) => ({
    object,
    key: kind.keyFields.map((field) => object[field]).join(':'),
  }));
  const key = name === undefined ? undefined : keyOf(invocation, kind, name);
  return loaded.filter((entry) =>
    name !== undefined
      ? entry.key === key || entry.object.containerName === name
      : invocation.on('all') || (entry.object.tenantName ?? tenant) === tenant,
  );
}

/** All of them, then what is changed or gone, until netctl is ended or netmaster is. What is the same as before is not told again. */
async function watch(
  invocation: Invocation,
  kind: Readable,
  name: string | undefined,
  format: string,
): Promise<void> {
  const seen = new Map<string, string>();
  let isFirst = true;
  const tell = async (): Promise<void> => {
    const found = await select(invocation, kind, name);
    const present = new Set(found.map(({ key }) => key));
    const changed = found.filter(({ key, object }) => seen.get(key) !== JSON.stringify(object));
    const gone = [...seen.keys()].filter((key) => !present.has(key));
    for (const { key, object } of changed) seen.set(key, JSON.stringify(object));
    for (const key of gone) seen.delete(key);
    if (format === 'wide' && changed.length > 0)
      for (const line of wideTable(changed.map(({ object }) => object))) invocation.print(line);
    for (const { key, object } of format === 'wide' ? [] : changed)
      if (format === 'name') invocation.print(key);
      else if (format === 'json') invocation.print(JSON.stringify(object));
      else {
        invocation.print(`${isFirst ? '' : '---\n'}${await yamlOf(object)}`);
        isFirst = false;
      }
    for (const key of gone)
      if (format === 'json') invocation.print(JSON.stringify({ kind: kind.name, key, deleted: true }));
      else invocation.print(`${format === 'yaml' ? '# ' : ''}${kind.name} ${key} deleted`);
  };
  for await (const message of invocation.client.watch({})) {
    const isOfKind = message.type === 'change' && message.changes.some((change) => change.kind === kind.name);
    if (message.type === 'synced' || isOfKind) await tell();
  }
}

export function findKind(word: string): Readable {
  const kind = WORDS.get(word.toLowerCase());
  if (kind !== undefined) return kind;
  const near = nearest(word.toLowerCase(), [...WORDS.keys()]);
  throw new UsageError(
    `unknown kind '${word}': ${near === undefined ? `the kinds are ${READABLE.map((k) => k.name).join(', ')}` : `did you mean ${WORDS.get(near)?.name}?`}`,
  );
}

async function load({ client }: Invocation, kind: Readable): Promise<readonly DeclaredObject[]> {
  if (!OF_HOSTS.includes(kind)) return objectsOf(await client.call('export', { kind: kind.name }));
  const body = asList(await client.call('list', { collection: kind.collection }));
  return body.map((object) => ({ kind: kind.name, ...object }));
}
