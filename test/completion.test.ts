/** What the shells are answered, and that they take it: from the shells themselves where they are installed. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { netctl } from '../src/netctl/run.ts';
import { type Api, openApi } from './apiServer.ts';
import { netctl as onPath } from './cluster.ts';
import { temporaryFolder } from './folder.ts';

const FILE = `
- {kind: tenant, tenantName: blue}
- {kind: network, networkName: contiv-net, subnet: 20.1.1.0/24}
- {kind: network, networkName: other-net, subnet: 20.1.2.0/24}
- {kind: network, tenantName: blue, networkName: blue-net, subnet: 20.1.1.0/24}
- {kind: policy, policyName: prod_web}
- {kind: policy, policyName: prod_db}
- {kind: rule, policyName: prod_web, ruleId: allow-http, direction: in, action: allow}
- {kind: rule, policyName: prod_db, ruleId: '1', direction: in, action: allow}
- {kind: endpointGroup, groupName: web, networkName: contiv-net}
`;

let api: Api;
let url: string;
beforeAll(async () => {
  api = await openApi();
  url = `http://127.0.0.1:${api.port}`;
  expect(await onPath(url, ['apply', '-f', '-'], FILE)).toMatchObject({ status: 0 });
  await api.send('PUT', '/api/v1/hosts/node1', { name: 'node1', underlay: '192.168.1.1', version: '2.0.0' });
  const place = { tenantName: 'default', networkName: 'contiv-net' };
  const address = '20.1.1.9';
  await api.send('POST', '/api/v1/addresses', { ...place, family: 4, host: 'node1', address });
  const { status } = await api.send('PUT', '/api/v1/endpoints/e1?wait=0', {
    ...place,
    endpointID: 'e1',
    ipAddress: [address],
    macAddress: '02:02:14:01:01:09',
    homingHost: 'node1',
    containerName: 'shop-1',
    status: 'running',
  });
  expect(status).toBe(200);
});
afterAll(() => api.close());

async function words(...line: string[]): Promise<string[]> {
  const found: string[] = [];
  const terminal = {
    env: { NETMASTER: url },
    print: (word: string) => found.push(word),
    printError: () => {},
  };
  await netctl(['completion', 'words', '--', ...line], terminal);
  return found;
}

describe('netctl completion', () => {
  it.each<[line: string, words: string[]]>([
    ['pol|', ['policy']],
    ['policy rule-|', ['rule-add', 'rule-ls', 'rule-rm']],
    // Flags, and their values: those that are listed, and names of what there is.
    ['policy rule-add --pro|', ['--protocol']],
    ['policy rule-add --direction |', ['in', 'out']],
    ['policy rule-add --direction=|', ['--direction=in', '--direction=out']],
    ['policy rule-add -direction=o|', ['-direction=out']],
    ['policy rule-add -j a|', ['allow']],
    ['policy rule-add -l |', ['tcp', 'udp', 'icmp']],
    ['policy rule-add --from-network |', ['contiv-net', 'other-net']],
    ['policy rule-add -t blue --from-network |', ['blue-net']],
    ['policy rule-add --tenant b|', ['blue']],
    ['group create -policy=prod|', ['-policy=prod_db', '-policy=prod_web']],
    ['net ls -o |', ['wide', 'name', 'json', 'yaml']],
    // Arguments, each by what it is.
    ['group create |', ['contiv-net', 'other-net']],
    ['group create -p prod_web contiv-net |', ['web']],
    ['policy rule-rm |', ['prod_db', 'prod_web']],
    ['policy rule-rm prod_web |', ['allow-http']],
    ['endpoint inspect s|', ['shop-1']],
    ['policy trace --from |', ['shop-1']],
    ['get netw|', ['network', 'networkPolicy']],
    ['get network c|', ['contiv-net']],
    ['get rule prod_w|', ['prod_web:allow-http']],
    ['edit group |', ['web']],
    ['policy rule-rm prod_web allow-http |', []],
  ])('%s', async (line, expected) => {
    const typed = line.replace('|', '').split(' ');
    expect((await words(...typed)).sort()).toEqual([...expected].sort());
  });

  it('answers bash what goes on behind the signs that it ends words at', async () => {
    expect(await words('policy', 'rule-add', '--direction', '=', 'o')).toEqual(['out']);
    expect(await words('policy', 'rule-add', '--direction', '=')).toEqual(['in', 'out']);
    expect(await words('get', 'rule', 'prod_web', ':', 'al')).toEqual(['allow-http']);
  });
});

const run = async (shell: string, ...args: string[]): Promise<string> => {
  const env = {
    HOME: temporaryFolder(),
    NETMASTER: url,
    PATH: `${join(import.meta.dirname, '../bin')}:${process.env.PATH}`,
  };
  return (await promisify(execFile)(shell, args, { env })).stdout;
};

describe('the script', () => {
  it('of bash completes names, and values behind a sign', async () => {
    const complete = (...line: string[]) =>
      run(
        'bash',
        '-c',
        `source <(netctl completion bash); COMP_WORDS=(netctl "$@"); COMP_CWORD=$#; _netctl; printf '%s\n' "\${COMPREPLY[@]}"`,
        'bash',
        ...line,
      );
    expect(await complete('net', 'rm', 'con')).toBe('contiv-net\n');
    expect(await complete('policy', 'rule-add', '--direction', '=', '')).toBe('in\nout\n');
  });

  it('of zsh completes too where nobody has called compinit', async () => {
    const complete = (line: string) =>
      run(
        'zsh',
        '-f',
        '-c',
        `source <(netctl completion zsh); print -- $_comps[netctl]
         compadd() { shift; print -l -- $@ }; _files() { print files }
         words=(netctl ${line}); CURRENT=$#words; _netctl`,
      );
    expect(await complete('net rm con')).toBe('_netctl\ncontiv-net\n');
    expect(await complete("policy rule-add --direction=''")).toBe(
      '_netctl\n--direction=in\n--direction=out\n',
    );
    expect(await complete("apply -f ''")).toBe('_netctl\nfiles\n');
  });

  it('of fish completes names, values and files', async () => {
    const complete = (line: string) =>
      run('fish', '-c', `netctl completion fish | source; cd /etc; complete -C '${line}'`);
    expect(await complete('netctl net rm con')).toBe('contiv-net\n');
    expect(await complete('netctl policy rule-add --direction=')).toBe('--direction=in\n--direction=out\n');
    expect(await complete('netctl apply -f host')).toContain('hostname');
  });
});
