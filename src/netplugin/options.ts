/** netplugin's command line. */
import os from 'node:os';
import { parseArgs } from 'node:util';
import { parseSubnet } from '../model/address.ts';
import { TRANSIT, TRANSIT6 } from './constants.ts';

export interface Options {
  readonly netmasters: readonly string[];
  /** Address or interface. */
  readonly underlay: string;
  readonly host: string;
  readonly stateDir: string;
  readonly dockerSocket: string;
  readonly pluginSocket: string;
  readonly controlSocket: string;
  readonly transit: string;
  readonly transit6: string;
  /** How many pairs of addresses the transit range has. */
  readonly transitPairs: number;
  readonly logLevel: string;
}

export const USAGE = `netplugin: networking for the containers of this host, as declared at netmaster

Usage: netplugin --netmaster URL[,URL...] --underlay ADDRESS|INTERFACE [flags]

  --netmaster URL[,URL...]     where netmaster answers, e.g. http://10.0.0.1:9999
  --underlay ADDRESS|INTERFACE this host's address towards the other hosts
  --host NAME                  name of this host (default: its host name)
  --state-dir DIR              the agent's copy of intent and endpoints (default /var/lib/contiv)
  --docker-socket FILE         Docker's API (default /run/docker.sock)
  --plugin-socket FILE         where Docker finds this driver (default /run/docker/plugins/netplugin.sock)
  --control-socket FILE        health and state, for tools (default /run/contiv/netplugin.sock)
  --transit PREFIX             IPv4 range between hosts and tenants' routers (default ${TRANSIT})
  --transit6 PREFIX            the same for IPv6 (default ${TRANSIT6})
  --log-level LEVEL            debug, info, warn, error (default info)
  --help

Example: netplugin --netmaster http://10.0.0.1:9999 --underlay eth0
`;

/** Throws an Error with one plain line where the command line is wrong. 'help' where help is asked for. */
export function readOptions(args: readonly string[]): Options | 'help' {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      netmaster: text,
      underlay: text,
      host: text,
      'state-dir': text,
      'docker-socket': text,
      'plugin-socket': text,
      'control-socket': text,
      transit: text,
      transit6: text,
      'log-level': text,
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return 'help';
  if (values.netmaster === undefined)
    throw new Error('--netmaster is missing: the URL where netmaster answers');
  if (values.underlay === undefined)
    throw new Error("--underlay is missing: this host's address or interface towards the other hosts");
  const netmasters = values.netmaster.split(',').filter((url) => url !== '');
  for (const url of netmasters)
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new Error(`--netmaster: '${url}' is not a URL like http://10.0.0.1:9999`);
  const transit = values.transit ?? TRANSIT;
  const range = parseSubnet(transit);
  if (range?.family !== 4 || range.length > 28)
    throw new Error(`--transit: '${transit}' is not an IPv4 prefix, /28 at most, like ${TRANSIT}`);
  return {
    netmasters,
    underlay: values.underlay,
    host: values.host ?? os.hostname(),
    stateDir: values['state-dir'] ?? '/var/lib/contiv',
    dockerSocket: values['docker-socket'] ?? '/run/docker.sock',
    pluginSocket: values['plugin-socket'] ?? '/run/docker/plugins/netplugin.sock',
    controlSocket: values['control-socket'] ?? '/run/contiv/netplugin.sock',
    transit,
    transitPairs: 2 ** (31 - range.length),
    transit6: values.transit6 ?? TRANSIT6,
    logLevel: values['log-level'] ?? 'info',
  };
}
