import { ApiError, asList, objectsOf } from '../client/client.ts';
import { KINDS } from '../model/kinds.ts';
import type { DeclaredObject } from '../protocol/declared.ts';
import { type Command, type Invocation, TENANT, UsageError } from './command.ts';
import { nearest } from './flags.ts';
import { outputFlag, printObjects } from './output.ts';

interface Readable {
  readonly name: string;
  readonly collection: string;
  readonly keyFields: readonly string[];
}

/** Written by the agents of the hosts: apply does not take them. */
const OF_HOSTS: readonly Readable[] = [
  { name: 'endpoint', collection: 'endpoints', keyFields: ['endpointID'] },
  { name: 'host', collection: 'hosts', keyFields: ['name'] },
];
const OUTPUTS: readonly string[] = ['yaml', 'json', 'name'];

const READABLE: readonly Readable[] = [...KINDS, ...OF_HOSTS];

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
        outputFlag(OUTPUTS),
        TENANT,
        { name: 'all', short: 'a', kind: 'switch', help: 'of all tenants' },
      ],
      examples: [
        'netctl get network contiv-net',
        'netctl get group -a -o json',
        'netctl get rule prod_web:1 | netctl apply -f -',
      ],
      async run(invocation) {
        const [word = '', name] = invocation.args;
        const kind = findKind(word);
        const output = invocation.text('output');
        if (!OUTPUTS.includes(output))
          throw new UsageError(`--output: '${output}' must be yaml, json or name`);
        const tenant = invocation.text('tenant');
        const loaded = (await load(invocation, kind)).map((object) => ({
          object,
          key: kind.keyFields.map((field) => object[field]).join(':'),
        }));
        // NAME, or all of the key: blue:net1.
        const key =
          kind.keyFields[0] === 'tenantName' && name?.split(':').length !== kind.keyFields.length
            ? `${tenant}:${name}`
            : name;
        const found = loaded.filter((entry) =>
          name !== undefined
            ? entry.key === key || entry.object.containerName === name
            : invocation.on('all') || (entry.object.tenantName ?? tenant) === tenant,
        );
        if (name !== undefined && found.length === 0)
          throw new ApiError(404, 'not_found', `${kind.name} ${key} does not exist`);
        if (output === 'name') for (const entry of found) invocation.print(entry.key);
        else
          await printObjects(
            invocation,
            found.map((entry) => entry.object),
            name !== undefined,
          );
      },
    },
  ],
};

function findKind(word: string): Readable {
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
