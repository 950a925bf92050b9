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
  {
    name: 'endpoint',
    aliases: ['ep'],
    summary: 'endpoints of running containers',
    load: () => import('./endpoint.ts'),
  },
  {
    name: 'global',
    aliases: [],
    summary: 'settings of the whole cluster',
    load: () => import('./global.ts'),
  },
  { name: 'completion', aliases: [], summary: 'shell completion', load: () => import('./completion.ts') },
  { name: 'version', aliases: [], summary: 'versions', load: () => import('./version.ts') },
];
