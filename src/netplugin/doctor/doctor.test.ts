import { expect, it } from 'vitest';
import type { HostState } from '../../protocol/hosts.ts';
import type { Attachment } from '../intent/view.ts';
import { clockFinding } from './clock.ts';
import { type Compared, compareEndpoints, leftNetworks } from './endpoints.ts';
import { findingLine, ok, summary, unknown, wrong } from './finding.ts';
import { fabricFindings, ownName, saidThere } from './index.ts';
import { readDoctor } from './options.ts';

it('a finding is one line with its remedy, and the last line says how many there are', () => {
  const bad = wrong('way to node2', 'nothing arrives', 'mend it');
  expect(findingLine(bad)).toBe('wrong    way to node2: nothing arrives -> mend it');
  expect(findingLine(ok('clock', 'fine'))).toBe('ok       clock: fine');
  expect(summary([ok('clock', 'fine')])).toBe('all is well');
  expect(summary([ok('clock', 'fine'), unknown('drift', 'who knows')])).toBe(
    'nothing is wrong as far as could be looked',
  );
  expect(summary([bad, unknown('drift', 'who knows')])).toBe('1 finding');
  expect(summary([bad, bad])).toBe('2 findings');
});

const NOON = Date.parse('2026-11-28T12:00:00Z');
it.each<[after: number, took: number, text: string]>([
  [0, 0, "within two seconds of netmaster's"],
  [2900, 0, "within two seconds of netmaster's"], // its second may just have ended
  [-1900, 0, "within two seconds of netmaster's"],
  [-9000, 8000, "within two seconds of netmaster's"], // the answer took as long
  [61_000, 0, "60 s ahead of netmaster's"],
  [-60_000, 0, "60 s behind netmaster's"],
])('a clock that is %i ms after what netmaster says, asked for %i ms: %s', (after, took, text) => {
  const before = NOON + after;
  const date = 'Sat, 28 Nov 2026 12:00:00 GMT';
  expect(clockFinding({ date, before, after: before + took })).toMatchObject({
    text,
    state: text.startsWith('within') ? 'ok' : 'wrong',
  });
});
it('a netmaster that says no time is compared with nothing', () => {
  expect(clockFinding({ date: undefined, before: NOON, after: NOON }).state).toBe('unknown');
});

const endpoint = (id: string, more = {}) => ({
  endpointID: id,
  tenantName: 'default',
  networkName: 'net1',
  homingHost: 'node1',
  macAddress: '02:02:0a:01:00:02',
  ipAddress: ['10.1.0.2'],
  containerName: id,
  status: 'running' as const,
  ...more,
});
const attachment = (id: string, more: Partial<Attachment> = {}): Attachment => ({
  endpoint: endpoint(id),
  phase: 'joined',
  publications: [],
  runtime: 'docker',
  ...more,
});
const docker = (id: string, container = id) => ({ id, network: 'net1', container });
const found = (compared: Partial<Compared>): string[] =>
  [
    ...compareEndpoints({
      known: [],
      attached: [],
      docker: [],
      exists: () => false,
      ...compared,
    }).values(),
  ].map(({ of, text }) => `${of}: ${text}`);

it.each<[name: string, compared: Partial<Compared>, lines: RegExp[]]>([
  ['all agree', { known: [endpoint('web')], attached: [attachment('web')], docker: [docker('web')] }, []],
  ["the host's own address needs no container", { known: [endpoint('own', { ofHost: true })] }, []],
  [
    'netmaster keeps what is not attached',
    { known: [endpoint('web')] },
    [/^leaked address: address 10\.1\.0\.2 of default:net1 is kept for container web, which is not attached/],
  ],
  [
    'what Docker runs no more is attached',
    { known: [endpoint('web')], attached: [attachment('web')] },
    [/^leaked address: .* is attached for container web, which runs no more$/],
  ],
  [
    'a container that is just starting is not missed',
    { attached: [attachment('web', { phase: 'joining' })] },
    [],
  ],
  [
    'where Docker does not answer nothing is missed there',
    { known: [endpoint('web')], attached: [attachment('web')], docker: undefined },
    [],
  ],
  [
    'a namespace is gone',
    {
      known: [endpoint('pod')],
      attached: [attachment('pod', { runtime: 'cni', sandbox: '/run/netns/pod' })],
    },
    [/^leaked address: .* for container pod, which runs no more$/],
  ],
  [
    'netmaster does not know what is attached',
    { attached: [attachment('web')], docker: [docker('web')] },
    [/^container web: is attached here, and netmaster does not know it/],
  ],
  [
    'where netmaster does not answer nothing is missed there',
    { known: undefined, attached: [attachment('web')], docker: [docker('web')] },
    [],
  ],
  [
    'Docker has what is not attached',
    { docker: [docker('web')] },
    [/^container web: Docker has it on network net1, and it is not attached here/],
  ],
  [
    'Docker has an endpoint without a container',
    { docker: [docker('0123456789abcdef', '')] },
    [/^Docker's leftover: network net1 has an endpoint 0123456789ab of no container$/],
  ],
])('endpoints: %s', (_, compared, lines) => {
  expect(found(compared)).toEqual(lines.map((line) => expect.stringMatching(line)));
});

it("Docker's networks are left over when their network or group is gone, and others are not looked at", () => {
  const target = (network: string, group = '') => ({ tenant: 'blue', network, group });
  const left = leftNetworks(
    [
      { name: 'net1/blue', target: target('net1') },
      { name: 'web.net1/blue', target: target('net1', 'web') },
      { name: 'old.net1/blue', target: target('net1', 'old') },
      { name: 'gone/blue', target: target('gone') },
      { name: 'bridge', target: undefined },
    ],
    { networks: new Set(['blue:net1']), groups: new Set(['blue:web']) },
  );
  expect(left.map(({ text, remedy }) => [text, remedy])).toEqual([
    [
      'network old.net1/blue was made for group blue:old, which does not exist any more',
      expect.stringContaining('docker network rm old.net1/blue'),
    ],
    [
      'network gone/blue was made for network blue:gone, which does not exist any more',
      expect.stringContaining('docker network rm gone/blue'),
    ],
  ]);
});

const host = (name: string, underlay: string, state: HostState['state'] = 'ready'): HostState => ({
  name,
  underlay,
  state,
  containers: 0,
  applied: 1,
  lag: 0,
  problems: [],
});

it('without its agent a host knows its name by its address, else by its host name', () => {
  const hosts = [
    host('node1', '192.0.2.1'),
    host('node2', '192.0.2.2'),
    host('twin', '192.0.2.3', 'refused'),
  ];
  expect(ownName(hosts, new Set(['127.0.0.1', '192.0.2.2']), 'pc')).toBe('node2');
  expect(ownName(hosts, new Set(['192.0.2.3']), 'pc')).toBe('pc');
});

it('what another host sees of the way here is told, and what it has besides is not', () => {
  const problems = [
    { problem: 'packets of 1500 bytes do not arrive at host node1: only up to 1400', remedy: 'a' },
    { problem: 'packets of 1500 bytes do not arrive at host node10: only up to 1400', remedy: 'b' },
    { problem: 'table ip f, chain I drops what other hosts send to tunnels (UDP 4789), IPv4', remedy: 'c' },
    { problem: 'Docker has another network named x', remedy: 'd' },
  ];
  expect(saidThere({ name: 'node2', problems }, 'node1').map(({ remedy }) => remedy)).toEqual([
    'on node2: a',
    'on node2: c',
  ]);
});

it('the doctor asks netmaster as who runs netctl', () => {
  const files = { 'tls-ca': '/a/ca.crt', 'token-file': '/b/token' };
  const args = Object.entries(files).flatMap(([flag, file]) => [`--${flag}`, file]);
  expect(readDoctor(args, '/run/agent.sock')).toMatchObject({ credentials: files });
});

it.each([
  [['--output', 'xml'], "--output: 'xml' must be text or json"],
  [['--netmaster', 'node1'], "--netmaster: 'node1' is not a URL like http://10.0.0.1:9999"],
])('the doctor refuses %j', (args, message) => {
  expect(() => readDoctor(args, '/run/agent.sock')).toThrow(message);
});

it('how it stands with an ACI fabric is said where netmaster speaks to one', () => {
  const fabric = { state: 'reached', since: '2026-01-01T00:00:00Z', objects: 3 } as const;
  expect(fabricFindings({ problems: [] })).toEqual([]);
  expect(fabricFindings({ fabric, problems: [] })).toMatchObject([{ of: 'fabric', state: 'ok' }]);
  const problems = [
    { of: 'aci', problem: 'does not answer', remedy: 'start it' },
    { of: 'host node1', problem: 'away', remedy: 'start its agent' },
  ];
  expect(fabricFindings({ fabric, problems })).toEqual([
    { of: 'fabric', state: 'wrong', text: 'does not answer', remedy: 'start it' },
  ]);
});
