import { type Command, type Flag, TENANT } from './command.ts';
import {
  body,
  create,
  fieldsOf,
  inspectCommand,
  listCommand,
  type Objects,
  removeCommand,
} from './objects.ts';

/** What may be said of a service, a field each. */
const FLAGS: readonly Flag[] = [
  {
    name: 'network',
    field: 'networkName',
    short: 's',
    kind: 'text',
    value: 'NAME',
    help: 'network that its address is in',
    completes: 'networks',
    required: true,
  },
  {
    name: 'selector',
    field: 'selectors',
    short: 'l',
    kind: 'list',
    value: 'KEY=VALUE',
    help: 'label that its containers carry (may be repeated: all of them)',
    required: true,
  },
  {
    name: 'port',
    field: 'ports',
    short: 'p',
    kind: 'list',
    value: 'PORT:CONTAINER-PORT:TCP|UDP',
    help: 'port of the service and of its containers (may be repeated)',
    required: true,
  },
  {
    name: 'preferred-ip',
    field: 'ipAddress',
    short: 'ip',
    kind: 'text',
    value: 'A.B.C.D',
    help: 'its address; a free one where none is given',
  },
];

const services: Objects = {
  noun: 'service',
  example: 'lb',
  command: 'service',
  collection: 'serviceLBs',
  nameField: 'serviceName',
  inTenant: true,
  given: { field: 'ipAddress', kind: 'serviceLB' },
  columns: [
    { title: 'Tenant', of: (s) => s.tenantName },
    { title: 'Service', of: (s) => s.serviceName },
    { title: 'Network', of: (s) => s.networkName },
    { title: 'IP', of: (s) => s.ipAddress },
    { title: 'Ports', of: (s) => s.ports },
    { title: 'Selectors', of: (s) => s.selectors },
  ],
};

export const command: Command = {
  name: 'service',
  summary: 'virtual addresses in front of the containers that carry some labels',
  subcommands: [
    {
      name: 'create',
      summary: 'creates a service, or updates it',
      args: ['SERVICE'],
      flags: [...FLAGS, TENANT],
      examples: [
        'netctl service create lb --network contiv-net --selector app=web --port 80:8080:TCP',
        'netctl service create lb -s contiv-net -l app=web -l tier=front -p 80:8080:TCP -ip 20.1.1.100',
      ],
      run(invocation) {
        const [name = ''] = invocation.args;
        const fields = {
          tenantName: invocation.text('tenant'),
          serviceName: name,
          ...fieldsOf(invocation, FLAGS),
        };
        return create(invocation, services, name, body(fields, ['Network', 'Tenant']));
      },
    },
    listCommand(services),
    inspectCommand(services),
    removeCommand(services),
  ],
};
