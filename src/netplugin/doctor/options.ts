/** The command line of `netplugin doctor`, which `netctl doctor` hands on. */
import { parseArgs } from 'node:util';
import { CREDENTIAL_FLAGS, type CredentialFiles } from '../../client/credentials.ts';

export interface DoctorOptions {
  /** Absent: where the agent has them. */
  readonly netmasters?: readonly string[];
  /** Of who looks: a host's own certificate is not enough to ask about the cluster. */
  readonly credentials: CredentialFiles;
  /** What this host is called; absent: as its agent says. */
  readonly host?: string;
  readonly controlSocket: string;
  readonly dockerSocket: string;
  readonly stateDir: string;
  readonly output: 'text' | 'json';
  /** In namespaces of its own it tries the kernel, and nothing else. */
  readonly kernel: boolean;
}

export const DOCTOR_USAGE = `netplugin doctor: what is wrong on this host, and what mends it (netctl doctor)

Usage: netplugin doctor [flags]

  --netmaster URL[,URL...]  where netmaster answers (default: where the agent has it)
  --tls-ca, --tls-cert, --tls-key, --token-file FILE
                            who asks netmaster, as in netctl, which hands them on
  --host NAME               what this host is called (default: as its agent says)
  --control-socket FILE     where the agent answers (default /run/contiv/netplugin.sock)
  --docker-socket FILE      Docker's API (default /run/docker.sock)
  --state-dir DIR           what the agent keeps (default /var/lib/contiv)
  --output text|json        what to write (default text)

Exit status: 0 nothing is wrong, 1 there are findings, 2 it cannot look: wrong usage, or not root.
`;

/** Throws an Error with one plain line where the command line is wrong. */
export function readDoctor(args: readonly string[], controlSocket: string): DoctorOptions | 'help' {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      netmaster: text,
      ...Object.fromEntries(CREDENTIAL_FLAGS.map((flag) => [flag, text])),
      host: text,
      'control-socket': text,
      'docker-socket': text,
      'state-dir': text,
      output: { type: 'string', short: 'o' },
      kernel: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return 'help';
  const netmasters = values.netmaster?.split(',').filter((url) => url !== '');
  for (const url of netmasters ?? [])
    if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol))
      throw new Error(`--netmaster: '${url}' is not a URL like http://10.0.0.1:9999`);
  const { output = 'text' } = values;
  if (output !== 'text' && output !== 'json') throw new Error(`--output: '${output}' must be text or json`);
  return {
    ...(netmasters !== undefined && netmasters.length > 0 ? { netmasters } : {}),
    credentials: Object.fromEntries(
      CREDENTIAL_FLAGS.map((flag) => [flag, (values as Record<string, unknown>)[flag]]),
    ) as CredentialFiles,
    ...(values.host ? { host: values.host } : {}),
    controlSocket: values['control-socket'] ?? controlSocket,
    dockerSocket: values['docker-socket'] ?? '/run/docker.sock',
    stateDir: values['state-dir'] ?? '/var/lib/contiv',
    output,
    kernel: values.kernel === true,
  };
}
