/**
 * The routing daemon of this host (BIRD 2, bird2 of Debian), which tells the fabric what runs here and takes its routes. Started here, told
 * what is declared, and started again where it has ended.
 *
 *   Bgp of this host --config.ts--> bird.conf --> bird <--BGP--> neighbours
 *   HostState --dataplane/exits.ts--> kernel routes -----^
 *
 * It stays when the agent ends, however it ends, and an agent that starts finds it by its socket: the neighbours see nothing of that. One
 * that was killed is followed by another in graceful restart, for which they keep its routes (RFC 4724): the kernel has all that it was told.
 * It ends where BGP of the host is removed, or the host leaves, and says so to its neighbours, which delete its routes at once.
 */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Netlink, openNetlink } from '../../linux/netlink.ts';
import { listAddresses, listRoutes } from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import { type Bgp, routerAddresses } from '../../model/bgp.ts';
import type { NeighborState, Problem } from '../../protocol/hosts.ts';
import { afterFailure, inTurn } from '../../turns.ts';
import { ANNOUNCED_PROTOCOL } from '../constants.ts';
import { writeText } from '../file.ts';
import type { Follower } from '../follower.ts';
import { BGP_INTERVAL, RETRY_DELAY, WITHDRAWN_INTERVAL } from '../intervals.ts';
import { type HostState, toldOf } from '../state.ts';
import { type ConfigInput, configOf, emptyConfig, kernelProtocol, SETTLING } from './config.ts';
import { type Control, openControl } from './control.ts';
import { neighborStates } from './neighbors.ts';
import { readPassword } from './password.ts';
import { unsent } from './unsent.ts';

/** Milliseconds that a session may take to come up before that is a problem. */
const PATIENCE = 15_000;

/** Where the passwords of sessions are on each host. */
export const PASSWORDS = '/etc/contiv/bgp';

export interface BgpService extends Follower {
  /** Undefined: this host speaks none. */
  readonly neighbors: readonly NeighborState[] | undefined;
  /** Addresses that they are told. */
  readonly announced: readonly string[];
  /** One plain line each, with what mends it. */
  readonly problems: readonly Problem[];
}

export interface BgpOptions {
  /** In which it has a folder: of what runs, so that nothing of it is there after the machine's start. */
  readonly folder: string;
  readonly passwords?: string;
  readonly log: Logger;
  /** This host's; undefined: it has none, or it is not known yet (`known`). */
  bgp(): Bgp | undefined;
  /** False: what was declared is not known yet, and a daemon that runs is left as it is. */
  known(): boolean;
  /** A session has come up or gone: one plain line. */
  happened(line: string): void;
  /** The sessions are other ones than they were. */
  changed(): void;
  readonly program?: string;
}

/** All files of it, in the folder of what runs. */
function filesIn(folder: string) {
  const at = path.join(folder, 'bgp');
  const file = (name: string): string => path.join(at, name);
  return {
    folder: at,
    config: file('bird.conf'),
    socket: file('bird.ctl'),
    pid: file('bird.pid'),
    log: file('bird.log'),
  };
}
type Files = ReturnType<typeof filesIn>;

class Unusable extends Error {
  readonly remedy: string;
  constructor(problem: string, remedy: string) {
    super(problem);
    this.remedy = remedy;
  }
}

/** For nobody else: it may have a password. */
function writeConfig({ folder, config }: Files, text: string): void {
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeText(config, text);
}

/** When it serves, in the background. `again`: one that was here before has died, and neighbours keep its routes. */
function startDaemon(program: string, files: Files, again: boolean): Promise<void> {
  const flags = ['-c', files.config, '-s', files.socket, '-P', files.pid, ...(again ? ['-R'] : [])];
  return new Promise((done, failed) => {
    execFile(program, flags, { cwd: '/' }, (error, out, said) => {
      if (error === null) return done();
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ENOENT')
        return failed(
          new Unusable(
            'BGP: there is no routing daemon on this host (bird, version 2), so nothing is announced',
            'install it: apt install bird2',
          ),
        );
      const line = `${said}\n${out}`.split('\n').find((text) => text.trim() !== '') ?? error.message;
      failed(new Unusable(`BGP: bird does not start: ${line.trim()}`, 'it is tried again'));
    });
  });
}

/** One that is there and does not answer: it would keep the sessions from the next. */
function endStuck({ pid, config }: Files): void {
  try {
    const number = Number(fs.readFileSync(pid, 'utf8'));
    const line = fs.readFileSync(`/proc/${number}/cmdline`, 'utf8');
    if (line.split('\0').includes(config)) process.kill(number, 'SIGKILL');
  } catch {
    // There is none.
  }
}

/** A daemon of ours that runs is told to end, and says so to its neighbours; the routes that it, or one before it, had from them go. */
export async function endBgp(folder: string, program = 'bird'): Promise<void> {
  const files = filesIn(folder);
  if (!fs.existsSync(files.folder)) return;
  let control = await openControl(files.socket).catch(() => undefined);
  if (control === undefined) {
    // Died: what it learned is in the kernel still.
    endStuck(files);
    writeConfig(files, emptyConfig(files.log));
    control = await startDaemon(program, files, false)
      .then(() => openControl(files.socket))
      .catch(() => undefined);
  }
  if (control !== undefined) {
    await control.ask('down').catch(() => {}); // it may be gone before it has answered
    await control.ended;
  }
  fs.rmSync(files.folder, { recursive: true, force: true });
}

export function followBgp(options: BgpOptions): BgpService {
  const { folder, passwords = PASSWORDS, log, happened, changed, program = 'bird' } = options;
  const files = filesIn(folder);
  const netlink = openNetlink();
  let control: Control | undefined;
  /** What it goes by. */
  let applied = '';
  let neighbors: readonly NeighborState[] | undefined;
  let problems: readonly Problem[] = [];
  /** Since when each that is not established is not, milliseconds. */
  const downSince = new Map<string, number>();
  let announced: readonly string[] = [];
  /** Of the kernel, prefixes that the fabric is not to lead elsewhere. */
  let own: readonly string[] = [];
  /** Were announced, and the neighbours may not know yet that they are not. */
  const withdrawn = new Set<string>();
  /** Prefixes that a daemon which was killed had announced, and that the one after it announces until `kept`, by performance.now(). */
  let known: readonly string[] = [];
  let kept = 0;
  let closed = false;

  async function open(): Promise<Control> {
    const opened = await openControl(files.socket);
    control = opened;
    applied = '';
    void opened.ended.then(() => {
      if (control !== opened) return;
      control = undefined;
      if (closed || neighbors === undefined) return;
      log.warn('the routing daemon has ended: starting another');
      turns.begin();
    });
    return opened;
  }

  /** That runs and goes by what is declared. */
  async function running(input: Omit<ConfigInput, 'known' | 'log'>): Promise<Control> {
    // A socket without a daemon is one's that was killed.
    const left = fs.existsSync(files.socket);
    const found = control ?? (left ? await open().catch(() => undefined) : undefined);
    if (found === undefined && left) {
      known = listAnnounced(netlink);
      kept = performance.now() + SETTLING * 1000;
    }
    const lasting = performance.now() < kept ? known : [];
    const text = configOf({ ...input, known: lasting, log: files.log });
    if (found !== undefined && applied === text) return found;
    writeConfig(files, text);
    if (found === undefined) {
      endStuck(files);
      await startDaemon(program, files, left);
    }
    const daemon = found ?? (await open());
    if (found !== undefined) await daemon.ask(`configure "${files.config}"`);
    applied = text;
    known = lasting;
    return daemon;
  }

  function note(states: readonly NeighborState[] | undefined): void {
    const before = new Map((neighbors ?? []).map((n) => [n.address, n]));
    const isUp = (n: NeighborState | undefined): boolean => n?.state === 'Established';
    let news = (neighbors === undefined) !== (states === undefined);
    for (const now of states ?? []) {
      const was = before.get(now.address);
      before.delete(now.address);
      if (isUp(now)) downSince.delete(now.address);
      else if (!downSince.has(now.address)) downSince.set(now.address, performance.now());
      news ||= JSON.stringify(was) !== JSON.stringify(now);
      // One that went and came between two looks is known by its age.
      if (isUp(was) === isUp(now) && (!isUp(now) || was?.since === now.since)) continue;
      // With its age: what is told once more in the same words within ten minutes is only counted (happenings.ts), and a session that has
      // come back would be known as one that is gone.
      if (isUp(now))
        happened(
          `BGP: neighbour ${now.address} (AS ${now.as}) is established${now.since === undefined ? '' : ` since ${now.since}`}`,
        );
      else if (was !== undefined)
        happened(
          `BGP: neighbour ${now.address} (AS ${now.as}) is not established any more${now.reason ? `: ${now.reason}` : ''}`,
        );
    }
    for (const address of before.keys()) downSince.delete(address);
    neighbors = states;
    if (news) changed();
  }

  function said(bgp: Bgp, states: readonly NeighborState[]): Problem[] {
    const here = new Set(listAddresses(netlink).map(({ address }) => address));
    const strange = routerAddresses(bgp).filter((address) => !here.has(address));
    const late = performance.now() - PATIENCE;
    return [
      ...strange.map((address) => ({
        problem: `BGP: router-ip ${address} is not an address of this host, so no neighbour is reached from it`,
        remedy:
          'give the interface towards them that address (ip addr add), or declare the one that it has (netctl bgp create)',
      })),
      ...states.flatMap(({ address, as, state, reason, limited }) => [
        ...(strange.length === 0 && (downSince.get(address) ?? Number.POSITIVE_INFINITY) < late
          ? [
              {
                problem: `BGP: neighbour ${address} (AS ${as}) is not established: ${state}${reason ? `, ${reason}` : ''}`,
                remedy: `see there whether it takes this host, ${bgp.routerip.split(',')[0]} of AS ${bgp.as}, as its neighbour, with the same password, and whether TCP port 179 is let through`,
              },
            ]
          : []),
        ...(limited
          ? [
              {
                problem: `BGP: neighbour ${address} tells more routes than are taken from it`,
                remedy: 'let it tell the default route alone, or raise --max-prefixes (netctl bgp create)',
              },
            ]
          : []),
      ]),
    ];
  }

  async function look(): Promise<void> {
    if (!options.known()) return;
    const bgp = options.bgp();
    if (!bgp?.neighbor) {
      control?.close();
      control = undefined;
      problems = [];
      note(undefined);
      await endBgp(folder, program);
      return;
    }
    try {
      const password =
        bgp.passwordFile === undefined ? undefined : readPassword(path.join(passwords, bgp.passwordFile));
      if (password !== undefined && 'problem' in password)
        throw new Unusable(password.problem, password.remedy);
      const daemon = await running({ bgp, ...(password && { password: password.text }), own });
      const states = neighborStates(bgp, await daemon.ask('show protocols all'));
      note(states);
      problems = said(bgp, states);
    } catch (error) {
      const { message } = error as Error;
      note(neighborStates(bgp, undefined));
      problems = [
        error instanceof Unusable
          ? { problem: message, remedy: error.remedy }
          : { problem: `BGP: ${message}`, remedy: `it is tried again; its log is ${files.log}` },
      ];
      throw error;
    }
  }
  const turns = inTurn(look, {
    every: BGP_INTERVAL,
    again: afterFailure(RETRY_DELAY),
    failed: (error, first) => {
      if (first) log.error({ err: error }, 'BGP does not go by what is declared; it is tried again');
    },
  });
  turns.ask();

  /** When no neighbour goes by what was withdrawn: the daemon has it no more, and what it has sent about that has arrived there. */
  async function withdraw(): Promise<void> {
    for (const address of [...withdrawn]) {
      const prefix = `${address}/${isV6(address) ? 128 : 32}`;
      const question = `show route ${prefix} protocol ${kernelProtocol(isV6(address) ? 6 : 4)}`;
      while (!closed && withdrawn.has(address) && control !== undefined) {
        const answer = await control.ask(question).catch((error: Error) => [error.message]);
        // Of IPv6, where the daemon has no such protocol, it was never told to anybody.
        if (!answer.some((line) => line.includes(prefix))) break;
        await sleep(WITHDRAWN_INTERVAL);
      }
    }
    // What one that was killed had announced is announced for a while yet.
    while (!closed && known.length > 0 && control !== undefined) await sleep(WITHDRAWN_INTERVAL);
    // It sends when it has answered.
    await control?.ask('show status').catch(() => {});
    while (!closed && control !== undefined && unsent((neighbors ?? []).map((n) => n.address)) > 0)
      await sleep(WITHDRAWN_INTERVAL);
    withdrawn.clear();
  }
  const withdrawals = inTurn(withdraw);

  return {
    name: 'BGP',
    awaited: 'briefly',
    get neighbors() {
      return neighbors;
    },
    get announced() {
      return announced;
    },
    get problems() {
      return problems;
    },
    changed(news) {
      if (news.type === 'view') {
        if (!news.listed && !news.objects.some(({ kind }) => kind === 'Bgp')) return false;
        turns.ask();
        return true;
      }
      const before = announced;
      announced = announcedIn(news.state);
      const reached = ownIn(news.state);
      if (reached.join() !== own.join()) {
        own = reached;
        turns.ask();
      }
      const now = new Set(announced);
      for (const address of now) withdrawn.delete(address);
      const gone = before.filter((address) => !now.has(address));
      for (const address of gone) withdrawn.add(address);
      if (gone.length === 0) return false;
      withdrawals.ask();
      return true;
    },
    async settled() {
      await Promise.all([turns.settled(), withdrawals.settled()]);
    },
    close() {
      if (closed) return;
      closed = true;
      control?.close();
      void withdrawals.close();
      void turns.close().then(() => netlink.close());
    },
  };
}

/** As the data plane has written it into the kernel, whoever wrote it. */
const listAnnounced = (netlink: Netlink): string[] =>
  ([4, 6] as const).flatMap((version) =>
    listRoutes(netlink, version).flatMap(({ protocol, destination }) =>
      protocol === ANNOUNCED_PROTOCOL ? [destination] : [],
    ),
  );

function announcedIn({ exits }: HostState): readonly string[] {
  return exits.flatMap(({ announced }) => (announced === undefined ? [] : toldOf(announced))).sort();
}

/** Transit pairs, and the networks that the host reaches by its own routers. */
function ownIn({ exits }: HostState): readonly string[] {
  const prefixes = exits.flatMap(({ transit, transit6, access }) => [
    transit,
    transit6,
    ...(access?.subnets ?? []),
  ]);
  return [...new Set(prefixes)].sort();
}
