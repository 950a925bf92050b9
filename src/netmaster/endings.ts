/**
 * What had a meaning on hosts and has none any more: an address of a tenant (a group's, a service's) or a tag on the wire (a
 * network's). It gets no other meaning while a host may still go by the old one: there a packet would be judged as somebody
 * else's.
 *
 *   endpoint, service, network goes --> ended/KEY in the same transaction: hosts acknowledge its revision
 *   given again                     --> when all have; in the same transaction it is forgotten
 *   collection                      --> forgets those that all have acknowledged
 *
 * Hosts that count are those that live, and those that do not but have endpoints: an agent that was killed leaves its kernel as
 * it is, and containers there go on. When an operator has removed their endpoints, no other host sends there or takes
 * anything from there. All of it is in the store but the revisions that hosts have applied, which they tell anew.
 */
import type { Endpoint } from '../model/endpoint.ts';
import type { Host } from '../model/host.ts';
import type { Check, Write } from '../store/store.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { Stored, View } from './tables.ts';
import type { Decision } from './writer.ts';

export interface Meaning {
  /** As messages name it: `group default:web`, `network default:net1`, `service default:shop`. */
  readonly of: string;
  /** Where it was; absent: nowhere in particular. */
  readonly host?: string;
  /** A host that had it in reserve before that, and had not acknowledged the end of it then: it counts beside the others. */
  readonly reserve?: string;
}

/** How the meaning begins of an address that a host has had in reserve, and which nobody else ever went by. */
export const RESERVE = 'reserve ';

export const addressKey = (tenant: string, address: string): string => `address/${tenant}/${address}`;
export const tagKey = (encap: string, tag: number): string => `tag/${encap}/${tag}`;

export const meaningOf = ({
  tenantName,
  networkName,
  groupName,
}: Pick<Endpoint, 'tenantName' | 'networkName' | 'groupName'>): string =>
  groupName ? `group ${tenantName}:${groupName}` : `network ${tenantName}:${networkName}`;

/** It was in reserve for the host, which tells of a container that has it: nobody else has been given it before the host has said all. */
export function wasReservedFor(view: View, key: string, host: string): boolean {
  const ended = view.get<Meaning>('ended', key);
  return ended?.of.startsWith(RESERVE) === true && ended.host === host;
}

/** Of the transaction with which it ends; nothing where there is no host to go by it. */
export function end(view: View, key: string, meaning: Meaning): Write[] {
  if (view.count('host') + view.count('endpoint') === 0) return [];
  const reserve = holderOf(view, key)?.name;
  const value: Meaning = reserve === undefined ? meaning : { ...meaning, reserve };
  return [{ key: storeKey('ended', key), value }];
}

/** Of the transaction that gives it again; nothing where it has not ended. */
export function begin(view: View, key: string): { checks: Check[]; writes: Write[] } {
  const ended = view.stored('ended', key);
  if (ended === undefined) return { checks: [], writes: [] };
  const stored = storeKey('ended', key);
  return {
    checks: [{ key: stored, revision: ended.revision }],
    writes: [{ key: stored, value: undefined }],
  };
}

export interface Endings {
  /** Hosts that keep it from being given; none where it can be. `meaning` absent: from being given as anything. */
  late(key: string, meaning?: Meaning): readonly string[];
  /** Throws a Refusal where it cannot be given: for now. `what`: `network blue:net1: address 10.1.0.7`. */
  refuse(key: string, meaning: Meaning, what: string, field: string): void;
}

export interface Counting {
  readonly name: string;
  readonly lives: boolean;
  readonly applied: number;
}

function counting(view: View): Counting[] {
  const living = new Set(view.list<Host>('host').map(({ name }) => name));
  const names = new Set([...living, ...view.list<Endpoint>('endpoint').map((e) => e.homingHost)]);
  return [...names].map((name) => ({
    name,
    lives: living.has(name),
    applied: view.applied.get(name) ?? 0,
  }));
}

/**
 * The host that had it in reserve, where it may still go by that: nobody else ever did. It counts as long as it is known, also where it
 * does not live and netmaster has no endpoints of it: a container that it gave the address has not been told then.
 */
function reserveHolder(view: View, { object, revision }: Stored<Meaning>): Counting | undefined {
  const name = object.of.startsWith(RESERVE) ? object.host : object.reserve;
  if (name === undefined) return undefined;
  const lives = view.get('host', name) !== undefined;
  const applied = view.applied.get(name) ?? 0;
  const isKnown = lives || view.get('registration', name) !== undefined;
  return isKnown && applied < revision ? { name, lives, applied } : undefined;
}

/** The same of an address by its key; it may give it to a container yet, whatever else has become of it. */
export function holderOf(view: View, key: string): Counting | undefined {
  const ended = view.stored<Meaning>('ended', key);
  return ended && reserveHolder(view, ended);
}

/** For one decision. */
export function openEndings(view: View): Endings {
  let known: readonly Counting[] | undefined;

  function behind(key: string, meaning?: Meaning): readonly Counting[] {
    const ended = view.stored<Meaning>('ended', key);
    if (ended === undefined) return [];
    const { of, host } = ended.object;
    const holder = reserveHolder(view, ended);
    const holds = holder === undefined ? [] : [holder];
    if (of.startsWith(RESERVE)) return holds;
    known ??= counting(view);
    const late = known.filter(({ applied, name }) => applied < ended.revision && name !== holder?.name);
    if (of !== meaning?.of) return [...late, ...holds];
    // The same as before: where it was before nothing changes for anybody, and dead hosts judge it as they should.
    const isThere = host === meaning.host;
    return [
      ...(isThere ? [] : late.filter(({ lives }) => lives)),
      ...holds.filter(({ name }) => !isThere || name !== host),
    ];
  }

  return {
    late: (key, meaning) => behind(key, meaning).map(({ name }) => name),
    refuse(key, meaning, what, field) {
      const late = behind(key, meaning);
      if (late.length === 0) return;
      const was = view.stored<Meaning>('ended', key)?.object.of;
      const dead = late.filter(({ lives }) => !lives).map(({ name }) => name);
      const names = late.map(({ name }) => name).join(', ');
      const isReserve = was?.startsWith(RESERVE) === true;
      const removal = isReserve ? 'it (netctl host rm)' : 'its endpoints (netctl endpoint rm)';
      const advice =
        dead.length === 0
          ? 'try again, or choose another'
          : `choose another, or where ${dead.join(', ')} is gone for good remove ${removal}`;
      const said = (whose: string): string =>
        `${what} was ${whose}, and ${names} may still go by that, having not applied its end: ${advice}`;
      const tenant = /^\w+ ([^:]+):/.exec(was ?? '')?.[1];
      throw new Refusal(
        423,
        said(isReserve ? 'in reserve' : `${was}'s`),
        field,
        undefined,
        tenant === undefined ? undefined : { tenant, message: said('in use') },
      );
    },
  };
}

/** Forgets what every host has acknowledged. */
export function decideForgetting(view: View): Decision<number> {
  const least = Math.min(...counting(view).map(({ applied }) => applied));
  const known = [...view.entries<Meaning>('ended')].filter(([, ended]) => {
    if (reserveHolder(view, ended) !== undefined) return false;
    return ended.object.of.startsWith(RESERVE) || ended.revision <= least;
  });
  return {
    checks: known.map(([key, { revision }]) => ({ key: storeKey('ended', key), revision })),
    writes: known.map(([key]) => ({ key: storeKey('ended', key), value: undefined })),
    answer: known.length,
  };
}
