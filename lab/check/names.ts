import { namesProcess } from '../processes.ts';
import { tryRun } from '../shell.ts';
import { onHost } from '../state.ts';
import { isV6, type Running } from './docker.ts';
import type { Comparison, Host } from './world.ts';

export const namesAreAnswered: Comparison<Host> = async ({ cluster, name }, say) => {
  if ((await namesProcess(cluster.lab, name)) === undefined) say(`${name}: no process answers names`);
};

/** A pod's, with its namespace, is nobody's to ask for. */
const isName = (text: string): boolean => !text.includes('/');

/**
 * Asks from one container of each network on the host for every container's name in that network; on `shut` ones, which have no
 * way out, for a name outside too.
 */
export const names: Comparison<Host> = async ({ cluster, name: here, here: asking }, say) => {
  const { lab, running, networks } = cluster;
  const shut = new Set(
    networks
      .filter((n) => !n.gateway && !n.ipv6Gateway)
      .map(({ tenantName, networkName }) => `${tenantName}:${networkName}`),
  );
  const asked = new Set<string>();
  for (const from of asking) {
    const network = `${from.tenant}:${from.network}`;
    if (asked.has(network)) continue;
    asked.add(network);
    const peers = running.filter(
      (r) =>
        `${r.tenant}:${r.network}` === network &&
        r.answering &&
        isName(r.container) &&
        r.container !== r.endpoint,
    );
    // On several networks a container takes a bare name from any of them.
    const several = running.filter((r) => r.host === from.host && r.container === from.container).length > 1;
    const nameOf = (p: Running): string => (several ? `${p.container}.${p.network}` : p.container);
    // The container's resolver, from the container's network.
    const dig = (args: string): Promise<string | undefined> => {
      const command = `nsenter --net=${from.netns} dig +noall +tries=2 +time=3 @${from.resolver} ${args}`;
      return tryRun(...onHost(lab, here, 'sh', '-c', command));
    };
    if (shut.has(network) && !several) {
      const outside = await dig('+comments outside.example');
      const status = /status: (\w+)/.exec(outside ?? '')?.[1];
      if (status !== undefined && status !== 'REFUSED')
        say(`${here}: ${network} has no gateway, and a name outside is ${status}, not REFUSED`);
    }
    // One dig for all names.
    const wanted = peers.map((p) => ({ ...p, address: p.addresses[0] ?? '' }));
    const typeOf = (address: string): string => (isV6(address) ? 'AAAA' : 'A');
    const text = await dig(
      `+answer ${wanted.map((p) => `-q ${nameOf(p)} -t ${typeOf(p.address)}`).join(' ')}`,
    );
    if (text === undefined) {
      say(`${here}: names in ${network} are not answered`);
      continue;
    }
    const answers = new Map<string, string[]>();
    for (const line of text.split('\n')) {
      const [name = '', , , type, address = ''] = line.split(/\s+/);
      if (type === 'A' || type === 'AAAA')
        answers.set(name.replace(/\.$/, ''), [...(answers.get(name.replace(/\.$/, '')) ?? []), address]);
    }
    for (const p of wanted) {
      const have = answers.get(nameOf(p)) ?? [];
      if (!have.includes(p.address))
        say(
          `${here}: ${p.container} resolves to ${have.join() || 'nothing'} in ${network}, runs with ${p.address}`,
        );
    }
  }
};
