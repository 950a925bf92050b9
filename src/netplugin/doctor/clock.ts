/** This host's clock against netmaster's: times of events and leases of people are compared by them, nothing of ours is decided by them. */
import { type Finding, ok, unknown, wrong } from './finding.ts';

/** Milliseconds that nobody minds. */
const TOLERATED = 2000;

export interface Told {
  /** The header `date` of an answer, which is in whole seconds. */
  readonly date: string | undefined;
  /** Of this host, when it was asked and when it answered: milliseconds, Unix time. */
  readonly before: number;
  readonly after: number;
}

/** Asks, and says what the clocks were. */
export async function timed<T extends { readonly headers: { readonly date?: string | undefined } }>(
  ask: () => Promise<T>,
): Promise<{ readonly answer: T; readonly told: Told }> {
  const before = Date.now();
  const answer = await ask();
  return { answer, told: { date: answer.headers.date, before, after: Date.now() } };
}

export function clockFinding({ date, before, after }: Told): Finding {
  const theirs = Date.parse(date ?? '');
  if (Number.isNaN(theirs)) return unknown('clock', 'netmaster does not say what time it is');
  // Of the moment of the answer is known that it is within its second, and between asking and being answered.
  const ahead = before - (theirs + 1000);
  const behind = theirs - after;
  const skew = Math.max(ahead, behind);
  if (skew <= TOLERATED) return ok('clock', "within two seconds of netmaster's");
  return wrong(
    'clock',
    `${Math.round(skew / 1000)} s ${ahead > behind ? 'ahead of' : 'behind'} netmaster's`,
    'keep the time of both by NTP (timedatectl set-ntp true; timedatectl shows whether it is)',
  );
}
