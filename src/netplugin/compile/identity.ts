/**
 * Identities: what rules know of an endpoint. A rule judges a number that stands for a set of labels; an endpoint's declared group
 * is one label, and what its workload and its workload's namespace are labelled with are others, as are its ports' names.
 *
 *   endpoint, workload --identityOf--> labels --Identities--> number, and for each selector the identities that it takes
 *
 * Numbers are of one host, and follow from the labels (their hash): nobody gives them out, and what has other labels has another
 * number. So a label that changes is one element for each address that has it, and those of the rule sets whose selectors take
 * the old or the new labels.
 *
 * A change costs what it changes: an identity that comes is held against the selectors that it can fit, which are found by a label
 * that they ask for; a selector that comes is held against all identities, once.
 */
import type { Labels, Selector } from '../../model/selector.ts';
import { matcherOf } from '../../model/selector.ts';
import type { Workload } from '../../model/workload.ts';

export interface Identity {
  /** What its number is the hash of: the group's name alone where it has nothing else. */
  readonly text: string;
  /** By GROUP, NAMESPACE, and what begins with OF_POD, OF_NAMESPACE and PORT. */
  readonly labels: Labels;
}

const GROUP = 'group';
const NAMESPACE = 'namespace';
const OF_POD = 'pod/';
const OF_NAMESPACE = 'of/';
const PORT = 'port/';

/** Of an endpoint in no group, of no workload. */
export const NOBODY: Identity = { text: '', labels: {} };

export const groupIdentity = (group: string): Identity => ({ text: group, labels: { [GROUP]: group } });

const prefixed = (prefix: string, labels: Labels = {}): [string, string][] =>
  Object.entries(labels).map(([key, value]) => [prefix + key, value]);

export function workloadIdentity(group: string | undefined, workload: Workload): Identity {
  const ports = Map.groupBy(workload.ports ?? [], (p) => p.name);
  const labels: [string, string][] = [
    ...(group === undefined ? [] : [[GROUP, group] as [string, string]]),
    [NAMESPACE, workload.namespaceName],
    ...prefixed(OF_NAMESPACE, workload.namespaceLabels),
    ...prefixed(OF_POD, workload.labels),
    ...[...ports].map(([name, those]): [string, string] => [
      PORT + name,
      [...new Set(those.map((p) => `${p.protocol}/${p.port}`))].sort().join(),
    ]),
  ];
  labels.sort(([a], [b]) => (a < b ? -1 : 1));
  return { text: JSON.stringify(labels), labels: Object.fromEntries(labels) };
}

/** What the workload calls by a name; of any protocol where none is asked for. */
export function portsCalled(
  { labels }: Identity,
  name: string,
  protocol: number | undefined,
): { readonly protocol: number; readonly port: number }[] {
  const text = Object.hasOwn(labels, PORT + name) ? (labels[PORT + name] as string) : '';
  return text
    .split(',')
    .filter((one) => one !== '')
    .map((one) => one.split('/').map(Number) as [number, number])
    .filter(([p]) => protocol === undefined || p === protocol)
    .map(([p, port]) => ({ protocol: p, port }));
}

/** Takes identities by their labels. */
export interface Taker {
  /** The same for those that take the same. */
  readonly text: string;
  /** `key` or `key=value` that all have that it takes; '' where there is none. */
  readonly needs: string;
  takes(labels: Labels): boolean;
}

function takerOf(selector: Selector): Taker {
  const [pair] = Object.entries(selector.matchLabels ?? {});
  const key = selector.matchExpressions?.find((e) => e.operator === 'In' || e.operator === 'Exists')?.key;
  return {
    text: JSON.stringify(selector),
    needs: pair === undefined ? (key ?? '') : pair.join('='),
    takes: matcherOf(selector),
  };
}

export const ofGroup = (group: string): Taker => takerOf({ matchLabels: { [GROUP]: group } });

/** Those that have a port of this name. */
export const withPort = (name: string): Taker =>
  takerOf({ matchExpressions: [{ key: PORT + name, operator: 'Exists' }] });

/** Workloads that both select. `namespace`: of that one only. */
export function ofWorkloads(
  { namespaces = {}, workloads = {} }: { namespaces?: Selector; workloads?: Selector },
  namespace?: string,
): Taker {
  const both = [
    [OF_POD, workloads],
    [OF_NAMESPACE, namespaces],
  ] as const;
  const pairs = both.flatMap(([prefix, s]) => prefixed(prefix, s.matchLabels));
  const expressions = both.flatMap(([prefix, s]) =>
    (s.matchExpressions ?? []).map((e) => ({ ...e, key: prefix + e.key })),
  );
  return takerOf({
    matchLabels: Object.fromEntries([
      ...pairs,
      ...(namespace === undefined ? [] : [[NAMESPACE, namespace] as const]),
    ]),
    matchExpressions: [...expressions, { key: NAMESPACE, operator: 'Exists' }],
  });
}

/** Finds those that can take something by the labels that it has. */
export class Takers<T extends Taker> {
  readonly #byNeed = new Map<string, Set<T>>();
  add(taker: T): void {
    const those = this.#byNeed.get(taker.needs);
    if (those === undefined) this.#byNeed.set(taker.needs, new Set([taker]));
    else those.add(taker);
  }
  delete(taker: T): void {
    const those = this.#byNeed.get(taker.needs);
    those?.delete(taker);
    if (those?.size === 0) this.#byNeed.delete(taker.needs);
  }
  taking(labels: Labels): T[] {
    const needs = ['', ...Object.entries(labels).flatMap(([key, value]) => [key, `${key}=${value}`])];
    return needs.flatMap((need) => [...(this.#byNeed.get(need) ?? [])]).filter((t) => t.takes(labels));
  }
}

interface Selection extends Taker {
  readonly taken: Map<string, Identity>;
  list: readonly Identity[] | undefined;
  used: number;
}

/**
 * The identities of one tenant, and which of them selectors take. It lives on from compile to compile, and what it answers
 * follows from what it was last told to hold alone.
 */
export class Identities {
  readonly #lists = new Map<string, readonly Identity[]>();
  readonly #known = new Map<string, { readonly identity: Identity; count: number }>();
  readonly #selections = new Map<string, Selection>();
  readonly #takers = new Takers<Selection>();
  #numbers = new Map<string, number>();
  readonly #taken = new Set<number>([0]);
  /** Two texts have the same hash: who has which number depends on all of them. */
  #crowded = false;
  #round = 0;

  readonly #made = new WeakMap<Workload, Identity>();

  /** The same object for the same workload, which is one group's. */
  ofWorkload(group: string | undefined, workload: Workload): Identity {
    const made = this.#made.get(workload);
    if (made !== undefined && made.labels[GROUP] === group) return made;
    const identity = workloadIdentity(group, workload);
    this.#made.set(workload, identity);
    return identity;
  }

  /** Another object where an identity has another number than before. */
  numbering: object = {};

  /** All that there are, as lists by whatever name: one that is the same array as before is not looked at. */
  hold(lists: ReadonlyMap<string, readonly Identity[]>): void {
    this.#round++;
    const come: Identity[] = [];
    const gone: Identity[] = [];
    for (const [name, list] of lists) {
      const before = this.#lists.get(name);
      if (before === list) continue;
      come.push(...list);
      gone.push(...(before ?? []));
      this.#lists.set(name, list);
    }
    for (const [name, list] of this.#lists)
      if (!lists.has(name)) {
        gone.push(...list);
        this.#lists.delete(name);
      }
    for (const identity of come) this.#add(identity);
    for (const identity of gone) this.#remove(identity);
    if (this.#crowded) this.#numberAll();
    for (const [text, selection] of this.#selections)
      if (selection.used < this.#round - 1) {
        this.#selections.delete(text);
        this.#takers.delete(selection);
      }
  }

  numberOf({ text }: Identity): number {
    return this.#numbers.get(text) ?? 0;
  }

  /** In the order of their texts; the same array until it has others. */
  taken(by: Taker): readonly Identity[] {
    const selection = this.#selections.get(by.text) ?? this.#open(by);
    selection.used = this.#round;
    selection.list ??= [...selection.taken.values()].sort((a, b) => (a.text < b.text ? -1 : 1));
    return selection.list;
  }

  #open(by: Taker): Selection {
    const taken = new Map<string, Identity>();
    for (const [text, { identity }] of this.#known) if (by.takes(identity.labels)) taken.set(text, identity);
    const selection: Selection = { ...by, taken, list: undefined, used: this.#round };
    this.#selections.set(by.text, selection);
    this.#takers.add(selection);
    return selection;
  }

  #add(identity: Identity): void {
    const { text, labels } = identity;
    if (text === '') return;
    const known = this.#known.get(text);
    if (known !== undefined) {
      known.count++;
      return;
    }
    this.#known.set(text, { identity, count: 1 });
    for (const selection of this.#takers.taking(labels)) {
      selection.taken.set(text, identity);
      selection.list = undefined;
    }
    const number = fnv1a(text);
    if (this.#taken.has(number)) this.#crowded = true;
    this.#taken.add(number);
    this.#numbers.set(text, number);
  }

  #remove({ text }: Identity): void {
    const known = this.#known.get(text);
    if (known === undefined || --known.count > 0) return;
    this.#known.delete(text);
    for (const selection of this.#takers.taking(known.identity.labels)) {
      selection.taken.delete(text);
      selection.list = undefined;
    }
    this.#taken.delete(this.numberOf(known.identity));
    this.#numbers.delete(text);
  }

  /** Once in a million times that there are 100 of them: all are numbered together. */
  #numberAll(): void {
    this.#numbers = numbered(this.#known.keys(), 32);
    this.#taken.clear();
    for (const number of [0, ...this.#numbers.values()]) this.#taken.add(number);
    this.#crowded = [...this.#numbers].some(([text, number]) => fnv1a(text) !== number);
    this.numbering = {};
  }
}

/**
 * A number other than 0 for each text, of so many bits: its hash (FNV-1a), or the next that is free. Numbers do not move when
 * others come or go, but where two hashes are the same.
 */
export function numbered(texts: Iterable<string>, bits: 31 | 32): Map<string, number> {
  const limit = 2 ** bits;
  const taken = new Set<number>([0]);
  const numbers = new Map<string, number>();
  for (const text of [...new Set(texts)].sort()) {
    let number = fnv1a(text) % limit;
    while (taken.has(number)) number = (number + 1) % limit;
    taken.add(number);
    numbers.set(text, number);
  }
  return numbers;
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
