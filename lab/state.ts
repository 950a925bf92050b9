/**
 * What a lab is and where it keeps things. Everything that `up` makes follows from the lab's name, so `down`
 * removes it whatever was killed in between.
 *
 *   /run/contiv-lab/NAME/HOST.{net,mnt,uts}   the host's namespaces     netmaster   URL for NETMASTER
 *   /var/lib/contiv-lab/NAME/HOST/            Docker's data, the agent's state, logs
 *   /var/lib/contiv-lab/NAME/lab.json         hosts
 *   /var/lib/contiv-lab/NAME/starting.json    the `up` that runs, gone when it is done
 *   /var/lib/contiv-lab/NAME/docker           programs of its Docker, where that is not the machine's: first on the PATH
 *   /var/lib/contiv-lab/NAME/processes/       a file each: `lab start` of several at once do not meet
 *   network namespaces lab-NAME-HOST, lab-NAME-switch
 */
import fs from 'node:fs';
import path from 'node:path';

export type Families = readonly (4 | 6)[];

export interface LabHost {
  readonly name: string;
  readonly address: string;
  /** Of IPv6 beside it, in a lab of both families. */
  readonly address6?: string;
}

/** `start` is the process's start time in clock ticks since boot: the same pid with another is another process. */
export interface LabProcess {
  readonly name: string;
  readonly host: string;
  readonly pid: number;
  readonly start: string;
}

export interface LabState {
  readonly name: string;
  readonly store: string;
  /** On the first hosts. */
  readonly netmasters: number;
  readonly hosts: readonly LabHost[];
  readonly kubernetes: boolean;
  /** That its hosts have; of Kubernetes nodes, pods and Services have them too. The first is the one that hosts speak to each other by. */
  readonly families: Families;
  /** With certificates (certificates.ts). */
  readonly tls: boolean;
  /** VLAN networks act: each host has an uplink, the underlay's interface, and machines are beside them (fabric.ts). */
  readonly fabric?: boolean;
  /** Seconds, where it is not netmaster's own default (`netmaster --address-grace`). */
  readonly addressGrace?: string;
  /** Docker's major version where it is not the machine's own, and the firewall that it is told to use (docker/versions.ts). */
  readonly docker?: '28' | '29';
  readonly firewallBackend?: 'iptables' | 'nftables';
  readonly processes: readonly LabProcess[];
}

/** What is known of a lab before anything runs. */
export type LabPlan = Omit<LabState, 'processes'>;

export const ROOT = path.dirname(import.meta.dirname);
export const OUTSIDE = 'outside';
/** Underlay of every lab: in namespaces of its own, so labs do not meet. */
export const OUTSIDE_ADDRESS = '192.168.50.1';
/** The fabric's router on the same link (router.ts). */
export const ROUTER_ADDRESS = '192.168.50.2';
export const hostAddress = (index: number): string => `192.168.50.${10 + index}`;
/** Where hosts have IPv6. */
export const OUTSIDE_ADDRESS6 = 'fd00:50::1';
export const hostAddress6 = (index: number): string => `fd00:50::${10 + index}`;
/** Of hosts' addresses, the part of all that is on the link. */
export const prefixLength = (address: string): number => (address.includes(':') ? 64 : 24);
/** As it stands in a URL, and before a port. */
export const inUrl = (address: string): string => (address.includes(':') ? `[${address}]` : address);
export const UNDERLAY_PREFIX = '192.168.50.0/24';
/** Every host's interface to it. */
export const UNDERLAY = 'eth0';
export const NETMASTER_PORT = 9999;
/** For clients; for the other members one more. */
export const ETCD_PORT = 2379;
/** Members of etcd where it is netmaster's store, or as many as there are hosts. */
export const STORE_MEMBERS = 3;

const NAME = /^[a-z0-9]{1,12}$/;

export function labName(): string {
  const name = process.env.LAB ?? 'contiv';
  if (!NAME.test(name)) throw new Error(`lab name '${name}' must be 1 to 12 lower case letters or digits`);
  return name;
}

/** How a command of this lab begins, as it must be typed. */
export const typed = (lab: string): string => `${process.env.LAB === undefined ? '' : `LAB=${lab} `}bin/lab`;

/** Of each family that it has. */
export const addressesOf = ({ address, address6 }: LabHost): string[] => [
  address,
  ...(address6 === undefined ? [] : [address6]),
];

export const namespaceFolder = (lab: string): string => `/run/contiv-lab/${lab}`;
export const dataFolder = (lab: string): string => `/var/lib/contiv-lab/${lab}`;
export const hostFolder = (lab: string, host: string): string => path.join(dataFolder(lab), host);
export const networkNamespace = (lab: string, host: string): string => `lab-${lab}-${host}`;
export const cgroup = (lab: string, host: string): string => `lab-${lab}-${host}`;
export const logFile = (lab: string, process: string, host: string): string =>
  path.join(hostFolder(lab, host), `${process}.log`);

const stateFile = (lab: string): string => path.join(dataFolder(lab), 'lab.json');

const processFolder = (lab: string): string => path.join(dataFolder(lab), 'processes');

const readJson = <T>(file: string): T => JSON.parse(fs.readFileSync(file, 'utf8')) as T;

function writeJson(file: string, value: unknown): void {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(`${file}.new`, JSON.stringify(value, null, 2));
  fs.renameSync(`${file}.new`, file);
}

export function readState(lab: string): LabState | undefined {
  if (!fs.existsSync(stateFile(lab))) return undefined;
  const folder = processFolder(lab);
  const files = fs.existsSync(folder) ? fs.readdirSync(folder).filter((f) => f.endsWith('.json')) : [];
  return {
    ...readJson<LabPlan>(stateFile(lab)),
    processes: files.map((f) => readJson<LabProcess>(path.join(folder, f))),
  };
}

export const writeState = (plan: LabPlan): void => writeJson(stateFile(plan.name), plan);

export const writeProcess = (lab: string, process: LabProcess): void =>
  writeJson(path.join(processFolder(lab), `${process.name}-${process.host}.json`), process);

/** Start time of a running process (proc(5), /proc/PID/stat field 22); undefined where there is none. */
export function startTime(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export const isRunning = (process: Pick<LabProcess, 'pid' | 'start'>): boolean =>
  startTime(process.pid) === process.start;

const startingFile = (lab: string): string => path.join(dataFolder(lab), 'starting.json');

/** This process brings the lab up, until markStarted: of several at once it is one. Throws where the lab is not down. */
export function markStarting(lab: string): void {
  const refuse = (): never => {
    throw new Error(`lab '${lab}' is ${condition(lab)}: end it with bin/lab down`);
  };
  const before = condition(lab);
  if (before === 'up' || before === 'starting') refuse();
  if (before === 'broken') fs.rmSync(startingFile(lab), { force: true });
  const draft = `${startingFile(lab)}.${process.pid}`;
  writeJson(draft, { pid: process.pid, start: startTime(process.pid) });
  try {
    fs.linkSync(draft, startingFile(lab)); // only where it is not there
  } catch {
    refuse();
  } finally {
    fs.rmSync(draft);
  }
}

export const markStarted = (lab: string): void => fs.rmSync(startingFile(lab));

/** What the lab has on disk; `starting`: but not that this process brings it up. */
export function removeData(lab: string, { starting }: { starting: boolean }): void {
  const folder = dataFolder(lab);
  const kept = (name: string): boolean => name.startsWith(path.basename(startingFile(lab)));
  const gone = starting ? fs.readdirSync(folder).filter((name) => !kept(name)) : ['.'];
  for (const name of gone) fs.rmSync(path.join(folder, name), { recursive: true, force: true });
}

/** `broken`: its `up` has failed or was killed. */
export function condition(lab: string): 'down' | 'starting' | 'broken' | 'up' {
  if (fs.existsSync(startingFile(lab))) {
    const { pid, start } = readJson<{ pid: number; start: string }>(startingFile(lab));
    return startTime(pid) === start ? 'starting' : 'broken';
  }
  return readState(lab) === undefined ? 'down' : 'up';
}

/** How to run something on a host. */
export function onHost(lab: string, host: string, ...command: string[]): [string, string[]] {
  const at = `${namespaceFolder(lab)}/${host}`;
  return ['nsenter', [`--net=${at}.net`, `--mount=${at}.mnt`, `--uts=${at}.uts`, '--', ...command]];
}

export const netmasterUrl = (address: string, { tls }: Pick<LabState, 'tls'>): string =>
  `http${tls ? 's' : ''}://${inUrl(address)}:${NETMASTER_PORT}`;
/** Of all netmasters. */
export const netmasterUrls = (state: Pick<LabState, 'hosts' | 'netmasters' | 'tls'>): string[] =>
  state.hosts.slice(0, state.netmasters).map(({ address }) => netmasterUrl(address, state));
/** Hosts with a member of etcd: of netmaster's store, else for Kubernetes the first. */
export const etcdHosts = ({ hosts, store, kubernetes }: LabPlan): readonly LabHost[] =>
  hosts.slice(0, store.startsWith('etcd:') ? STORE_MEMBERS : kubernetes ? 1 : 0);
export const etcdUrl = ({ address }: LabHost): string => `http://${inUrl(address)}:${ETCD_PORT}`;
