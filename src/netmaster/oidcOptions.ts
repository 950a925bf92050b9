/** What netmaster is told of an OpenID provider, by flags: which, and what its groups may do here. oidc.ts asks it. */
import { readText } from '../client/textFile.ts';
import { type AskedRights, checkRights } from './rights.ts';

export interface ProviderOptions {
  /** As the provider calls itself. */
  readonly issuer: string;
  readonly client: string;
  /** Absent: a public client. */
  readonly secret?: string;
  /** Who signs its certificate, PEM; absent: whom Node believes. */
  readonly ca?: string;
  /** As they are sent: with spaces between them. */
  readonly scopes: string;
  readonly nameClaim: string;
  readonly groupsClaim: string;
  /** In the order in which they count. */
  readonly roles: readonly GroupRole[];
}

export interface GroupRole {
  readonly group: string;
  readonly asked: AskedRights;
}

const text = { type: 'string' } as const;
/** As parseArgs takes them. */
export const OIDC_FLAGS = {
  'oidc-issuer': text,
  'oidc-client': text,
  'oidc-secret-file': text,
  'oidc-ca': text,
  'oidc-scopes': text,
  'oidc-name-claim': text,
  'oidc-groups-claim': text,
  'oidc-role': { type: 'string', multiple: true },
} as const;

export const OIDC_USAGE = `  --oidc-issuer URL        people log in at this OpenID provider too (netctl login --oidc): docs/operate/people.md
  --oidc-client ID, --oidc-secret-file FILE
                           as which client netmaster is known there; without a secret as a public one
  --oidc-ca FILE           who signs the provider's certificate (default: the authorities that Node believes)
  --oidc-scopes SCOPE,...  what is asked for (default openid,profile,groups)
  --oidc-name-claim CLAIM, --oidc-groups-claim CLAIM
                           where the ID token has name and groups (default preferred_username, groups)
  --oidc-role GROUP=ROLE   what a group may do: admin, reader, reader:TENANT,... or operator:TENANT,...; once for each. The first one
                           that a person has counts, and of the others those of the same role
`;

type Values = Readonly<Record<string, unknown>>;

/** undefined: there is none. Throws an Error with one plain line that names the flag. */
export function readProvider(values: Values): ProviderOptions | undefined {
  const given = (flag: keyof typeof OIDC_FLAGS): string | undefined => values[flag] as string | undefined;
  const issuer = given('oidc-issuer');
  if (issuer === undefined) {
    const other = Object.keys(OIDC_FLAGS).find((flag) => values[flag] !== undefined);
    if (other !== undefined)
      throw new Error(`--${other}: --oidc-issuer is missing, which says of which provider`);
    return undefined;
  }
  if (!URL.canParse(issuer) || !/^https:\/\/[^?#@]+$/.test(issuer))
    throw new Error(`--oidc-issuer: '${issuer}' must be the provider's URL, with https: as it calls itself`);
  const client = given('oidc-client');
  if (client === undefined)
    throw new Error('--oidc-client is missing: as which client netmaster is known there');
  const roles = ((values['oidc-role'] ?? []) as readonly string[]).map(readRole);
  if (roles.length === 0)
    throw new Error(
      '--oidc-role is missing: without one nobody may do anything, e.g. --oidc-role netadmins=admin',
    );
  const scopes = (given('oidc-scopes') ?? 'openid,profile,groups').split(',').join(' ');
  if (!scopes.split(' ').includes('openid'))
    throw new Error(`--oidc-scopes: '${scopes}' must have openid among them`);
  const secret = fileOf('oidc-secret-file', given('oidc-secret-file'))?.trim();
  const ca = fileOf('oidc-ca', given('oidc-ca'));
  if (secret === '') throw new Error('--oidc-secret-file: the file is empty');
  if (ca !== undefined && !ca.includes('-----BEGIN CERTIFICATE-----'))
    throw new Error('--oidc-ca: no certificate in PEM is in the file');
  return {
    issuer,
    client,
    ...(secret === undefined ? {} : { secret }),
    ...(ca === undefined ? {} : { ca }),
    scopes,
    nameClaim: given('oidc-name-claim') ?? 'preferred_username',
    groupsClaim: given('oidc-groups-claim') ?? 'groups',
    roles,
  };
}

/** From the right, as names of groups may have what divides it: `cn=net,dc=example=operator:blue,red`. */
function readRole(line: string): GroupRole {
  const match = /^(.+)=(admin|reader|operator)(?::([\w,.-]+))?$/s.exec(line);
  if (match === null)
    throw new Error(
      `--oidc-role: '${line}' must be GROUP=admin, GROUP=reader, GROUP=reader:TENANT,... or GROUP=operator:TENANT,...`,
    );
  const [, group, role, names] = match as unknown as [
    string,
    string,
    AskedRights['role'],
    string | undefined,
  ];
  const tenants = names?.split(',').filter((name) => name !== '');
  const asked = { role, ...(tenants === undefined ? {} : { tenants: [...new Set(tenants)] }) };
  if (tenants?.length === 0) throw new Error(`--oidc-role: '${line}' names no tenant behind the colon`);
  checkRights(`--oidc-role '${line}'`, asked);
  return { group, asked };
}

const fileOf = (flag: string, file: string | undefined): string | undefined =>
  file === undefined ? undefined : readText(`--${flag} ${file}`, file);

/** Of a person with these groups; undefined: nothing. Of tenants all that the lines of that role name. */
export function rightsOfGroups(
  roles: readonly GroupRole[],
  groups: readonly string[],
): AskedRights | undefined {
  const own = roles.filter(({ group }) => groups.includes(group)).map(({ asked }) => asked);
  const [first] = own;
  if (first?.tenants === undefined) return first;
  const alike = own.filter(({ role, tenants }) => role === first.role && tenants !== undefined);
  return { role: first.role, tenants: [...new Set(alike.flatMap(({ tenants }) => tenants ?? []))] };
}
