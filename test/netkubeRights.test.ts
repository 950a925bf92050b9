/** The roles in packaging/kubernetes give netkube what it asks of the API server, and nothing else. */
import fs from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { startController } from '../src/netkube/controller.ts';
import { DECLARED } from '../src/netkube/declared.ts';
import { type Options, readOptions } from '../src/netkube/options.ts';
import { openApi } from './apiServer.ts';
import { fakeKubernetes } from './fakeKubernetes.ts';

interface Role {
  readonly kind: string;
  readonly rules: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly resourceNames?: readonly string[];
    readonly verbs: readonly string[];
  }[];
}

/** As `contiv.io/tenants/status patch`, and `coordination.k8s.io/leases:netkube get` where only one object is meant. */
function granted(): string[] {
  const file = path.join(import.meta.dirname, '../packaging/kubernetes/manifests/20-rbac.yaml');
  const documents = parseAllDocuments(fs.readFileSync(file, 'utf8')).map((each) => each.toJS() as Role);
  return documents
    .filter(({ kind }) => kind === 'ClusterRole' || kind === 'Role')
    .flatMap(({ rules }) => rules)
    .flatMap(({ apiGroups, resources, resourceNames = [''], verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) =>
          resourceNames.flatMap((name) =>
            verbs.map((verb) => `${group}/${resource}${name && `:${name}`} ${verb}`),
          ),
        ),
      ),
    );
}

const VERBS: Readonly<Record<string, string>> = { POST: 'create', PUT: 'update', PATCH: 'patch' };

/** What `PATCH /apis/contiv.io/v1/tenants/blue/status` needs, by the API server's own rules. */
function needed(line: string): string {
  const [method = '', where = '', watch] = line.split(' ');
  const [group, rest] = where.startsWith('/api/')
    ? ['', where.split('/').slice(3)]
    : [where.split('/')[2] as string, where.split('/').slice(4)];
  const inNamespace = rest[0] === 'namespaces' && rest.length > 2;
  const [resource, name, part] = inNamespace ? rest.slice(2) : rest;
  const verb = watch ?? VERBS[method] ?? (name === undefined ? 'list' : 'get');
  const only = resource === 'leases' && name !== undefined ? `:${name}` : '';
  return `${group}/${resource}${part === undefined ? '' : `/${part}`}${only} ${verb}`;
}

it('netkube asks the API server for exactly what its roles give', async () => {
  const kubernetes = await fakeKubernetes();
  const netmaster = await openApi();
  onTestFinished(() => netmaster.close());
  const custom = (resource: string): string => `/apis/contiv.io/v1/${resource}`;
  for (const { resource } of DECLARED) kubernetes.serve(custom(resource), true);
  kubernetes.serve('/apis/policy.networking.k8s.io/v1beta1/clusternetworkpolicies', true);
  const specs: Readonly<Record<string, object>> = {
    networks: { subnet: '10.50.0.0/24' },
    rules: { policyName: 'own', ruleId: '1', direction: 'in', action: 'deny' },
    endpointgroups: { networkName: 'own' },
  };
  for (const { resource } of DECLARED)
    kubernetes.put(custom(resource), {
      metadata: { name: 'own', generation: 1 },
      spec: specs[resource] ?? {},
    });
  kubernetes.put('/api/v1/namespaces', { metadata: { name: 'shop' } });
  kubernetes.put('/api/v1/nodes', { metadata: { name: 'node1' }, status: {} });
  // Refused, so there is an event; by each netkube that starts, so it is counted up.
  kubernetes.put('/api/v1/pods', {
    metadata: { name: 'lost', namespace: 'shop', labels: { 'io.contiv.network': 'nowhere' } },
    spec: { containers: [] },
    status: { phase: 'Pending' },
  });
  await netmaster.send('PUT', '/api/v1/hosts/node1', { name: 'node1', underlay: '192.0.2.1', mtu: 1500 });

  const asked = (): string[] => [...new Set(kubernetes.asked.map(needed))].sort();
  const url = `http://127.0.0.1:${netmaster.port}`;
  const options = readOptions(['--netmaster', url, '--listen', '127.0.0.1:0']) as Options;
  const startAndSee = async (sight: string): Promise<void> => {
    const controller = await startController(options, kubernetes.config, pino({ level: 'silent' }));
    try {
      await vi.waitFor(() => expect(asked()).toContain(sight), { timeout: 30_000, interval: 20 });
      for (const { resource } of DECLARED)
        await vi.waitFor(() => expect(asked()).toContain(`contiv.io/${resource}/status patch`), {
          timeout: 30_000,
          interval: 20,
        });
    } finally {
      await controller.close();
    }
  };
  await startAndSee('/events create');
  await startAndSee('/events patch');
  expect(granted().sort()).toEqual(asked());
});
