import { tryRun } from '../shell.ts';
import { onHost } from '../state.ts';
import { isV6 } from './docker.ts';
import type { SwarmService } from './netmaster.ts';
import type { Cluster, Comparison, Concat, Host, Router } from './world.ts';

/** Each provider has one slot of each port, the slots are 0, 1, 2, ..., and the size is the power of two that covers them. */
export const slots: Comparison<Router> = (router, say) => {
  const { where, cluster, tenant, map } = router;
  const running = [...cluster.running, ...cluster.externals].filter((r) => r.tenant === tenant);
  const ports = new Map<string, Map<number, string>>();
  for (const [key, value] of [...map('service_to'), ...map('service_to6')]) {
    const { concat } = key as Concat;
    const port = concat.slice(0, 3).join(' ');
    const of = ports.get(port) ?? new Map<number, string>();
    of.set(priorityNumber(concat[3] as string), (value as Concat).concat.join(':'));
    ports.set(port, of);
  }
  const size = new Map(
    [...map('service_size'), ...map('service_size6')].map(([key, value]) => [
      (key as Concat).concat.join(' '),
      priorityNumber(value as string),
    ]),
  );
  for (const s of cluster.services.filter((s) => s.tenantName === tenant)) {
    const selected = running.filter(
      (r) =>
        r.answering &&
        s.selectors.every((text) => {
          const at = text.indexOf('=');
          return r.labels[text.slice(0, at)] === text.slice(at + 1);
        }),
    );
    const healthy = selected.filter((r) => r.healthy);
    const byContainer = Map.groupBy(healthy.length > 0 ? healthy : selected, (r) => r.id);
    const addresses = [...byContainer.values()].flatMap((of) => {
      const has = of.flatMap(({ network, addresses }) =>
        addresses.filter((a) => isV6(a) === isV6(s.vip)).map((address) => ({ network, address })),
      );
      return (has.find((r) => r.network === s.networkName) ?? has[0])?.address ?? [];
    });
    for (const text of s.ports) {
      const [port, providerPort, protocol = ''] = text.toLowerCase().split(':');
      const key = `${s.vip} ${protocol} ${port}`;
      const what = `${where}: service ${s.serviceName} port ${port}/${protocol}`;
      const have = ports.get(key) ?? new Map<number, string>();
      ports.delete(key);
      const want = addresses.map((a) => `${a}:${providerPort}`).sort();
      const found = [...have.values()].sort();
      if (found.join() !== want.join())
        say(`${what} leads to ${found.join() || 'nothing'}, labels choose ${want.join() || 'nothing'}`);
      if ([...have.keys()].some((slot) => slot >= have.size)) say(`${what} has a gap in its slots`);
      const power = want.length === 0 ? undefined : 2 ** Math.ceil(Math.log2(want.length));
      if (size.get(key) !== power) say(`${what} draws from ${size.get(key)}, not from ${power}`);
      size.delete(key);
    }
  }
  clusterSlots(router, ports, size, say);
  for (const key of new Set([...ports.keys(), ...size.keys()]))
    say(`${where}: ${key} leads somewhere, which is no service's port`);
};

const PROTOCOLS: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

/** An orchestrator's services: those that are ready, at the services' own addresses. What is asked at the router's own comes from outside. */
function clusterSlots(
  { where, cluster, tenant, devices, host }: Router,
  ports: Map<string, Map<number, string>>,
  size: Map<string, number>,
  say: (line: string) => void,
): void {
  for (const s of cluster.clusterServices.filter((s) => s.tenantName === tenant))
    for (const { protocol, port, backends } of s.ports)
      for (const address of s.addresses) {
        const key = `${address} ${PROTOCOLS[protocol]} ${port}`;
        const ready = backends.filter(
          (b) =>
            b.ready &&
            isV6(b.address) === isV6(address) &&
            (s.internalTraffic !== 'local' || b.host === host.name),
        );
        const hinted = ready.some((b) => b.forHosts !== undefined || b.forZones !== undefined);
        const want = ready
          .map((b) => `${b.address}:${b.port}`)
          .sort()
          .join();
        const found = [...(ports.get(key)?.values() ?? [])].sort().join();
        if (want !== '' && !hinted && found !== want)
          say(
            `${where}: service ${s.namespaceName}/${s.serviceName} at ${key} leads to ${found || 'nothing'}, ready are ${want}`,
          );
        ports.delete(key);
        size.delete(key);
      }
  const uplink = devices.find((d) => d.ifname === 'uplink');
  const known = new Set(
    cluster.clusterServices
      .filter((s) => s.tenantName === tenant)
      .flatMap((s) => [...s.addresses, ...(s.externalAddresses ?? [])]),
  );
  for (const key of new Set([...ports.keys(), ...size.keys()])) {
    const [address = ''] = key.split(' ');
    if (!known.has(address) && !(uplink !== undefined && TRANSIT.some((range) => address.startsWith(range))))
      continue;
    ports.delete(key);
    size.delete(key);
  }
}

/** How addresses of exits begin, by default. */
const TRANSIT = ['100.127.', 'fd6f:6e74:6976:'];

/** Addresses of a family of its tasks, by their labels: those that are healthy, else all. */
function tasksOf({ running }: Cluster, s: SwarmService, six: boolean): string[] {
  const tasks = running.filter(
    (r) =>
      r.answering &&
      r.labels['com.docker.swarm.service.id'] === s.serviceID &&
      r.tenant === s.tenantName &&
      r.network === s.networkName &&
      r.group === (s.groupName ?? ''),
  );
  const healthy = tasks.filter((r) => r.healthy);
  return (healthy.length > 0 ? healthy : tasks)
    .flatMap((r) => r.addresses.filter((a) => isV6(a) === six))
    .sort();
}

const virtualOf = ({ virtualAddress, ipv6VirtualAddress }: SwarmService): string[] =>
  [virtualAddress, ipv6VirtualAddress].filter((a) => a !== undefined);

/** Virtual addresses of Swarm lead to the tasks, by all ports. */
export const swarmSlots: Comparison<Router> = ({ where, cluster, tenant, map }, say) => {
  const leads = new Map<string, string[]>();
  for (const [key, value] of [...map('every_to'), ...map('every_to6')]) {
    const address = String((key as Concat).concat[0]);
    leads.set(address, [...(leads.get(address) ?? []), value as string]);
  }
  for (const s of cluster.swarmServices) {
    if (s.tenantName !== tenant) continue;
    for (const address of virtualOf(s)) {
      const found = (leads.get(address) ?? []).sort().join();
      leads.delete(address);
      const want = tasksOf(cluster, s, isV6(address)).join();
      if (found !== want)
        say(
          `${where}: ${address} of Swarm's service ${s.serviceName} leads to ${found || 'nothing'}, its tasks are ${want || 'none'}`,
        );
    }
  }
  for (const address of leads.keys())
    say(`${where}: ${address} leads somewhere, and is no service's of Swarm's`);
};

/** Names of Swarm's services are answered with their virtual addresses, or their tasks: one dig for all of a tenant's. */
export const swarmNames: Comparison<Host> = async ({ cluster, name: here, here: asking }, say) => {
  for (const [tenant, services] of Map.groupBy(cluster.swarmServices, (s) => s.tenantName)) {
    const from = asking.find((r) => r.tenant === tenant);
    if (from === undefined) continue;
    const wanted = services.flatMap((s) =>
      ['A', 'AAAA'].flatMap((type): [question: string, want: string[]][] => {
        const isOf = (address: string): boolean => isV6(address) === (type === 'AAAA');
        const [own, tasks] = [virtualOf(s), tasksOf(cluster, s, type === 'AAAA')];
        return [
          [`${s.serviceName}.${s.networkName} ${type}`, own.length === 0 ? tasks : own.filter(isOf)],
          [`tasks.${s.serviceName}.${s.networkName} ${type}`, tasks],
        ];
      }),
    );
    const questions = wanted.map(([question]) => `-q ${question.replace(' ', ' -t ')}`).join(' ');
    const dig = `nsenter --net=${from.netns} dig +noall +answer +tries=2 +time=3 @${from.resolver} ${questions}`;
    const text = (await tryRun(...onHost(cluster.lab, here, 'sh', '-c', dig))) ?? '';
    const answers = text
      .split('\n')
      .map((line) => line.split(/\s+/))
      .map(([name = '', , , type = '', address = '']) => [`${name.replace(/\.$/, '')} ${type}`, address]);
    for (const [question, want] of wanted) {
      const have = answers
        .flatMap(([answered, address = '']) => (answered === question ? [address] : []))
        .sort()
        .join();
      if (have !== want.join())
        say(
          `${here}: ${question} is answered with ${have || 'nothing'}, not with ${want.join() || 'nothing'}`,
        );
    }
  }
};

/** The router has each service's address. */
export const virtualAddresses: Comparison<Router> = async ({ where, cluster, host, tenant, ns }, say) => {
  const [own] = JSON.parse(await host.at('ip', '-n', ns, '-j', 'addr', 'show', 'dev', 'lo')) as {
    addr_info: { local: string }[];
  }[];
  for (const s of cluster.services)
    if (s.tenantName === tenant && !own?.addr_info.some((a) => a.local === s.vip))
      say(`${where}: no address ${s.vip} of service ${s.serviceName}`);
  for (const s of cluster.swarmServices)
    for (const vip of s.tenantName === tenant ? virtualOf(s) : [])
      if (!own?.addr_info.some((a) => a.local === vip))
        say(`${where}: no address ${vip} of Swarm's service ${s.serviceName}`);
  for (const s of cluster.clusterServices)
    for (const address of s.tenantName === tenant ? s.addresses : [])
      if (!own?.addr_info.some((a) => a.local === address))
        say(`${where}: no address ${address} of service ${s.namespaceName}/${s.serviceName}`);
};

/** What nft writes of a packet's priority: two halves in hexadecimal, 0 as a word. */
function priorityNumber(text: string): number {
  if (text === 'none') return 0;
  const [major = '', minor = ''] = text.split(':');
  return Number.parseInt(major, 16) * 0x10000 + Number.parseInt(minor, 16);
}
