/**
 * The guides as they are typed. A page's blocks of commands are indented by four spaces, or fenced as `sh` or without a language. In one
 * a line that begins with `[HOST]$ ` or with a program is typed; what is below it is what it prints. Programs are asked for on node1, or where
 * the line's comment says (`# on node2`); `bin/lab` is typed on the machine. Of what is printed
 *
 *   - `...` stands for any lines, or for anything within a line; spaces, times, ids and sizes may be others,
 *   - nothing is compared where the page shows nothing.
 *
 * A line has to succeed, unless its comment begins with what becomes of it (`# times out`, `# refused`, `# fails`); one of which it says
 * that Ctrl-C ends it is ended once it has printed something. A comment of HTML above a block says
 *
 *   <!-- on node2 -->                       where it is typed
 *   <!-- file cluster.yaml -->              that it is a file's text, which is written there
 *   <!-- in a cluster -->                   that it takes a lab with Kubernetes
 *   <!-- typed by test/firewalls.lab.test.ts: ufw -->      that this test asks for it by this name
 *   <!-- not typed: needs a machine with systemd -->       why it is not
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { hostAddress } from '../lab/state.ts';
import { backgroundIn, type Ended, LAB, LATE, openLab, until } from './lab.ts';

const ROOT = path.dirname(import.meta.dirname);

export interface Line {
  readonly number: number;
  readonly command: string;
  readonly comment: string;
  readonly host: string;
  readonly printed: readonly string[];
}

export type Mark =
  | { readonly kind: 'typed' | 'cluster' }
  | { readonly kind: 'file'; readonly name: string }
  | { readonly kind: 'by'; readonly test: string; readonly name: string }
  | { readonly kind: 'not'; readonly reason: string };

export interface Block {
  readonly page: string;
  readonly section: string;
  /** Of its first line, from 1. */
  readonly number: number;
  readonly text: readonly string[];
  readonly host: string;
  readonly mark: Mark;
}

const markdown = (folder: string): string[] =>
  fs
    .readdirSync(path.join(ROOT, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`);
const FOLDERS = ['docs/guide', 'docs/operate'];

export const read = (page: string): string => fs.readFileSync(path.join(ROOT, page), 'utf8');

/** In the order in which the README names them, itself first; throws where it leaves one out. */
export function pages(): string[] {
  const named = [...read('README.md').matchAll(/\((docs\/(?:guide|operate)\/[\w-]+\.md)\)/g)].map(
    ([, page]) => page as string,
  );
  const where = read('README.md').split('\n## Where next\n')[1] ?? '';
  const order = named.filter((page) => where.includes(`(${page})`));
  const missing = FOLDERS.flatMap(markdown).filter((page) => !order.includes(page));
  if (missing.length > 0) throw new Error(`README.md: "Where next" must name ${missing.join(', ')}`);
  return ['README.md', ...new Set(order)];
}

/** Languages of fences. */
const COMMANDS = ['', 'sh'];
const DATA = ['json', 'yaml', 'toml', 'promql', 'text'];

const COMMENT = /^<!--\s*(.*?)\s*-->$/;

function readMark(comment: string): { mark: Mark; host?: string } {
  const [, host] = /^on (\w+)$/.exec(comment) ?? [];
  if (host !== undefined) return { mark: { kind: 'typed' }, host };
  if (comment === 'in a cluster') return { mark: { kind: 'cluster' } };
  const [, file] = /^file (\S+)$/.exec(comment) ?? [];
  if (file !== undefined) return { mark: { kind: 'file', name: file } };
  const [, test, name] = /^typed by (test\/\S+\.ts): (.+)$/.exec(comment) ?? [];
  if (test !== undefined && name !== undefined) return { mark: { kind: 'by', test, name } };
  const [, reason] = /^not typed: (.+)$/.exec(comment) ?? [];
  if (reason !== undefined) return { mark: { kind: 'not', reason } };
  throw new Error(`'${comment}' is no mark of a block: test/guides.ts says what there is`);
}

/** All blocks of commands of a page, and those of other languages that are marked. */
export function blocks(page: string, text = read(page)): Block[] {
  const lines = text.split('\n');
  const found: Block[] = [];
  let section = '';
  let comment: string | undefined;
  let list = false;
  const take = (first: number, texts: string[]): void => {
    const { mark, host } = comment === undefined ? { mark: { kind: 'typed' } as const } : readMark(comment);
    found.push({ page, section, number: first + 1, text: texts, host: host ?? 'node1', mark });
    comment = undefined;
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at] as string;
    const [, fence, language = ''] = /^(```+)(\w*)$/.exec(line) ?? [];
    const [, said] = COMMENT.exec(line) ?? [];
    if (fence !== undefined) {
      const end = lines.indexOf(fence, at + 1);
      if (end < 0) throw new Error(`${page}:${at + 1}: a fence without an end`);
      if (!COMMANDS.includes(language) && !DATA.includes(language))
        throw new Error(
          `${page}:${at + 1}: a fence of ${language} must be one of ${[...COMMANDS, ...DATA].join(' ')}`,
        );
      if (comment !== undefined || COMMANDS.includes(language)) take(at + 1, lines.slice(at + 1, end));
      at = end;
    } else if (/^ {4}/.test(line) && !list) {
      let end = at;
      for (let next = at; next < lines.length && /^( {4}|$)/.test(lines[next] as string); next++)
        if (lines[next] !== '') end = next;
      take(
        at,
        lines.slice(at, end + 1).map((each) => each.slice(4)),
      );
      at = end;
    } else if (said !== undefined) {
      if (comment !== undefined) throw new Error(`${page}:${at + 1}: a mark above no block`);
      comment = said;
    } else if (line.trim() !== '') {
      if (comment !== undefined) throw new Error(`${page}:${at + 1}: a mark above no block`);
      if (list && PROGRAMS.test(line.replace(/^ {4,}/, '')) && /^ {4}/.test(line))
        throw new Error(`${page}:${at + 1}: commands within a list are not typed: put them behind it`);
      section = /^#+ (.*)$/.exec(line)?.[1] ?? section;
      list = /^( *[-*]|\d+\.) /.test(line) || (list && /^ {2}/.test(line));
    }
  }
  if (comment !== undefined) throw new Error(`${page}: a mark above no block`);
  return found;
}

/** A block by the name that the page gives it for this test. */
export function blockOf(page: string, name: string): Block {
  const named = blocks(page).find(({ mark }) => mark.kind === 'by' && mark.name === name);
  if (named === undefined) throw new Error(`${page}: there is no block ${name}`);
  return named;
}
/** Its text. */
export const block = (page: string, name: string): string[] => [...blockOf(page, name).text];

const PROGRAMS =
  /^(bin\/\w+|cp|curl|ctr|docker|export|helm|ip|kubectl|make|mkdir|netctl|netplugin|netmaster|nft|rm|sqlite3|sysctl|systemctl|until)(?: \S|$)/;
/** A comment of the shell; what is printed has none. */
const REMARK = /^(.*?\S)(?:\s+# (.*))?$/;

/** What is typed, and what each prints. Throws where something is printed before anything was typed. */
export function typed({ page, number, text, host }: Block): Line[] {
  const lines: (Omit<Line, 'printed'> & { printed: string[] })[] = [];
  text.forEach((line, at) => {
    const [, where, rest] = /^\[(\w+)\]\$ (.*)$/.exec(line) ?? [];
    const last = lines.at(-1);
    if (where !== undefined || PROGRAMS.test(line)) {
      const [, command = '', comment = ''] = REMARK.exec(rest ?? line) ?? [];
      const [, named] = /\bon (node\d|outside)\b/.exec(comment) ?? [];
      lines.push({ number: number + at, command, comment, host: where ?? named ?? host, printed: [] });
    } else if (last !== undefined) last.printed.push(line);
    else if (line.trim() !== '')
      throw new Error(
        `${page}:${number + at}: '${line}' is no command of a program that is known, nor below one`,
      );
  });
  return lines.map((line) => ({ ...line, printed: withoutEnd(line.printed) }));
}

const withoutEnd = (lines: string[]): string[] =>
  lines
    .join('\n')
    .trimEnd()
    .split('\n')
    .filter((_, at, all) => all[0] !== '' || at > 0);

/** What differs from one time to the next, as one word each; columns as wide as they are. */
const NORMAL: readonly (readonly [RegExp, string])[] = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, 'TIME'],
  [/\b\d+(\.\d+)? (ms|s|min|h|d)\b( \d+ (s|min|h)\b)?/g, 'DURATION'],
  [/\b\d+(\.\d+)? [kMG]B\b/g, 'SIZE'],
  [/\b(?=\w*\d)[0-9a-f]{12,64}\b/g, 'ID'],
  [/\brevision \d+/g, 'revision N'],
  [/-{3,}/g, '---'],
  [/\s+/g, ' '],
];
export const normal = (line: string): string =>
  NORMAL.reduce((text, [what, word]) => text.replace(what, word), line).trim();

const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** What was printed is what the page shows. */
export function shows(shown: readonly string[], printed: string): boolean {
  const lines = shown.map((line) =>
    line.trim() === '...'
      ? '(?:[^\\n]*\\n)*'
      : `${normal(placed(line)).split('...').map(escaped).join('[^\\n]*')}\\n`,
  );
  const text = printed
    .trimEnd()
    .split('\n')
    .map((line) => `${normal(line)}\n`)
    .join('');
  return new RegExp(`^${lines.join('')}$`).test(text);
}

/** The guides' machines, as the lab has them. */
export const placed = (text: string): string =>
  text
    .replaceAll('https://netmaster:9999', `https://${hostAddress(1)}:9999`)
    .replaceAll('10.0.0.0/24', hostAddress(0).replace(/\d+$/, '0/24'))
    .replace(/\b10\.0\.0\.([1-9])\b/g, (_, number) => hostAddress(Number(number)));

/** What may be typed again until it prints what it should: names and reports come within a second or two. */
const ASKS =
  /^(docker exec (?!-d)|curl |until |netctl (status|flows|events|get|diff|export|policy trace|\w+ (ls|inspect))\b|bin\/lab (check|status))/;

export interface Guide {
  /** Types a block's lines one after the other; throws at the first that does not hold. */
  type(block: Block): Promise<void>;
  close(): void;
}

export function openGuide(place = LAB): Guide {
  const { lab, on, heldEverywhere } = openLab(place);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'guide-'));
  for (const name of ['bin', 'docs', 'packaging'])
    fs.symlinkSync(path.join(ROOT, name), path.join(folder, name));
  const exported: string[] = [];

  async function run({ command, host }: Line): Promise<Ended> {
    const [, words] = /^bin\/lab (.*)$/.exec(command) ?? [];
    if (words !== undefined) return lab(words);
    const ended = await on(
      host,
      'bash -c',
      [`cd ${folder}; exec 2>&1; export EDITOR=true`, ...exported, placed(command)].join('\n'),
    );
    // No page shows that, and the next line goes by what this one has declared.
    await heldEverywhere(ended.out, command);
    return { ...ended, out: ended.out.replace(LATE, '') };
  }

  async function runUntilEnded(line: Line): Promise<void> {
    const running = backgroundIn(place, line.host, 'bash -c', `cd ${folder}; exec ${placed(line.command)}`);
    try {
      await until(`${line.command} prints something`, async () => running.lines.length > 0);
    } finally {
      await running.end();
    }
  }

  async function typeLine(page: string, line: Line): Promise<void> {
    if (line.command.startsWith('export ')) return void exported.push(placed(line.command));
    if (line.comment.includes('Ctrl-C ends it')) return runUntilEnded(line);
    const fails = /^(times out|refused|fails)\b/.test(line.comment);
    const holds = ({ status, out }: Ended): boolean =>
      (status !== 0) === fails && (line.printed.length === 0 || shows(line.printed, out));
    const deadline = performance.now() + 30_000;
    let ended = await run(line);
    while (!holds(ended) && ASKS.test(line.command) && performance.now() < deadline) {
      await new Promise((done) => setTimeout(done, 300));
      ended = await run(line);
    }
    if (!holds(ended))
      throw new Error(
        [
          `${page}:${line.number}: ${line.command}: exit status ${ended.status}${fails ? ', and it should fail' : ''}; it printed`,
          ended.out + ended.err,
          ...(line.printed.length > 0 ? ['and the page shows', ...line.printed] : []),
        ].join('\n'),
      );
  }

  return {
    async type(each) {
      if (each.mark.kind === 'file')
        return fs.writeFileSync(path.join(folder, each.mark.name), `${each.text.join('\n')}\n`);
      for (const line of typed(each)) await typeLine(each.page, line);
    },
    close: () => fs.rmSync(folder, { recursive: true, force: true }),
  };
}
