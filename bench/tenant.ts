/**
 * What an agent takes beside a tenant that has much in it: a host of a lab with one container, and endpoints of its tenant on a hundred simulated hosts, in groups of
 * a hundred with a policy of ten rules from another group. Memory of netplugin and of its names (PSS), when all is applied and some time has passed.
 *
 *   node bench/tenant.ts [ENDPOINTS]      (default 10000)
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { netmasterUrls, readState } from '../lab/state.ts';
import { connect } from '../src/client/client.ts';
import { macOf } from '../src/model/address.ts';
import type { DeclaredObject } from '../src/protocol/declared.ts';
import { openLab } from '../test/lab.ts';
import { megabytes } from './numbers.ts';
import { each, openHosts } from './simulated.ts';

const LAB = process.env.LAB ?? 'benchtenant';
const GROUP = 100;
const RULES = 10;
const HOSTS = 100;
const AGENTS = ['netplugin', 'names'];

/** On node1: all of them, until its standard input ends. Says "loaded" when netmaster has them. */
async function others(url: string, count: number): Promise<void> {
  const client = connect({ urls: [url], timeoutMs: 600_000 });
  const hosts = await openHosts(client, HOSTS);
  hosts.acknowledgeAll((error) => {
    throw error;
  });
  const groups = Math.ceil(count / GROUP);
  const objects: DeclaredObject[] = [
    { kind: 'network', networkName: 'n', subnet: '10.128.0.0/12', gateway: '10.128.0.1' },
    ...Array.from({ length: groups }, (_, g): DeclaredObject[] => [
      { kind: 'policy', policyName: `p${g}` },
      { kind: 'endpointGroup', groupName: `g${g}`, networkName: 'n', policies: [`p${g}`] },
    ]).flat(),
    ...Array.from({ length: groups * RULES }, (_, i): DeclaredObject => {
      const g = Math.floor(i / RULES);
      const from = { fromEndpointGroup: `g${(g + 1) % groups}`, protocol: 'tcp', port: 1000 + (i % RULES) };
      return { kind: 'rule', policyName: `p${g}`, ruleId: `${i}`, direction: 'in', action: 'allow', ...from };
    }),
  ];
  await client.call('apply', { wait: '0' }, { objects });
  await each([...Array(count).keys()], (i) => {
    const address = `10.${129 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}`;
    return client.call(
      'attach',
      { id: `e${i}`, wait: '0' },
      {
        endpointID: `e${i}`,
        tenantName: 'default',
        networkName: 'n',
        groupName: `g${i % groups}`,
        containerName: `c${i}`,
        homingHost: hosts.names[i % HOSTS] as string,
        ipAddress: [address],
        macAddress: macOf(address),
        status: 'running',
      },
    );
  });
  process.stdout.write('loaded\n');
  process.stdin.resume().on('end', () => process.exit(0));
}

async function main(count: number): Promise<void> {
  const { mustLab, must } = openLab(LAB);
  await mustLab('up --brief --hosts 1 --insecure');
  try {
    const program = `${process.execPath} --disable-warning=ExperimentalWarning ${import.meta.filename}`;
    const command = path.join(import.meta.dirname, '../bin/lab');
    const state = readState(LAB);
    if (state === undefined) throw new Error(`lab ${LAB} is not there`);
    const [url = ''] = netmasterUrls(state);
    const args = ['--name', LAB, 'exec', 'node1', '--', ...program.split(' '), 'others', url, String(count)];
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(child, 'close');
    const loaded = createInterface(child.stdout)[Symbol.asyncIterator]().next();
    if ((await Promise.race([loaded, ended.then(() => undefined)]))?.value !== 'loaded')
      throw new Error('the simulated hosts ended');
    await must('node1', 'docker run -d --name=one --net=g0.n contiv/lab sleep 100000');
    const applied = async (): Promise<boolean> =>
      (JSON.parse(await must('node1', 'netctl host ls --json')) as { name: string; lag: number }[]).some(
        ({ name, lag }) => name === 'node1' && lag === 0,
      );
    while (!(await applied())) await new Promise((done) => setTimeout(done, 500));
    const { processes } = JSON.parse(await mustLab('status --json')) as {
      processes: { name: string; pid: number }[];
    };
    const found = processes.filter(({ name }) => AGENTS.includes(name));
    const least = new Map(found.map(({ name }) => [name, Number.POSITIVE_INFINITY]));
    for (let i = 0; i < 45; i++) {
      for (const { name, pid } of found)
        least.set(name, Math.min(least.get(name) as number, megabytes(pid, 'smaps_rollup', 'Pss')));
      await new Promise((done) => setTimeout(done, 2000));
    }
    const sum = [...least.values()].reduce((a, b) => a + b);
    console.log(
      `${count} endpoints: ${[...least].map(([name, mb]) => `${name} ${mb.toFixed(0)} MB`).join(', ')}, together ${sum.toFixed(0)} MB PSS`,
    );
    child.stdin.end();
    await ended;
  } finally {
    await mustLab('down');
  }
}

const [first, ...rest] = process.argv.slice(2);
if (first === 'others') await others(rest[0] as string, Number(rest[1]));
else {
  const count = Number(first ?? 10_000);
  if (!Number.isInteger(count) || count < 1) {
    process.stderr.write(`tenant: ENDPOINTS: '${first}' must be a number of endpoints, 1 or more\n`);
    process.exit(2);
  }
  await main(count);
}
