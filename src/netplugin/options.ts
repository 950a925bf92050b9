/** netplugin's command line. */
import os from 'node:os';
import { parseArgs } from 'node:util';
import type { CredentialFiles } from '../client/credentials.ts';
import { parseSubnet, type Subnet } from '../model/address.ts';
import { each, FORMER_OF_BOTH, translateFlags } from '../model/formerFlags.ts';
import { isHostName } from '../model/names.ts';
import { joinedAt } from './certificate.ts';
import { TRANSIT, TRANSIT6 } from './constants.ts';

export interface Options {
  readonly netmasters: readonly string[];
  /** Of a PKI of the operator's own. */
  readonly credentialFiles: CredentialFiles;
  /** File with the token of the pod's service account, by which the host joins. */
  readonly account?: string;
  /** Address or interface. */
  readonly underlay: string;
  /** Interface by which networks of encapsulation vlan go; absent: they do not act here. */
  readonly uplink?: string;
  readonly host: string;
  readonly stateDir: string;
  readonly dockerSocket: string;
  readonly pluginSocket: string;
  readonly controlSocket: string;
  /** Where contiv-cni and its configuration are put; absent: nowhere. */
  readonly cniBinDir?: string;
  readonly cniConfDir?: string;
  readonly transit: string;
  readonly transit6: string;
  /** How many pairs of addresses the transit range has. */
  readonly transitPairs: number;
  readonly logLevel: string;
}

/** What `netplugin leave` needs of them. */
export interface LeaveOptions
  extends Pick<
    Options,
    'stateDir' | 'dockerSocket' | 'pluginSocket' | 'controlSocket' | 'cniBinDir' | 'cniConfDir'
  > {
  readonly leave: true;
  /** What is on disk stays, above all this host's certificate. */
  readonly keepState: boolean;
}

/** Where contiv-cni asks too (src/cni/contiv-cni.c). */
export const CONTROL_SOCKET = '/run/contiv/netplugin.sock';

export const USAGE = `netplugin: networking for the containers of this host, as declared at netmaster

Usage: netplugin --netmaster URL[,URL...] --underlay ADDRESS|INTERFACE [flags]
       netplugin join URL[,URL...] TOKEN [flags]
       netplugin leave [flags]
       netplugin endpoint add|rm|ls [flags]
       netplugin doctor [flags]
       netplugin swarm install|remove|folder [flags]

doctor: what is wrong on this host, and what mends it (netplugin doctor --help)
join: gets this host's certificate, after which --netmaster may be left out (netplugin join --help)
endpoint: puts network namespaces on networks that no container runtime looks after (netplugin endpoint --help)
swarm: the plugin by which Docker's Swarm mode has these networks (netplugin swarm --help)
leave: where netplugin has been stopped for good, Docker forgets its networks, and routers, the table of nftables that guards
this host and names go, and all that it kept on disk (with --keep-state that stays, and the host need not join again); refused while
containers are on the networks, of whatever runtime

  --netmaster URL[,URL...]     where netmaster answers, e.g. http://10.0.0.1:9999
                               (default: as it was joined)
  --tls-ca, --tls-cert, --tls-key FILE
                               certificates of a PKI of your own, where the host has not joined; read again as they change
  --kubernetes-token FILE      in a pod: a token of its service account, by which this host joins, with netmaster's ca.crt as --tls-ca
  --underlay ADDRESS|INTERFACE this host's address towards the other hosts
  --uplink INTERFACE           by which networks of encapsulation vlan go, with their tag (default: none acts on this host);
                               may be the underlay's
  --host NAME                  name of this host (default: its host name)
  --state-dir DIR              the agent's copy of intent and endpoints (default /var/lib/contiv)
  --docker-socket FILE         Docker's API (default /run/docker.sock)
  --plugin-socket FILE         where Docker finds this driver (default /run/docker/plugins/netplugin.sock)
  --control-socket FILE        health and state, for tools (default /run/contiv/netplugin.sock)
  --cni-bin-dir DIR            contiv-cni is put there, for container runtimes (default: nowhere; usual: /opt/cni/bin)
  --cni-conf-dir DIR           its configuration for Kubernetes (default: nowhere; usual: /etc/cni/net.d)
  --transit PREFIX             IPv4 range between hosts and tenants' routers (default ${TRANSIT})
  --transit6 PREFIX            the same for IPv6 (default ${TRANSIT6})
  --log-level LEVEL            debug, info, warn, error (default info)
  --help

Of the flags of Contiv 1.x --vtep-ip is --underlay, --vlan-if is --uplink and --host-label is --host; of any other it is said what is there instead.

Example: netplugin --netmaster http://10.0.0.1:9999 --underlay eth0
`;

/** Flags that an empty word is no value of. */
const FILES = [
  'underlay',
  'uplink',
  'state-dir',
  'docker-socket',
  'plugin-socket',
  'control-socket',
  'cni-bin-dir',
  'cni-conf-dir',
  'tls-ca',
  'tls-cert',
  'tls-key',
  'kubernetes-token',
] as const;

const FORMER = {
  ...FORMER_OF_BOTH,
  'host-label': { as: 'host' },
  'vtep-ip': { as: 'underlay' },
  'ctrl-ip': { instead: 'leave it out, the host says to netmaster what --underlay says' },
  'vlan-if': { as: 'uplink' },
  'vlan-uplinks': { instead: 'give one interface as --uplink, a bond where there are several' },
  'vxlan-port': { instead: 'leave it out, it is 4789, as in RFC 7348' },
  ...each(['driver', 'net-driver'], { instead: "leave it out, the data plane is the kernel's" }),
  ...each(['cluster-store', 'etcd', 'etcd-endpoints', 'consul', 'consul-endpoints'], {
    instead: 'only netmaster has a store, write --netmaster http://HOST:PORT',
  }),
};

/** Of pino; the last one is for tests. */
const LEVELS = ['debug', 'info', 'warn', 'error', 'fatal', 'silent'];

function readPrefix(flag: string, text: string, family: 4 | 6, longest: number, example: string): Subnet {
  const subnet = parseSubnet(text);
  if (subnet?.family !== family || subnet.ranged || subnet.length > longest)
    throw new Error(
      `--${flag}: '${text}' is not an IPv${family} prefix, /${longest} at most, like ${example}`,
    );
  return subnet;
}

/** Throws an Error with one plain line where the command line is wrong. 'help' where help is asked for. */
export function readOptions(args: readonly string[]): Options | LeaveOptions | 'help' {
  const leave = args[0] === 'leave';
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: translateFlags(args.slice(leave ? 1 : 0), FORMER),
    options: {
      netmaster: text,
      'tls-ca': text,
      'tls-cert': text,
      'tls-key': text,
      'kubernetes-token': text,
      underlay: text,
      uplink: text,
      host: text,
      'state-dir': text,
      'keep-state': { type: 'boolean' },
      'docker-socket': text,
      'plugin-socket': text,
      'control-socket': text,
      'cni-bin-dir': text,
      'cni-conf-dir': text,
      transit: text,
      transit6: text,
      'log-level': text,
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return 'help';
  for (const name of FILES) if (values[name] === '') throw new Error(`--${name} is empty`);
  const sockets = {
    dockerSocket: values['docker-socket'] ?? '/run/docker.sock',
    pluginSocket: values['plugin-socket'] ?? '/run/docker/plugins/netplugin.sock',
    controlSocket: values['control-socket'] ?? CONTROL_SOCKET,
  };
  const places = {
    ...(values['cni-bin-dir'] && { cniBinDir: values['cni-bin-dir'] }),
    ...(values['cni-conf-dir'] && { cniConfDir: values['cni-conf-dir'] }),
  };
  const stateDir = values['state-dir'] ?? '/var/lib/contiv';
  const keepState = values['keep-state'] ?? false;
  if (leave) return { leave, keepState, stateDir, ...sockets, ...places };
  if (keepState) throw new Error('--keep-state is for netplugin leave');
  if (sockets.controlSocket !== CONTROL_SOCKET && Object.keys(places).length > 0)
    throw new Error(
      `--control-socket: contiv-cni asks at ${CONTROL_SOCKET}; leave it there, or leave out --cni-bin-dir and --cni-conf-dir and give runtimes CONTIV_SOCKET`,
    );
  const urls = values.netmaster ?? joinedAt(stateDir).join();
  if (urls === '' && values.netmaster === undefined)
    throw new Error('--netmaster is missing: the URL where netmaster answers');
  if (values.underlay === undefined)
    throw new Error("--underlay is missing: this host's address or interface towards the other hosts");
  const netmasters = urls.split(',').filter((url) => url !== '');
  for (const url of netmasters.length === 0 ? [''] : netmasters)
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new Error(`--netmaster: '${url}' is not a URL like http://10.0.0.1:9999`);
  const account = values['kubernetes-token'];
  if (account !== undefined && (values['tls-ca'] === undefined || values['tls-cert'] !== undefined))
    throw new Error(
      "--kubernetes-token: needs --tls-ca, netmaster's ca.crt, and no --tls-cert: the host gets its certificate by it",
    );
  const host = values.host ?? os.hostname();
  if (!isHostName(host))
    throw new Error(
      `--host: '${host}' must be letters, digits, '-', '_' or '.', a letter or digit at both ends`,
    );
  const transit = values.transit ?? TRANSIT;
  const range = readPrefix('transit', transit, 4, 28, TRANSIT);
  const transit6 = values.transit6 ?? TRANSIT6;
  readPrefix('transit6', transit6, 6, 112, TRANSIT6);
  const logLevel = values['log-level'] ?? 'info';
  if (!LEVELS.includes(logLevel))
    throw new Error(`--log-level: '${logLevel}' must be one of ${LEVELS.join(', ')}`);
  return {
    netmasters,
    credentialFiles: Object.fromEntries(
      (['tls-ca', 'tls-cert', 'tls-key'] as const).flatMap((flag) =>
        values[flag] === undefined ? [] : [[flag, values[flag]]],
      ),
    ),
    ...(account === undefined ? {} : { account }),
    underlay: values.underlay,
    ...(values.uplink && { uplink: values.uplink }),
    host,
    stateDir,
    ...sockets,
    ...places,
    transit,
    transitPairs: 2 ** (31 - range.length),
    transit6,
    logLevel,
  };
}
