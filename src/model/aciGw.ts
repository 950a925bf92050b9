/**
 * The gateway to an ACI fabric: one object, named aciGw. netmaster acts on it where the global fabric mode is aci (netmaster/aci/): it speaks to
 * the fabric's controllers, or to the gateway process of Contiv 1.x.
 */
import { type Static, Type } from '@sinclair/typebox';
import { isIpv4 } from './address.ts';
import type { AppProfile } from './appProfile.ts';
import type { Kind, Problem } from './kind.ts';

const YesNo = (description: string) =>
  Type.Optional(Type.Union([Type.Literal('yes'), Type.Literal('no')], { description }));

const File = (what: string) =>
  Type.Optional(
    Type.String({
      description: `name of a file in /etc/contiv/aci/ of each netmaster, ${what}`,
      maxLength: 100,
    }),
  );

export const AciGwSchema = Type.Object(
  {
    name: Type.Literal('aciGw', { description: 'always aciGw' }),
    pathBindings: Type.Optional(
      Type.String({ description: "the fabric's ports to the hosts, separated by commas", maxLength: 4096 }),
    ),
    nodeBindings: Type.Optional(
      Type.String({ description: "the fabric's leaves, separated by commas", maxLength: 4096 }),
    ),
    physicalDomain: Type.Optional(
      Type.String({ description: 'physical domain of the fabric', maxLength: 128 }),
    ),
    vmmDomains: Type.Optional(
      Type.String({
        description:
          "the fabric's domains of managers of virtual machines, whose machines may be in the groups, as VENDOR/NAME, separated by commas",
        maxLength: 1024,
      }),
    ),
    enforcePolicies: YesNo(
      'whether the fabric enforces policies; no: all of a tenant reach each other in it',
    ),
    includeCommonTenant: YesNo(
      "whether a bridge domain of the fabric's common tenant is used where it has a network's name",
    ),
    controllers: Type.Optional(
      Type.String({
        description:
          "URLs of the fabric's controllers (APIC), separated by commas; one is spoken to at a time",
        maxLength: 1024,
      }),
    ),
    userName: Type.Optional(
      Type.String({ description: 'user of the fabric, as netmaster logs in', maxLength: 64 }),
    ),
    passwordFile: File('whose one line is its password; absent: CONTIV_ACI_PASSWORD of netmaster'),
    keyFile: File('with a private key in PEM, by which requests are signed in place of a password'),
    certificateName: Type.Optional(
      Type.String({
        description: "name of that key's certificate with the user in the fabric",
        maxLength: 64,
      }),
    ),
    caFile: File(
      "with certificates in PEM: who signs the controllers', or these; absent: whom the system trusts",
    ),
    clusterName: Type.Optional(
      Type.String({
        description:
          'name that marks what is made in the fabric as of this cluster; another one for each cluster on it; contiv where absent',
        maxLength: 32,
      }),
    ),
    gateway: Type.Optional(
      Type.String({
        description:
          'URL of a gateway process of Contiv 1.x, as http://localhost:5000, in place of controllers',
        maxLength: 256,
      }),
    ),
  },
  { $id: 'aciGw', additionalProperties: false },
);
export type AciGw = Static<typeof AciGwSchema>;

const BINDINGS = {
  pathBindings: [
    /^topology\/pod-\d{1,4}\/(?:prot)?paths-\d{1,4}(?:-\d{1,4})?\/pathep-\[[^\],\s]+\]$/,
    'topology/pod-1/paths-101/pathep-[eth1/14]',
  ],
  nodeBindings: [/^topology\/pod-\d{1,4}\/node-\d{1,4}$/, 'topology/pod-1/node-101'],
  // The managers whose networks' port groups the fabric makes itself, of an EPG's name.
  vmmDomains: [/^(?:VMware|Microsoft|Redhat)\/[A-Za-z0-9_.:-]{1,64}$/, 'VMware/dvs1'],
} as const;

/** Who needs none is on this machine. */
const isLoopback = (host: string): boolean =>
  host === 'localhost' || host === '[::1]' || (isIpv4(host) && host.startsWith('127.'));

/** URLs without a path; undefined where one of them is none, or all could read what goes there. */
function readUrls(text: string): readonly string[] | undefined {
  const urls = text.split(',').map((part) => part.trim());
  const right = urls.every((url) => {
    if (!/^https?:\/\/[^/?#@\s]+$/.test(url) || !URL.canParse(url)) return false;
    return url.startsWith('https:') || isLoopback(new URL(url).hostname);
  });
  return right ? urls : undefined;
}

/** Of a valid object, in the order in which they are asked. */
export const controllersOf = ({ controllers }: AciGw): readonly string[] => readUrls(controllers ?? '') ?? [];

const MAX_CONTROLLERS = 7;
const FILE = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
/** As names in the fabric are: they are in DNs, and in a cookie. */
const FABRIC_NAME = /^[A-Za-z0-9_.:-]+$/;

function checkAccess(g: AciGw): Problem | undefined {
  const wrong = (field: keyof AciGw, text: string): Problem => ({
    field,
    status: 400,
    message: `aciGw: ${field} ${text}`,
  });
  const urls = readUrls(g.controllers || 'https://none');
  if (urls === undefined || urls.length > MAX_CONTROLLERS || new Set(urls).size < urls.length)
    return wrong(
      'controllers',
      `'${g.controllers}' must be up to ${MAX_CONTROLLERS} URLs like https://10.0.0.1, each once; http is for this machine alone`,
    );
  for (const field of ['passwordFile', 'keyFile', 'caFile'] as const)
    if (g[field] && !FILE.test(g[field]))
      return wrong(field, `'${g[field]}' must be the name of a file in /etc/contiv/aci, without a path`);
  for (const field of ['userName', 'certificateName', 'clusterName', 'physicalDomain'] as const)
    if (g[field] && !FABRIC_NAME.test(g[field]))
      return wrong(field, `'${g[field]}' must be letters, digits, '_', '.', ':' or '-'`);
  if (g.gateway && readUrls(g.gateway)?.length !== 1)
    return wrong(
      'gateway',
      `'${g.gateway}' must be a URL like http://localhost:5000; http is for this machine alone`,
    );
  if (g.gateway && g.controllers) return wrong('gateway', 'does not go with controllers: give one of them');
  if (g.gateway && g.vmmDomains)
    return wrong('vmmDomains', 'does not go with gateway: the gateway of Contiv 1.x knows of none');
  if (g.controllers && !g.userName)
    return wrong('userName', 'is missing: with controllers netmaster logs in as a user of the fabric');
  if (g.keyFile && g.passwordFile) return wrong('keyFile', 'does not go with passwordFile: give one of them');
  if (g.keyFile && !g.certificateName)
    return wrong('certificateName', 'is missing: a key goes with the name of its certificate in the fabric');
  if (g.certificateName && !g.keyFile)
    return wrong('keyFile', 'is missing: the certificate goes with the file of its key');
  return undefined;
}

export const aciGw: Kind<typeof AciGwSchema> = {
  name: 'aciGw',
  collection: 'aciGws',
  schema: AciGwSchema,
  keyFields: ['name'],
  updatable: true,
  references: [],
  note: ({ controllers, gateway }) =>
    controllers || gateway
      ? 'acts where the fabric mode is aci (netctl global set --fabric-mode aci); netctl status says how it goes'
      : 'kept only: nothing acts on it without controllers, or a gateway process of Contiv 1.x',
  check(g): Problem | undefined {
    for (const [field, [form, example]] of Object.entries(BINDINGS)) {
      const text = g[field as keyof typeof BINDINGS];
      const odd = text?.split(',').find((part) => !form.test(part.trim()));
      if (odd !== undefined)
        return { field, status: 400, message: `aciGw: ${field} '${odd}' must be like ${example}` };
    }
    return checkAccess(g);
  },
  /** As in 1.x, where the fabric has the profiles by it. */
  checkRemoval(_object, world) {
    const [first, ...more] = world.list<AppProfile>('appProfile');
    if (first === undefined) return undefined;
    const others = more.length === 0 ? '' : ` and ${more.length} more`;
    return {
      status: 409,
      message: `aciGw is in use by appProfile ${first.tenantName}:${first.appProfileName}${others}: delete them first`,
    };
  },
};
