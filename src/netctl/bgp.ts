import { type Command, type Flag, UsageError } from './command.ts';
import {
  body,
  create,
  fieldsOf,
  inspectCommand,
  listCommand,
  type Objects,
  removeCommand,
} from './objects.ts';

const bgps: Objects = {
  noun: 'bgp',
  plural: 'BGP of hosts',
  example: 'host1',
  command: 'bgp',
  collection: 'Bgps',
  nameField: 'hostname',
  inTenant: false,
  columns: [
    { title: 'HostName', of: (b) => b.hostname },
    { title: 'RouterIP', of: (b) => b.routerip },
    { title: 'As', of: (b) => b.as },
    { title: 'Neighbor', of: (b) => b.neighbor },
    { title: 'NeighborAs', of: (b) => b['neighbor-as'] },
  ],
};

const FLAGS: readonly Flag[] = [
  {
    name: 'router-ip',
    field: 'routerip',
    kind: 'text',
    value: 'A.B.C.D/LEN',
    help: "the host's own address to its neighbours; one of IPv6 behind a comma",
    required: true,
  },
  { name: 'as', kind: 'text', value: 'NUMBER', help: "the host's AS number", required: true },
  { name: 'neighbor', kind: 'text', value: 'ADDRESS', help: "the neighbour's address; several with commas" },
  {
    name: 'neighbor-as',
    field: 'neighbor-as',
    kind: 'text',
    value: 'NUMBER',
    help: "the neighbour's AS number; one for each with commas",
  },
  {
    name: 'password-file',
    field: 'passwordFile',
    kind: 'text',
    value: 'NAME',
    help: "file in /etc/contiv/bgp/ on that host with the sessions' password (TCP MD5)",
  },
  {
    name: 'max-prefixes',
    field: 'maxPrefixes',
    kind: 'number',
    value: 'NUMBER',
    help: 'routes that are taken from each neighbour: 10000',
  },
  {
    name: 'services',
    kind: 'text',
    value: 'PREFIX',
    help: "prefixes in which addresses of an orchestrator's services are announced; several with commas",
  },
];

export const command: Command = {
  name: 'bgp',
  summary: "hosts that announce their containers to the fabric's routers",
  subcommands: [
    {
      name: 'create',
      summary: 'sets BGP of a host, or updates it',
      args: ['HOST'],
      flags: FLAGS,
      examples: [
        'netctl bgp create host1 --router-ip 50.1.1.2/24 --as 65002 --neighbor-as 65000 --neighbor 50.1.1.1',
        'netctl bgp create host1 --router-ip 50.1.1.2/24,fd00:50::2/64 --as 65002 --neighbor-as 65000 --neighbor 50.1.1.1,fd00:50::1',
      ],
      run(invocation) {
        const [hostname = ''] = invocation.args;
        const routerip = invocation.text('router-ip');
        if (!/^\d{1,3}(?:\.\d{1,3}){3}\/\d{1,2}(?:,[^,]+\/\d{1,3})?$/.test(routerip))
          throw new UsageError(`--router-ip: '${routerip}' must be an address with its prefix length`);
        return create(invocation, bgps, hostname, body({ hostname, ...fieldsOf(invocation, FLAGS) }));
      },
    },
    listCommand(bgps),
    inspectCommand(bgps),
    removeCommand(bgps),
  ],
};
