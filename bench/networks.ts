/**
 * The networks that are compared, side by side in one lab of two hosts. For each, where a client and its server
 * are, within one host (both on node1) and between hosts (the server on node2):
 *
 *   ours      a network of netmaster's, without policy
 *   policy    the same network; client and server in groups of their own, each with 100 rules in and 100 out
 *   direct    a network of encapsulation direct, with the same policy; between hosts only
 *   vlan      a network of encapsulation vlan, with the same policy, to a plain machine on the VLAN; between hosts only
 *   tagged    no container: the host itself, in another VLAN on the same link, to the same machine
 *   overlay   Docker's overlay, in a Swarm of the two hosts
 *   bridge    a bridge network of Docker's, which has names as ours has (the default one has none); between hosts by published ports
 *   vxlan     no containers: a VXLAN device on each host, in a namespace without rules; its outer packets are in no table of connections
 *   veth      no containers: two namespaces and a veth; the hosts' own interfaces
 */
import path from 'node:path';
import { run } from '../lab/shell.ts';
import { namespaceFolder, netmasterUrls, networkNamespace, onHost, ROOT, readState } from '../lab/state.ts';
import { hundredRules } from './rules.ts';

export const SPANS = ['within', 'between'] as const;
export type Span = (typeof SPANS)[number];

/** Where servers listen. */
export const PORTS = { iperf: 5201, echo: 7000 };
/** Where a host has them published: other ports, the host's own are the bare network's. */
const PUBLISHED: typeof PORTS = { iperf: 15201, echo: 17000 };

/** Of the bare tunnel: another one than networks of containers have, whose frames are judged. */
const VXLAN_PORT = 4790;
const UNTRACKED = `table inet bench {
  chain in { type filter hook prerouting priority -300; udp dport ${VXLAN_PORT} notrack; }
  chain out { type filter hook output priority -300; udp dport ${VXLAN_PORT} notrack; }
}
`;

/** Docker's default one is called bridge. */
const BRIDGE = 'named';

/** A network namespace on a host, as a path that nsenter(1) takes. */
export interface Place {
  readonly host: string;
  readonly namespace: string;
}

/** `address` and `ports` are where the client finds the server. */
export interface Way {
  readonly client: Place;
  readonly server: Place;
  readonly address: string;
  readonly ports: typeof PORTS;
}

/** `peers` are the addresses that a container, just started on node1, pings first. */
export interface Network {
  readonly name: string;
  readonly ways: Readonly<Partial<Record<Span, Way>>>;
  readonly attach?: { readonly network: string; readonly peers: Readonly<Partial<Record<Span, string>>> };
}

/** How a program is run in a place, on one processor. It counts as the lab's: `lab down` ends it too. */
export function inPlace(
  lab: string,
  place: Place,
  processor: number,
  command: readonly string[],
): [string, string[]] {
  const mounts = `${namespaceFolder(lab)}/${place.host}.mnt`;
  const pinned = ['taskset', '-c', String(processor), ...command];
  return ['nsenter', [`--net=${place.namespace}`, `--mount=${mounts}`, '--', ...pinned]];
}

/** The VLAN of the machine `trunk` (lab/fabric.ts), and one that host and machine have beside. */
const VLAN = 100;
const BESIDE = 101;

/** netctl, as it is called on a host of a lab that is up. */
export function netctlOf(lab: string): string[] {
  const state = readState(lab);
  if (state === undefined) throw new Error(`lab '${lab}' is not up`);
  return [`${ROOT}/bin/netctl`, '--netmaster', netmasterUrls(state).join()];
}

/** Makes them in a lab that is up, with --fabric; without `peers` only our own. */
export async function makeNetworks(lab: string, peers: boolean): Promise<Network[]> {
  const [first, second] = (readState(lab)?.hosts ?? []).map((h) => h.address);
  if (first === undefined || second === undefined) throw new Error(`lab '${lab}' has no two hosts`);
  const at = async (host: string, line: string, input?: string): Promise<string> =>
    (await run(...onHost(lab, host, ...line.split(' ')), input)).trim();
  const netctl = netctlOf(lab).join(' ');

  await at('node1', `${netctl} net create ours --subnet=10.77.0.0/16`);
  await at('node1', `${netctl} net create direct -e direct --subnet=10.76.0.0/16`);
  await at('node1', `${netctl} apply -f -`, JSON.stringify(groupsWithPolicy('ours', '')));
  await at('node1', `${netctl} apply -f -`, JSON.stringify(groupsWithPolicy('direct', 'direct-')));
  const vlan = `-e vlan --pkt-tag=${VLAN} --subnet=10.100.0.10-10.100.0.99/24`;
  await at('node1', `${netctl} net create vlan ${vlan}`);
  await at('node1', `${netctl} apply -f -`, JSON.stringify(groupsWithPolicy('vlan', 'vlan-')));
  if (peers) {
    await at('node1', `docker swarm init --advertise-addr ${first}`);
    const token = await at('node1', 'docker swarm join-token -q worker');
    await at('node2', `docker swarm join --advertise-addr ${second} --token ${token} ${first}:2377`);
    await at('node1', 'docker network create -d overlay --attachable overlay');
    for (const host of ['node1', 'node2']) await at(host, `docker network create ${BRIDGE}`);
  }

  const container = async (host: string, name: string, network: string, flags = '') => {
    await at(host, `docker run -d --name=${name} --net=${network} ${flags}contiv/lab sleep 100000`);
    const settings = JSON.parse(await at(host, `docker inspect ${name}`))[0];
    return {
      place: { host, namespace: `/proc/${settings.State.Pid}/ns/net` },
      address: settings.NetworkSettings.Networks[network].IPAddress as string,
    };
  };
  const withPolicy = async (): Promise<Network> => {
    const { place: client } = await container('node1', 'policy-client', 'clients.ours');
    const near = await container('node1', 'policy-near', 'servers.ours');
    const far = await container('node2', 'policy-far', 'servers.ours');
    return {
      name: 'policy',
      ways: {
        within: { client, server: near.place, address: near.address, ports: PORTS },
        between: { client, server: far.place, address: far.address, ports: PORTS },
      },
    };
  };
  const onLink = async (): Promise<Network> => {
    const { place: client } = await container('node1', 'direct-client', 'direct-clients.direct');
    const far = await container('node2', 'direct-far', 'direct-servers.direct');
    return {
      name: 'direct',
      ways: { between: { client, server: far.place, address: far.address, ports: PORTS } },
    };
  };
  const machine: Place = { host: 'trunk', namespace: `/run/netns/${networkNamespace(lab, 'trunk')}` };
  const toMachine = async (): Promise<Network> => {
    const { place: client } = await container('node1', 'vlan-client', 'vlan-clients.vlan');
    return {
      name: 'vlan',
      ways: { between: { client, server: machine, address: '10.100.0.201', ports: PORTS } },
    };
  };
  const hostToMachine = async (): Promise<Network> => {
    const tagging = ['--disable-warning=ExperimentalWarning', path.join(ROOT, 'lab/tagging.ts')];
    for (const [host, address] of [
      ['node1', '10.101.0.1'],
      ['trunk', '10.101.0.2'],
    ] as const) {
      await run(...onHost(lab, host, process.execPath, ...tagging, 'eth0', 'beside', String(BESIDE)));
      await at(host, `ip addr add ${address}/24 dev beside`);
    }
    const client = { host: 'node1', namespace: `/run/netns/${networkNamespace(lab, 'node1')}` };
    return {
      name: 'tagged',
      ways: { between: { client, server: machine, address: '10.101.0.2', ports: PORTS } },
    };
  };
  const containers = async (network: string): Promise<Network> => {
    const local = network === BRIDGE;
    const published = (kind: keyof typeof PORTS): string => `-p ${PUBLISHED[kind]}:${PORTS[kind]} `;
    const { place: client } = await container('node1', `${network}-client`, network);
    const near = await container('node1', `${network}-near`, network);
    const far = await container(
      'node2',
      `${network}-far`,
      network,
      local ? published('iperf') + published('echo') : '',
    );
    return {
      name: local ? 'bridge' : network,
      ways: {
        within: { client, server: near.place, address: near.address, ports: PORTS },
        between: local
          ? { client, server: far.place, address: second, ports: PUBLISHED }
          : { client, server: far.place, address: far.address, ports: PORTS },
      },
      attach: { network, peers: { within: near.address, ...(local ? {} : { between: far.address }) } },
    };
  };
  const tunnel = async (): Promise<Network> => {
    const ends = [
      { host: 'node1', name: 'here', own: '10.79.0.1', peer: second },
      { host: 'node2', name: 'there', own: '10.79.0.2', peer: first },
    ];
    for (const { host, name, own, peer } of ends) {
      const namespace = networkNamespace(lab, name);
      await run('ip', ['netns', 'add', namespace]);
      const device = `type vxlan id 4242 remote ${peer} dstport ${VXLAN_PORT} noudpcsum`;
      await run('ip', `-n ${networkNamespace(lab, host)} link add bench0 ${device}`.split(' '));
      await run('ip', `-n ${networkNamespace(lab, host)} link set bench0 netns ${namespace}`.split(' '));
      await run('ip', `-n ${namespace} addr add ${own}/24 dev bench0`.split(' '));
      await run('ip', `-n ${namespace} link set bench0 up`.split(' '));
      await run(...onHost(lab, host, 'nft', '-f', '-'), UNTRACKED);
    }
    const [client, server] = ends.map(
      ({ host, name }): Place => ({ host, namespace: `/run/netns/${networkNamespace(lab, name)}` }),
    ) as [Place, Place];
    return { name: 'vxlan', ways: { between: { client, server, address: '10.79.0.2', ports: PORTS } } };
  };
  const bare = async (): Promise<Network> => {
    // Named as the lab names its own, so that it removes them.
    const [one, other] = [networkNamespace(lab, 'one'), networkNamespace(lab, 'other')];
    await run('ip', ['netns', 'add', one]);
    await run('ip', ['netns', 'add', other]);
    await run('ip', `-n ${one} link add eth0 type veth peer name eth0 netns ${other}`.split(' '));
    for (const [name, address] of [
      [one, '10.78.0.1'],
      [other, '10.78.0.2'],
    ] as const) {
      await run('ip', `-n ${name} addr add ${address}/24 dev eth0`.split(' '));
      await run('ip', `-n ${name} link set eth0 up`.split(' '));
    }
    const place = (host: string, name: string): Place => ({ host, namespace: `/run/netns/${name}` });
    const host = (name: string): Place => place(name, networkNamespace(lab, name));
    return {
      name: 'veth',
      ways: {
        within: {
          client: place('node1', one),
          server: place('node1', other),
          address: '10.78.0.2',
          ports: PORTS,
        },
        between: { client: host('node1'), server: host('node2'), address: second, ports: PORTS },
      },
    };
  };
  const own = [await containers('ours'), await withPolicy()];
  return peers
    ? [
        ...own,
        await onLink(),
        await toMachine(),
        await hostToMachine(),
        await containers('overlay'),
        await containers(BRIDGE),
        await tunnel(),
        await bare(),
      ]
    : own;
}

/** Groups clients and servers of a network, in each direction judged by 100 rules about groups, prefixes and ports. `beginning`: of all names. */
function groupsWithPolicy(networkName: string, beginning: string): object[] {
  const names = ['clients', 'servers', ...Array.from({ length: 8 }, (_, i) => `others${i}`)].map(
    (name) => `${beginning}${name}`,
  );
  const prefixes = ['10.0.0.0/8', '10.77.0.0/16', '10.77.0.0/24', '10.77.1.0/24'];
  const rules = (policy: string, direction: 'in' | 'out'): object[] =>
    hundredRules(
      policy,
      direction,
      (i) => names[(i / 10) % names.length] as string,
      (i) => prefixes[((i - 1) / 25) % prefixes.length] as string,
    );
  return names.flatMap((name) => [
    { kind: 'policy', policyName: name },
    { kind: 'endpointGroup', groupName: name, networkName, policies: [name] },
    ...(name.startsWith(`${beginning}others`) ? [] : [...rules(name, 'in'), ...rules(name, 'out')]),
  ]);
}
