/**
 * How many lookups of containers' names a second are answered, beside dnsmasq with the same names in its table, in a lab of one host: the same
 * clients (Debian's dnsperf, as many at once, in containers), on a network of ours and on Docker's bridge, on the same processors, in turns.
 * Several clients, as one alone meets what a container may ask (dataplane/rules/dns.ts).
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { run } from '../lab/shell.ts';
import { hostFolder, onHost } from '../lab/state.ts';
import { netctlOf } from './networks.ts';
import { median, ratiosTo, ratioVerdict, shown, textTable } from './numbers.ts';

const HOST = 'node1';
const CLIENTS = 4;
const NAMES = 10;
const SECONDS = 2;
/** Of dnsmasq's rate, at least. */
const BOUND = 0.8;

const SERVERS = ['ours', 'dnsmasq'] as const;
type Server = (typeof SERVERS)[number];
const NETWORKS: Readonly<Record<Server, string>> = { ours: 'asked', dnsmasq: 'bridge' };

/** Answers a second to all clients, in the order of the rounds. */
export type Lookups = Readonly<Record<Server, number[]>>;

export interface LookupsOptions {
  readonly lab: string;
  readonly rounds: number;
  step(words: string): void;
  /** `bin/lab` for the lab of this name. */
  command(lab: string, ...args: string[]): Promise<void>;
  readonly keep: boolean;
}

export async function measureLookups(options: LookupsOptions): Promise<Lookups> {
  const { lab, rounds, step, command, keep } = options;
  const rates: Record<Server, number[]> = { ours: [], dnsmasq: [] };
  step('  a lab of one host ...\n');
  try {
    await command(lab, 'down');
    await command(lab, 'up', '--quiet', '--hosts', '1');
    const at = (...line: string[]): Promise<string> => run(...onHost(lab, HOST, ...line));
    await at(...netctlOf(lab), ...'net create asked --subnet=10.33.0.0/16'.split(' '));
    const names = Array.from({ length: NAMES }, (_, i) => `name${i}`);
    const clients = SERVERS.flatMap((server) =>
      Array.from({ length: CLIENTS }, (_, i) => ({ server, name: `client-${server}${i}` })),
    );
    const containers = [
      ...names.map((name) => ({ name, network: NETWORKS.ours })),
      ...clients.map(({ name, server }) => ({ name, network: NETWORKS[server] })),
    ];
    for (const { name, network } of containers)
      await at(...`docker run -d --name=${name} --net=${network} contiv/lab sleep 100000`.split(' '));
    const gateway = ['inspect', '-f', '{{.NetworkSettings.Gateway}}', 'client-dnsmasq0'];
    const ofBridge = (await at('docker', ...gateway)).trim();
    await using _dnsmasq = await startDnsmasq(lab, ofBridge, names);
    const addresses: Readonly<Record<Server, string>> = { ours: '127.0.0.11', dnsmasq: ofBridge };
    const pids = new Map<string, string>();
    for (const { name } of clients)
      pids.set(name, (await at('docker', 'inspect', '-f', '{{.State.Pid}}', name)).trim());
    const questions = path.join(hostFolder(lab, HOST), 'questions');
    fs.writeFileSync(questions, names.map((name) => `${name} A\n`).join(''));
    const rateOf = async (server: Server): Promise<number> => {
      const asked = clients.filter((client) => client.server === server);
      const each = await Promise.all(
        asked.map(async ({ name }) => {
          const asks = [
            'dnsperf',
            '-s',
            addresses[server],
            '-l',
            String(SECONDS),
            '-c',
            '4',
            '-d',
            questions,
          ];
          const command = ['nsenter', '-t', pids.get(name) as string, '-n', ...asks];
          const said = await run(...onHost(lab, HOST, ...command));
          const [, codes = ''] = /Response codes:\s*(.*)/.exec(said) ?? [];
          const [, rate] = /Queries per second:\s*([\d.]+)/.exec(said) ?? [];
          if (rate === undefined || !/^NOERROR \d+ \(100\.00%\)$/.test(codes))
            throw new Error(`dnsperf of ${server}: not every name was answered: ${codes || said}`);
          return Number(rate);
        }),
      );
      return each.reduce((sum, rate) => sum + rate, 0);
    };
    for (const server of SERVERS) await rateOf(server); // what is compiled at first does not count
    for (let round = 0; round < rounds; round++)
      for (let turn = 0; turn < SERVERS.length; turn++) {
        const server = SERVERS[(round + turn) % SERVERS.length] as Server;
        step(`  lookups a second, round ${round + 1}: ${server} ... `);
        rates[server].push(await rateOf(server));
        process.stdout.write(`${shown(rates[server].at(-1))}\n`);
      }
  } finally {
    if (!keep) await command(lab, 'down');
  }
  return rates;
}

/** On the host, at an address that containers of Docker's bridge reach; answers names as ours does, without asking anybody. */
async function startDnsmasq(lab: string, address: string, names: readonly string[]) {
  const records = names.map((name, i) => `--host-record=${name},10.33.9.${i + 1},1`);
  const only = [
    '--keep-in-foreground',
    '--no-resolv',
    '--no-hosts',
    '--conf-file=/dev/null',
    '--bind-interfaces',
  ];
  const program = [
    'dnsmasq',
    ...only,
    `--listen-address=${address}`,
    '--except-interface=lo',
    '--pid-file',
    ...records,
  ];
  const child = spawn(...onHost(lab, HOST, ...program), { stdio: ['ignore', 'inherit', 'inherit'] });
  const ended = new Promise<void>((done) => child.on('close', () => done()));
  const end = async (): Promise<void> => {
    child.kill();
    await ended;
  };
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    const found = await run(
      ...onHost(lab, HOST, 'dig', '+short', '+time=1', '+tries=1', `@${address}`, 'name0'),
    ).catch(() => '');
    if (found.trim() !== '') return { [Symbol.asyncDispose]: end };
    await new Promise((done) => setTimeout(done, 100));
  }
  await end();
  throw new Error('dnsmasq does not answer');
}

const ratiosOf = ({ ours, dnsmasq }: Lookups): number[] => ratiosTo(ours, dnsmasq);

export const lookupsTable = (rates: Lookups): string =>
  textTable(
    [
      ['names', 'ours / dnsmasq', '|', 'ours', 'dnsmasq', 'unit'],
      [
        `lookups by ${CLIENTS} containers`,
        shown(median(ratiosOf(rates))),
        '|',
        shown(median(rates.ours)),
        shown(median(rates.dnsmasq)),
        'answers/s',
      ],
    ],
    1,
  );

export const lookupsVerdict = (rates: Lookups): string =>
  ratioVerdict(
    `lookups of names by ${CLIENTS} containers:`,
    ratiosOf(rates),
    "dnsmasq's rate",
    BOUND,
    'higher',
  );

export const lookupsResults = (rates: Lookups): unknown => ({
  unit: 'answers/s',
  ratio: median(ratiosOf(rates)),
  medians: { ours: median(rates.ours), dnsmasq: median(rates.dnsmasq) },
  samples: rates,
});
