/**
 * Which keys of hosts count where what goes between them is encrypted (model/encryption.ts), and their rotation: keyEpochs/encryption in the
 * store, which agents are told like any other object. Each step waits for what the one before asks of hosts, so no packet is lost and none goes otherwise:
 *
 *   start    a second epoch          each host makes a key of it, and tells it when its device listens
 *   change   that one is active      when each has told, and each has applied what all have told: every device knows every other
 *   end      the first one goes      when each has applied the change: nobody sends by it any more
 *
 * A store that was put back may know less than hosts have, who keep their keys (netplugin/hostKeys.ts): where none has one that counts here, these epochs are
 * taken as they are; else keys are rotated until they are reached, which those wait for that have come since.
 *
 * A host that is away with containers is waited for: they may run on and be sent to, by keys that it cannot change meanwhile. One that has told no
 * key at all has no part in it.
 */
import {
  epochsIn,
  FIRST_EPOCHS,
  isEncrypted,
  KEY_EPOCHS,
  type KeyEpochs,
  keyOf,
} from '../model/encryption.ts';
import type { Host } from '../model/host.ts';
import type { Network } from '../model/network.ts';
import type { Global } from '../model/settings.ts';
import type { Problem, Status } from '../protocol/hosts.ts';
import type { Mirror } from './mirror.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import { endpointsOf } from './roster.ts';
import type { View } from './tables.ts';
import type { Decision } from './writer.ts';

/** Milliseconds after which keys are rotated by themselves. Sessions have keys of their own, of two minutes each (the paper at wireguard.com, 6.1). */
export const KEY_AGE = 30 * 86_400_000;
type Reason = 'it is away' | 'it has told no new key' | 'it has not applied what others told';

const KEY = storeKey('keyEpochs', KEY_EPOCHS);
const NOTHING: Decision<undefined> = { checks: [], writes: [], answer: undefined };

const encrypts = (view: View): boolean => isEncrypted(view.get<Global>('global', 'global'));

const epochsOf = (view: View): KeyEpochs => epochsIn(view.get<KeyEpochs>('keyEpochs', KEY_EPOCHS));

/** Hosts that a rotation waits for, by name, each with what it has not done. `applied`: revisions, by host. */
export function waitingFor(view: View, applied: ReadonlyMap<string, number>): ReadonlyMap<string, Reason> {
  const stored = view.stored<KeyEpochs>('keyEpochs', KEY_EPOCHS);
  const { epochs, active } = epochsIn(stored?.object);
  const [, next] = epochs;
  const waiting = new Map<string, Reason>();
  if (next === undefined) return waiting;
  const hosts = view.list<Host>('host').filter(({ keys = [] }) => keys.length > 0);
  const told = Math.max(
    ...hosts.map(({ name }) => view.stored('host', name)?.revision ?? 0),
    stored?.revision ?? 0,
  );
  for (const { name, keys = [] } of hosts)
    if (keys.every(({ epoch }) => epoch > next)) continue;
    else if (keyOf(keys, next) === undefined) waiting.set(name, 'it has told no new key');
    else if ((applied.get(name) ?? 0) < (active === next ? (stored?.revision ?? 0) : told))
      waiting.set(name, 'it has not applied what others told');
  for (const { name, keys = [] } of view.list<Host>('registration'))
    if (view.get('host', name) === undefined && keys.length > 0 && endpointsOf(view, name).length > 0)
      waiting.set(name, 'it is away');
  return waiting;
}

function written(view: View, to: KeyEpochs, action?: string, text?: string): Decision<undefined> {
  return {
    checks: [{ key: KEY, revision: view.stored('keyEpochs', KEY_EPOCHS)?.revision ?? 0 }],
    writes: [{ key: KEY, value: to }],
    answer: undefined,
    ...(action !== undefined &&
      text !== undefined && {
        events: [{ kind: 'host', action, object: 'keyEpochs', key: KEY_EPOCHS, text }],
      }),
  };
}

const began = (view: View, { active, since }: KeyEpochs): Decision<undefined> =>
  written(
    view,
    { epochs: [active, active + 1], active, since },
    'rotating',
    `hosts make keys of epoch ${active + 1}`,
  );

/** Of all that living hosts have told, where it is newer than what is to count; else undefined. */
function newerThan(view: View, { epochs }: KeyEpochs): number | undefined {
  const newest = Math.max(...toldBy(view));
  return newest > Math.max(...epochs) ? newest : undefined;
}

const toldBy = (view: View): number[] =>
  view.list<Host>('host').flatMap(({ keys = [] }) => keys.map(({ epoch }) => epoch));

/** Towards `newest`, which hosts have: they send on by what they send by now. */
function caughtUp(
  view: View,
  known: KeyEpochs,
  newest: number,
  now: number,
): Decision<undefined> | undefined {
  const told = new Set(toldBy(view));
  if (Math.min(...told) > Math.max(...known.epochs)) {
    const epochs = told.has(newest - 1) ? [newest - 1, newest] : [newest];
    const to = { epochs, active: epochs[0] ?? newest, since: now };
    return written(
      view,
      to,
      'changed',
      `hosts have keys of epoch ${newest}, as the store was put back: these count`,
    );
  }
  return known.epochs.length === 1 ? began(view, known) : undefined;
}

/** The next step, where there is one. `now`: milliseconds, Unix time. */
export function decideKeyEpochs(
  view: View,
  applied: ReadonlyMap<string, number>,
  now: number = Date.now(),
): Decision<undefined> {
  if (!encrypts(view)) return NOTHING;
  const stored = view.get<KeyEpochs>('keyEpochs', KEY_EPOCHS);
  const known = stored ?? { ...FIRST_EPOCHS, since: now };
  const newest = newerThan(view, known);
  const step = newest === undefined ? undefined : caughtUp(view, known, newest, now);
  if (step !== undefined) return step;
  if (stored === undefined) return written(view, known);
  const [first = stored.active, next] = stored.epochs;
  if (next === undefined) return now - stored.since < KEY_AGE ? NOTHING : began(view, stored);
  if (waitingFor(view, applied).size > 0) return NOTHING;
  return stored.active === next
    ? written(view, { ...stored, epochs: [next] }, 'rotated', `keys of epoch ${first} are forgotten`)
    : written(
        view,
        { ...stored, active: next, since: now },
        'changed',
        `hosts send by keys of epoch ${next}`,
      );
}

/** By an operator's word. Answers the epoch that begins. */
export function decideRotation(view: View): Decision<number> {
  if (!encrypts(view))
    throw new Refusal(
      409,
      'global: encryption is none, so there are no keys: netctl global set --encryption wireguard',
      'encryption',
    );
  const epochs = epochsOf(view);
  const [, next] = epochs.epochs;
  if (next !== undefined)
    throw new Refusal(
      409,
      `keys are being rotated to epoch ${next} already: netctl status says which hosts are waited for`,
    );
  const newest = newerThan(view, epochs);
  if (newest !== undefined)
    throw new Refusal(
      409,
      `hosts have keys of epoch ${newest} already, as the store was put back: try again when netctl status says that epoch`,
    );
  return { ...began(view, epochs), answer: epochs.active + 1 };
}

/** For netctl status; undefined: nothing is encrypted. */
export function encryptionStatus(mirror: Mirror): Status['encryption'] {
  if (!encrypts(mirror)) return undefined;
  const { epochs, active, since } = epochsOf(mirror);
  const [, next] = epochs;
  const clear = mirror.list<Network>('network').filter(({ encap }) => encap === 'vlan');
  return {
    epoch: active,
    ...(since > 0 && { since: new Date(since).toISOString() }),
    ...(next !== undefined && { rotating: [...waitingFor(mirror, mirror.applied).keys()].sort() }),
    ...(clear.length > 0 && { clear: clear.map((n) => `${n.tenantName}:${n.networkName}`).sort() }),
  };
}

/** Of hosts that live and have no part in it, and of those that a rotation cannot go past. */
export function encryptionProblems(mirror: Mirror): (Problem & { readonly of: string })[] {
  if (!encrypts(mirror)) return [];
  const { active } = epochsOf(mirror);
  const silent = mirror
    .list<Host>('host')
    .filter(({ keys = [] }) => keys.every(({ epoch }) => epoch < active))
    .map(({ name }) => ({
      of: `host ${name}`,
      problem:
        'it has told no WireGuard key: nothing goes between containers there and on other hosts, in the clear neither',
      remedy:
        'netctl doctor there says why: its kernel may have no WireGuard (modprobe wireguard), or its netplugin be an older one. Until it can, or is gone for good (stop its netplugin, then netctl host rm NAME), an address or tag that is freed may be given to nobody',
    }));
  const away = [...waitingFor(mirror, mirror.applied)].filter(([, why]) => why === 'it is away');
  return [
    ...silent,
    ...away.map(([name]) => ({
      of: `host ${name}`,
      problem: 'keys are not rotated to the end: it is away, and its containers may run on with those it has',
      remedy: `start its agent (systemctl start contiv-netplugin there); where it is gone for good: netctl host rm ${name}`,
    })),
  ];
}
