/** How the guides are read, and what of them nobody types: each reason, and how many lines it stands for. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { blocks, pages, shows, typed } from './guides.ts';

const ROOT = path.dirname(import.meta.dirname);
const all = pages().flatMap((page) => blocks(page));

/** A mark more, or a line more below one, belongs here. */
const NOT_TYPED: Record<string, number> = {
  'README.md: a drawing': 10,
  'README.md: makes the lab, and runs what types this': 2,
  'docs/guide/aci.md: needs an ACI fabric; test/aci.test.ts has simulated controllers': 16,
  'docs/guide/bgp.md: takes a cluster': 1,
  'docs/guide/events.md: an example of lines of different kinds': 4,
  'docs/guide/groups-and-policy.md: needs policies that an orchestrator has declared': 4,
  'docs/guide/hosts.md: needs a machine with systemd': 11,
  'docs/guide/hosts.md: needs images of a registry': 3,
  'docs/guide/hosts.md: netmaster and netplugin run already where this is typed': 6,
  'docs/guide/hosts.md: netmaster is asked without certificates where this is typed': 1,
  'docs/guide/hosts.md: test/firewalls.lab.test.ts puts such a firewall there': 2,
  'docs/guide/hosts.md: test/install.lab.test.ts does it, below a folder': 1,
  'docs/guide/kubernetes.md: a drawing': 2,
  'docs/guide/kubernetes.md: a line of a file': 1,
  'docs/guide/kubernetes.md: needs a containerd that pods run in; test/image.lab.test.ts makes the image': 2,
  'docs/guide/kubernetes.md: needs a machine with systemd': 4,
  'docs/guide/kubernetes.md: needs helm': 3,
  'docs/guide/kubernetes.md: needs netmasters outside of the cluster': 5,
  'docs/guide/kubernetes.md: needs the image on each node': 1,
  'docs/guide/kubernetes.md: needs the image on each node; test/manifests.kubernetes.test.ts runs what they say': 1,
  'docs/guide/quick-start.md: ends the lab that the next pages go on with': 1,
  'docs/guide/quick-start.md: makes the lab that this is typed in': 2,
  "docs/guide/runtimes.md: flags' form": 2,
  "docs/guide/runtimes.md: needs cnitool, which is no package of Debian's": 2,
  'docs/guide/runtimes.md: needs other runtimes; test/runtimes.lab.test.ts has Podman and containerd': 3,
  "docs/guide/several-netmasters.md: a flag's form": 1,
  'docs/guide/several-netmasters.md: needs three machines with etcd; test/cluster.lab.test.ts has them': 4,
  'docs/guide/swarm.md: needs three hosts without Swarm; test/swarm.lab.test.ts types each line there': 22,
  'docs/guide/tenants.md: Docker 28 or newer; test/versions.docker.test.ts does it': 2,
  'docs/guide/tenants.md: netmaster is asked without certificates where this is typed': 3,
  'docs/guide/vlan.md: how the lab starts netplugin, bin/lab up --fabric': 1,
  'docs/operate/status.md: an example of findings': 11,
  'docs/operate/backup.md: needs a machine with systemd': 2,
  'docs/operate/backup.md: needs etcd; test/backup.test.ts moves between both kinds': 2,
  'docs/operate/disaster.md: needs a machine with systemd': 11,
  "docs/operate/disaster.md: the lab's store is not lost where this is typed; test/lifecycle.lab.test.ts loses it": 3,
  'docs/operate/lifecycle.md: needs a machine with systemd': 3,
  'docs/operate/lifecycle.md: test/package.test.ts and test/packages.package.test.ts do it': 1,
  'docs/operate/lifecycle.md: test/packages.package.test.ts does it on a Debian with systemd': 5,
  'docs/operate/people.md: flags of a service': 2,
  'docs/operate/people.md: needs a machine with systemd': 2,
  'docs/operate/network.md: needs a kernel with WireGuard; test/encryption.wireguard.test.ts does it': 4,
  'docs/operate/people.md: asks for a password on the terminal; test/login.test.ts answers it': 5,
  'docs/operate/people.md: needs an OpenID provider; test/oidc.test.ts has one': 3,
  'docs/operate/sizing.md: takes minutes': 1,
  'docs/operate/metrics.md: needs Prometheus on the machine; test/monitoring.test.ts does the same': 2,
  "docs/operate/metrics.md: needs node_exporter's folder of text files": 2,
};

it('no line is left out but for these reasons', () => {
  const found: Record<string, number> = {};
  for (const { page, mark, text } of all)
    if (mark.kind === 'not') {
      const reason = `${page}: ${mark.reason}`;
      found[reason] = (found[reason] ?? 0) + text.filter((line) => line.trim() !== '').length;
    }
  expect(found).toEqual(NOT_TYPED);
});

it('tests that are named as typing a block do so', () => {
  const named = all.flatMap(({ mark }) => (mark.kind === 'by' ? [mark] : []));
  expect(named.length).toBeGreaterThan(0);
  const forgotten = named.filter(
    ({ test, name }) => !fs.readFileSync(path.join(ROOT, test), 'utf8').includes(`guide('${name}')`),
  );
  expect(forgotten).toEqual([]);
  const reasons = all.flatMap(({ mark }) => (mark.kind === 'not' ? [mark.reason] : []));
  const tests = reasons.flatMap((reason) => reason.match(/test\/[\w.]+\.ts/g) ?? []);
  expect(tests.filter((test) => !fs.existsSync(path.join(ROOT, test)))).toEqual([]);
});

it('every line of the others is a command, or what one prints', () => {
  const lines = all.filter(({ mark }) => ['typed', 'cluster'].includes(mark.kind)).flatMap(typed);
  expect(lines.length).toBeGreaterThan(100);
});

it('a page is read by blocks: commands with hosts, comments and what they print', () => {
  const text = `# A page

<!-- on node2 -->

    netctl net ls        # all of them
    Name
    ...
    docker ps            # on node1
    [outside]$ curl -s http://10.0.0.1/

- a list

    that goes on

\`\`\`yaml
kind: network
\`\`\`

<!-- not typed: a drawing -->

\`\`\`
 -> \`\`\`
\`\`\`
`;
  const [first, drawing, ...more] = blocks('a.md', text);
  expect(more).toEqual([]);
  expect(drawing?.mark).toEqual({ kind: 'not', reason: 'a drawing' });
  expect(first && typed(first)).toEqual([
    { number: 5, command: 'netctl net ls', comment: 'all of them', host: 'node2', printed: ['Name', '...'] },
    { number: 8, command: 'docker ps', comment: 'on node1', host: 'node1', printed: [] },
    { number: 9, command: 'curl -s http://10.0.0.1/', comment: '', host: 'outside', printed: [] },
  ]);
});

it.each([
  ['<!-- not typed -->\n\n    netctl net ls', 'no mark'],
  ['<!-- on node1 -->\n\nWords.', 'above no block'],
  ['<!-- on node1 -->', 'above no block'],
  ['```\nnetctl net ls', 'without an end'],
  ['```console\nnetctl net ls\n```', 'console'],
  ['- a list\n\n    netctl net ls', 'within a list'],
])('%j is refused', (text, why) => {
  expect(() => blocks('a.md', text)).toThrow(why);
});

it('a block whose first line is no command is refused, with the line', () => {
  const [unknown] = blocks('a.md', 'Words.\n\n    netctI net ls\n');
  expect(() => unknown && typed(unknown)).toThrow("a.md:3: 'netctI net ls' is no command");
});

it.each([
  [['64 bytes from 20.1.1.3: seq=0 time=0.7 ms'], '64 bytes from 20.1.1.3: seq=0 time=1.123 ms\n', true],
  [['64 bytes from 20.1.1.3'], '64 bytes from 20.1.1.4\n', false],
  [['a', '...', 'c'], 'a\nb\nb\nc\n', true],
  [['a', '...', 'c'], 'a\nc\n', true],
  [['a', '...'], 'b\na\n', false],
  [['a'], 'a\nb\n', false],
  [['store ..., 2 MB'], 'store sqlite x.db, 1.5 MB', true],
  [['id 3df40d7453f4 at 2026-11-28T09:30:00Z'], 'id 0aa40d7453f4 at 2027-01-01T00:00:00.123Z', true],
  [['from 10.0.0.1'], 'from 192.168.50.11', true],
])('%j is shown where %j is printed: %s', (shown, printed, holds) => {
  expect(shows(shown, printed)).toBe(holds);
});
