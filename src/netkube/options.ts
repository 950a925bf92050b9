/** netkube's command line. */
import os from 'node:os';
import { parseArgs } from 'node:util';
import type { CredentialFiles } from '../client/credentials.ts';
import { parseSubnet } from '../model/address.ts';

export interface Options {
  readonly netmasters: readonly string[];
  readonly credentialFiles: CredentialFiles;
  /** File with the token of the pod's service account; '' for none. */
  readonly account: string;
  /** '' for what the environment says: KUBECONFIG, ~/.kube/config, or the pod's service account. */
  readonly kubeconfig: string;
  readonly tenant: string;
  readonly network: string;
  /** '' where it has none of that family; both are where the network is declared by others. */
  readonly subnet: string;
  readonly subnet6: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly leaseNamespace: string;
  readonly identity: string;
  readonly logLevel: string;
}

export const USAGE = `netkube: declares a Kubernetes cluster's pods, policies and services at netmaster

Usage: netkube --netmaster URL[,URL...] [flags]

  --netmaster URL[,URL...]  where netmaster answers, e.g. https://10.0.0.1:9999
  --tls-ca FILE             netmaster's ca.crt
  --kubernetes-token FILE   in a pod: a token of its service account, for which netmaster gives it a certificate; elsewhere
  --token-file FILE         a token of role orchestrator (netctl token create), or --tls-cert and --tls-key FILE: read again as they change
  --kubeconfig FILE         the cluster (default: KUBECONFIG, ~/.kube/config, or the service account of the pod it runs in)
  --tenant NAME             of namespaces without annotation contiv.io/tenant (default default)
  --network NAME            of pods without label io.contiv.network (default pods)
  --subnet PREFIX           the network is created with it where it is not there, e.g. 10.32.0.0/16
  --subnet6 PREFIX          the same for IPv6, beside IPv4 or alone, e.g. fd32::/64
  --listen HOST:PORT        /healthz, /readyz and /metrics (default 127.0.0.1:9996)
  --lease-namespace NAME    where the Lease is that says which of several netkubes writes (default contiv-system)
  --identity NAME           of this process among them (default: host name and process)
  --log-level LEVEL         debug, info, warn, error (default info)
  --help

Example: netkube --netmaster https://10.0.0.1:9999 --tls-ca ca.crt --token-file token --subnet 10.32.0.0/16
`;

/** Of pino; the last one is for tests. */
const LEVELS = ['debug', 'info', 'warn', 'error', 'fatal', 'silent'];
const LABEL = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;

/** Throws an Error with one plain line where the command line is wrong. 'help' where help is asked for. */
export function readOptions(args: readonly string[]): Options | 'help' {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      netmaster: text,
      'tls-ca': text,
      'tls-cert': text,
      'tls-key': text,
      'token-file': text,
      'kubernetes-token': text,
      kubeconfig: text,
      tenant: text,
      network: text,
      subnet: text,
      subnet6: text,
      listen: text,
      'lease-namespace': text,
      identity: text,
      'log-level': text,
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return 'help';
  if (values.netmaster === undefined)
    throw new Error('--netmaster is missing: the URL where netmaster answers');
  const netmasters = values.netmaster.split(',').filter((url) => url !== '');
  for (const url of netmasters.length === 0 ? [''] : netmasters)
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new Error(`--netmaster: '${url}' is not a URL like http://10.0.0.1:9999`);
  const account = values['kubernetes-token'] ?? '';
  const given = [values['tls-cert'], values['tls-key'], values['token-file']].some((v) => v !== undefined);
  if (account !== '' && (values['tls-ca'] === undefined || given))
    throw new Error(
      "--kubernetes-token: needs --tls-ca, netmaster's ca.crt, and no --token-file or --tls-cert: netkube gets its certificate by it",
    );
  const labels = { tenant: 'default', network: 'pods', 'lease-namespace': 'contiv-system' };
  for (const name of ['tenant', 'network', 'lease-namespace'] as const) {
    const value = values[name] ?? labels[name];
    if (!LABEL.test(value))
      throw new Error(`--${name}: '${value}' must be 1 to 63 letters, digits or '-', not at either end`);
    labels[name] = value;
  }
  const subnet = readSubnet('subnet', values.subnet ?? '', 4, '10.32.0.0/16');
  const subnet6 = readSubnet('subnet6', values.subnet6 ?? '', 6, 'fd32::/64');
  const listen = values.listen ?? '127.0.0.1:9996';
  const match = /^(?:\[([\da-f:.]+)\]|([\w.-]*)):(\d{1,5})$/i.exec(listen);
  if (match === null || Number(match[3]) > 65535)
    throw new Error(`--listen: '${listen}' must be HOST:PORT, e.g. 127.0.0.1:9996`);
  const logLevel = values['log-level'] ?? 'info';
  if (!LEVELS.includes(logLevel))
    throw new Error(`--log-level: '${logLevel}' must be one of ${LEVELS.join(', ')}`);
  return {
    netmasters,
    credentialFiles: Object.fromEntries(
      (['tls-ca', 'tls-cert', 'tls-key', 'token-file'] as const).flatMap((flag) =>
        values[flag] === undefined ? [] : [[flag, values[flag]]],
      ),
    ),
    account,
    kubeconfig: values.kubeconfig ?? '',
    tenant: labels.tenant,
    network: labels.network,
    subnet,
    subnet6,
    listen: { host: match[1] ?? match[2] ?? '', port: Number(match[3]) },
    leaseNamespace: labels['lease-namespace'],
    identity: values.identity ?? `${os.hostname()}_${process.pid}`,
    logLevel,
  };
}

function readSubnet(flag: string, text: string, family: 4 | 6, example: string): string {
  if (text === '') return '';
  const subnet = parseSubnet(text);
  if (subnet?.family !== family || subnet.ranged)
    throw new Error(`--${flag}: '${text}' is not an IPv${family} prefix like ${example}`);
  return text;
}
