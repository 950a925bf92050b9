/**
 * Which hosts live: each has a lease that its heartbeats renew, and with the lease the host's object goes. The store alone knows which
 * lease that is, so that a heartbeat may come to any netmaster.
 *
 *   host/NAME           the host as it registered        under the lease
 *   underlay/ADDRESS    whose the address is             under the same lease: of two hosts that come with one address at once, one is refused
 *   registration/NAME   the same, without a lease: roster.ts
 */
import { Value } from '@sinclair/typebox/value';
import { HOST_TTL, type Host } from '../model/host.ts';
import type { Store, Write } from '../store/store.ts';
import { changedFields } from './changes.ts';
import type { Caller, Occurrence } from './events.ts';
import { type Mirror, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import { type Registered, registrationOf } from './roster.ts';
import type { Decision, Writer } from './writer.ts';

export interface Hosts {
  /** The host lives as it says. Throws a Refusal where its underlay or its name is another's. */
  beat(host: Host, caller?: Caller): Promise<void>;
}

export interface HostsOptions {
  readonly store: Pick<Store, 'grant' | 'renew' | 'revoke'>;
  readonly mirror: Mirror;
  readonly writer: Writer;
}

interface Underlay {
  readonly host: string;
}

/** Heartbeats of one host that meet: past this many something else is wrong. */
const ATTEMPTS = 10;

export function openHosts({ store, mirror, writer }: HostsOptions): Hosts {
  const leaseOf = (name: string): string | undefined => mirror.stored('host', name)?.lease;

  function refuseTwin({ name, underlay, run, keys = [] }: Host): void {
    const own = mirror.get<Host>('host', name);
    const moved = run !== undefined && own?.run === run;
    if (own !== undefined && own.underlay !== underlay && !moved)
      throw new Refusal(
        409,
        `host ${name}: is alive with underlay ${own.underlay}, and cannot have ${underlay} too: another host needs another name (netplugin --host), one whose agent was started anew is taken ${HOST_TTL} s after its last word`,
        'name',
      );
    // One that it has told before is its own: heartbeats look at no other host. (Of two that come at once with one, hosts know one: compile/encryption.ts.)
    const before = new Set(own?.keys?.map(({ key }) => key));
    const told = new Set(keys.flatMap(({ key }) => (before.has(key) ? [] : [key])));
    // Of one that is away too: its containers may run on, and what is for them would go nowhere.
    const copied =
      told.size === 0
        ? undefined
        : [...mirror.list<Host>('host'), ...mirror.list<Registered>('registration')].find(
            (h) => h.name !== name && h.keys?.some(({ key }) => told.has(key)),
          );
    if (copied !== undefined)
      throw new Refusal(
        409,
        `host ${name}: its WireGuard key is host ${copied.name}'s already, as on a disk that was copied or where a host has another name now: it needs new ones, which its netplugin makes by itself`,
        'keys',
      );
    const holder = mirror.get<Underlay>('underlay', underlay)?.host ?? name;
    if (holder !== name)
      throw new Refusal(409, `host ${name}: underlay ${underlay} is host ${holder}'s already`, 'underlay');
  }

  const isWritten = (host: Host): boolean =>
    Value.Equal(mirror.get<Host>('host', host.name), host) &&
    mirror.get<Underlay>('underlay', host.underlay)?.host === host.name &&
    registrationOf(mirror, host).length === 0;

  function decideHost(host: Host, lease: string): Decision<true> {
    refuseTwin(host);
    const { name, underlay } = host;
    const [hostKey, underlayKey] = [storeKey('host', name), storeKey('underlay', underlay)];
    const before = mirror.stored<Host>('host', name);
    const writes: Write[] = [
      { key: hostKey, value: host, lease },
      { key: underlayKey, value: { host: name } satisfies Underlay, lease },
      ...registrationOf(mirror, host),
    ];
    const was = before?.object.underlay ?? underlay;
    if (was !== underlay && mirror.get<Underlay>('underlay', was)?.host === name)
      writes.push({ key: storeKey('underlay', was), value: undefined });
    return {
      checks: [
        { key: hostKey, revision: before?.revision ?? 0 },
        { key: underlayKey, revision: mirror.stored('underlay', underlay)?.revision ?? 0 },
      ],
      writes,
      answer: true,
      events: arrivals(before?.object, host),
    };
  }

  /** False: another heartbeat of the host was faster, and the host has another lease now. */
  async function attempt(host: Host, caller?: Caller): Promise<boolean> {
    const held = leaseOf(host.name);
    const lives = held !== undefined && (await store.renew(held));
    if (lives && isWritten(host)) return true;
    const lease = lives ? held : await store.grant(HOST_TTL);
    const isOvertaken = (): boolean => {
      const now = leaseOf(host.name);
      return now !== held && (lives || now !== undefined);
    };
    let isHeld = lives;
    try {
      const { answer } = await writer.write(
        (): Decision<boolean> =>
          isOvertaken() ? { checks: [], writes: [], answer: false } : decideHost(host, lease),
        caller,
      );
      isHeld ||= answer;
      return answer;
    } finally {
      if (!isHeld) await store.revoke(lease);
    }
  }

  return {
    async beat(host, caller) {
      refuseTwin(host);
      for (let i = 0; i < ATTEMPTS; i++) if (await attempt(host, caller)) return;
      throw new Refusal(503, `host ${host.name}: registers again and again at the same time: try again`);
    },
  };
}

/** Where it is, and which run of its agent. */
const placeOf = ({ name, underlay, mtu, version, run, keys }: Partial<Host>) => ({
  name,
  underlay,
  mtu,
  version,
  run,
  keys,
});

function arrivals(before: Host | undefined, host: Host): Occurrence[] {
  const fields = changedFields(placeOf(before ?? {}), placeOf(host));
  if (Object.keys(fields).length === 0) return [];
  const action = before === undefined ? 'joined' : 'changed';
  return [{ kind: 'host', action, object: 'host', key: host.name, host: host.name, fields }];
}
