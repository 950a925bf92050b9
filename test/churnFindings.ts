/** What has arrived in a churn (churn.ts): packets that might not, and streams that stopped. */
import fs from 'node:fs';
import {
  actors,
  type Churn,
  HOSTS,
  type Host,
  host,
  type Interval,
  idOf,
  overlaps,
  SENDERS,
} from './churn.ts';
import { FLOWS, now, readSent, type Sent, SIZE } from './churnPackets.ts';
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

/** Of each kind of fault how often it was, and the longest that an allowed stream of its host needed to arrive again when it was over. */
export function repairs(churn: Churn): { what: string; times: number; longest: number }[] {
  const all = HOSTS.flatMap((receiver, i) => {
    const packets = arrived(churn, `safe-${i}`).filter((p) => p.flow === FLOWS.always);
    const good = packets.filter((p) => Math.floor(p.sender / 10) === SENDERS.good);
    return [...Map.groupBy(good, (p) => p.sender)].map(([sender, sent]) => ({
      ends: [host(sender % 10), receiver],
      times: sent.map((p) => p.at).sort((a, b) => a - b),
    }));
  });
  // What cuts a host off for another reason is no part of this one's repair; each begins a little before its fault.
  const isOtherwiseCut = (ends: readonly Host[], to: number, { from, to: over }: Interval): boolean =>
    ends.some((h) =>
      (churn.cut.get(h) ?? []).some((i) => i.from < to && over < i.to && Math.abs(i.from - from) > 150),
    );
  return [...Map.groupBy(churn.done, ({ what }) => what)].map(([what, done]) => {
    const each = done.flatMap((fault) =>
      all
        .filter(({ ends }) => ends.includes(fault.at))
        .flatMap(({ ends, times }) => {
          const next = times.find((t) => t >= fault.to);
          return next === undefined || isOtherwiseCut(ends, next, fault) ? [] : [next - fault.to];
        }),
    );
    return { what, times: done.length, longest: Math.max(0, ...each) };
  });
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
