import { type Command, UsageError } from './command.ts';
import { DRY_RUN, FILE, printOutcomes, readDeclared, sendDeclared } from './declared.ts';

export const command: Command = {
  name: 'apply',
  summary: 'makes the cluster what a file declares',
  subcommands: [
    {
      name: '',
      summary: [
        'Creates and changes what a YAML or JSON file declares: all of it in one step, or nothing.',
        'What is as declared already is not written. What is not in the file stays, but with --prune what the same set made.',
        'An object is given whole: a field that is left out is unset. Rules that differ are replaced in that step;',
        'networks cannot change.',
        '',
        '  kind: network',
        '  networkName: contiv-net',
        '  subnet: 20.1.1.0/24',
        '  gateway: 20.1.1.254',
        '  ---',
        '  kind: endpointGroup',
        '  groupName: web',
        '  networkName: contiv-net',
      ].join('\n'),
      args: [],
      flags: [
        FILE,
        {
          name: 'set',
          kind: 'text',
          value: 'NAME',
          help: 'a name for what the file declares: of each object that it makes it is kept that it was this set',
        },
        {
          name: 'prune',
          kind: 'switch',
          help: 'deletes what an apply with the same --set made before, and the file does not have any more',
        },
        DRY_RUN,
      ],
      examples: [
        'netctl apply -f cluster.yaml',
        'netctl get network -o yaml | netctl apply -f -',
        'netctl apply -f shop.yaml --set=shop --prune',
      ],
      async run(invocation) {
        const dryRun = invocation.on('dry-run');
        const [set, prune] = [invocation.text('set'), invocation.on('prune')];
        if (prune && set === '')
          throw new UsageError('--prune needs --set=NAME: what was made by applies of that name may go');
        const file = readDeclared(invocation.text('file'));
        const { objects, headers } = await sendDeclared(invocation.client, file, dryRun, {
          ...(set === '' ? {} : { set }),
          ...(prune ? { prune: 'true' } : {}),
        });
        const results = ['created', 'changed', 'unchanged'] as const;
        printOutcomes(invocation, objects, prune ? [...results, 'deleted'] : results, dryRun);
        invocation.warn(headers);
      },
    },
  ],
};
