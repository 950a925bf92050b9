/**
 * A large cluster around real nodes: pods that the API server knows and that run on simulated hosts, with namespaces and NetworkPolicies. Runs in
 * the network namespace of a lab's host, until its standard input ends. Prints "loaded" when netmaster has all of it.
 *
 *   node population.ts NETMASTER API PODS POLICIES SPACES HOSTS
 */
import http from 'node:http';
import { text } from 'node:stream/consumers';
import { connect } from '../src/client/client.ts';
import { macOf } from '../src/model/address.ts';
import type { Workload } from '../src/model/workload.ts';
import { each, openHosts } from './simulated.ts';

const [netmaster = '', api = '', ...amounts] = process.argv.slice(2);
const [pods = 0, policies = 0, spaces = 0, hosts = 0] = amounts.map(Number);
const client = connect({ urls: [netmaster], timeoutMs: 600_000 });
const agent = new http.Agent({ keepAlive: true, maxSockets: 16 });

/** Of the API server, by kubectl's proxy. What is there already stays. */
function create(path: string, object: object): Promise<void> {
  return new Promise((done, failed) => {
    const headers = { 'content-type': 'application/json' };
    const request = http.request(`${api}${path}`, { method: 'POST', agent, headers }, async (answer) => {
      const said = await text(answer);
      const { statusCode = 0 } = answer;
      if (statusCode < 300 || statusCode === 409) done();
      else failed(new Error(`POST ${path}: ${statusCode} ${said}`));
    });
    request.on('error', failed);
    request.end(JSON.stringify(object));
  });
}

const indices = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const space = (i: number): string => `space${i % spaces}`;
const app = (i: number): string => `app${i % 20}`;

await each(indices(spaces), (i) => create('/api/v1/namespaces', { metadata: { name: space(i) } }));
const crowd = await openHosts(client, hosts);
crowd.acknowledgeAll((error) => {
  process.stderr.write(`population: ${error.message}\n`);
  process.exit(1);
});
// Pods of nodes that are not there would be collected.
await each(crowd.names, (name) => create('/api/v1/nodes', { metadata: { name } }));
await each(indices(policies), (i) =>
  create(`/apis/networking.k8s.io/v1/namespaces/${space(i)}/networkpolicies`, {
    metadata: { name: `policy${i}` },
    spec: {
      podSelector: { matchLabels: { app: app(Math.floor(i / spaces)) } },
      ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } }, namespaceSelector: {} }] }],
    },
  }),
);
await each(indices(pods), (i) =>
  create(`/api/v1/namespaces/${space(i)}/pods`, {
    metadata: {
      name: `pod${i}`,
      labels: { app: app(Math.floor(i / spaces)), ...(i % 10 === 0 ? { role: 'friend' } : {}) },
    },
    spec: {
      nodeName: crowd.names[i % hosts],
      automountServiceAccountToken: false,
      tolerations: [{ operator: 'Exists' }],
      containers: [{ name: 'main', image: 'none' }],
    },
  }),
);

/** As netkube has written them. */
async function simulated(): Promise<Workload[]> {
  const { body } = await client.call('list', { collection: 'workloads' });
  return (body as Workload[]).filter(({ namespaceName }) => namespaceName.startsWith('space'));
}
let found = await simulated();
while (found.length < pods) {
  await new Promise((done) => setTimeout(done, 1000));
  found = await simulated();
}
await each([...found.entries()], ([i, workload]) => {
  const address = `10.32.${100 + (i >> 8)}.${i & 255}`;
  return client.call(
    'attach',
    { id: `simulated${i}`, wait: '0' },
    {
      endpointID: `simulated${i}`,
      tenantName: workload.tenantName,
      networkName: workload.networkName,
      ipAddress: [address],
      macAddress: macOf(address),
      homingHost: crowd.names[i % hosts] as string,
      status: 'running',
      workload: `${workload.namespaceName}:${workload.workloadName}`,
      workloadUid: workload.uid,
    },
  );
});
process.stdout.write('loaded\n');
process.stdin.resume().on('end', () => process.exit(0));
