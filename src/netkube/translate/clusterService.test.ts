import { describe, expect, it } from 'vitest';
import type { EndpointSlice, Service } from '../cluster/objects.ts';
import { clusterServiceOf } from './clusterService.ts';

const service = (spec: Partial<Service['spec']> = {}, more: Partial<Service> = {}): Service => ({
  metadata: { name: 'web', namespace: 'shop' },
  spec: { clusterIP: '10.96.0.10', clusterIPs: ['10.96.0.10'], ports: [{ port: 80 }], ...spec },
  ...more,
});
const slice = (
  endpoints: EndpointSlice['endpoints'],
  ports: EndpointSlice['ports'] = [{ port: 8080 }],
  addressType = 'IPv4',
): EndpointSlice => ({
  metadata: { name: 's', namespace: 'shop' },
  addressType,
  ...(endpoints ? { endpoints } : {}),
  ...(ports ? { ports } : {}),
});
const translate = (object: Service, ...slices: EndpointSlice[]) =>
  clusterServiceOf(object, slices, 'default');
const backends = (object: Service, ...slices: EndpointSlice[]) =>
  translate(object, ...slices)?.ports[0]?.backends;

describe('a service of the cluster', () => {
  it('has the addresses and ports of a Service, and of its slices who answers', () => {
    expect(
      translate(
        service(),
        slice([{ addresses: ['10.32.0.3'], nodeName: 'node2', zone: 'b', conditions: { ready: true } }]),
      ),
    ).toEqual({
      namespaceName: 'shop',
      serviceName: 'web',
      tenantName: 'default',
      addresses: ['10.96.0.10'],
      ports: [
        {
          protocol: 6,
          port: 80,
          backends: [
            {
              address: '10.32.0.3',
              port: 8080,
              host: 'node2',
              zone: 'b',
              ready: true,
              serving: true,
              terminating: false,
            },
          ],
        },
      ],
    });
  });

  it('is none where it is headless, a name for something outside, or another carries it out', () => {
    expect(translate(service({ clusterIP: 'None', clusterIPs: ['None'] }))).toBeUndefined();
    expect(translate(service({ type: 'ExternalName' }))).toBeUndefined();
    expect(translate(service({ clusterIP: '', clusterIPs: [] }))).toBeUndefined();
    for (const label of ['service-proxy-name', 'headless']) {
      const labels = { [`service.kubernetes.io/${label}`]: '' };
      expect(
        translate(service({}, { metadata: { name: 'web', namespace: 'shop', labels } })),
        label,
      ).toBeUndefined();
    }
  });

  it('has nothing of a slice that is headless, or of which another carries it out', () => {
    const here = slice([{ addresses: ['10.32.0.3'] }]);
    const labels = { 'service.kubernetes.io/headless': '' };
    const there = slice([{ addresses: ['10.32.0.4'] }]);
    const labelled = { ...there, metadata: { ...there.metadata, labels } };
    expect(backends(service(), here, labelled)?.map(({ address }) => address)).toEqual(['10.32.0.3']);
  });

  it('takes for each port what slices have under its name, whatever its number there', () => {
    const object = service({
      ports: [
        { name: 'http', port: 80 },
        { name: 'dns', port: 53, protocol: 'UDP' },
      ],
    });
    const found = translate(
      object,
      slice(
        [{ addresses: ['10.32.0.3'] }],
        [
          { name: 'http', port: 8080, protocol: 'TCP' },
          { name: 'dns', port: 5353, protocol: 'UDP' },
        ],
      ),
      slice([{ addresses: ['10.32.0.4'] }], [{ name: 'http', port: 9090, protocol: 'TCP' }]),
    );
    expect(found?.ports.map(({ backends }) => backends.map((b) => `${b.address}:${b.port}`))).toEqual([
      ['10.32.0.3:8080', '10.32.0.4:9090'],
      ['10.32.0.3:5353'],
    ]);
  });

  it('is the same whatever the order of its slices, and has who is in two of them once', () => {
    const [a, b] = [
      slice([{ addresses: ['10.32.0.4'] }]),
      slice([{ addresses: ['10.32.0.3'] }, { addresses: ['10.32.0.4'] }]),
    ];
    expect(backends(service(), a, b)).toHaveLength(2);
    expect(backends(service(), b, a)).toEqual(backends(service(), a, b));
  });

  it('takes conditions that are not known for ready and serving', () => {
    const states = (conditions: object, spec = {}) => {
      const [found] = backends(service(spec), slice([{ addresses: ['10.32.0.3'], conditions }])) ?? [];
      return [found?.ready, found?.serving, found?.terminating];
    };
    expect(states({})).toEqual([true, true, false]);
    expect(states({ ready: false, serving: true, terminating: true })).toEqual([false, true, true]);
    expect(states({ ready: false })).toEqual([false, false, false]);
    expect(states({ ready: false }, { publishNotReadyAddresses: true })[0]).toBe(true);
  });

  it('has hints for zones and nodes: trafficDistribution', () => {
    const hints = { forZones: [{ name: 'a' }], forNodes: [{ name: 'node1' }] };
    expect(backends(service(), slice([{ addresses: ['10.32.0.3'], hints }]))).toMatchObject([
      { forZones: ['a'], forHosts: ['node1'] },
    ]);
  });

  it('has addresses that lead to it from outside: external ones, and those of load balancers that are not proxies', () => {
    const ingress = [
      { ip: '192.0.2.10', ipMode: 'VIP' },
      { ip: '192.0.2.11', ipMode: 'Proxy' },
      { ip: '192.0.2.12' },
    ];
    const object = service(
      {
        type: 'LoadBalancer',
        externalIPs: ['192.0.2.9'],
        ports: [{ port: 80, nodePort: 30080 }],
        loadBalancerSourceRanges: ['198.51.100.0/24 '],
        externalTrafficPolicy: 'Local',
        healthCheckNodePort: 31000,
      },
      { status: { loadBalancer: { ingress } } },
    );
    expect(translate(object)).toMatchObject({
      externalAddresses: ['192.0.2.9', '192.0.2.10', '192.0.2.12'],
      sourceRanges: ['198.51.100.0/24'],
      ports: [{ nodePort: 30080 }],
      externalTraffic: 'local',
      healthCheckNodePort: 31000,
    });
  });

  it('keeps a client with its backend for as long as the Service says, three hours where it does not', () => {
    expect(translate(service({ sessionAffinity: 'ClientIP' }))?.affinity).toBe(10_800);
    const sessionAffinityConfig = { clientIP: { timeoutSeconds: 60 } };
    expect(translate(service({ sessionAffinity: 'ClientIP', sessionAffinityConfig }))?.affinity).toBe(60);
    expect(translate(service({ sessionAffinity: 'None' }))).not.toHaveProperty('affinity');
    expect(translate(service({ internalTrafficPolicy: 'Local' }))?.internalTraffic).toBe('local');
  });

  it('leaves out slices of names, and addresses that are none', () => {
    expect(backends(service(), slice([{ addresses: ['example.com'] }], [{ port: 80 }], 'FQDN'))).toEqual([]);
    expect(backends(service(), slice([{ addresses: [] }], [{ port: 80 }]))).toEqual([]);
    expect(backends(service(), slice([{ addresses: ['10.32.0.3'] }], [{}]))).toEqual([]);
  });
});
