import type { Command } from './command.ts';
import { settingsCommands } from './settings.ts';

const THERE = ' in /etc/contiv/aci of each netmaster';

export const command: Command = {
  name: 'aci-gw',
  summary: 'gateway to an ACI fabric: its controllers, and what of it the groups are in',
  subcommands: settingsCommands({
    command: 'aci-gw',
    collection: 'aciGws',
    key: 'aciGw',
    settings: {
      'path-bindings': ['pathBindings', 'p', 'PATH[,PATH...]', "the fabric's ports to the hosts"],
      'node-bindings': ['nodeBindings', 'n', 'NODE[,NODE...]', "the fabric's leaves"],
      'phys-dom': ['physicalDomain', 'd', 'NAME', 'physical domain of the fabric'],
      'vmm-domains': [
        'vmmDomains',
        '',
        'VENDOR/NAME[,VENDOR/NAME...]',
        "the fabric's domains of virtual machines that may be in the groups, as VMware/dvs1",
      ],
      'enforce-policies': ['enforcePolicies', 'e', 'yes|no', 'whether the fabric enforces policies'],
      'include-common-tenant': [
        'includeCommonTenant',
        'i',
        'yes|no',
        "whether bridge domains of the fabric's common tenant are used where they have a network's name",
      ],
      controllers: [
        'controllers',
        'c',
        'URL[,URL...]',
        "the fabric's controllers (APIC), as https://10.0.0.1",
      ],
      user: ['userName', 'u', 'NAME', 'user of the fabric, as netmaster logs in'],
      'password-file': [
        'passwordFile',
        '',
        'FILE',
        `its password, a file${THERE}; else CONTIV_ACI_PASSWORD there`,
      ],
      'key-file': [
        'keyFile',
        '',
        'FILE',
        `a key to sign requests with in place of a password, a file${THERE}`,
      ],
      'certificate-name': [
        'certificateName',
        '',
        'NAME',
        "that key's certificate with the user in the fabric",
      ],
      'ca-file': [
        'caFile',
        '',
        'FILE',
        `certificates of the controllers, or of who signs them, a file${THERE}`,
      ],
      'cluster-name': ['clusterName', '', 'NAME', 'marks what is made in the fabric as of this cluster'],
      gateway: ['gateway', 'g', 'URL', 'a gateway process of Contiv 1.x in place of controllers'],
    },
    example:
      'netctl aci-gw set --controllers https://10.0.0.1 --user contiv --password-file apic --phys-dom dom1 --path-bindings topology/pod-1/paths-101/pathep-[eth1/14]',
  }),
};
