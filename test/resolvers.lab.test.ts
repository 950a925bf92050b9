/** What containers have resolved outside, and by whom, over two hosts: node2's own resolver is on loopback. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  addressOf,
  type Background,
  background,
  clear,
  differences,
  docker,
  inside,
  must,
  netctl,
  on,
  pings,
  run,
  until,
} from './lab.ts';

const OUTSIDE = '198.51.100.1';
const HOST = '192.168.50.11';
/** The hosts' own. */
const RESOLVER = '192.168.50.1';
const SERVER = [
  process.execPath,
  '--disable-warning=ExperimentalWarning',
  `${import.meta.dirname}/resolver.ts`,
];
const running: Background[] = [];

async function serve(host: string, ...command: string[]): Promise<void> {
  const server = background(host, ...command);
  running.push(server);
  await until('resolver', async () => server.lines.includes('ready'));
}

beforeAll(async () => {
  await netctl('net create open --subnet=10.40.0.0/24 --gateway=10.40.0.254');
  await netctl('net create shut --subnet=10.41.0.0/24');
  await netctl('policy create mute');
  for (const protocol of ['udp', 'tcp'])
    await netctl(
      `policy rule-add mute ${protocol} -direction=out -protocol=${protocol} -port=53 -action=deny`,
    );
  await netctl('group create open muted -policy=mute');
  await serve('outside', ...SERVER);
  await run('node1', 'free', 'open');
  await run('node1', 'muted1', 'muted.open');
  await run('node1', 'shut1', 'shut');
  await run('node2', 'shut2', 'shut');
  await until('names', () => pings('node1', 'shut1', 'shut2'));
  await until('names', () => pings('node2', 'shut2', 'shut1'));
});
afterAll(async () => {
  for (const server of running) await server.end('SIGTERM');
  await clear();
});

/** `NOERROR 203.0.113.9`; a status alone where there is no address; '' where nobody answers. */
async function ask(host: string, container: string, ...question: string[]): Promise<string> {
  const { out } = await inside(host, container, 'dig +tries=1 +time=12', ...question);
  const addresses = [...out.matchAll(/\sA\s+(\S+)$/gm)].map((m) => m[1]);
  return [/status: (\w+)/.exec(out)?.[1] ?? '', ...addresses].join(' ');
}
const resolved = 'NOERROR 203.0.113.9';

describe('on a network without a gateway', () => {
  it.each([
    ['node1', 'shut1'],
    ['node2', 'shut2'],
  ])('a container of %s has the names of its tenant and no others', async (host, container) => {
    const other = await addressOf(host === 'node1' ? 'node2' : 'node1', host === 'node1' ? 'shut2' : 'shut1');
    const name = host === 'node1' ? 'shut2' : 'shut1';
    for (const how of ['+notcp', '+tcp']) {
      expect(await ask(host, container, how, name)).toBe(`NOERROR ${other}`);
      expect(await ask(host, container, how, 'example.com')).toBe('REFUSED');
      expect(await ask(host, container, how, '-x', '203.0.113.9')).toBe('REFUSED');
      expect(await ask(host, container, how, 'com', 'NS')).toBe('REFUSED');
    }
  });
});

describe('out rules that deny port 53', () => {
  it('leave a container no name outside, whomever it asks, and the names of its tenant', async () => {
    const free = await addressOf('node1', 'free');
    for (const how of ['+notcp', '+tcp']) {
      expect(await ask('node1', 'free', how, 'example.com')).toBe(resolved);
      expect(await ask('node1', 'free', how, `@${OUTSIDE}`, 'example.com')).toBe(resolved);
      for (const server of ['127.0.0.11', '10.40.0.254', OUTSIDE, RESOLVER]) {
        expect(await ask('node1', 'muted1', how, `@${server}`, 'example.com')).toBe('REFUSED');
        expect(await ask('node1', 'muted1', how, `@${server}`, 'free')).toBe(`NOERROR ${free}`);
      }
    }
    const trace = await netctl(`policy trace --from=muted1 --to=${OUTSIDE} --protocol=udp --port=53 --live`);
    expect(trace).toMatch(/deny/);
    expect(trace).toMatch(/names of the tenant/);
  });

  it('are judged as to the resolver that is asked, as soon as a command has answered', async () => {
    const allow = (name: string, address: string) =>
      netctl(
        `policy rule-add mute ${name} -direction=out --to-ip-address=${address} -protocol=udp -port=53 -action=allow -priority=10`,
      );
    await allow('outside', OUTSIDE);
    expect(await ask('node1', 'muted1', `@${OUTSIDE}`, 'example.com')).toBe(resolved);
    expect(await ask('node1', 'muted1', '+tcp', `@${OUTSIDE}`, 'example.com')).toBe('REFUSED');
    expect(await ask('node1', 'muted1', 'example.com')).toBe('REFUSED');
    await allow('hosts', RESOLVER);
    expect(await ask('node1', 'muted1', 'example.com')).toBe(resolved);
    for (const rule of ['outside', 'hosts']) await netctl(`policy rule-rm mute ${rule}`);
    expect(await ask('node1', 'muted1', 'example.com')).toBe('REFUSED');
    expect(await ask('node1', 'muted1', `@${OUTSIDE}`, 'example.com')).toBe('REFUSED');
  });
});

describe('a nameserver that asks for a container', () => {
  it('does not reach what is published nowhere on Docker’s own bridge', async () => {
    await docker('node1', 'run -d --name=hidden contiv/lab sleep 100000');
    const address = await addressOf('node1', 'hidden');
    const pid = await docker('node1', 'inspect -f {{.State.Pid}} hidden');
    await serve('node1', 'nsenter', '-t', pid, '-n', ...SERVER, address);
    const byHost = await must('node1', `dig +short @${address} example.com`);
    expect(byHost).toBe('203.0.113.9');
    for (const how of ['+notcp', '+tcp'])
      expect(await ask('node1', 'free', how, `@${address}`, 'example.com')).not.toContain('203.0.113.9');
    await docker('node1', 'rm -f hidden');
  });

  it('passes the host’s firewall as the container would', async () => {
    await serve('node1', ...SERVER, HOST);
    const closed = (verb: '-I' | '-D') =>
      Promise.all(
        ['udp', 'tcp'].map((protocol) =>
          must('node1', `iptables -w ${verb} INPUT -i cx+ -p ${protocol} --dport 53 -j DROP`),
        ),
      );
    await closed('-I');
    try {
      expect(await must('node1', `dig +short @${HOST} example.com`)).toBe('203.0.113.9');
      for (const how of ['+notcp', '+tcp'])
        expect(await ask('node1', 'free', how, `@${HOST}`, 'example.com')).not.toContain('203.0.113.9');
    } finally {
      await closed('-D');
    }
    for (const how of ['+notcp', '+tcp'])
      expect(await ask('node1', 'free', how, `@${HOST}`, 'example.com')).toBe(resolved);
  });
});

describe('a server outside that a container asks', () => {
  it('gets what is no question for a name of ours: other types, without recursion, one label', async () => {
    for (const question of [
      ['+norec', 'com', 'NS'],
      ['com', 'DS'],
      ['.', 'DNSKEY'],
      ['free', 'MX'],
    ])
      expect(await ask('node1', 'free', `@${OUTSIDE}`, ...question)).toBe('NOERROR');
    expect(await ask('node1', 'free', `@${OUTSIDE}`, 'com')).toBe(resolved);
    expect(await ask('node1', 'free', `@${OUTSIDE}`, '+norec', 'free')).toBe(resolved);
    expect(await ask('node1', 'free', 'com')).toBe('NXDOMAIN');
  });

  it('is told of updates, and its zones come whole', async () => {
    const pid = await docker('node1', 'inspect -f {{.State.Pid}} free');
    const update = `printf 'server ${OUTSIDE}\\nzone lan\\nupdate add host.lan 60 A 192.0.2.1\\nsend\\n'`;
    const { status, err } = await on('node1', 'sh -c', `${update} | nsenter -t ${pid} -n nsupdate -t 12`);
    expect({ status, err }).toEqual({ status: 0, err: '' });
    const { out } = await inside('node1', 'free', `dig @${OUTSIDE} lan AXFR`);
    expect(out).toMatch(/52 records \(messages 3,/);
  });
});

it('leaves the lab as it was', async () => {
  expect(await differences()).toBe('');
});
