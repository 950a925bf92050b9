/**
 * Has a fabric go by what is declared, where the fabric mode is aci: one pass at a time, by what is so when it begins.
 *
 *   change of intent or in the fabric, every 30 s, after a failure --> compile --> observe --> decide --> post --> state and events in the store
 *
 * Of several netmasters one does it (duty.ts). What somebody changes in the fabric of what is ours is put right by the next pass; what is not
 * ours is left alone (difference.ts). Where the mode is another one again, what is ours goes.
 */
import type { Logger } from 'pino';
import type { AciGw } from '../../model/aciGw.ts';
import type { Global } from '../../model/settings.ts';
import { oneLine } from '../../model/text.ts';
import type { Problem } from '../../protocol/hosts.ts';
import { inTurn } from '../../turns.ts';
import type { Duty } from '../duty.ts';
import type { Occurrence } from '../events.ts';
import type { Mirror } from '../mirror.ts';
import type { Writer } from '../writer.ts';
import { AccessError, readAccess } from './access.ts';
import { type Apic, LoginError, openApic, RefusedError, UnreachableError } from './apic.ts';
import { compile, type Wanted } from './compile.ts';
import type { Unfit } from './contracts.ts';
import type { Change } from './difference.ts';
import { GatewayError, tellGateway } from './gateway.ts';
import { decide, lessCommon, observe, wrongContracts } from './observe.ts';
import { classes, type Post, posts, single } from './payload.ts';
import { type FabricState, fabricOf, note, type Told } from './state.ts';
import { markOf, parentOf, ROOT, type Tree } from './tree.ts';

/** Milliseconds: between passes that nothing asks for, for changes to come together, and after failures, twice as long each time. */
const INTERVAL = 30_000;
const GATHER = 100;
/**
 * Milliseconds between passes that the fabric asks for by what is changed there; twice as long each time that it goes on, up to so many
 * times that, so that neither one who sets back what we set nor one who changes much has all read again and again.
 */
const SPACING = 1000;
const SPACING_LIMIT = 8;
const RETRY = 1000;
const RETRY_LIMIT = 60_000;
/** Who shows a wrong password again and again is locked out. */
const RETRY_LOGIN = 60_000;
/** Events of one pass. */
const TOLD = 20;
const CLUSTER = 'contiv';

/** What a pass goes by. */
const KINDS: ReadonlySet<string> = new Set([
  'tenant',
  'network',
  'endpointGroup',
  'policy',
  'rule',
  'appProfile',
  'extContractsGroup',
  'aciGw',
  'global',
]);

export interface FabricOptions {
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly duty: Duty;
  readonly log: Logger;
  /** Where the files are that aciGw names. */
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** Milliseconds; absent: INTERVAL, SPACING. */
  readonly interval?: number;
  readonly spacing?: number;
}

export interface FabricFollower {
  /** Something has changed that a pass goes by. */
  ask(): void;
  close(): Promise<void>;
}

export function followFabric(options: FabricOptions): FabricFollower {
  const { mirror, log, interval = INTERVAL, spacing: least = SPACING } = options;
  const pass = openPasses(options, nudge);
  /** When the last pass began: performance.now(). */
  let begun = Number.NEGATIVE_INFINITY;
  /** By the fabric, since then. */
  let nudged = false;
  let spacing = least;
  /** Since what is declared changed. */
  let failures = 0;

  const passes = inTurn(
    () => {
      const now = performance.now();
      if (nudged) spacing = now - begun > 2 * spacing ? least : Math.min(SPACING_LIMIT * least, 2 * spacing);
      nudged = false;
      begun = now;
      return pass();
    },
    {
      again(_, error, retry) {
        if (error !== undefined) return RETRY_LIMIT; // of the store, or of ours
        if (retry === undefined) {
          failures = 0;
          return interval;
        }
        return Math.max(retry, Math.min(RETRY_LIMIT, RETRY * 2 ** failures++));
      },
      failed: (error) => log.error({ err: error }, 'the fabric is not followed; tried again'),
    },
  );

  /** The fabric says that something is another there, which may be by ourselves. What nudges again and again puts nothing off. */
  function nudge(): void {
    nudged = true;
    passes.soon(Math.max(GATHER, begun + spacing - performance.now()));
  }

  const unsubscribe = mirror.onChange(({ changes }) => {
    if (!changes.some(({ kind }) => KINDS.has(kind))) return;
    failures = 0;
    passes.soon(GATHER);
  });
  passes.begin();

  return {
    ask: () => passes.begin(),
    async close() {
      unsubscribe();
      const ended = passes.close();
      pass.close();
      await ended;
    },
  };
}

/** Answers milliseconds until it is tried again, at least; undefined: it did all. */
type Passes = { (): Promise<number | undefined>; close(): void };

/** `changed`: something in the fabric is another, or it would not be told. */
function openPasses({ mirror, writer, duty, folder, env }: FabricOptions, changed: () => void): Passes {
  let session: { readonly by: string; readonly apic: Apic } | undefined;
  /** As it was when the fabric had it last; undefined: not yet. */
  let had: Tree | undefined;
  let closed = false;
  /** What it was refused by last; until then (performance.now()) it is not tried by that again, whatever is declared meanwhile. */
  let denied: { readonly by: string; readonly error: LoginError; readonly until: number } | undefined;

  /** The same session as long as nothing of what it goes by is another. */
  function apicOf(gateway: AciGw): Apic {
    const access = readAccess(gateway, folder, env);
    const by = JSON.stringify(access);
    if (denied?.by === by && performance.now() < denied.until) throw denied.error;
    if (session?.by !== by) {
      leave();
      session = { by, apic: openApic({ ...access, changed }) };
    }
    return session.apic;
  }

  /** The fabric is not followed for now, and tells nothing. */
  function leave(): void {
    session?.apic.close();
    session = undefined;
  }

  async function say(state: Told | undefined, events: readonly Occurrence[] = []): Promise<void> {
    // What ends because we do is no news of the fabric.
    if (closed) return;
    const isNew = state !== undefined && fabricOf(mirror)?.state !== state.state;
    const occurred = isNew ? [...events, turned(state)] : events;
    await note(mirror, writer, state, occurred);
  }

  async function pass(): Promise<number | undefined> {
    // One that was asked for before the end has its turn after it.
    if (closed) return undefined;
    if (!duty.isHeld()) {
      leave();
      return undefined;
    }
    const gateway = mirror.get<AciGw>('aciGw', 'aciGw') ?? { name: 'aciGw' };
    const isAci = mirror.get<Global>('global', 'global')?.networkInfraType === 'aci';
    const isOver = !isAci && fabricOf(mirror) === undefined;
    if (isOver || !gateway.controllers) leave();
    if (isOver) return undefined;
    const wanted: Wanted = isAci ? compile(gateway, mirror) : { tree: new Map(), unfit: [], relies: [] };
    const unfit = wanted.unfit.map(problemOf);
    const failed = (state: FabricState['state'], problem: string, remedy: string): Promise<void> => {
      const { objects = 0, told } = fabricOf(mirror) ?? {};
      const problems = [{ of: 'aci', problem: oneLine(problem, 500), remedy }, ...unfit];
      return say({ state, objects, problems, ...(told && { told }) });
    };
    /** Where another mode is wanted and nothing of ours is left, there is no fabric to tell of any more. */
    const reached = (told: Omit<Told, 'state'>, events?: readonly Occurrence[]): Promise<void> =>
      say(isAci || told.objects > 0 ? { state: 'reached', ...told } : undefined, events);
    try {
      if (gateway.gateway) {
        const { told, problems } = await tellGateway({
          gateway,
          isAci,
          mirror,
          told: fabricOf(mirror)?.told ?? {},
        });
        const objects = Object.keys(told).length;
        await reached({ controller: gateway.gateway, objects, problems: [...problems, ...unfit], told });
        return undefined;
      }
      if (!gateway.controllers) {
        // Without them nobody can be told that it is over.
        if (!isAci) await say(undefined);
        else
          await failed(
            'unset',
            'the fabric mode is aci, and no controller is named',
            'netctl aci-gw set --controllers https://ADDRESS --user NAME --password-file FILE; or netctl global set --fabric-mode default',
          );
        return undefined;
      }
      const apic = apicOf(gateway);
      const done = await follow(apic, gateway, wanted);
      if (done === undefined) return undefined;
      const { objects, problems, events } = done;
      const { controller, subscribed } = apic;
      await reached(
        {
          ...(controller && { controller }),
          objects,
          ...(subscribed && { subscribed }),
          problems: [...problems, ...unfit],
        },
        events,
      );
      return problems.length > 0 ? RETRY : undefined;
    } catch (error) {
      const { message } = error as Error;
      if (error instanceof AccessError)
        await failed(
          'unset',
          `aciGw: ${message}`,
          'put it there on each netmaster, or name another one (netctl aci-gw set)',
        );
      else if (error instanceof LoginError) {
        const now = performance.now();
        if (session !== undefined && denied?.error !== error)
          denied = { by: session.by, error, until: now + RETRY_LOGIN };
        // What a socket of the last session still tells would have the password tried more often.
        leave();
        await failed(
          'refused',
          message,
          'see to the user, its password or key, and its rights in the fabric; tried again each minute',
        );
        // A timer may be early.
        return (denied?.until ?? now + RETRY_LOGIN) - now + GATHER;
      } else if (error instanceof UnreachableError || error instanceof GatewayError)
        await failed(
          'unreachable',
          message,
          'see to the controllers and the way there; what is in the fabric stays meanwhile, and it is tried again',
        );
      else if (error instanceof RefusedError)
        await failed(
          'refused',
          `the fabric answers ${error.status} when it is read: ${message}`,
          "see to the user's rights in the fabric, which has to be 4.2 or newer",
        );
      else throw error;
      return RETRY;
    }
  }

  async function follow(apic: Apic, gateway: AciGw, { tree, relies }: Wanted) {
    const mark = markOf(gateway.clusterName || CLUSTER);
    const wanted =
      gateway.includeCommonTenant === 'yes' && tree.size > 0 ? await lessCommon(apic, tree) : tree;
    const actual = await observe(apic, wanted, mark);
    const { changes, problems } = await decide(apic, wanted, actual, mark);
    const all = problems.map((problem) => ({ of: 'aci', ...problem }));
    const refused = new Set<string>();
    for (const post of posts(changes, classes(wanted, actual))) {
      // Another netmaster may do it now.
      if (!duty.isHeld()) return undefined;
      for (const { change, text } of await write(apic, post)) {
        refused.add(change.object.dn);
        all.push({
          of: 'aci',
          problem: oneLine(`the fabric refuses to ${change.action} ${change.object.dn}: ${text}`, 500),
          remedy:
            'what else is declared is there: change what it follows from, or see to the rights of the user in the fabric',
        });
      }
    }
    all.push(...(await wrongContracts(apic, relies, (dn) => wanted.has(dn) || actual.has(dn))));
    // What was not there when it was read is not followed yet.
    const isNew = (dn: string): boolean => parentOf(dn) === ROOT && !actual.has(dn) && !refused.has(dn);
    if ([...wanted.keys()].some(isNew)) changed();
    const events = had === undefined ? [] : repairs(changes, wanted, had);
    had = new Map([...wanted].filter(([dn]) => !refused.has(dn)));
    return { objects: wanted.size, problems: all, events };
  }

  return Object.assign(pass, {
    close(): void {
      closed = true;
      leave();
    },
  });
}

/** Answers what is refused. As a whole first: either all of a tenant's is there at once, or it is found out what is wrong. */
async function write(apic: Apic, post: Post): Promise<{ change: Change; text: string }[]> {
  try {
    await apic.post(post.dn, post.document);
    return [];
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    const [change] = post.changes;
    if (post.changes.length === 1 && change !== undefined) return [{ change, text: error.message }];
  }
  const refused: { change: Change; text: string }[] = [];
  for (const change of post.changes) refused.push(...(await write(apic, single(change))));
  return refused;
}

const problemOf = ({ of, problem, remedy }: Unfit): Problem & { of: string } => ({ of, problem, remedy });

const STATES: Readonly<Record<FabricState['state'], string>> = {
  reached: 'the ACI fabric is followed',
  unreachable: 'the ACI fabric is not to be reached',
  refused: 'the ACI fabric does not let netmaster in',
  unset: 'the ACI fabric cannot be spoken to',
};

function turned({ state, controller, problems }: Told): Occurrence {
  const why = state === 'reached' ? controller : problems[0]?.problem;
  return { kind: 'fabric', action: state, text: oneLine(`${STATES[state]}: ${why ?? 'nothing is said'}`) };
}

/** What was changed there though nothing else was wanted. */
function repairs(changes: readonly Change[], wanted: Tree, had: Tree): Occurrence[] {
  const drifted = changes.filter(
    ({ action, object: { dn } }) =>
      action !== 'delete' && JSON.stringify(had.get(dn)) === JSON.stringify(wanted.get(dn)),
  );
  const told = drifted.slice(0, TOLD).map(({ object: { className, dn }, was }): Occurrence => {
    const what =
      was === undefined
        ? 'had gone from the fabric'
        : `was changed in the fabric (${Object.entries(was)
            .map(([name, value]) => `${name} was ${value || 'unset'}`)
            .join(', ')})`;
    return { kind: 'fabric', action: 'repaired', text: oneLine(`${className} ${dn} ${what}: put right`) };
  });
  const more = drifted.length - told.length;
  return more === 0
    ? told
    : [
        ...told,
        { kind: 'fabric', action: 'repaired', text: `${more} more objects were put right in the fabric` },
      ];
}
