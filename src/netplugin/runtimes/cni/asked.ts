/**
 * What a request asks for: where a container is attached and with what. Runtimes say it in different places, the nearest to the
 * container first:
 *
 *   CNI_ARGS          CONTIV_TENANT, CONTIV_NETWORK, CONTIV_GROUP, CONTIV_NAME; IP, MAC
 *   Mesos' labels     tenant, network, group (1.x: network-name, network-group), in args["org.apache.mesos"].network_info.labels
 *   the configuration tenant, network, group; runtimeConfig has what the runtime was asked for (capabilities), args.cni the older form
 *   a workload        of Kubernetes: netmaster has it from netkube. A configuration that names a network goes before it
 */
import { isIpv4, isIpv6, parseSubnet } from '../../../model/address.ts';
import type { Bandwidth, Rate } from '../../state.ts';
import type { Target } from '../network.ts';
import type { PortMapping } from '../publish.ts';
import { CniError, CODES } from './errors.ts';
import type { CniRequest, Json } from './request.ts';

export interface Asked {
  /** undefined: where its workload says. */
  readonly target?: Target;
  readonly pod?: Pod;
  /** What it is called, for people and names; '' where nobody has said. */
  readonly name: string;
  readonly aliases: readonly string[];
  /** Of each family one at most. */
  readonly addresses: readonly string[];
  readonly mac: string;
  readonly ports: readonly PortMapping[];
  readonly bandwidth?: Bandwidth;
}

/** As Kubernetes' runtimes name it; `uid` '' where an old one does not tell. */
export interface Pod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

const objectOf = (value: unknown): Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Json) : {};
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const wrong = (field: string, value: unknown, right: string): CniError =>
  new CniError(CODES.configuration, `${field}: ${JSON.stringify(value)} must be ${right}`);

function textOf(holder: Json, field: string, where = ''): string {
  const value = holder[field] ?? '';
  if (typeof value !== 'string') throw wrong(`${where}${field}`, value, 'a string');
  return value;
}

/** Throws a CniError that names the field where something is not what it should be. */
export function readAsked(request: CniRequest): Asked {
  const { configuration, args } = request;
  const runtime = objectOf(configuration.runtimeConfig);
  const older = objectOf(objectOf(configuration.args).cni);
  const mesos = objectOf(objectOf(objectOf(configuration.args)['org.apache.mesos']).network_info);
  const labels = mesosLabels(mesos);
  const pod = podOf(args);
  const tenant = args.CONTIV_TENANT || labels.tenant || textOf(configuration, 'tenant');
  const network =
    args.CONTIV_NETWORK || labels.network || labels['network-name'] || textOf(configuration, 'network');
  const group =
    args.CONTIV_GROUP || labels.group || labels['network-group'] || textOf(configuration, 'group');
  if (network === '' && pod === undefined)
    throw new CniError(
      CODES.configuration,
      `network: the configuration ${JSON.stringify(request.name)} names none, and this is no pod of Kubernetes: give it one, "network": "contiv-net"`,
    );
  const bandwidth = readBandwidth(runtime.bandwidth);
  return {
    ...(network === '' ? {} : { target: { tenant: tenant || 'default', network, group } }),
    ...(pod && { pod }),
    name: pod === undefined ? nameOf(args) : `${pod.namespace}/${pod.name}`,
    aliases: readAliases(runtime.aliases, request.name),
    addresses: readAddresses(
      args.IP ? args.IP.split(',') : listOf(runtime.ips ?? older.ips),
      args.IP ? 'CNI_ARGS IP' : 'ips',
    ),
    mac: readMac(args.MAC || textOf(runtime, 'mac') || textOf(older, 'mac')),
    ...(bandwidth && { bandwidth }),
    ports: [...listOf(runtime.portMappings), ...listOf(mesos.port_mappings)].map(readMapping),
  };
}

/** Podman gives a container's name as that of a pod without namespace. */
const nameOf = (args: CniRequest['args']): string => args.CONTIV_NAME || args.K8S_POD_NAME || '';

function podOf({
  K8S_POD_NAMESPACE: namespace = '',
  K8S_POD_NAME: name = '',
  K8S_POD_UID: uid = '',
}: CniRequest['args']): Pod | undefined {
  return namespace === '' || name === '' ? undefined : { namespace, name, uid };
}

function mesosLabels(network: Json): Readonly<Record<string, string>> {
  const pairs = listOf(objectOf(network.labels).labels).map(objectOf);
  return Object.fromEntries(
    pairs.flatMap(({ key, value }) =>
      typeof key === 'string' && typeof value === 'string' ? [[key, value]] : [],
    ),
  );
}

/** A list, or, from Podman, lists by network. */
function readAliases(value: unknown, network: string): string[] {
  const list = Array.isArray(value) ? value : (objectOf(value)[network] ?? Object.values(objectOf(value))[0]);
  return listOf(list).filter((alias) => typeof alias === 'string' && alias !== '') as string[];
}

function readAddresses(values: readonly unknown[], field: string): string[] {
  const addresses = values.map((value) => {
    const text = typeof value === 'string' ? (value.split('/')[0] as string) : '';
    const subnet =
      isIpv4(text) || isIpv6(text)
        ? parseSubnet(text.includes(':') ? `${text}/128` : `${text}/32`)
        : undefined;
    if (subnet === undefined) throw wrong(field, value, 'an address, as 20.1.1.7');
    return text;
  });
  for (const v6 of [false, true])
    if (addresses.filter((a) => a.includes(':') === v6).length > 1)
      throw wrong(field, values, 'one address of each family at most');
  return addresses;
}

function readMac(text: string): string {
  if (text !== '' && !/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text))
    throw wrong('mac', text, 'like 02:02:14:01:01:02');
  return text.toLowerCase();
}

const PROTOCOLS: Readonly<Record<string, number>> = { '': 6, tcp: 6, udp: 17, sctp: 132 };

/** By lower case names: containerd writes the fields with capitals, Mesos with underscores. */
const fieldsOf = (value: unknown): Json =>
  Object.fromEntries(
    Object.entries(objectOf(value)).map(([key, v]) => [key.toLowerCase().replaceAll('_', ''), v]),
  );

function readMapping(value: unknown): PortMapping {
  const fields = fieldsOf(value);
  const portOf = (field: string, name: string): number => {
    const port = fields[field];
    if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65535)
      throw wrong(`portMappings: ${name}`, port ?? null, 'a port, 1 to 65535');
    return port;
  };
  const protocol = String(fields.protocol ?? '').toLowerCase();
  const Proto = PROTOCOLS[protocol];
  if (Proto === undefined) throw wrong('portMappings: protocol', fields.protocol, 'tcp, udp or sctp');
  const HostIP = String(fields.hostip ?? '');
  if (HostIP !== '' && !isIpv4(HostIP) && !isIpv6(HostIP))
    throw wrong('portMappings: hostIP', HostIP, 'an address');
  return {
    Proto,
    Port: portOf('containerport', 'containerPort'),
    HostPort: portOf('hostport', 'hostPort'),
    HostIP,
  };
}

const LEAST_RATE = 1000;
const MOST_BITS = 1e15;
/** From here on it is what runtimes say that were told none (containerd: 2³² - 1): a quarter of a gigabyte would pass unlimited. */
const ANY_BURST = 0x7fffffff;

/** Ingress is what the container receives; all in bits. */
function readBandwidth(value: unknown): Bandwidth | undefined {
  const fields = fieldsOf(value);
  const bitsOf = (field: string, least: number, right: string): number => {
    const bits = fields[field.toLowerCase()] ?? 0;
    if (typeof bits !== 'number' || (bits !== 0 && !(bits >= least && bits <= MOST_BITS)))
      throw wrong(`bandwidth: ${field}`, bits, `${right}, ${least} to 1e15, or 0 for no limit`);
    return bits;
  };
  const rateOf = (way: 'ingress' | 'egress'): Rate | undefined => {
    const bitsPerSecond = bitsOf(`${way}Rate`, LEAST_RATE, 'bits a second');
    const burst = bitsOf(`${way}Burst`, 1, 'bits');
    if (bitsPerSecond === 0) return undefined;
    return {
      bitsPerSecond,
      ...(burst === 0 || burst >= ANY_BURST ? {} : { burstBytes: Math.ceil(burst / 8) }),
    };
  };
  const to = rateOf('ingress');
  const from = rateOf('egress');
  return to || from ? { ...(to && { to }), ...(from && { from }) } : undefined;
}
