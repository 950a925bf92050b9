import { type Command, type Flag, TENANT, UsageError } from './command.ts';
import {
  body,
  create,
  fieldsOf,
  inspectCommand,
  listCommand,
  type Objects,
  removeCommand,
} from './objects.ts';

const networks: Objects = {
  noun: 'network',
  example: 'contiv-net',
  command: 'net',
  collection: 'networks',
  nameField: 'networkName',
  inTenant: true,
  given: { field: 'pktTag', kind: 'network' },
  columns: [
    { title: 'Tenant', of: (n) => n.tenantName },
    { title: 'Network', of: (n) => n.networkName },
    { title: 'Nw Type', of: (n) => n.nwType },
    { title: 'Encap type', of: (n) => n.encap },
    { title: 'Packet tag', of: (n) => n.pktTag ?? 0 },
    { title: 'Subnet', of: (n) => n.subnet },
    { title: 'Gateway', of: (n) => n.gateway },
    { title: 'IPv6Subnet', of: (n) => n.ipv6Subnet },
    { title: 'IPv6Gateway', of: (n) => n.ipv6Gateway },
    { title: 'Cfgd Tag', of: (n) => n.cfgdTag },
  ],
};

/** What may be said of a network, a field each. */
const FLAGS: readonly Flag[] = [
  {
    name: 'subnet',
    short: 's',
    kind: 'text',
    value: 'A.B.C.D[-A.B.C.E]/LEN',
    help: 'subnet, or a range to hand out addresses from; none: IPv6 alone, by --subnetv6',
  },
  {
    name: 'gateway',
    short: 'g',
    kind: 'text',
    value: 'ADDRESS',
    help: 'gateway in the subnet; none: no way out',
  },
  {
    name: 'pkt-tag',
    short: 'p',
    kind: 'number',
    value: 'NUMBER',
    help: 'VXLAN VNI or VLAN id; a free one where none is given',
  },
  {
    name: 'encap',
    short: 'e',
    kind: 'text',
    value: 'vxlan|vlan|direct',
    help: 'encapsulation between hosts; direct: none where they share a link',
    default: 'vxlan',
  },
  {
    name: 'nw-type',
    short: 'n',
    kind: 'text',
    value: 'data|infra',
    help: 'what it is for',
    default: 'data',
  },
  {
    name: 'subnetv6',
    field: 'ipv6Subnet',
    short: 's6',
    kind: 'text',
    value: 'PREFIX/LEN',
    help: 'IPv6 subnet',
  },
  {
    name: 'gatewayv6',
    field: 'ipv6Gateway',
    short: 'g6',
    kind: 'text',
    value: 'ADDRESS',
    help: 'IPv6 gateway in the IPv6 subnet',
  },
  {
    name: 'host-access',
    kind: 'switch',
    help: "the hosts themselves reach its containers, and its tenant's services",
  },
  {
    name: 'external-gateway',
    kind: 'switch',
    help: "the gateway is a router of the fabric's own on the VLAN, which leads outside",
  },
  {
    name: 'advertise',
    kind: 'switch',
    help: 'hosts that speak BGP announce its containers, which the fabric reaches as they are',
  },
  {
    name: 'nw-tag',
    field: 'cfgdTag',
    short: 'tag',
    kind: 'text',
    value: 'TEXT',
    help: 'label of your own',
  },
];

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)$/;

export const command: Command = {
  name: 'network',
  summary: 'subnets that containers are in, with a tag on the wire',
  subcommands: [
    {
      name: 'create',
      summary: 'creates a network and offers it to Docker on every host',
      args: ['NETWORK'],
      flags: [...FLAGS, TENANT],
      examples: [
        'netctl net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254 --pkt-tag=1001',
        'netctl net create -t blue web-net --subnet=10.1.1.10-10.1.1.99/24 -g 10.1.1.254 --subnetv6=fd00:1::/64 --gatewayv6=fd00:1::1',
        'netctl net create six --subnetv6=fd00:6::/64 --gatewayv6=fd00:6::1',
      ],
      run(invocation) {
        const [name = ''] = invocation.args;
        if (invocation.text('subnet') === '' && invocation.text('subnetv6') === '')
          throw new UsageError(
            '--subnet is missing: a subnet like 20.1.1.0/24, or --subnetv6 for IPv6 alone',
          );
        const gateway = invocation.text('gateway');
        if (gateway !== '' && !IPV4.test(gateway))
          throw new UsageError(`--gateway: '${gateway}' is not an IPv4 address`);
        return create(
          invocation,
          networks,
          name,
          body(
            {
              tenantName: invocation.text('tenant'),
              networkName: name,
              ...fieldsOf(invocation, FLAGS),
            },
            ['Tenant'],
          ),
        );
      },
    },
    listCommand(networks),
    inspectCommand(networks),
    removeCommand(networks),
  ],
};
