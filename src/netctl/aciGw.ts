import type { Command } from './command.ts';
import { settingsCommands } from './settings.ts';

export const command: Command = {
  name: 'aci-gw',
  summary: 'gateway to an ACI fabric (kept only: nothing acts on it yet)',
  subcommands: settingsCommands({
    command: 'aci-gw',
    collection: 'aciGws',
    key: 'aciGw',
    settings: {
      'path-bindings': ['pathBindings', 'p', 'PATH[,PATH...]', "the fabric's ports to the hosts"],
      'node-bindings': ['nodeBindings', 'n', 'NODE[,NODE...]', "the fabric's leaves"],
      'phys-dom': ['physicalDomain', 'd', 'NAME', 'physical domain of the fabric'],
      'enforce-policies': ['enforcePolicies', 'e', 'yes|no', 'whether the fabric enforces policies'],
      'include-common-tenant': [
        'includeCommonTenant',
        'i',
        'yes|no',
        "whether contracts of the fabric's common tenant count",
      ],
    },
    example: 'netctl aci-gw set --path-bindings topology/pod-1/paths-101/pathep-[eth1/14] --phys-dom dom1',
  }),
};
