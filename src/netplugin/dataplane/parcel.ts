/**
 * A state on its way to the worker thread. Parts that the worker has from the state before go by number: what is copied
 * is what changed, and over there too an unchanged part is the same object as before.
 */
import type { HostState, Router } from '../state.ts';

/** Lists of parts, and lists that are a part as a whole. */
const LISTS = ['tunnels', 'ports', 'hosts', 'services', 'ruleSets'] as const;
const WHOLE = ['subnets', 'gateways', 'publications', 'ranges'] as const;

type Packed = Pick<Router, 'tenant' | 'namespace'> &
  Record<(typeof LISTS)[number], readonly number[]> &
  Record<(typeof WHOLE)[number], number>;

export interface Parcel {
  readonly routers: readonly Packed[];
  readonly exits: readonly number[];
  readonly guarded: number;
  readonly underlay: string;
  readonly members: number;
  /** Parts that were in no parcel's state just before. */
  readonly fresh: readonly (readonly [number: number, part: object])[];
}

export function openPacker(): (state: HostState) => Parcel {
  let last = 0;
  let sent = new Map<object, number>();
  return (state) => {
    const now = new Map<object, number>();
    const fresh: [number, object][] = [];
    const number = (part: object): number => {
      const known = now.get(part) ?? sent.get(part);
      const of = known ?? ++last;
      if (known === undefined) fresh.push([of, part]);
      now.set(part, of);
      return of;
    };
    const routers = state.routers.map((router) => ({
      tenant: router.tenant,
      namespace: router.namespace,
      tunnels: router.tunnels.map(number),
      ports: router.ports.map(number),
      hosts: router.hosts.map(number),
      services: router.services.map(number),
      ruleSets: router.ruleSets.map(number),
      subnets: number(router.subnets),
      gateways: number(router.gateways),
      publications: number(router.publications),
      ranges: number(router.ranges),
    }));
    const parcel = {
      routers,
      exits: state.exits.map(number),
      guarded: number(state.guarded),
      underlay: state.underlay,
      members: number(state.members),
      fresh,
    };
    sent = now;
    return parcel;
  };
}

export function openUnpacker(): (parcel: Parcel) => HostState {
  let parts = new Map<number, object>();
  return ({ routers, exits, guarded, underlay, members, fresh }) => {
    const now = new Map<number, object>();
    for (const [number, part] of fresh) parts.set(number, part);
    const part = <T>(number: number): T => {
      const found = parts.get(number);
      if (found === undefined) throw new Error(`part ${number} of the state was never sent`);
      now.set(number, found);
      return found as T;
    };
    const list = <T>(numbers: readonly number[]): T[] => numbers.map((number) => part<T>(number));
    const state: HostState = {
      routers: routers.map((router) => ({
        tenant: router.tenant,
        namespace: router.namespace,
        tunnels: list(router.tunnels),
        ports: list(router.ports),
        hosts: list(router.hosts),
        services: list(router.services),
        ruleSets: list(router.ruleSets),
        subnets: part(router.subnets),
        gateways: part(router.gateways),
        publications: part(router.publications),
        ranges: part(router.ranges),
      })),
      exits: list(exits),
      guarded: part(guarded),
      underlay,
      members: part(members),
    };
    parts = now;
    return state;
  };
}
