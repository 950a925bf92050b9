/** `netctl networkpolicy`: what an orchestrator's controller has declared; it is changed there. */
import type { Command } from './command.ts';
import { listCommand, type Objects } from './objects.ts';
import { printJson } from './output.ts';

const policies: Objects = {
  noun: 'network policy',
  plural: 'network policies',
  example: 'shop/web',
  command: 'networkpolicy',
  collection: 'networkPolicies',
  nameField: 'policyName',
  inTenant: false,
  columns: [
    { title: 'Tier', of: (p) => p.tier },
    { title: 'Namespace', of: (p) => p.namespaceName },
    { title: 'Policy', of: (p) => p.policyName },
    { title: 'Priority', of: (p) => p.priority },
    { title: 'Isolates', of: (p) => p.isolates },
    { title: 'Rules', of: (p) => (p.rules as readonly unknown[]).length },
  ],
};

export const command: Command = {
  name: 'networkpolicy',
  summary: "an orchestrator's policies, which go by labels",
  subcommands: [
    listCommand(policies),
    {
      name: 'inspect',
      summary:
        'shows a network policy as JSON, with how often each of its rules decided and whom it denied last',
      args: ['NETWORK-POLICY'],
      flags: [
        {
          name: 'baseline',
          kind: 'switch',
          help: 'a name without namespace is one of tier baseline, not admin',
        },
      ],
      examples: ['netctl networkpolicy inspect shop/web', 'netctl networkpolicy inspect isolate --baseline'],
      async run(invocation) {
        const [name = ''] = invocation.args;
        const [namespace, policy] = name.split('/');
        const tier = invocation.on('baseline') ? 'baseline' : 'admin';
        const key = policy === undefined ? `${tier}::${name}` : `namespace:${namespace}:${policy}`;
        const answer = await invocation.client.call('inspect', { collection: 'networkPolicies', key });
        printJson(invocation, answer.body);
      },
    },
  ],
};
