import { describe, expect, it } from 'vitest';
import { readAsked } from './asked.ts';
import { readRequest } from './request.ts';

const body = (environment: Record<string, string>, configuration: unknown): Buffer => {
  const text = typeof configuration === 'string' ? configuration : JSON.stringify(configuration);
  const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}\0`);
  return Buffer.from(`${variables.join('')}\0${text}`);
};
const ADD = {
  CNI_COMMAND: 'ADD',
  CNI_CONTAINERID: 'c1',
  CNI_NETNS: '/run/netns/c1',
  CNI_IFNAME: 'eth0',
};
const NET = { cniVersion: '1.0.0', name: 'n', network: 'net1' };
const asked = (configuration: object = {}, args = '') =>
  readAsked(readRequest(body({ ...ADD, CNI_ARGS: args }, { ...NET, ...configuration })));

describe('a request', () => {
  it('is the environment and the configuration', () => {
    expect(readRequest(body({ ...ADD, CNI_ARGS: 'IgnoreUnknown=1;IP=20.1.1.7;X=' }, NET))).toEqual({
      command: 'ADD',
      version: '1.0.0',
      container: 'c1',
      netns: '/run/netns/c1',
      device: 'eth0',
      args: { IgnoreUnknown: '1', IP: '20.1.1.7', X: '' },
      configuration: NET,
      name: 'n',
    });
  });

  it.each<[string, object, unknown, number, RegExp]>([
    ['no JSON', {}, '{', 6, /not JSON/],
    ['no object', {}, '[]', 6, /not a JSON object/],
    ['an unknown version', {}, { cniVersion: '2.0.0' }, 1, /cniVersion "2.0.0" is none of 0.1.0/],
    ['a version that is no text', {}, { cniVersion: 1 }, 1, /cniVersion 1 is none of/],
    ['an unknown command', { CNI_COMMAND: 'PUT' }, NET, 4, /CNI_COMMAND 'PUT' is none of ADD, DEL/],
    ['a name of every object', { CNI_COMMAND: 'constructor' }, NET, 4, /CNI_COMMAND/],
    ['no container', { CNI_CONTAINERID: '' }, NET, 4, /CNI_CONTAINERID is missing, ADD needs it/],
    ['a path as container', { CNI_CONTAINERID: '../x' }, NET, 4, /must begin with a letter or digit/],
    ['no interface', { CNI_IFNAME: '' }, NET, 4, /CNI_IFNAME is missing/],
    ['too long an interface', { CNI_IFNAME: 'a'.repeat(16) }, NET, 4, /cannot be a device's name/],
    ['no namespace', { CNI_NETNS: '' }, NET, 4, /CNI_NETNS is missing/],
    ['arguments that are none', { CNI_ARGS: 'IP' }, NET, 4, /'IP' must be KEY=VALUE/],
    [
      'CHECK before 0.4.0',
      { CNI_COMMAND: 'CHECK' },
      { cniVersion: '0.3.1' },
      1,
      /CHECK needs cniVersion 0.4.0/,
    ],
    ['STATUS before 1.1.0', { CNI_COMMAND: 'STATUS' }, NET, 1, /STATUS needs cniVersion 1.1.0/],
  ])('with %s is refused', (_, more, configuration, code, message) => {
    const read = () => readRequest(body({ ...ADD, ...more }, configuration));
    expect(read).toThrow(message);
    expect(read).toThrow(expect.objectContaining({ code }));
  });

  it('of DEL needs no namespace, one without version is of 0.1.0', () => {
    const request = readRequest(body({ ...ADD, CNI_COMMAND: 'DEL', CNI_NETNS: '' }, { name: 'n' }));
    expect(request).toMatchObject({ netns: '', version: '0.1.0' });
  });
});

describe('what is asked for', () => {
  it('is said by the configuration, and nearer to the container by Mesos or CNI_ARGS', () => {
    expect(asked().target).toEqual({ tenant: 'default', network: 'net1', group: '' });
    expect(asked({ tenant: 'blue', group: 'web' }).target).toEqual({
      tenant: 'blue',
      network: 'net1',
      group: 'web',
    });
    const labels = [
      { key: 'tenant', value: 'red' },
      { key: 'network-group', value: 'db' },
    ];
    const args = {
      'org.apache.mesos': {
        network_info: { labels: { labels }, port_mappings: [{ host_port: 8080, container_port: 80 }] },
      },
    };
    expect(asked({ tenant: 'blue', args })).toMatchObject({
      target: { tenant: 'red', network: 'net1', group: 'db' },
      ports: [{ Proto: 6, HostPort: 8080, Port: 80, HostIP: '' }],
    });
    expect(asked({ args }, 'CONTIV_TENANT=green;CONTIV_NETWORK=net2').target).toEqual({
      tenant: 'green',
      network: 'net2',
      group: 'db',
    });
  });

  it('by a pod is its workload’s to say, unless the configuration names a network', () => {
    const args = 'K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=web-0;K8S_POD_UID=u1;IgnoreUnknown=1';
    const pod = { namespace: 'ns1', name: 'web-0', uid: 'u1' };
    expect(asked({ network: '' }, args)).toMatchObject({ pod, name: 'ns1/web-0' });
    expect(asked({ network: '' }, args).target).toBeUndefined();
    expect(asked({}, args)).toMatchObject({ pod, target: { network: 'net1' } });
  });

  it('has a container’s name from Podman, and its aliases in this network', () => {
    const aliases = { n: ['a', 'b'], other: ['c'] };
    expect(asked({ runtimeConfig: { aliases } }, 'K8S_POD_NAME=web')).toMatchObject({
      name: 'web',
      aliases: ['a', 'b'],
    });
  });

  it('are ports as containerd and as Podman write them', () => {
    const portMappings = [
      { HostPort: 8080, ContainerPort: 80, Protocol: 'tcp', HostIP: '' },
      { hostPort: 53, containerPort: 5353, protocol: 'udp', hostIP: '127.0.0.1' },
    ];
    expect(asked({ runtimeConfig: { portMappings } }).ports).toEqual([
      { Proto: 6, Port: 80, HostPort: 8080, HostIP: '' },
      { Proto: 17, Port: 5353, HostPort: 53, HostIP: '127.0.0.1' },
    ]);
  });

  it('are an address of each family and a MAC address', () => {
    const runtimeConfig = { ips: ['20.1.1.7/24', 'fd00::7'], mac: '02:02:14:01:01:AA' };
    expect(asked({ runtimeConfig })).toMatchObject({
      addresses: ['20.1.1.7', 'fd00::7'],
      mac: '02:02:14:01:01:aa',
    });
    expect(asked({}, 'IP=20.1.1.9;MAC=02:02:14:01:01:bb')).toMatchObject({
      addresses: ['20.1.1.9'],
      mac: '02:02:14:01:01:bb',
    });
  });

  it.each<[string, object, RegExp]>([
    ['no network', { network: undefined }, /network: the configuration "n" names none/],
    ['a network that is no text', { network: 5 }, /network: 5 must be a string/],
    [
      'two addresses of a family',
      { runtimeConfig: { ips: ['20.1.1.7', '20.1.1.8'] } },
      /one address of each/,
    ],
    ['no address', { runtimeConfig: { ips: ['web'] } }, /ips: "web" must be an address/],
    ['no MAC address', { runtimeConfig: { mac: '02' } }, /mac: "02" must be like/],
    [
      'port 0',
      { runtimeConfig: { portMappings: [{ hostPort: 0, containerPort: 80 }] } },
      /hostPort: 0 must be/,
    ],
    [
      'an unknown protocol',
      { runtimeConfig: { portMappings: [{ hostPort: 1, containerPort: 1, protocol: 'x' }] } },
      /protocol: "x" must be tcp, udp or sctp/,
    ],
  ])('with %s is refused as a configuration', (_, more, message) => {
    expect(() => asked(more)).toThrow(message);
    expect(() => asked(more)).toThrow(expect.objectContaining({ code: 7 }));
  });
});

describe('the bandwidth that is asked for', () => {
  const bandwidthOf = (bandwidth: unknown) => asked({ runtimeConfig: { bandwidth } }).bandwidth;

  it('is in bits each way, with capitals or without', () => {
    expect(bandwidthOf({ ingressRate: 1e6, ingressBurst: 80_001, egressRate: 0, egressBurst: 0 })).toEqual({
      to: { bitsPerSecond: 1e6, burstBytes: 10_001 },
    });
    // As containerd says it of a pod's annotations.
    expect(
      bandwidthOf({ IngressRate: 0, IngressBurst: 0, EgressRate: 1e7, EgressBurst: 4_294_967_295 }),
    ).toEqual({ from: { bitsPerSecond: 1e7 } });
    for (const none of [undefined, {}, { ingressRate: 0 }]) expect(bandwidthOf(none)).toBeUndefined();
  });

  it.each([
    [
      { ingressRate: 999 },
      'bandwidth: ingressRate: 999 must be bits a second, 1000 to 1e15, or 0 for no limit',
    ],
    [{ egressRate: '10M' }, 'bandwidth: egressRate: "10M" must be bits a second'],
    [{ egressRate: 1e6, egressBurst: -1 }, 'bandwidth: egressBurst: -1 must be bits, 1 to 1e15'],
  ])('is refused where it is %j', (bandwidth, message) => {
    expect(() => bandwidthOf(bandwidth)).toThrow(message);
  });
});
