/** What has arrived in a churn (churn.ts): packets that might not, and streams that stopped. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import {
  actors,
  type Churn,
  type Done,
  HOSTS,
  type Host,
  host,
  type Interval,
  idOf,
  overlaps,
  SENDERS,
} from './churn.ts';
import { FLOWS, now, readSent, type Sent, SIZE } from './churnPackets.ts';
import type { Operation } from './history.ts';
import { lab } from './lab.ts';

/** Packets of an allowed stream in a row, at 50 a second, whose loss is no accident. */
const STOPPED = 10;

/** One interval, or several that touch, contains all of it. */
function covers(intervals: readonly Interval[], from: number, to: number): boolean {
  let at = from;
  for (const i of intervals.toSorted((a, b) => a.from - b.from)) if (i.from <= at && i.to > at) at = i.to;
  return at >= to;
}

function arrived({ folder }: Churn, receiver: string): Sent[] {
  const file = `${folder}/${receiver}.got`;
  const bytes = fs.existsSync(file) ? fs.readFileSync(file) : Buffer.alloc(0);
  return Array.from({ length: Math.floor(bytes.length / SIZE) }, (_, i) => readSent(bytes, i * SIZE));
}

export interface Findings {
  /** Packets that may not have arrived, by stream and time. */
  readonly forbidden: string[];
  /** Allowed streams that stopped without a reason. */
  readonly stopped: string[];
  /** Arrived that was allowed; of changing streams, while they were. Each must be more than none, or nothing was tried. */
  readonly passed: {
    readonly always: number;
    readonly tcp: number;
    readonly byRule: number;
    readonly byGroup: number;
  };
  /** Times of a host in which a changing stream was denied there. */
  readonly denials: number;
  /** Single packets of allowed streams that were lost while nothing was wrong. */
  readonly lost: number;
}

export function findings(churn: Churn): Findings {
  const forbidden: string[] = [];
  const stopped: string[] = [];
  const passed = { always: 0, tcp: 0, byRule: 0, byGroup: 0 };
  let lost = 0;
  const isEvil = (sender: number): boolean => Math.floor(sender / 10) === SENDERS.evil;
  for (const receiver of actors().filter((name) => /safe|flip/.test(name))) {
    const all = arrived(churn, receiver);
    const at = host(Number(receiver.slice(-1)));
    const isDenied = (p: Sent): boolean =>
      overlaps(churn.denied.get(p.flow)?.get(at) ?? [], p.at, p.at + 0.001);
    for (const packet of all) {
      const { sender, flow } = packet;
      const from = `evil-${sender % 10} to ${receiver}:${flow} at ${packet.at.toFixed(0)}`;
      if (flow === FLOWS.always || flow === FLOWS.tcp) {
        if (isEvil(sender)) forbidden.push(from);
        else if (flow === FLOWS.tcp) passed.tcp++;
        else passed.always++;
      } else if (isDenied(packet)) forbidden.push(from);
      else if (flow === FLOWS.byRule) passed.byRule++;
      else passed.byGroup++;
    }
    const allowed = all.filter((p) => p.flow === FLOWS.always && !isEvil(p.sender));
    for (const [sender, packets] of Map.groupBy(allowed, (p) => p.sender)) {
      const ends = [host(sender % 10), at];
      const cut = ends.flatMap((h) => churn.cut.get(h) ?? []);
      for (const [i, packet] of packets.entries()) {
        const before = packets[i - 1];
        if (before === undefined) continue;
        // A sender that started anew counts from nothing, and sends when its threads run.
        const anew = before.run !== packet.run;
        const from = anew ? packet.run : before.at;
        const missing = anew ? packet.sequence : packet.sequence - before.sequence - 1;
        if (covers(cut, from, missing === 0 ? from + 1 : packet.at)) continue;
        if (anew || missing >= STOPPED)
          stopped.push(
            `good-${sender % 10} to ${receiver}: ${anew ? 'started anew, ' : ''}${missing} packets from ${from.toFixed(0)} to ${packet.at.toFixed(0)}`,
          );
        else lost += missing;
      }
    }
  }
  const denials = [...churn.denied.values()].flatMap((byHost) => [...byHost.values()].flat()).length;
  return { forbidden, stopped, passed, denials, lost };
}

/** Of each kind of fault; milliseconds. */
export interface Figures {
  readonly what: string;
  readonly times: number;
  /** The longest that packets of an allowed stream of its host went on to be lost when it was over. */
  readonly repair: number;
  /** The longest that what was sent of an allowed stream did not arrive meanwhile, of those whose ends were cut off by nothing. */
  readonly stop: number;
  /** The longest meanwhile in which no write of any client was acknowledged. */
  readonly writes: number;
}

/** What arrived of a stream: when it was sent, and how many before it are missing. */
interface Arrival {
  readonly at: number;
  readonly missing: number;
}

export function figures(churn: Churn, history: readonly Operation[]): Figures[] {
  const all = HOSTS.flatMap((receiver, i) => {
    const packets = arrived(churn, `safe-${i}`).filter((p) => p.flow === FLOWS.always);
    const good = packets.filter((p) => Math.floor(p.sender / 10) === SENDERS.good);
    return [...Map.groupBy(good, (p) => p.sender)].map(([sender, sent]) => {
      const inOrder = sent.toSorted((a, b) => a.at - b.at);
      return {
        ends: [host(sender % 10), receiver],
        arrivals: inOrder.map((p, i): Arrival => {
          const before = inOrder[i - 1];
          const last = before?.run === p.run ? before.sequence : -1;
          return { at: p.at, missing: p.sequence - last - 1 };
        }),
      };
    });
  });
  const cutOf = (ends: readonly Host[]): Interval[] => ends.flatMap((h) => churn.cut.get(h) ?? []);
  // What cuts a host off for another reason is no part of this one's repair; each begins a little before its fault.
  const isOtherwiseCut = (ends: readonly Host[], to: number, { from, to: over }: Interval): boolean =>
    cutOf(ends).some((i) => i.from < to && over < i.to && Math.abs(i.from - from) > 150);
  const repair = (fault: Done): number =>
    longest(
      all
        .filter(({ ends }) => ends.includes(fault.at))
        .map(({ ends, arrivals }) => {
          const next = arrivals[firstFrom(arrivals, fault.to)];
          // Of a sender that did not run nothing is missing.
          return next === undefined || next.missing === 0 || isOtherwiseCut(ends, next.at, fault)
            ? 0
            : next.at - fault.to;
        }),
    );
  const stop = (fault: Done): number =>
    longest(all.map(({ ends, arrivals }) => longestGap(arrivals, fault, cutOf(ends))));
  const written = history
    .flatMap(({ do: done, is, answered = 0 }) =>
      done === 'write' && typeof is === 'object' ? [{ at: answered, missing: 1 }] : [],
    )
    .sort((a, b) => a.at - b.at);
  return [...Map.groupBy(churn.done, ({ what }) => what)].map(([what, done]) => ({
    what,
    times: done.length,
    repair: longest(done.map(repair)),
    stop: longest(done.map(stop)),
    writes: longest(done.map((fault) => longestGap(written, fault, []))),
  }));
}

const longest = (times: readonly number[]): number => Math.max(0, ...times);

/** The longest time in which something is missing, and of which some was meanwhile, but for what an interval overlaps. */
function longestGap(arrivals: readonly Arrival[], { from, to }: Interval, but: readonly Interval[]): number {
  let found = 0;
  for (let i = Math.max(1, firstFrom(arrivals, from)); i < arrivals.length; i++) {
    const [before, { at, missing }] = [(arrivals[i - 1] as Arrival).at, arrivals[i] as Arrival];
    if (before > to) break;
    if (missing > 0 && at - before > found && !overlaps(but, before, at)) found = at - before;
  }
  return found;
}

/** Of the first that is not less, in order. */
function firstFrom(arrivals: readonly Arrival[], from: number): number {
  let [low, high] = [0, arrivals.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((arrivals[middle] as Arrival).at < from) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The figures as docs/reliability.md has them, below what the run says of itself. */
export const tableOf = (said: string, all: readonly Figures[]): string =>
  [
    said,
    '',
    '| fault | times | longest repair | longest stop | longest without a write |',
    '| --- | --- | --- | --- | --- |',
    ...all
      .toSorted((a, b) => a.what.localeCompare(b.what))
      .map(
        ({ what, times, repair, stop, writes }) =>
          `| ${[what, times, ...[repair, stop, writes].map((ms) => `${ms.toFixed(0)} ms`)].join(' | ')} |`,
      ),
  ].join('\n');

/** Puts it between the marks of that name in a page, in the place of an earlier one. */
export function putTable(page: string, mark: string, table: string): void {
  const text = fs.readFileSync(page, 'utf8');
  const [begin, end] = [`<!-- ${mark} -->`, `<!-- /${mark} -->`];
  const [from, to] = [text.indexOf(begin), text.indexOf(end)];
  if (from === -1 || to < from) throw new Error(`${page}: has no ${begin} with ${end} below it`);
  fs.writeFileSync(page, `${text.slice(0, from)}${begin}\n\n${table}\n\n${text.slice(to)}`);
  execFileSync('biome', ['format', '--write', page]);
}

/** Streams that do not arrive within 10 s from now: none, once all is over. */
export async function silent(churn: Churn): Promise<string[]> {
  const since = now();
  for (;;) {
    const missing = HOSTS.flatMap((_, i) =>
      [i, i + 1].flatMap((to) => {
        const receiver = `safe-${to % HOSTS.length}`;
        const fresh = arrived(churn, receiver).some(
          (p) => p.at > since && p.sender === idOf(SENDERS.good, i) && p.flow === FLOWS.always,
        );
        return fresh ? [] : [`good-${i} to ${receiver}`];
      }),
    );
    if (missing.length === 0 || now() > since + 10_000) return missing;
    await new Promise((done) => setTimeout(done, 200));
  }
}

/** What is left of differences after a while, as lab.ts has it for its own lab. */
export async function churnDifferences({ lab: name }: Churn): Promise<string> {
  // An address whose release was lost is collected after a minute, the endpoint before it after another.
  const { status, out, err } = await lab('--name', name, 'check', '--wait', '180');
  return status === 0 ? '' : out || err;
}
