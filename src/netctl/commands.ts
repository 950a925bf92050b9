/** All commands. One is loaded only when it is called: netctl answers at once. */
import type { Command } from './command.ts';

export interface Listed {
  readonly name: string;
  readonly aliases: readonly string[];
  readonly summary: string;
  load(): Promise<{ command: Command }>;
}

export const COMMANDS: readonly Listed[] = [
  { name: 'tenant', aliases: [], summary: 'tenants', load: () => import('./tenant.ts') },
  { name: 'network', aliases: ['net'], summary: 'networks', load: () => import('./network.ts') },
  { name: 'group', aliases: [], summary: 'endpoint groups', load: () => import('./group.ts') },
  { name: 'policy', aliases: [], summary: 'policies and their rules', load: () => import('./policy.ts') },
  {
    name: 'networkpolicy',
    aliases: ['netpol'],
    summary: "an orchestrator's policies, which go by labels",
    load: () => import('./networkPolicy.ts'),
  },
  {
    name: 'netprofile',
    aliases: [],
    summary: 'network profiles: bandwidth, DSCP',
    load: () => import('./netprofile.ts'),
  },
  {
    name: 'app-profile',
    aliases: [],
    summary: 'groups that belong together',
    load: () => import('./appProfile.ts'),
  },
  {
    name: 'service',
    aliases: [],
    summary: 'virtual addresses in front of containers',
    load: () => import('./service.ts'),
  },
  {
    name: 'endpoint',
    aliases: ['ep'],
    summary: 'endpoints of running containers',
    load: () => import('./endpoint.ts'),
  },
  {
    name: 'status',
    aliases: [],
    summary: 'what is there, what is wrong, and what mends it',
    load: () => import('./status.ts'),
  },
  {
    name: 'doctor',
    aliases: [],
    summary: 'what is wrong on this host, and what mends it',
    load: () => import('./doctor.ts'),
  },
  { name: 'host', aliases: [], summary: 'hosts, and whether they are well', load: () => import('./host.ts') },
  {
    name: 'backup',
    aliases: [],
    summary: 'writes all that netmaster keeps to a file',
    load: () => import('./backup.ts'),
  },
  {
    name: 'token',
    aliases: [],
    summary: 'tokens, by which hosts join and programs ask',
    load: () => import('./token.ts'),
  },
  {
    name: 'user',
    aliases: [],
    summary: 'people who log in with a password',
    load: () => import('./user.ts'),
  },
  {
    name: 'flows',
    aliases: [],
    summary: 'connections that policy denied, or allowed and logs',
    load: () => import('./flows.ts'),
  },
  {
    name: 'events',
    aliases: [],
    summary: 'what happened: changes, hosts, containers, repairs',
    load: () => import('./events.ts'),
  },
  {
    name: 'global',
    aliases: [],
    summary: 'settings of the whole cluster',
    load: () => import('./global.ts'),
  },
  { name: 'bgp', aliases: [], summary: 'BGP of hosts', load: () => import('./bgp.ts') },
  {
    name: 'external-contracts',
    aliases: [],
    summary: 'contracts of a physical fabric',
    load: () => import('./externalContracts.ts'),
  },
  { name: 'aci-gw', aliases: [], summary: 'gateway to an ACI fabric', load: () => import('./aciGw.ts') },
  {
    name: 'whoami',
    aliases: [],
    summary: 'who you are to netmaster, and what you may do',
    load: () => import('./whoami.ts'),
  },
  {
    name: 'login',
    aliases: [],
    summary: 'logs in to netmaster, with a password or at an OpenID provider',
    load: () => import('./login.ts'),
  },
  {
    name: 'logout',
    aliases: [],
    summary: 'ends the session that netctl login began',
    load: () => import('./logout.ts'),
  },
  {
    name: 'apply',
    aliases: [],
    summary: 'makes the cluster what a file declares',
    load: () => import('./apply.ts'),
  },
  { name: 'delete', aliases: [], summary: 'deletes what a file names', load: () => import('./delete.ts') },
  { name: 'diff', aliases: [], summary: 'shows what apply would change', load: () => import('./diff.ts') },
  {
    name: 'get',
    aliases: [],
    summary: 'writes objects of a kind, as apply reads them',
    load: () => import('./get.ts'),
  },
  {
    name: 'edit',
    aliases: [],
    summary: 'changes an object in your editor',
    load: () => import('./edit.ts'),
  },
  {
    name: 'export',
    aliases: [],
    summary: 'writes all objects, as apply reads them',
    load: () => import('./export.ts'),
  },
  { name: 'completion', aliases: [], summary: 'shell completion', load: () => import('./completion.ts') },
  { name: 'version', aliases: [], summary: 'versions', load: () => import('./version.ts') },
];
