/**
 * What a runtime asks of the CNI plugin, as contiv-cni hands it over (src/cni/contiv-cni.c): the environment's CNI_* variables, each
 * with a zero byte behind it, one more zero byte, and the network configuration as it came on stdin.
 */
import { CniError, CODES } from './errors.ts';

export const VERSIONS = ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const;
export type Version = (typeof VERSIONS)[number];

export type Json = Record<string, unknown>;

/** Where each command came into the specification. */
const SINCE = { ADD: '0.1.0', DEL: '0.1.0', CHECK: '0.4.0', GC: '1.1.0', STATUS: '1.1.0' } as const;
export type Command = keyof typeof SINCE;

export interface CniRequest {
  readonly command: Command;
  readonly version: Version;
  /** '' where the command has none, as are the next two. */
  readonly container: string;
  /** Path of the container's network namespace; DEL may have none. */
  readonly netns: string;
  /** What the interface is called there. */
  readonly device: string;
  /** CNI_ARGS. */
  readonly args: Readonly<Record<string, string>>;
  readonly configuration: Json;
  /** Name of the network in the runtime's configuration. */
  readonly name: string;
}

/** `version`: of the configuration as far as it can be told, for answers to what cannot be read. */
export function versionOf(configuration: unknown): Version {
  const { cniVersion = '0.1.0' } = (configuration ?? {}) as { cniVersion?: unknown };
  const known = VERSIONS.find((v) => v === cniVersion);
  if (known === undefined)
    throw new CniError(
      CODES.incompatible,
      `cniVersion ${JSON.stringify(cniVersion)} is none of ${VERSIONS.join(', ')}`,
    );
  return known;
}

/** Throws a CniError where it cannot be taken. */
export function readRequest(body: Buffer): CniRequest {
  const [environment, text] = split(body);
  const configuration = readConfiguration(text);
  const version = versionOf(configuration);
  const command = environment.get('CNI_COMMAND') ?? '';
  if (!Object.hasOwn(SINCE, command))
    throw new CniError(
      CODES.environment,
      `CNI_COMMAND '${command}' is none of ${Object.keys(SINCE).join(', ')}`,
    );
  const known = command as Command;
  if (VERSIONS.indexOf(version) < VERSIONS.indexOf(SINCE[known]))
    throw new CniError(CODES.incompatible, `${known} needs cniVersion ${SINCE[known]}, it is ${version}`);
  const request = {
    command: known,
    version,
    container: environment.get('CNI_CONTAINERID') ?? '',
    netns: environment.get('CNI_NETNS') ?? '',
    device: environment.get('CNI_IFNAME') ?? '',
    args: readArgs(environment.get('CNI_ARGS') ?? ''),
    configuration,
    name: typeof configuration.name === 'string' ? configuration.name : '',
  };
  check(request);
  return request;
}

function split(body: Buffer): [ReadonlyMap<string, string>, string] {
  const environment = new Map<string, string>();
  let at = 0;
  for (;;) {
    const end = body.indexOf(0, at);
    if (end < 0) throw new CniError(CODES.io, 'the request is not one of contiv-cni');
    const entry = body.toString('utf8', at, end);
    at = end + 1;
    if (entry === '') return [environment, body.toString('utf8', at)];
    const equals = entry.indexOf('=');
    environment.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
}

function readConfiguration(text: string): Json {
  let configuration: unknown;
  try {
    configuration = JSON.parse(text);
  } catch (error) {
    throw new CniError(CODES.decoding, `the network configuration is not JSON: ${(error as Error).message}`);
  }
  if (typeof configuration !== 'object' || configuration === null || Array.isArray(configuration))
    throw new CniError(CODES.decoding, 'the network configuration is not a JSON object');
  return configuration as Json;
}

/** `K=V;K=V`. Keys that nobody here knows are somebody else's. */
function readArgs(text: string): Record<string, string> {
  const args: Record<string, string> = {};
  for (const pair of text.split(';').filter((p) => p !== '')) {
    const equals = pair.indexOf('=');
    if (equals < 1)
      throw new CniError(CODES.environment, `CNI_ARGS: '${pair}' must be KEY=VALUE, pairs parted by ';'`);
    args[pair.slice(0, equals)] = pair.slice(equals + 1);
  }
  return args;
}

/** Of a container, as the specification has it. */
export const isName = (text: string): boolean => /^[a-zA-Z0-9][\w.-]{0,255}$/.test(text);

function check({ command, container, netns, device }: CniRequest): void {
  if (command === 'GC' || command === 'STATUS') return;
  const missing = (variable: string): CniError =>
    new CniError(CODES.environment, `${variable} is missing, ${command} needs it`);
  if (container === '') throw missing('CNI_CONTAINERID');
  if (device === '') throw missing('CNI_IFNAME');
  if (!isName(container))
    throw new CniError(
      CODES.environment,
      `CNI_CONTAINERID '${container}' must begin with a letter or digit and have letters, digits, '_', '.' and '-' only`,
    );
  // As the kernel has it (net/core/dev.c, dev_valid_name).
  if (!/^[^\s/:]{1,15}$/.test(device) || device === '.' || device === '..')
    throw new CniError(CODES.environment, `CNI_IFNAME '${device}' cannot be a device's name`);
  if (netns === '' && command !== 'DEL') throw missing('CNI_NETNS');
}
