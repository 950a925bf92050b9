import type { Command } from './command.ts';
import { settingsCommands } from './settings.ts';

export const command: Command = {
  name: 'global',
  summary: 'settings of the whole cluster',
  subcommands: [
    ...settingsCommands({
      command: 'global',
      collection: 'globals',
      key: 'global',
      settings: {
        'fabric-mode': ['networkInfraType', 'f', 'default|aci|aci-opflex', 'fabric between the hosts'],
        'vlan-range': ['vlans', 'v', 'FIRST-LAST', 'VLAN ids to give out'],
        'vxlan-range': ['vxlans', 'x', 'FIRST-LAST', 'VXLAN VNIs to give out'],
        'fwd-mode': [
          'fwdMode',
          'b',
          'bridge|routing',
          'forwarding mode; bridge: networks of one tenant do not reach each other',
        ],
        'arp-mode': ['arpMode', 'a', 'proxy|flood', 'how ARP is answered'],
        encryption: [
          'encryption',
          'e',
          'none|wireguard',
          'of what goes between hosts by VXLAN; their MTU is 60 bytes less then, 80 over IPv6',
        ],
        'private-subnet': ['pvtSubnet', 's', 'A.B.0.0/16', 'private subnet of the hosts'],
      },
      example: 'netctl global set --vxlan-range 5000-6000',
    }),
    {
      name: 'rotate-keys',
      summary: [
        'hosts make new keys of WireGuard now, and change over to them when all have them, without a packet lost; by itself',
        'that is done every 30 days. netctl status says how far it is',
      ].join(' '),
      args: [],
      flags: [],
      examples: ['netctl global rotate-keys'],
      async run(invocation) {
        const { body, headers } = await invocation.client.call('rotateKeys', {});
        invocation.print(`Rotating keys to epoch ${body.epoch}`);
        invocation.warn(headers);
      },
    },
  ],
};
