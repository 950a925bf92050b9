/**
 * Sends recorded requests as they were to a netmaster of ours, which has an empty store. Of each answer must hold:
 *
 *   recorded 2xx    ours is 2xx, and every recorded field has the same value in it (absent, null, "", 0, false, [] and {} are
 *                   equal; lists of objects are matched by their `key`; we may add fields)
 *   recorded >= 400 ours is 400..499: the caller's mistake is never reported as ours
 *
 * and of those in deviations.json, by which we differ on purpose, that it does not.
 */
import fs from 'node:fs';
import path from 'node:path';
import deviations from './deviations.json' with { type: 'json' };

export interface Exchange {
  readonly method: string;
  readonly path: string;
  readonly request: unknown;
  readonly status: number;
  readonly response: unknown;
}

export interface Recording {
  readonly scenario: string;
  readonly steps: readonly {
    readonly netctl: readonly string[];
    readonly exit: number;
    readonly http: readonly Exchange[];
  }[];
}

const FOLDER = path.join(import.meta.dirname, 'contiv-1.x');

export const recordings: readonly Recording[] = fs
  .readdirSync(FOLDER)
  .map((file) => JSON.parse(fs.readFileSync(path.join(FOLDER, file), 'utf8')) as Recording);

/** What does not hold, a line each. */
export async function replay({ scenario, steps }: Recording, url: string): Promise<string[]> {
  const failures: string[] = [];
  for (const [i, exchange] of steps.flatMap(({ http }) => http).entries()) {
    const answer = await fetch(url + exchange.path, {
      method: exchange.method,
      headers: { 'content-type': 'application/json' },
      ...(exchange.request === null ? {} : { body: JSON.stringify(exchange.request) }),
    });
    const found = judge(exchange, answer.status, await answer.text());
    const deviation = deviations.find((d) => d.scenario === scenario && d.exchange === i);
    if (deviation !== undefined && found.length === 0)
      failures.push(`#${i} holds, though deviations.json says: ${deviation.why}`);
    if (deviation === undefined)
      failures.push(...found.map((line) => `#${i} ${exchange.method} ${exchange.path}: ${line}`));
  }
  return failures;
}

function judge({ method, status: recorded, response }: Exchange, status: number, text: string): string[] {
  if (recorded >= 400) return status >= 400 && status < 500 ? [] : [`wanted 4xx, got ${status}`];
  if (status < 200 || status > 299) return [`wanted 2xx, got ${status}: ${text.slice(0, 160)}`];
  return method === 'DELETE' ? [] : differences(response, JSON.parse(text));
}

/** Of the recorded server itself, not of the API. */
const ITS_OWN = ['clusterMode', 'freeVXLANsStart', 'GitCommit', 'BuildTime', 'Version'];

const isObject = (v: unknown): v is Readonly<Record<string, unknown>> =>
  typeof v === 'object' && v !== null && !Array.isArray(v);
const isEmpty = (v: unknown): boolean =>
  !v || (typeof v === 'object' && Object.values(v).every((inner) => isEmpty(inner)));

function differences(want: unknown, got: unknown, at = ''): string[] {
  // The list that was asked for must be as empty as it was; within an object we may report more.
  if (at === '' && Array.isArray(want) && want.length === 0)
    return Array.isArray(got) && got.length === 0 ? [] : ['wanted an empty list'];
  if (isEmpty(want)) return [];
  if (Array.isArray(want) && want.every(isObject) && want[0]?.key) {
    if (!Array.isArray(got)) return [`${at}: wanted a list`];
    const byKey = new Map(got.map((g) => [g.key, g]));
    const extra = got.filter((g) => !want.some((w) => w.key === g.key));
    return [
      ...want.flatMap((w) => differences(w, byKey.get(w.key), `${at}[${w.key}]`)),
      ...extra.map((g) => `${at}[${g.key}]: not in the recording`),
    ];
  }
  if (isObject(want)) {
    if (!isObject(got)) return [`${at}: wanted an object, got ${JSON.stringify(got)}`];
    return Object.entries(want)
      .filter(([name]) => !ITS_OWN.includes(name) && !(name === 'pktTag' && at.endsWith('Oper')))
      .flatMap(([name, value]) => differences(value, got[name], at === '' ? name : `${at}.${name}`));
  }
  const [wanted, have] = [JSON.stringify(want), JSON.stringify(got)];
  return wanted === have ? [] : [`${at}: wanted ${wanted}, got ${have}`];
}
