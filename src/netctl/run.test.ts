/** Command lines against a server that takes everything; what 1.x sends is in test/conformance.test.ts. */
import { spawnSync } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { COMMANDS } from './commands.ts';
import { leftOf } from './host.ts';
import { netctl } from './run.ts';

const END = { asked: 'a', address: '20.1.1.2', name: 'container a' };
const STATUS = {
  netmaster: {
    version: '2',
    security: 'certificates',
    store: 'memory',
    revision: 1,
    uptime: 1,
    netmasters: [],
  },
  hosts: { ready: 0, late: 0, away: 0, refused: 0, draining: 0 },
  networks: [],
  pending: [],
  problems: [],
};
const WHO = { role: 'operator', name: 'alice', tenants: ['blue', 'red'], shown: 'token' };
const SIDE = { considered: [], verdict: 'allow', why: 'no rule' };
const TRACE = {
  tenant: 'default',
  protocol: 6,
  from: END,
  to: END,
  verdict: 'allow',
  out: SIDE,
  in: SIDE,
  notes: [],
};

let server: Server;
let sent: [request: string, body: unknown][] = [];
const missing = new Set<string>();
/** What everything is answered while it is set. */
let refusal: object | undefined;

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += chunk;
    sent.push([`${request.method} ${request.url}`, body === '' ? undefined : JSON.parse(body)]);
    if (refusal !== undefined) {
      response.writeHead(400);
      return response.end(JSON.stringify(refusal));
    }
    const isList =
      request.method === 'GET' &&
      /^\/api\/v1\/(\w+\/$|flows|events|tokens|status\/hosts$)/.test(request.url ?? '');
    response.writeHead(missing.has(request.url ?? '') ? 404 : 200);
    const isTrace = request.url?.startsWith('/api/v1/trace') === true;
    const isStatus = request.url === '/api/v1/status';
    const isToken = request.method === 'POST' && request.url === '/api/v1/tokens';
    const isWho = request.url === '/api/v1/whoami';
    const object = isTrace ? TRACE : isStatus ? STATUS : isToken ? { token: 't' } : isWho ? WHO : {};
    response.end(isList && !isToken ? '[]' : JSON.stringify(object));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
});
afterAll(() => server.close());

async function run(line: string): Promise<{ exit: number; out: string[]; err: string[] }> {
  sent = [];
  const words = [...line.matchAll(/"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2] ?? '');
  const out: string[] = [];
  const err: string[] = [];
  const exit = await netctl(words, {
    env: { NETMASTER: `http://127.0.0.1:${(server.address() as AddressInfo).port}` },
    print: (text) => out.push(text),
    printError: (text) => err.push(text),
  });
  return { exit, out, err };
}

const LINKS = (...names: string[]) => ({
  'link-sets': {},
  links: Object.fromEntries(names.map((name) => [name, {}])),
});

it.each<[line: string, request: string, body: unknown]>([
  [
    'policy rule-add prod_web 2 -direction=in -protocol=tcp -port=80 -action=allow -priority=10',
    'POST /api/v1/rules/default:prod_web:2/',
    {
      tenantName: 'default',
      policyName: 'prod_web',
      ruleId: '2',
      direction: 'in',
      priority: 10,
      protocol: 'tcp',
      port: 80,
      action: 'allow',
      ...LINKS('MatchEndpointGroup'),
    },
  ],
  [
    'policy rule-add prod_web allow-http.v2 --protocol=tcp,udp --port=80,443,8000-8999',
    'POST /api/v1/rules/default:prod_web:allow-http.v2/',
    {
      tenantName: 'default',
      policyName: 'prod_web',
      ruleId: 'allow-http.v2',
      direction: 'in',
      priority: 1,
      protocols: 'tcp,udp',
      ports: '80,443,8000-8999',
      action: 'allow',
      ...LINKS('MatchEndpointGroup'),
    },
  ],
  ['policy rule-rm -t blue prod_web 2', 'DELETE /api/v1/rules/blue:prod_web:2/', undefined],
  [
    'service create lb -t blue -s net1 -l app=web -l tier=a,b -p 80:8080:TCP --port=53:53:UDP -ip 20.1.1.9',
    'POST /api/v1/serviceLBs/blue:lb/',
    {
      tenantName: 'blue',
      serviceName: 'lb',
      networkName: 'net1',
      ipAddress: '20.1.1.9',
      selectors: ['app=web', 'tier=a,b'],
      ports: ['80:8080:TCP', '53:53:UDP'],
      ...LINKS('Network', 'Tenant'),
    },
  ],
  [
    'external-contracts create ext -c -a one -a two',
    'POST /api/v1/extContractsGroups/default:ext/',
    {
      tenantName: 'default',
      contractsGroupName: 'ext',
      contractsType: 'consumed',
      contracts: ['one', 'two'],
      ...LINKS('Tenant'),
    },
  ],
  ['service rm lb', 'DELETE /api/v1/serviceLBs/default:lb/', undefined],
  ['bgp inspect host1', 'GET /api/v1/inspect/Bgps/host1/', undefined],
])('netctl %s sends %s', async (line, request, body) => {
  expect(await run(line)).toMatchObject({ exit: 0, err: [] });
  expect(sent).toEqual([[request, body]]);
});

it('aci-gw set with nothing behind a flag unsets what it says', async () => {
  missing.add('/api/v1/aciGws/aciGw/');
  try {
    await run('aci-gw set --controllers= -g http://localhost:5000');
  } finally {
    missing.clear();
  }
  expect(sent.at(-1)?.[1]).toEqual({ name: 'aciGw', controllers: '', gateway: 'http://localhost:5000' });
});

it('aci-gw set creates the gateway where there is none', async () => {
  missing.add('/api/v1/aciGws/aciGw/');
  try {
    // The stand-in answers 404 to the POST too.
    expect((await run('aci-gw set -d dom -e yes')).exit).toBe(3);
  } finally {
    missing.clear();
  }
  expect(sent.at(-1)).toEqual([
    'POST /api/v1/aciGws/aciGw/',
    { name: 'aciGw', physicalDomain: 'dom', enforcePolicies: 'yes' },
  ]);
});

it.each([
  ['policy rule-add -d sideways p 1', "--direction: 'sideways' must be in or out"],
  ['policy rule-add -d in -o net1 p 1', '--to-network does not go with direction in: use --from-network'],
  ['policy rule-add -d out -i 8.8.8.8 p 1', '--from-ip-address does not go with direction out'],
  ['policy rule-add -d out -e web -o net1 p 1', 'give one of --to-group and --to-network'],
  ['policy rule-add -P http p 1', "--port: 'http' must be ports from 1 to 65535 and ranges of them"],
  ['policy rule-add -P 0 p 1', "--port: '0' must be ports from 1 to 65535 and ranges of them"],
  ['policy rule-add -P 80, p 1', "--port: '80,' must be ports from 1 to 65535 and ranges of them"],
  ['policy rule-add -l tcp,tcp p 1', "--protocol: 'tcp,tcp' must be tcp, udp, icmp or numbers from 0 to 255"],
  ['external-contracts create -p -c -a x ext', 'give one of --provided and --consumed'],
  ['external-contracts create -a x ext', 'give one of --provided and --consumed'],
  ['external-contracts create -p ext', '--contract is missing'],
  ['service create lb -l a=b -p 80:80:TCP', '--network is missing'],
  [
    'net create n -g 20.1.1.1',
    '--subnet is missing: a subnet like 20.1.1.0/24, or --subnetv6 for IPv6 alone',
  ],
  ['bgp create host1 --router-ip 50.1.1.2 --as 1', 'must be an address with its prefix length'],
  ['aci-gw set', 'nothing to set: give one of --path-bindings'],
  ['login root admin', 'usage: netctl login'],
  ['login', 'give one of NAME and --oidc'],
  ['login --oidc root', 'give one of NAME and --oidc'],
  ['networks ls', "unknown command 'networks': did you mean network?"],
  ['pol ls', "unknown command 'pol': did you mean policy?"],
  ['create net', "unknown command 'create': what it is about comes first, as in netctl network create"],
  ['list net', "unknown command 'list': what it is about comes first, as in netctl network ls"],
  ['net add x', "unknown subcommand 'add' of netctl network: did you mean create?"],
  ['net ins x', "unknown subcommand 'ins' of netctl network: did you mean inspect?"],
  ['net ls --ten blue', 'unknown flag --ten: did you mean --tenant?'],
  ['net ls -o xml', "--output: 'xml' must be wide, name, json or yaml"],
  ['net --tenant=blue ls', '--tenant stands before the subcommand: write netctl network SUBCOMMAND'],
])('netctl %s is wrong usage and sends nothing', async (line, text) => {
  const { exit, out, err } = await run(line);
  expect({ exit, out, sent }).toEqual({ exit: 1, out: [], sent: [] });
  expect(err).toEqual([expect.stringContaining(text)]);
});

it('a netmaster that is not where it is looked for is named, with how to name another', async () => {
  const err: string[] = [];
  const terminal = { env: {}, print: () => {}, printError: (text: string) => err.push(text) };
  expect(await netctl(['net', 'ls'], terminal)).toBe(3);
  expect(err).toEqual([
    expect.stringMatching(
      /^netctl: netmaster cannot be reached at http:\/\/netmaster:9999 \(.*\): set NETMASTER or --netmaster$/,
    ),
  ]);
});

it.each<[line: string, field: string, message: string, told: string]>([
  [
    'policy rule-add p 1 -i 10.0.0.1/8',
    'fromIpAddress',
    "rule default:p:1: fromIpAddress '10.0.0.1/8' has bits behind its prefix length",
    "rule default:p:1: --from-ip-address '10.0.0.1/8' has bits behind its prefix length",
  ],
  [
    'net create n --subnet=10.0.0.0/8 -g6 fd00::1',
    'ipv6Gateway',
    'network default:n: ipv6Gateway fd00::1 needs ipv6Subnet beside it, not subnet',
    'network default:n: --gatewayv6 fd00::1 needs --subnetv6 beside it, not subnet',
  ],
  [
    'net create n --subnet=10.0.0.0/8',
    'subnet',
    'network default:n: subnet 10.0.0.0/8 overlaps that of network default:m',
    'network default:n: --subnet 10.0.0.0/8 overlaps that of network default:m',
  ],
  [
    'policy trace --from nobody --to web --port 80',
    'from',
    "from: tenant default has no running container, group or address 'nobody'",
    "--from: tenant default has no running container, group or address 'nobody'",
  ],
  ['tenant rm t', 'x', 'tenant t is in use by network t:subnet', 'tenant t is in use by network t:subnet'],
])('%s is refused by the names of its flags', async (line, field, message, told) => {
  refusal = { error: { code: 'invalid', message, field } };
  try {
    expect(await run(line)).toEqual({ exit: 3, out: [], err: [`netctl: ${told}`] });
  } finally {
    refusal = undefined;
  }
});

it.each([
  ['http://127.0.0.1:1', 'nothing listens there: ECONNREFUSED'],
  [
    'http://netmaster.invalid',
    /no host has this name: ENOTFOUND|no nameserver answers for this name: EAI_AGAIN/,
  ],
  ['https', 'what listens there does not speak TLS: http:// may be meant: EPROTO'],
])('that netmaster cannot be reached at %s is said in words', async (url, reason) => {
  const err: string[] = [];
  const { port } = server.address() as AddressInfo;
  const at = url === 'https' ? `https://127.0.0.1:${port}` : url;
  const terminal = { env: { NETMASTER: at }, print: () => {}, printError: (text: string) => err.push(text) };
  expect(await netctl(['net', 'ls'], terminal)).toBe(3);
  expect(err).toEqual([expect.stringMatching(reason)]);
});

it('what cannot be written is said, and a reader that has seen enough is no error', () => {
  const said = (line: string) => {
    const { status, stderr } = spawnSync('/bin/bash', ['-o', 'pipefail', '-c', line], { encoding: 'utf8' });
    return { status, stderr };
  };
  expect(said('bin/netctl --help > /dev/full')).toEqual({
    status: 3,
    stderr: 'netctl: the output cannot be written: the disk that it goes to is full\n',
  });
  expect(said('bin/netctl --help | true')).toEqual({ status: 0, stderr: '' });
});

it('rule-ls prints incoming and outgoing rules as two tables', async () => {
  expect((await run('policy rule-ls p')).out).toEqual([
    'Incoming Rules:',
    'Rule  Priority  From EndpointGroup  From Network  From IpAddress  Protocol  Port  Action',
    '----  --------  ------------------  ------------  --------------  --------  ----  ------',
    '',
    'Outgoing Rules:',
    'Rule  Priority  To EndpointGroup  To Network  To IpAddress  Protocol  Port  Action',
    '----  --------  ----------------  ----------  ------------  --------  ----  ------',
  ]);
});

it.each<[line: string, error: RegExp]>([
  ['policy trace --from a --to b', /^netctl: --port is missing: tcp needs one/],
  ['policy trace --from a --to b -l 132', /^netctl: --port is missing: 132 needs one/],
  ['get group -o table', /^netctl: --output: 'table' must be yaml, json, name or wide$/],
  ['apply -f no-such-file', /^netctl: --file: no-such-file does not exist$/],
  ['apply -f /', /^netctl: --file: \/ is a folder$/],
])('%s is wrong usage, and nothing is sent', async (line, error) => {
  expect(await run(line)).toEqual({ exit: 1, out: [], err: [expect.stringMatching(error)] });
  expect(sent).toEqual([]);
});

it.each(['version', '--version', '-v'])('%s shows versions', async (line) => {
  expect(await run(line)).toMatchObject({
    out: expect.arrayContaining([expect.stringMatching(/^netctl +\d/)]),
  });
});

it('doctor where no netplugin is says that, and not that something is wrong with the host', async () => {
  const err: string[] = [];
  const print = (line: string): void => void err.push(line);
  const exit = await netctl(['doctor'], { env: { PATH: '/nonexistent' }, print, printError: print });
  expect({ exit, err }).toEqual({
    exit: 2,
    err: ['netctl: doctor: netplugin is not on this machine: run it on a host'],
  });
  expect(await run('doctor -o xml')).toMatchObject({
    exit: 2,
    err: ["netctl: --output: 'xml' must be text or json"],
  });
  expect(await run('doctor --watch')).toMatchObject({ exit: 2 });
});

it('what is left on a host that is drained is told by runtime, a container on two networks once', () => {
  const docker = { endpointID: 'a'.repeat(64), containerID: 'c1', containerName: 'web', homingHost: 'node1' };
  const left = leftOf(
    [
      docker,
      { ...docker, endpointID: 'b'.repeat(64) },
      { endpointID: 'pod-1', workload: 'shop:cart-0', homingHost: 'node1' },
      { endpointID: 'bare-1', containerName: 'box', homingHost: 'node1' },
      { endpointID: 'host-1', ofHost: true, homingHost: 'node1' },
      { ...docker, containerName: 'other', homingHost: 'node2' },
    ],
    'node1',
  );
  expect(left.map(({ name, runtime }) => `${name} ${runtime}`)).toEqual([
    'web Docker',
    'shop/cart-0 Kubernetes',
    'box CNI',
  ]);
});

it('who asks is told with what that one may do', async () => {
  expect(await run('whoami')).toMatchObject({
    exit: 0,
    out: ['operator alice, by token: may read and change what is of tenants blue, red'],
  });
  expect(await run('token create --role=operator')).toMatchObject({
    exit: 1,
    err: ['netctl: --role=operator needs --tenant=NAME,...: an operator has some tenants'],
  });
  await run('token create --role=operator --tenant=blue,red --for=1h');
  expect(sent).toEqual([
    ['POST /api/v1/tokens', { role: 'operator', seconds: 3600, tenants: ['blue', 'red'] }],
  ]);
});

/** What they send and read are whole objects: test/apply.test.ts has their examples. */
const OF_FILES = new Set(['backup', 'apply', 'delete', 'diff', 'edit', 'get', 'export']);
/** They go by https: alone: test/login.test.ts. */
const OF_PEOPLE = new Set(['user', 'login', 'logout']);
/** Of this machine: test/doctor.lab.test.ts. */
const OF_HOSTS = new Set(['doctor']);

it('every example in the help is a command line that works', async () => {
  let tried = 0;
  for (const listed of COMMANDS.filter(
    (c) => ![OF_FILES, OF_PEOPLE, OF_HOSTS].some((others) => others.has(c.name)),
  )) {
    const { command } = await listed.load();
    expect(command.name).toBe(listed.name);
    for (const sub of command.subcommands) {
      expect(sub.examples.length, `${command.name} ${sub.name}`).toBeGreaterThan(0);
      for (const example of sub.examples.filter((e) => e.startsWith('netctl ') && !e.includes('|'))) {
        expect(await run(example.slice('netctl '.length)), example).toMatchObject({ exit: 0, err: [] });
        tried++;
      }
    }
  }
  expect(tried).toBeGreaterThan(40);
});
