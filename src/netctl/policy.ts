import { asList } from '../client/client.ts';
import { PORTS_WANTED, PROTOCOLS_WANTED, portSpans, protocolNumbers } from '../model/rule.ts';
import {
  type Command,
  type Flag,
  type Invocation,
  JSON_FLAG,
  LIST_FORMAT,
  QUIET,
  type Subcommand,
  TENANT,
  UsageError,
} from './command.ts';

import {
  body,
  create,
  inspectCommand,
  key,
  listCommand,
  type Objects,
  removeCommand,
  removeEach,
} from './objects.ts';
import { formatOf, LIST_FORMATS, printListed } from './output.ts';

import { table } from './table.ts';
import { trace } from './trace.ts';

type Plain = Record<string, unknown>;

const policies: Objects = {
  noun: 'policy',
  plural: 'policies',
  example: 'prod_web',
  command: 'policy',
  collection: 'policys',
  nameField: 'policyName',
  inTenant: true,
  columns: [
    { title: 'Tenant', of: (p) => p.tenantName },
    { title: 'Policy', of: (p) => p.policyName },
  ],
};

/** Named POLICY:RULE here. */
const rules: Objects = {
  noun: 'rule',
  example: '1',
  command: 'policy',
  collection: 'rules',
  nameField: 'ruleId',
  inTenant: true,
  columns: [],
};

const peer = (
  name: string,
  short: string,
  field: string,
  value: string,
  help: string,
  completes?: string,
): Flag => ({
  field,
  name,
  short,
  kind: 'text',
  value,
  help,
  ...(completes === undefined ? {} : { completes }),
});

/** What the direction does not take, and the flags that together say too much. */
function checkPeers(invocation: Invocation): void {
  const direction = invocation.text('direction');
  if (direction !== 'in' && direction !== 'out')
    throw new UsageError(`--direction: '${direction}' must be in or out`);
  const [here, there] = direction === 'in' ? ['from', 'to'] : ['to', 'from'];
  for (const what of ['group', 'network', 'ip-address'])
    if (invocation.text(`${there}-${what}`) !== '')
      throw new UsageError(
        `--${there}-${what} does not go with direction ${direction}: use --${here}-${what}`,
      );
  if (invocation.text(`${here}-group`) !== '' && invocation.text(`${here}-network`) !== '')
    throw new UsageError(`give one of --${here}-group and --${here}-network: a group is in one network`);
}

/** One protocol and one port as 1.x has them, several in fields beside. */
function services(invocation: Invocation): Plain {
  const [protocol, port] = [invocation.text('protocol'), invocation.text('port')];
  if (protocol.includes(',') && protocolNumbers(protocol) === undefined)
    throw new UsageError(`--protocol: '${protocol}' ${PROTOCOLS_WANTED}`);
  const one = /^\d{1,15}$/.test(port) ? Number(port) : undefined;
  // To netmaster 0 is unset, as 1.x clients send it: the rule would be one for all ports.
  if (one === 0 || (one === undefined && port !== '' && portSpans(port) === undefined))
    throw new UsageError(`--port: '${port}' ${PORTS_WANTED}; left out for all ports`);
  return {
    [protocol.includes(',') ? 'protocols' : 'protocol']: protocol,
    ...(one === undefined ? { ports: port } : { port: one }),
  };
}

const ruleAdd: Subcommand = {
  name: 'rule-add',
  summary: 'adds a rule to a policy; at once in force for all groups with the policy',
  args: ['POLICY', 'RULE'],
  flags: [
    {
      name: 'direction',
      short: 'd',
      kind: 'text',
      value: 'in|out',
      help: 'packets to the containers, or from them',
      default: 'in',
    },
    {
      name: 'priority',
      short: 'p',
      kind: 'number',
      value: '1-100',
      help: 'the highest decides; at equal priority deny does',
      default: '1',
    },
    peer('from-group', 'g', 'fromEndpointGroup', 'NAME', 'in: only from this group', 'endpointGroups'),
    peer('from-network', 'n', 'fromNetwork', 'NAME', 'in: only from this network', 'networks'),
    peer('from-ip-address', 'i', 'fromIpAddress', 'ADDRESS[/LEN]', 'in: only from this address or prefix'),
    peer('to-group', 'e', 'toEndpointGroup', 'NAME', 'out: only to this group', 'endpointGroups'),
    peer('to-network', 'o', 'toNetwork', 'NAME', 'out: only to this network', 'networks'),
    peer('to-ip-address', 's', 'toIpAddress', 'ADDRESS[/LEN]', 'out: only to this address or prefix'),
    {
      name: 'protocol',
      short: 'l',
      kind: 'text',
      value: 'tcp|udp|icmp|NUMBER[,...]',
      help: 'only these protocols',
    },
    {
      name: 'port',
      short: 'P',
      kind: 'text',
      value: 'PORT[-PORT][,...]',
      help: 'only to these ports, as 80,443,8000-8999',
    },
    {
      name: 'action',
      short: 'j',
      kind: 'text',
      value: 'allow|deny',
      help: 'what happens to a connection that it matches',
      default: 'allow',
    },
    {
      name: 'log',
      kind: 'switch',
      help: "connections that it decides are in the agents' logs, and in netctl flows",
    },
    TENANT,
  ],
  examples: [
    'netctl policy rule-add prod_web 1 -direction=in -protocol=tcp -action=deny',
    'netctl policy rule-add prod_web 2 -direction=in -protocol=tcp -port=80 -action=allow -priority=10',
    'netctl policy rule-add prod_web dns-and-mail --protocol=tcp,udp --port=25,53,8000-8999 --priority=20',
    'netctl policy rule-add prod_web watched --port=22 --priority=50 --log',
    'netctl policy rule-add prod_db 1 -d in -g web -l tcp -P 5432 -j allow',
  ],
  completes: ['policys'],
  async run(invocation) {
    const [policy = '', rule = ''] = invocation.args;
    checkPeers(invocation);
    const fields = {
      tenantName: invocation.text('tenant'),
      policyName: policy,
      ruleId: rule,
      direction: invocation.text('direction'),
      priority: invocation.number('priority'),
      fromEndpointGroup: invocation.text('from-group'),
      fromNetwork: invocation.text('from-network'),
      fromIpAddress: invocation.text('from-ip-address'),
      toEndpointGroup: invocation.text('to-group'),
      toNetwork: invocation.text('to-network'),
      toIpAddress: invocation.text('to-ip-address'),
      ...services(invocation),
      action: invocation.text('action'),
      log: invocation.on('log') || '',
    };
    await create(invocation, rules, `${policy}:${rule}`, body(fields, ['MatchEndpointGroup']));
    if (!invocation.given('action')) invocation.print('  action: allow, as no -action was given');
  },
};

function ruleTable(direction: string, found: readonly Plain[], width: number | undefined): string[] {
  const [side, field] = direction === 'in' ? ['From', 'from'] : ['To', 'to'];
  return table(
    [
      'Rule',
      'Priority',
      `${side} EndpointGroup`,
      `${side} Network`,
      `${side} IpAddress`,
      'Protocol',
      'Port',
      'Action',
    ],
    found
      .filter((r) => r.direction === direction)
      .map((r) => [
        r.ruleId,
        r.priority,
        r[`${field}EndpointGroup`],
        r[`${field}Network`],
        r[`${field}IpAddress`],
        r.protocols || r.protocol,
        r.ports || r.port,
        r.log ? `${r.action}, log` : r.action,
      ]),
    width,
  );
}

const ruleLs: Subcommand = {
  name: 'rule-ls',
  summary: 'lists the rules of a policy, incoming and outgoing',
  args: ['POLICY'],
  flags: [TENANT, LIST_FORMAT, JSON_FLAG, QUIET],
  examples: ['netctl policy rule-ls prod_web'],
  completes: ['policys'],
  async run(invocation) {
    formatOf(invocation, LIST_FORMATS);
    const [policy = ''] = invocation.args;
    const tenant = invocation.text('tenant');
    // Name the tenant or policy that does not exist, where empty tables would not.
    const { client } = invocation;
    await client.call('get', { collection: 'tenants', key: tenant });
    await client.call('get', { collection: policies.collection, key: key(invocation, policies, policy) });
    const all = asList(await client.call('list', { collection: rules.collection }));
    const found = all.filter((r) => r.tenantName === tenant && r.policyName === policy);
    await printListed(
      invocation,
      found,
      (r) => String(r.ruleId),
      () => [
        'Incoming Rules:',
        ...ruleTable('in', found, invocation.width),
        '',
        'Outgoing Rules:',
        ...ruleTable('out', found, invocation.width),
      ],
    );
  },
};

const ruleRm: Subcommand = {
  name: 'rule-rm',
  summary: 'deletes a rule of a policy, or several: each is tried',
  args: ['POLICY', 'RULE...'],
  flags: [TENANT],
  examples: ['netctl policy rule-rm prod_web 2'],
  completes: ['policys', 'rules'],
  run(invocation) {
    const [policy = '', ...ids] = invocation.args;
    return removeEach(
      invocation,
      rules,
      ids.map((id) => `${policy}:${id}`),
    );
  },
};

export const command: Command = {
  name: 'policy',
  summary: 'what may enter and leave the containers of groups',
  subcommands: [
    {
      name: 'create',
      summary: 'creates a policy without rules',
      args: ['POLICY'],
      flags: [TENANT],
      examples: ['netctl policy create prod_web', 'netctl group create contiv-net web -policy=prod_web'],
      run(invocation) {
        const [name = ''] = invocation.args;
        const fields = { tenantName: invocation.text('tenant'), policyName: name };
        return create(invocation, policies, name, body(fields, ['Tenant']));
      },
    },
    ruleAdd,
    ruleLs,
    ruleRm,
    trace,
    listCommand(policies),
    {
      ...inspectCommand(policies),
      summary: 'shows a policy, how often its rules decided, and whom it denied, as JSON',
    },
    {
      ...removeCommand(policies),
      summary: 'deletes a policy that no group carries, with its rules, or several',
    },
  ],
};
