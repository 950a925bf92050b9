import { describe, expect, it } from 'vitest';
import type { Namespace, Pod } from '../cluster/objects.ts';
import { PODS } from '../cluster/resources.ts';
import { Untranslatable } from './protocol.ts';
import { groupOf, workloadOf } from './workload.ts';

const DEFAULTS = { tenant: 'default', network: 'pods' };
const NAMESPACE: Namespace = {
  metadata: { name: 'shop', labels: { 'kubernetes.io/metadata.name': 'shop' } },
};

function pod(metadata: Partial<Pod['metadata']> = {}, spec: Partial<Pod['spec']> = {}): Pod {
  return {
    metadata: { name: 'web', namespace: 'shop', uid: 'u1', ...metadata },
    spec: { containers: [{}], ...spec },
    status: { phase: 'Pending' },
  };
}
const workload = (object: Pod, namespace = NAMESPACE) =>
  workloadOf(object, namespace, DEFAULTS, (key) => (key === 'blue:db' ? 'back' : undefined));

describe('a workload', () => {
  it('has what policy selects its pod by: labels of the pod and of its namespace', () => {
    expect(workload(pod({ labels: { app: 'web' } }))).toEqual({
      namespaceName: 'shop',
      workloadName: 'web',
      uid: 'u1',
      tenantName: 'default',
      networkName: 'pods',
      labels: { app: 'web' },
      namespaceLabels: { 'kubernetes.io/metadata.name': 'shop' },
    });
  });

  it('of a static pod has the uid that its kubelet gave the pod, not that of its mirror', () => {
    const uid = '6576683a93d91d8e2119df2c2755f2f1';
    const annotations = { 'kubernetes.io/config.mirror': uid, 'kubernetes.io/config.source': 'file' };
    const kept = PODS.keep(pod({ name: 'web-node1', annotations }));
    expect(workload(kept)).toMatchObject({ workloadName: 'web-node1', uid });
  });

  it('is of no pod in the network of its host, nor of one that has ended', () => {
    expect(workload(pod({}, { hostNetwork: true }))).toBeUndefined();
    for (const phase of ['Succeeded', 'Failed'])
      expect(workload({ ...pod(), status: { phase } })).toBeUndefined();
    for (const phase of ['Pending', 'Running', 'Unknown'])
      expect(workload({ ...pod(), status: { phase } })).toBeDefined();
  });

  it('is in the tenant of its namespace, and in another where the pod says so', () => {
    const blue = { metadata: { ...NAMESPACE.metadata, annotations: { 'contiv.io/tenant': 'blue' } } };
    expect(workload(pod(), blue)?.tenantName).toBe('blue');
    expect(workload(pod({ labels: { 'io.contiv.tenant': 'red' } }), blue)?.tenantName).toBe('red');
  });

  it('is in the network that its pod names, else in that of its group', () => {
    const blue = { metadata: { ...NAMESPACE.metadata, annotations: { 'contiv.io/tenant': 'blue' } } };
    expect(workload(pod({ labels: { 'io.contiv.network': 'front' } }))?.networkName).toBe('front');
    const db = { 'io.contiv.net-group': 'db' };
    expect(workload(pod({ labels: db }), blue)).toMatchObject({ networkName: 'back', groupName: 'db' });
    expect(workload(pod({ labels: { ...db, 'io.contiv.network': 'front' } }), blue)).toMatchObject({
      networkName: 'front',
      groupName: 'db',
    });
    // Of a group that netmaster does not know: netmaster will say so.
    expect(workload(pod({ labels: db }))).toMatchObject({ networkName: 'pods', groupName: 'db' });
    expect(groupOf(pod({ labels: db }), blue, DEFAULTS)).toBe('blue:db');
  });

  it('has its ports by name: those of containers that run beside each other', () => {
    const http = { name: 'http', containerPort: 80 };
    const spec = {
      initContainers: [
        { ports: [{ name: 'once', containerPort: 1 }] },
        { restartPolicy: 'Always', ports: [{ name: 'stays', containerPort: 2, protocol: 'UDP' }] },
      ],
      containers: [{ ports: [http, { containerPort: 81 }] }, { ports: [{ ...http, protocol: 'SCTP' }] }],
    };
    expect(workload(pod({}, spec))?.ports).toEqual([
      { name: 'stays', protocol: 17, port: 2 },
      { name: 'http', protocol: 6, port: 80 },
      { name: 'http', protocol: 132, port: 80 },
    ]);
  });

  it.each([
    ['10M', 10_000_000],
    ['1k', 1000],
    ['1.5Gi', 1_610_612_736],
    ['1e6', 1_000_000],
    ['1P', 1e15],
  ])('has the bandwidth of its annotations: %s', (text, bits) => {
    const annotations = {
      'kubernetes.io/ingress-bandwidth': text,
      'kubernetes.io/egress-bandwidth': text,
    };
    expect(workload(pod({ annotations }))).toMatchObject({ ingressBandwidth: bits, egressBandwidth: bits });
  });

  it.each(['fast', '', '-1M', '999', '2P', '10 M'])(
    'is refused with a bandwidth that is none: %j',
    (text) => {
      const annotations = { 'kubernetes.io/egress-bandwidth': text };
      expect(() => workload(pod({ annotations }))).toThrow(Untranslatable);
      expect(() => workload(pod({ annotations }))).toThrow(
        `annotation kubernetes.io/egress-bandwidth: '${text}' must be bits a second from 1k to 1P, such as 10M`,
      );
    },
  );
});
