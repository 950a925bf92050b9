/**
 * The gateway process of Contiv 1.x, which drives a fabric itself: it is told of each application profile, as 1.x told it (`v1.2` of its
 * interface), and answers `{result, info}`.
 *
 *   POST /createAppProf   the profile with its groups, contracts and what leads to them; a second time it adds what is new
 *   POST /deleteAppProf   by tenant and name
 *
 * It tells nobody what the fabric has: what is changed there stays changed. What it was told is kept (state.ts), so that it is told once.
 */
import type { AciGw } from '../../model/aciGw.ts';
import { parseSubnet } from '../../model/address.ts';
import type { AppProfile } from '../../model/appProfile.ts';
import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import type { ExtContractsGroup } from '../../model/extContractsGroup.ts';
import { gatewayOf, mainFamily, subnetOf } from '../../model/families.ts';
import type { World } from '../../model/kind.ts';
import type { Network } from '../../model/network.ts';
import type { Rule } from '../../model/rule.ts';
import { oneLine } from '../../model/text.ts';
import type { Status } from '../../protocol/hosts.ts';
import { tagOf } from './compile.ts';
import { contractsOf } from './contracts.ts';
import type { Service } from './services.ts';

type Problems = Status['problems'];

/** Milliseconds: it logs in at the fabric, and writes object by object. */
const PATIENCE = 60_000;

/** It does not answer, or not as one does. */
export class GatewayError extends Error {}

interface Link {
  readonly 'link-kind': 'PROVIDE' | 'CONSUME';
  readonly 'contract-name'?: string;
  readonly 'contract-dn'?: string;
  readonly 'contract-kind': 'INTERNAL' | 'EXTERNAL';
}

interface Profile {
  readonly 'aci-gw-api-version': 'v1.2';
  readonly 'gw-config': Partial<AciGw>;
  readonly tenant: string;
  readonly 'app-prof': string;
  readonly epgs: readonly {
    readonly name: string;
    readonly 'nw-name': string;
    readonly 'gw-cidr': string;
    readonly 'vlan-tag': string;
    readonly 'contract-links'?: readonly Link[];
  }[];
  readonly 'contract-defs'?: readonly { readonly name: string; readonly 'filter-info': readonly Filter[] }[];
}
interface Filter {
  readonly protocol?: string;
  readonly servport?: string;
}

/** All that it knows; undefined: it does not. */
function filterOf({ protocol, ports }: Service): Filter | undefined {
  const name = protocol === undefined ? '' : { 1: 'icmp', 6: 'tcp', 17: 'udp' }[protocol];
  if (name === undefined || (ports !== undefined && ports.first !== ports.last)) return undefined;
  return { ...(name && { protocol: name }), ...(ports && { servport: String(ports.first) }) };
}

export interface Told {
  /** By key of the application profile, what it was told. */
  readonly told: Readonly<Record<string, string>>;
  readonly problems: Problems;
}

export async function tellGateway(parts: {
  readonly gateway: AciGw;
  readonly isAci: boolean;
  readonly mirror: World;
  readonly told: Readonly<Record<string, string>>;
}): Promise<Told> {
  const { gateway, isAci, mirror } = parts;
  const url = gateway.gateway as string;
  const told: Record<string, string> = { ...parts.told };
  const problems: Problems = [];
  const wanted = new Map(
    (isAci ? mirror.list<AppProfile>('appProfile') : []).map((profile) => [
      `${profile.tenantName}:${profile.appProfileName}`,
      profile,
    ]),
  );
  const refusal = (key: string, info: string): number =>
    problems.push({
      of: `appProfile ${key}`,
      problem: oneLine(`the gateway at ${url} refuses it: ${info}`, 500),
      remedy: 'change what it says, or see to the gateway process and its log',
    });
  for (const [key, text] of Object.entries(told)) {
    const profile = wanted.get(key);
    const spec = profile && profileOf(profile, gateway, mirror, []);
    if (spec !== undefined && keeps(JSON.parse(text), spec)) continue;
    const { tenant, 'app-prof': name } = JSON.parse(text) as Profile;
    const info = await tell(`${url}/deleteAppProf`, { tenant, 'app-prof': name });
    if (info === undefined) delete told[key];
    else refusal(key, info);
  }
  for (const [key, profile] of wanted) {
    const spec = profileOf(profile, gateway, mirror, problems);
    const text = JSON.stringify(spec);
    if (spec === undefined || told[key] === text) continue;
    const info = await tell(`${url}/createAppProf`, spec);
    if (info === undefined) told[key] = text;
    else refusal(key, info);
  }
  return { told, problems };
}

/** Whether to tell it of `after` is enough: it takes nothing away. */
function keeps(before: Profile, after: Profile): boolean {
  const partsOf = ({ epgs, 'contract-defs': contracts = [], 'gw-config': config }: Profile): string[] => [
    JSON.stringify(config),
    ...epgs.flatMap(({ 'contract-links': links = [], ...epg }) => [
      JSON.stringify(epg),
      ...links.map((link) => JSON.stringify([epg.name, link])),
    ]),
    ...contracts.flatMap(({ name, 'filter-info': filters }) => filters.map((f) => JSON.stringify([name, f]))),
  ];
  const there = new Set(partsOf(after));
  return partsOf(before).every((part) => there.has(part));
}

/** undefined: it has no group, which the gateway does not take. */
function profileOf(
  { tenantName: tenant, appProfileName, endpointGroups = [] }: AppProfile,
  { name, pathBindings, nodeBindings, physicalDomain, enforcePolicies, includeCommonTenant }: AciGw,
  world: World,
  problems: Problems,
): Profile | undefined {
  const groups = endpointGroups
    .toSorted()
    .flatMap((each) => world.get<StoredEndpointGroup>('endpointGroup', `${tenant}:${each}`) ?? []);
  if (groups.length === 0) return undefined;
  const members = groups.map(({ groupName: group, policies = [] }) => ({ group, policies }));
  const { contracts, taboos, unfit } = contractsOf(members, (policy) =>
    world.users<Rule>('policy', `${tenant}:${policy}`, 'rule'),
  );
  const cannot = (of: string, problem: string, remedy: string): number =>
    problems.push({ of, problem, remedy });
  for (const { of, problem, remedy } of unfit) cannot(of, problem, remedy);
  for (const { group } of taboos)
    cannot(
      `group ${tenant}:${group}`,
      'a rule of its policies denies a part of what another one allows, which the gateway of 1.x does not tell the fabric',
      'narrow the rule that allows, or name controllers in place of the gateway (netctl aci-gw set)',
    );
  const defined = contracts.map(({ name, services }) => {
    const filters = services.map(filterOf);
    if (filters.includes(undefined))
      cannot(
        `appProfile ${tenant}:${appProfileName}`,
        `contract ${name}: the gateway of 1.x knows tcp, udp and icmp, and one port each`,
        'name those in the rule, or controllers in place of the gateway (netctl aci-gw set)',
      );
    return { name, 'filter-info': filters.flatMap((filter) => filter ?? []) };
  });
  const kept = new Set(defined.filter((each) => each['filter-info'].length > 0).map((each) => each.name));
  const linksOf = (group: StoredEndpointGroup): Link[] => [
    ...contracts
      .filter((contract) => kept.has(contract.name))
      .flatMap((contract) =>
        (
          [
            ['PROVIDE', contract.providers],
            ['CONSUME', contract.consumers],
          ] as const
        )
          .filter(([, those]) => those !== 'everybody' && those.includes(group.groupName))
          .map(
            ([kind]): Link => ({
              'link-kind': kind,
              'contract-name': contract.name,
              'contract-kind': 'INTERNAL',
            }),
          ),
      ),
    ...(group.extContractsGrps ?? []).flatMap((each) => {
      const external = world.get<ExtContractsGroup>('extContractsGroup', `${tenant}:${each}`);
      const kind = external?.contractsType === 'provided' ? 'PROVIDE' : 'CONSUME';
      return (external?.contracts ?? []).map(
        (dn): Link => ({ 'link-kind': kind, 'contract-dn': dn, 'contract-kind': 'EXTERNAL' }),
      );
    }),
  ];
  const epgs = groups.flatMap((group) => {
    const network = world.get<Network & { vni: number }>('network', `${tenant}:${group.networkName}`);
    if (network === undefined) return [];
    const links = linksOf(group);
    const family = mainFamily(network);
    return {
      name: group.groupName,
      'nw-name': group.networkName,
      'gw-cidr': `${gatewayOf(network, family) ?? ''}/${parseSubnet(subnetOf(network, family) ?? '')?.length}`,
      'vlan-tag': String(tagOf(group, network)),
      ...(links.length > 0 && { 'contract-links': links }),
    };
  });
  const config = { name, pathBindings, nodeBindings, physicalDomain, enforcePolicies, includeCommonTenant };
  return {
    'aci-gw-api-version': 'v1.2',
    'gw-config': config,
    tenant,
    'app-prof': appProfileName,
    epgs,
    ...(kept.size > 0 && { 'contract-defs': defined.filter((each) => kept.has(each.name)) }),
  };
}

/** undefined: it has done so; else why not. */
async function tell(url: string, body: object): Promise<string | undefined> {
  let answer: { readonly result?: unknown; readonly info?: unknown };
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
    if (!response.ok) throw new Error(`it answers ${response.status}`);
    answer = (await response.json()) as typeof answer;
  } catch (error) {
    const { message, cause } = error as Error;
    throw new GatewayError(oneLine(`${url}: ${(cause as NodeJS.ErrnoException)?.code ?? message}`, 300));
  }
  return answer.result === 'success' ? undefined : `${answer.result} ${answer.info}`;
}
