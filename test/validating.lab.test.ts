/**
 * A validating resolver in a container, unbound as Debian has it: a server outside has a signed root, a signed top-level domain and a
 * signed zone below it, and one whose signatures are of another key.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { unpackPackages } from './debian.ts';
import {
  type Background,
  background,
  clear,
  differences,
  docker,
  inside,
  must,
  netctl,
  on,
  run,
  until,
} from './lab.ts';

/** The server's: in the network outside, which has a way there and back. */
const SERVER = '198.51.100.53';
const running: Background[] = [];
let root = '';
let folder = '';

const libraries = (): string => `${root}/usr/lib/${process.arch === 'x64' ? 'x86_64' : 'aarch64'}-linux-gnu`;
const program = (name: string): readonly string[] => [
  'env',
  `LD_LIBRARY_PATH=${libraries()}`,
  `${root}/usr/${name}`,
];
const execute = ([command = '', ...args]: readonly string[]): string =>
  execFileSync(command, args, { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim();

/** Signs a zone by the key; answers its file. */
function sign(zone: string, key: string, records: string): string {
  const file = path.join(folder, `${zone}zone`);
  fs.writeFileSync(
    file,
    `$TTL 60\n${zone} IN SOA ns.example.com. root.example.com. 1 3600 600 86400 60\n${zone} IN NS ns.example.com.\n${records}\n`,
  );
  execute([...program('bin/ldns-signzone'), '-o', zone, file, key]);
  return `${file}.signed`;
}

beforeAll(async () => {
  root = unpackPackages('outside', 'unbound', 'nsd', 'ldnsutils');
  folder = path.join(path.dirname(root), 'zones');
  fs.mkdirSync(folder);
  const keygen = (zone: string): string =>
    execute([...program('bin/ldns-keygen'), '-k', '-a', 'ECDSAP256SHA256', zone]);
  const ds = (key: string): string => fs.readFileSync(path.join(folder, `${key}.ds`), 'utf8').trim();
  const [top, com, example, forged, other] = ['.', 'com.', 'example.com.', 'forged.com.', 'forged.com.'].map(
    keygen,
  ) as [string, string, string, string, string];
  const below = (zone: string, key: string): string => `${zone} IN NS ns.example.com.\n${ds(key)}`;
  const zones = {
    '.': sign('.', top, below('com.', com)),
    'com.': sign(
      'com.',
      com,
      `com. IN A 203.0.113.20\n${below('example.com.', example)}\n${below('forged.com.', other)}`,
    ),
    'example.com.': sign(
      'example.com.',
      example,
      `ns.example.com. IN A ${SERVER}\nwww.example.com. IN A 203.0.113.21`,
    ),
    'forged.com.': sign('forged.com.', forged, 'www.forged.com. IN A 203.0.113.22'),
  };
  fs.writeFileSync(
    path.join(folder, 'nsd.conf'),
    `server:
  ip-address: ${SERVER}
  username: ""
  chroot: ""
  database: ""
  pidfile: ""
  zonesdir: "${folder}"
  zonelistfile: "${folder}/zone.list"
  xfrdfile: "${folder}/xfrd.state"
  xfrdir: "${folder}"
remote-control:
  control-enable: no
${Object.entries(zones)
  .map(([name, file]) => `zone:\n  name: "${name}"\n  zonefile: "${file}"\n`)
  .join('')}`,
  );
  fs.writeFileSync(
    path.join(folder, 'unbound.conf'),
    `server:
  interface: 127.0.0.1
  access-control: 127.0.0.0/8 allow
  do-not-query-localhost: no
  username: ""
  chroot: ""
  directory: "${folder}"
  pidfile: ""
  use-syslog: no
  module-config: "validator iterator"
  trust-anchor-file: "${folder}/${top}.ds"
remote-control:
  control-enable: no
forward-zone:
  name: "."
  forward-addr: ${SERVER}
`,
  );
  await must('outside', `ip addr add ${SERVER}/32 dev lo`);
  running.push(background('outside', ...program('sbin/nsd'), '-d', '-c', `${folder}/nsd.conf`));
  await until('server', async () =>
    (await on('outside', `dig +short @${SERVER} www.example.com`)).out.includes('203.0.113.21'),
  );
  await netctl('net create open --subnet=10.42.0.0/24 --gateway=10.42.0.254');
  await run('node1', 'resolver', 'open');
  const pid = await docker('node1', 'inspect -f {{.State.Pid}} resolver');
  const unbound = [...program('sbin/unbound'), '-d', '-c', `${folder}/unbound.conf`];
  running.push(background('node1', `nsenter -t ${pid} -n`, ...unbound));
  await until('resolver', async () => (await ask('com', 'SOA')) === 'NOERROR ad');
});
afterAll(async () => {
  for (const one of running) await one.end('SIGTERM');
  await must('outside', `ip addr del ${SERVER}/32 dev lo`).catch(() => {});
  if (root !== '') fs.rmSync(path.dirname(root), { recursive: true, force: true });
  await clear();
});

/** `NOERROR ad 203.0.113.21`: what the container's own resolver says; '' where it says nothing. */
async function ask(...question: string[]): Promise<string> {
  const { out } = await inside('node1', 'resolver', 'dig +tries=1 +time=12 +adflag @127.0.0.1', ...question);
  const [, status = ''] = /status: (\w+)/.exec(out) ?? [];
  const ad = /flags:[^;]* ad[ ;]/.test(out) ? ['ad'] : [];
  return [status, ...ad, ...[...out.matchAll(/\sA\s+(\S+)$/gm)].map((m) => m[1])].join(' ');
}

describe('a validating resolver in a container that has all it knows from a server outside', () => {
  it('validates names of signed zones, those of one label, and that there is none', async () => {
    expect(await ask('www.example.com')).toBe('NOERROR ad 203.0.113.21');
    expect(await ask('com')).toBe('NOERROR ad 203.0.113.20');
    for (const [name, type] of [
      ['com', 'SOA'],
      ['com', 'DNSKEY'],
      ['com', 'DS'],
      ['.', 'DNSKEY'],
      ['www.example.com', 'MX'],
    ] as const)
      expect(await ask(name, type), `${name} ${type}`).toBe('NOERROR ad');
    expect(await ask('nobody.example.com')).toBe('NXDOMAIN ad');
    expect(await ask('org')).toBe('NXDOMAIN ad');
  });

  it('finds what was signed by another key', async () => {
    expect(await ask('www.forged.com')).toBe('SERVFAIL');
    expect(await ask('+cdflag', 'www.forged.com')).toBe('NOERROR 203.0.113.22');
  });
});

it('leaves the lab as it was', async () => {
  expect(await differences()).toBe('');
});
