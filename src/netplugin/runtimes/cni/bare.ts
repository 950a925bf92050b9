/**
 * `netplugin endpoint`: network namespaces that no runtime looks after, of processes, taps of virtual machines, anything. It is a caller
 * of the agent's as contiv-cni is: the same requests, the same life. What is attached is on disk, and goes with its namespace.
 */
import http from 'node:http';
import { parseArgs } from 'node:util';
import type { Attachment } from '../../intent/view.ts';
import { isName } from './request.ts';

export const BARE_USAGE = `netplugin endpoint: puts network namespaces of this host on networks

Usage: netplugin endpoint add --netns PATH --network [GROUP.]NETWORK --name NAME [flags]
       netplugin endpoint rm NAME [flags]
       netplugin endpoint ls [flags]

  --netns PATH           the namespace, e.g. /run/netns/box or /proc/4711/ns/net
  --network NAME         network, or group and network: web.contiv-net
  --name NAME            what it is called, for names and rm
  --tenant NAME          default: default
  --address ADDRESS      default: the network's next
  --interface NAME       what the device is called in the namespace (default eth0)
  --control-socket FILE  where netplugin answers (default /run/contiv/netplugin.sock)
  --json                 of ls: as JSON

What is attached survives netplugin's restarts, and is gone with its namespace.

Example: ip netns add box && netplugin endpoint add --netns /run/netns/box --network web.contiv-net --name box
`;

/** What the agent has them under (Attachment.configuration). */
const CONFIGURATION = 'netplugin endpoint';

interface Flags {
  readonly netns?: string | undefined;
  readonly network?: string | undefined;
  readonly name?: string | undefined;
  readonly tenant?: string | undefined;
  readonly address?: string | undefined;
  readonly interface?: string | undefined;
  readonly json?: boolean | undefined;
}

export interface BareCommand {
  readonly command: 'add' | 'rm' | 'ls';
  readonly controlSocket: string;
  readonly flags: Flags;
}

/** Throws an Error with one plain line where the command line is wrong. */
export function readBare(args: readonly string[], controlSocket: string): BareCommand | 'help' {
  const text = { type: 'string' } as const;
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      netns: text,
      network: text,
      name: text,
      tenant: text,
      address: text,
      interface: text,
      'control-socket': text,
      json: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  const [command, positional, ...more] = positionals;
  if (values.help === true || command === undefined) return 'help';
  if (command !== 'add' && command !== 'rm' && command !== 'ls')
    throw new Error(`endpoint: no command '${command}', say add, rm or ls`);
  if (more.length > 0 || (positional !== undefined && command !== 'rm'))
    throw new Error(`endpoint ${command}: '${[positional, ...more].at(-1)}' is one word too many`);
  const { 'control-socket': socket = controlSocket, help: _, ...given } = values;
  const flags = { ...given, ...(positional === undefined ? {} : { name: positional }) };
  const needed = { add: ['netns', 'network', 'name'], rm: ['name'], ls: [] }[command] as (keyof Flags)[];
  for (const flag of needed) if (!flags[flag]) throw new Error(`endpoint ${command}: --${flag} is missing`);
  if (flags.name !== undefined && !isName(flags.name))
    throw new Error(
      `--name: '${flags.name}' must begin with a letter or digit and have letters, digits, '_', '.' and '-' only`,
    );
  return { command, controlSocket: socket, flags };
}

/** Answers what to print. Throws an Error with one plain line. */
export async function runBare({ command, controlSocket, flags }: BareCommand): Promise<string> {
  const attached = (
    JSON.parse((await ask(controlSocket, 'GET', '/attachments')).text) as Attachment[]
  ).filter((a) => a.configuration === CONFIGURATION);
  if (command === 'ls')
    return flags.json === true ? `${JSON.stringify(attached, null, 2)}\n` : table(attached);
  const { name = '', interface: device = 'eth0', netns = '' } = flags;
  const known = attached.find(
    ({ endpoint }) => endpoint.containerID === name && endpoint.intfName === device,
  );
  if (command === 'rm' && known === undefined)
    throw new Error(
      `endpoint ${name} has no ${device} on this host: netplugin endpoint ls shows what there is`,
    );
  if (command === 'add' && known !== undefined && known.sandbox !== netns)
    throw new Error(
      `endpoint ${name} is attached in ${known.sandbox} already: netplugin endpoint rm ${name} first`,
    );
  const [first = '', second] = (flags.network ?? '').split('.');
  const configuration = {
    cniVersion: '1.1.0',
    name: CONFIGURATION,
    ...(flags.tenant === undefined ? {} : { tenant: flags.tenant }),
    ...(second === undefined ? { network: first } : { group: first, network: second }),
    runtimeConfig: flags.address === undefined ? {} : { ips: [flags.address] },
  };
  const environment = {
    CNI_COMMAND: command === 'add' ? 'ADD' : 'DEL',
    CNI_CONTAINERID: name,
    CNI_NETNS: known?.sandbox ?? netns,
    CNI_IFNAME: device,
    CNI_ARGS: `CONTIV_NAME=${name}`,
  };
  const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}\0`);
  const body = `${variables.join('')}\0${JSON.stringify(configuration)}`;
  const { ok, text } = await ask(controlSocket, 'POST', '/cni', body);
  if (!ok) throw new Error((JSON.parse(text) as { msg: string }).msg);
  if (command === 'rm') return `Removed ${name}\n`;
  const { ips } = JSON.parse(text) as { ips: { address: string }[] };
  return `${name}: ${device} ${ips.map(({ address }) => address).join(' ')}\n`;
}

function ask(
  socketPath: string,
  method: string,
  path: string,
  body = '',
): Promise<{ readonly ok: boolean; readonly text: string }> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, method, path }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part) => {
        text += part;
      });
      response.on('end', () => resolve({ ok: response.statusCode === 200, text }));
      response.on('error', reject);
    });
    request.on('error', (error) =>
      reject(
        new Error(
          `netplugin does not answer at ${socketPath}: is it running on this host? (${error.message})`,
        ),
      ),
    );
    request.end(body);
  });
}

function table(attached: readonly Attachment[]): string {
  const rows = [
    ['NAME', 'INTERFACE', 'TENANT', 'NETWORK', 'GROUP', 'ADDRESS', 'NETNS'],
    ...attached.map(({ endpoint: e, sandbox = '' }) => [
      e.containerID ?? '',
      e.intfName ?? '',
      e.tenantName,
      e.networkName,
      e.groupName ?? '',
      e.ipAddress.join(','),
      sandbox,
    ]),
  ];
  const widths = (rows[0] as string[]).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
