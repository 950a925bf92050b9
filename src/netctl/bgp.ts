import { type Command, UsageError } from './command.ts';
import { body, create, inspectCommand, listCommand, type Objects, removeCommand } from './objects.ts';

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

export const command: Command = {
  name: 'bgp',
  summary: 'BGP of hosts (kept only: nothing acts on it yet)',
  subcommands: [
    {
      name: 'create',
      summary: 'sets BGP of a host, or updates it',
      args: ['HOST'],
      flags: [
        {
          name: 'router-ip',
          kind: 'text',
          value: 'A.B.C.D/LEN',
          help: "the host's address to its neighbour",
          required: true,
        },
        { name: 'as', kind: 'text', value: 'NUMBER', help: "the host's AS number", required: true },
        { name: 'neighbor', kind: 'text', value: 'A.B.C.D', help: "the neighbour's address" },
        { name: 'neighbor-as', kind: 'text', value: 'NUMBER', help: "the neighbour's AS number" },
      ],
      examples: [
        'netctl bgp create host1 --router-ip 50.1.1.2/24 --as 65002 --neighbor-as 65002 --neighbor 50.1.1.1',
      ],
      run(invocation) {
        const [hostname = ''] = invocation.args;
        const routerip = invocation.text('router-ip');
        if (!/^\d{1,3}(?:\.\d{1,3}){3}\/\d{1,2}$/.test(routerip))
          throw new UsageError(`--router-ip: '${routerip}' must be an address with its prefix length`);
        const fields = {
          hostname,
          routerip,
          as: invocation.text('as'),
          neighbor: invocation.text('neighbor'),
          'neighbor-as': invocation.text('neighbor-as'),
        };
        return create(invocation, bgps, hostname, body(fields));
      },
    },
    listCommand(bgps),
    inspectCommand(bgps),
    removeCommand(bgps),
  ],
};
