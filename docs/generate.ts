/**
 * Writes docs/reference/ from the commands and schemas themselves, and the manifests from the chart: `make docs`. A test finds it where
 * the files say something else.
 */
import fs from 'node:fs';
import path from 'node:path';
import type { TSchema } from '@sinclair/typebox';
import type { Kind } from '../src/model/kind.ts';
import { KINDS } from '../src/model/kinds.ts';
import { COMMANDS } from '../src/netctl/commands.ts';
import { commandHelp, overview, subcommandHelp } from '../src/netctl/help.ts';
import { grantOf } from '../src/protocol/access.ts';
import { ROUTES, type Route } from '../src/protocol/routes.ts';
import { writeManifests } from './manifests.ts';

const FOLDER = path.join(import.meta.dirname, 'reference');
const NOTE = '<!-- Written by `make docs`: change the code, not this page. -->';
const fenced = (text: string): string => ['```', text, '```'].join('\n');

async function commands(): Promise<string> {
  const pages = await Promise.all(
    COMMANDS.map(async (listed) => {
      const { command } = await listed.load();
      const bare = command.subcommands[0]?.name === '';
      return [
        `## netctl ${command.name}`,
        fenced(commandHelp(command)),
        ...(bare
          ? []
          : command.subcommands.flatMap((sub) => [
              `### netctl ${command.name} ${sub.name}`,
              fenced(subcommandHelp(command, sub)),
            ])),
      ].join('\n\n');
    }),
  );
  return [NOTE, '# netctl: every command', fenced(overview()), ...pages].join('\n\n');
}

/** What a field may hold, in words. */
function typeOf(schema: TSchema): string {
  if (Array.isArray(schema.anyOf)) return schema.anyOf.map((s: TSchema) => `\`${s.const}\``).join(', ');
  if (schema.const !== undefined) return `\`${schema.const}\``;
  if (schema.type === 'integer') return `number ${schema.minimum ?? 0} to ${schema.maximum ?? 'any'}`;
  if (schema.type === 'array') return 'list of text';
  return schema.maxLength === undefined ? 'text' : `text, at most ${schema.maxLength}`;
}

function objectPage(kind: Kind): string {
  const { properties, required = [] } = kind.schema;
  const references = new Map(kind.references.map((r) => [r.field as string, r.kind]));
  const rows = Object.entries(properties).map(([field, schema]) => {
    const flags = [
      kind.keyFields.includes(field as never) ? 'key' : '',
      required.includes(field) ? 'required' : '',
      references.has(field) ? `names a ${references.get(field)}` : '',
    ];
    return `| \`${field}\` | ${typeOf(schema)} | ${flags.filter((f) => f).join(', ')} | ${(schema.description as string | undefined) ?? ''} |`;
  });
  return [
    `## ${kind.name}`,
    [
      `- list, create: \`/api/v1/${kind.collection}/\`, \`/api/v1/${kind.collection}/${kind.keyFields.join(':')}/\``,
      `- with what runs: \`/api/v1/inspect/${kind.collection}/${kind.keyFields.join(':')}/\``,
      `- a second POST or PUT ${kind.updatable ? 'updates it' : 'of another content is refused: delete it and create it anew'}`,
    ].join('\n'),
    ['| field | holds | | what it means |', '| --- | --- | --- | --- |', ...rows].join('\n'),
  ].join('\n\n');
}

function objects(): string {
  return [
    NOTE,
    '# Objects: every kind and field',
    'In a file for `netctl apply` an object is `kind: NAME` and these fields. The whole API, as OpenAPI: `/openapi.json` of netmaster.',
    ...KINDS.map(objectPage),
  ].join('\n\n');
}

const COLUMNS = [
  ['nobody', 'nobody'],
  ['host', 'a host'],
  ['netmaster', 'another netmaster'],
  ['orchestrator', 'netkube'],
  ['tenantReader', "a tenant's reader"],
  ['operator', "a tenant's operator"],
  ['reader', 'a reader'],
  ['admin', 'an admin'],
] as const;
const GRANTS = {
  yes: 'yes',
  own: 'for itself',
  unnamed: 'for no host',
  theirs: 'of theirs',
  no: '',
} as const;

function access(): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const kinds = new Set(KINDS.map(({ name }) => name));
  const rowOf = (route: Route): string =>
    line([
      `\`${route.method} ${route.path}\``,
      ...COLUMNS.map(([role]) => GRANTS[grantOf(route, role)]),
      route.summary.replaceAll('|', '\\|'),
    ]);
  const head = [
    line(['route', ...COLUMNS.map(([, name]) => name), 'what it does']),
    line(Array(COLUMNS.length + 2).fill('---')),
  ];
  const table = (routes: readonly Route[]): string => [...head, ...routes.map(rowOf)].join('\n');
  return [
    NOTE,
    '# Who may ask what',
    'Where netmaster has certificates; what proves who asks is in [security](../security.md). An empty place: refused, with 401 where nothing was shown, else 403. Of a set netkube may write kinds alone that it may write below. Of theirs: what names one of their tenants, and of what names none the part that is of these.',
    table(ROUTES.filter(({ tag }) => !kinds.has(tag))),
    '## Objects',
    table(ROUTES.filter(({ tag }) => kinds.has(tag))),
    "## What a tenant's operator may set",
    "Of objects of his tenants. All other fields, and all other kinds, are an admin's; what has a field that is, he may not delete either.",
    [
      line(['kind', 'fields', 'but']),
      line(['---', '---', '---']),
      ...KINDS.flatMap(({ name, forTenants }) =>
        forTenants?.sets === undefined
          ? []
          : [line([name, forTenants.sets.join(', '), forTenants.exceeding ?? ''])],
      ),
    ].join('\n'),
  ].join('\n\n');
}

/** File name to text. */
export async function reference(): Promise<Map<string, string>> {
  return new Map([
    ['commands.md', `${await commands()}\n`],
    ['objects.md', `${objects()}\n`],
    ['access.md', `${access()}\n`],
  ]);
}

if (import.meta.main) {
  fs.mkdirSync(FOLDER, { recursive: true });
  for (const [name, text] of await reference()) fs.writeFileSync(path.join(FOLDER, name), text);
  writeManifests();
}
