/**
 * From intent to the objects that an ACI fabric is to have: pure, and no object of it depends on what the fabric has.
 *
 *   tenant with an application profile   fvTenant, fvCtx TENANT-Vrf
 *   network of such a group              fvBD with fvRsCtx, fvSubnet of each gateway
 *   application profile                  fvAp
 *   group in it                          fvAEPg with fvRsBd, fvRsDomAtt, and the group's VLAN at each path and node
 *   rules of its policies                vzBrCP, vzFilter, vzTaboo and what leads to them: contracts.ts
 *   external contracts of it             fvRsProv, fvRsCons, fvRsConsIf: external.ts
 *
 * As in Contiv 1.x groups in no application profile are not in the fabric, and names are 1.x's.
 */
import type { AciGw } from '../../model/aciGw.ts';
import { parseSubnet } from '../../model/address.ts';
import type { AppProfile } from '../../model/appProfile.ts';
import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import type { ExtContractsGroup } from '../../model/extContractsGroup.ts';
import type { World } from '../../model/kind.ts';
import type { Network } from '../../model/network.ts';
import type { Rule } from '../../model/rule.ts';
import { type Contract, contractsOf, fabricName, type Taboo, type Unfit } from './contracts.ts';
import { relationTo } from './external.ts';
import { entryOf, type Service } from './services.ts';
import { dnOf, type ManagedObject, ROOT, type Tree } from './tree.ts';

export interface Wanted {
  readonly tree: Tree;
  /** What is left out of it, and why. */
  readonly unfit: readonly Unfit[];
  /** Contracts of the fabric that groups refer to: they are to be there. */
  readonly relies: readonly Reliance[];
}

export interface Reliance {
  readonly dn: string;
  readonly tenant: string;
  /** The object that names it. */
  readonly of: string;
}

/** Tenants that each fabric has from the start. */
const OF_THE_FABRIC = ['common', 'infra', 'mgmt'];

/** Adds an object below another one; answers its DN. `name` is in its DN, and its `name` too where it has such an attribute. */
type Add = (
  className: string,
  parent: string,
  name?: string,
  attributes?: Readonly<Record<string, string>>,
) => string;

export function compile(gateway: AciGw, world: World): Wanted {
  const tree = new Map<string, ManagedObject>();
  const unfit: Unfit[] = [];
  const relies = new Map<string, Reliance>();
  const add: Add = (className, parent, name, attributes = {}) => {
    const dn = dnOf(className, parent, name);
    if (!tree.has(dn)) tree.set(dn, { className, dn, attributes });
    return dn;
  };
  const byTenant = Map.groupBy(world.list<AppProfile>('appProfile'), ({ tenantName }) => tenantName);
  for (const tenant of [...byTenant.keys()].sort()) {
    if (OF_THE_FABRIC.includes(tenant)) {
      unfit.push({
        of: `tenant ${tenant}`,
        field: 'tenantName',
        problem: `tenant ${tenant} is the ACI fabric's own`,
        remedy: 'delete its application profiles, and declare what they have in a tenant of another name',
      });
      continue;
    }
    const profiles = byTenant.get(tenant) ?? [];
    addTenant({ tenant, profiles, gateway, world, add, unfit, relies });
  }
  if (tree.size > 0 && !gateway.physicalDomain)
    unfit.push({
      of: 'aciGw',
      field: 'physicalDomain',
      problem: 'physicalDomain is missing, so the fabric lets no group use a VLAN',
      remedy:
        'netctl aci-gw set --phys-dom NAME, of a physical domain whose pool has the VLANs of the networks',
    });
  if (tree.size > 0 && !gateway.pathBindings && !gateway.nodeBindings)
    unfit.push({
      of: 'aciGw',
      field: 'pathBindings',
      problem:
        'neither pathBindings nor nodeBindings are given, so no port of the fabric has the VLAN of a group',
      remedy:
        'netctl aci-gw set --path-bindings the ports that lead to the hosts, or --node-bindings the leaves',
    });
  return { tree, unfit, relies: [...relies.values()] };
}

interface Part {
  readonly tenant: string;
  readonly profiles: readonly AppProfile[];
  readonly gateway: AciGw;
  readonly world: World;
  readonly add: Add;
  readonly unfit: Unfit[];
  /** By the object that names it and its DN. */
  readonly relies: Map<string, Reliance>;
}

/** A group with its place in the fabric. */
interface Placed {
  readonly group: StoredEndpointGroup;
  readonly dn: string;
}

type Tagged = Network & { readonly vni: number };

/** By which hosts send what is of the group: its own, or, of one that was there before the fabric was ACI's, its network's. */
export const tagOf = ({ vlan }: StoredEndpointGroup, network: Tagged): number => vlan ?? network.vni;

function addTenant(part: Part): void {
  const { tenant, gateway, add } = part;
  const isEnforced = gateway.enforcePolicies !== 'no';
  const top = add('fvTenant', ROOT, tenant, { name: tenant });
  const vrf = fabricName(`${tenant}-Vrf`);
  const context = add('fvCtx', top, vrf, {
    name: vrf,
    pcEnfPref: isEnforced ? 'enforced' : 'unenforced',
  });
  const placed = placeGroups(part, top, vrf);
  if (!isEnforced) return;
  addContracts(part, top, context, placed);
  for (const each of placed) addExternal(part, each);
}

function placeGroups(
  { tenant, profiles, gateway, world, add, unfit }: Part,
  top: string,
  vrf: string,
): Placed[] {
  const placed = new Map<string, Placed>();
  /** Of each VLAN the group that has it. */
  const taken = new Map<number, string>();
  for (const profile of profiles.toSorted((a, b) => (a.appProfileName < b.appProfileName ? -1 : 1))) {
    const ap = add('fvAp', top, profile.appProfileName, { name: profile.appProfileName });
    for (const name of [...(profile.endpointGroups ?? [])].sort()) {
      const group = world.get<StoredEndpointGroup>('endpointGroup', `${tenant}:${name}`);
      const network = group && world.get<Tagged>('network', `${tenant}:${group.networkName}`);
      if (group === undefined || network === undefined) continue;
      const out = (field: string, problem: string, remedy: string): number =>
        unfit.push({ of: `group ${tenant}:${name}`, field, problem, remedy });
      const other = placed.get(name);
      if (other !== undefined) {
        out(
          'groupName',
          `is in application profile ${profile.appProfileName} and in another one, and the ACI fabric has it in that`,
          'take it out of one of them',
        );
      } else if (network.encap !== 'vlan') {
        out(
          'networkName',
          `is of network ${network.networkName}, whose encap is ${network.encap}: the ACI fabric sees nothing of its containers`,
          'declare a network with --encap vlan, and the group in it; or take the group out of its application profile',
        );
      } else if (taken.has(tagOf(group, network))) {
        const vlan = tagOf(group, network);
        out(
          'networkName',
          `shares VLAN ${vlan} of network ${network.networkName} with group ${taken.get(vlan)}, as both were created before the fabric mode was aci: to the ACI fabric a VLAN is one group`,
          'delete one of both and create it anew, by which it has a VLAN of its own, or take one out of its application profile',
        );
      } else {
        const vlan = tagOf(group, network);
        taken.set(vlan, name);
        const bd = addBridgeDomain(network, top, vrf, add);
        placed.set(name, { group, dn: addGroup(group, ap, bd, vlan, gateway, add) });
      }
    }
  }
  return [...placed.values()];
}

/** Answers its name. */
function addBridgeDomain(network: Network, top: string, vrf: string, add: Add): string {
  const { networkName: name } = network;
  const gateways = [
    [network.subnet, network.gateway],
    [network.ipv6Subnet, network.ipv6Gateway],
  ].flatMap(([subnet, gateway]) => (subnet && gateway ? [`${gateway}/${parseSubnet(subnet)?.length}`] : []));
  // Without an address of its own the fabric cannot ask for whom it does not know: it floods then.
  const flooding = { arpFlood: 'yes', unicastRoute: 'no', unkMacUcastAct: 'flood' };
  const bd = add('fvBD', top, name, { name, ...(gateways.length === 0 ? flooding : {}) });
  add('fvRsCtx', bd, '', { tnFvCtxName: vrf });
  for (const ip of gateways) add('fvSubnet', bd, ip, { ip });
  return name;
}

const listed = (text = ''): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');

function addGroup(
  { groupName: name }: StoredEndpointGroup,
  ap: string,
  bd: string,
  vlan: number,
  { physicalDomain, vmmDomains, pathBindings, nodeBindings }: AciGw,
  add: Add,
): string {
  const epg = add('fvAEPg', ap, name, { name });
  add('fvRsBd', epg, '', { tnFvBDName: bd });
  const encap = `vlan-${vlan}`;
  const domains = listed(vmmDomains).map((domain) => `uni/vmmp-${domain.replace('/', '/dom-')}`);
  if (physicalDomain) domains.unshift(`uni/phys-${physicalDomain}`);
  for (const tDn of domains) add('fvRsDomAtt', epg, tDn, { tDn });
  for (const tDn of listed(pathBindings))
    add('fvRsPathAtt', epg, tDn, { tDn, encap, instrImedcy: 'immediate' });
  for (const tDn of listed(nodeBindings))
    add('fvRsNodeAtt', epg, tDn, { tDn, encap, instrImedcy: 'immediate' });
  return epg;
}

function addContracts(
  { tenant, world, add, unfit }: Part,
  top: string,
  context: string,
  placed: readonly Placed[],
): void {
  const members = placed.map(({ group }) => ({ group: group.groupName, policies: group.policies ?? [] }));
  const found = contractsOf(members, (policy) => world.users<Rule>('policy', `${tenant}:${policy}`, 'rule'));
  unfit.push(...found.unfit);
  const dns = new Map(placed.map(({ group, dn }) => [group.groupName, dn]));
  for (const contract of found.contracts) addContract(contract, top, context, dns, add);
  for (const taboo of found.taboos) addTaboo(taboo, top, dns, add);
}

function addFilter(name: string, services: readonly Service[], top: string, add: Add): string {
  const filter = fabricName(`filt-${name}`);
  const dn = add('vzFilter', top, filter, { name: filter });
  for (const service of services) {
    const entry = entryOf(service);
    add('vzEntry', dn, entry.name, { name: entry.name, ...entry.attributes });
  }
  return filter;
}

function addContract(
  { name, services, providers, consumers }: Contract,
  top: string,
  context: string,
  dns: ReadonlyMap<string, string>,
  add: Add,
): void {
  const filter = addFilter(name, services, top, add);
  const contract = add('vzBrCP', top, name, { name });
  const subject = fabricName(`subj-${name}`);
  const subj = add('vzSubj', contract, subject, { name: subject });
  add('vzRsSubjFiltAtt', subj, filter, { tnVzFilterName: filter });
  for (const [groups, relation, ofAll] of [
    [providers, 'fvRsProv', 'vzRsAnyToProv'],
    [consumers, 'fvRsCons', 'vzRsAnyToCons'],
  ] as const)
    if (groups === 'everybody') add(ofAll, add('vzAny', context), name, { tnVzBrCPName: name });
    else for (const group of groups) add(relation, dns.get(group) as string, name, { tnVzBrCPName: name });
}

function addTaboo(
  { name, group, services }: Taboo,
  top: string,
  dns: ReadonlyMap<string, string>,
  add: Add,
): void {
  const filter = addFilter(name, services, top, add);
  const taboo = add('vzTaboo', top, name, { name });
  const subject = fabricName(`subj-${name}`);
  const tsubj = add('vzTSubj', taboo, subject, { name: subject });
  add('vzRsDenyRule', tsubj, filter, { tnVzFilterName: filter });
  add('fvRsProtBy', dns.get(group) as string, name, { tnVzTabooName: name });
}

function addExternal({ tenant, world, add, unfit, relies }: Part, { group, dn }: Placed): void {
  for (const name of group.extContractsGrps ?? []) {
    const of = `extContractsGroup ${tenant}:${name}`;
    const external = world.get<ExtContractsGroup>('extContractsGroup', `${tenant}:${name}`);
    if (external === undefined) continue;
    for (const text of external.contracts ?? []) {
      const relation = relationTo(text, external.contractsType, tenant);
      if ('problem' in relation) {
        unfit.push({ of, field: 'contracts', ...relation });
        continue;
      }
      relies.set(`${of} ${text}`, { dn: text, tenant, of });
      const { className, attribute, name: contract } = relation;
      add(className, dn, contract, { [attribute]: contract });
    }
  }
}
