/** Command lines that are wrong, of netctl, netmaster and netplugin; and servers that are no netmaster. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { Command, Subcommand } from '../src/netctl/command.ts';
import { COMMANDS } from '../src/netctl/commands.ts';
import { netctl } from '../src/netctl/run.ts';
import { readOptions } from '../src/netplugin/options.ts';
import { type Api, openApi } from './apiServer.ts';
import { temporaryFolder } from './folder.ts';

const ROOT = join(import.meta.dirname, '..');

interface Ran {
  readonly exit: number;
  readonly out: string[];
  readonly err: string[];
}

async function run(words: readonly string[], netmaster: string): Promise<Ran> {
  const out: string[] = [];
  const err: string[] = [];
  const exit = await netctl(words, {
    env: { NETMASTER: netmaster },
    timeoutMs: 500,
    print: (line) => out.push(line),
    printError: (line) => err.push(line),
  });
  return { exit, out, err };
}

/** Wrong usage is 1, what netmaster refuses 3; one line either way, and nothing on standard output. */
async function refused(
  words: readonly string[],
  netmaster: string,
  exit: number | readonly number[],
): Promise<string> {
  const ran = await run(words, netmaster);
  const what = JSON.stringify(words).slice(0, 300);
  expect([exit].flat(), `${what}: ${ran.err}${ran.out}`).toContain(ran.exit);
  expect(ran.err, what).toEqual([expect.stringMatching(/^netctl: [^\p{Cc}\p{Cs}]{5,900}$/u)]);
  expect(ran.err[0], what).not.toMatch(/is not a function|Cannot read|netctl: failed/);
  expect(ran.out, what).toEqual([]);
  return ran.err[0] as string;
}

let api: Api;
let url: string;
let subcommands: [Command, Subcommand][];
beforeAll(async () => {
  api = await openApi();
  url = `http://127.0.0.1:${api.port}`;
  const commands = await Promise.all(COMMANDS.map((listed) => listed.load()));
  subcommands = commands.flatMap(({ command }) =>
    command.subcommands.map((sub): [Command, Subcommand] => [command, sub]),
  );
});
afterAll(() => api.close());

const HUGE = 'x'.repeat(100_000);
const ODD = [
  '-',
  ' ',
  'שלום',
  '☃',
  'a\nb',
  '\u0000',
  '\ud800',
  '../..',
  'a:b',
  'a/b',
  '%00',
  "'",
  HUGE,
  '__proto__',
  '%{x}',
];

/** The words that call it, with arguments that it takes. */
const call = ([command, sub]: [Command, Subcommand], ...words: string[]): string[] => [
  command.name,
  ...(sub.name === '' ? [] : [sub.name]),
  ...words,
];
const flagsFor = (sub: Subcommand): string[] =>
  sub.flags
    .filter((f) => f.required)
    .flatMap((f) => [
      `--${f.name}`,
      f.name === 'router-ip' ? '1.1.1.1/24' : f.name === 'file' ? '/dev/null' : 'x',
    ]);

describe('netctl', () => {
  it('each command refuses too few and too many arguments, empty ones, and flags that it does not have', async () => {
    const before = api.mirror.revision;
    for (const entry of subcommands) {
      const [command, sub] = entry;
      if (command.name === 'completion') continue;
      const { misused = 1 } = sub;
      const required = sub.args.filter((name) => !name.startsWith('['));
      const flags = flagsFor(sub);
      const args = sub.args.map(() => 'a');
      if (required.length > 0) await refused(call(entry, ...flags), url, misused);
      const takesSeveral = sub.args.at(-1)?.endsWith('...') === true;
      if (!takesSeveral) await refused(call(entry, ...flags, ...args, 'more'), url, misused);
      if (!takesSeveral) await refused(call(entry, ...flags, ...args, '--', '-q'), url, misused);
      for (let i = 0; i < args.length; i++)
        await refused(call(entry, ...flags, ...args.with(i, '')), url, misused);
      for (const flag of [
        '--nope',
        '-nope=1',
        '---x',
        '-=x',
        '--=',
        `--${HUGE}`,
        '--no\npe',
        '--__proto__',
        '--constructor=1',
        '-\ud800',
      ])
        await refused(call(entry, ...flags, ...args, flag), url, misused);
      for (const flag of sub.flags) {
        if (flag.kind === 'switch') {
          for (const value of ['', 'yes', '1', 'TRUE', HUGE])
            await refused(call(entry, ...flags, ...args, `--${flag.name}=${value}`), url, misused);
          continue;
        }
        await refused(call(entry, ...args, `--${flag.name}`), url, misused);
        if (flag.required)
          await refused(
            call(
              entry,
              ...flags.filter((_, i) => flags[i - 1] !== `--${flag.name}` && flags[i] !== `--${flag.name}`),
              ...args,
              `--${flag.name}=`,
            ),
            url,
            misused,
          );
        if (flag.kind === 'number')
          for (const value of ['', 'x', '-1', '1.5', '1e3', '0x10', '9'.repeat(20), ' 1', '١', HUGE])
            await refused(
              call(entry, ...flags, ...args, `-${flag.short ?? flag.name}=${value}`),
              url,
              misused,
            );
      }
    }
    expect(api.mirror.revision).toBe(before);
  });

  it('each command refuses odd names and values in one line, or takes them', async () => {
    const before = api.mirror.revision;
    for (const entry of subcommands) {
      const [command, sub] = entry;
      // Odd names are those of files that it writes: test/backup.test.ts.
      if (['completion', 'backup'].includes(command.name)) continue;
      const args = sub.args.map(() => 'a');
      for (const odd of ODD) {
        const lines = [
          ...args.map((_, i) => call(entry, ...flagsFor(sub), ...args.with(i, odd))),
          ...sub.flags
            .filter((f) => f.kind !== 'switch')
            .map((f) => call(entry, ...flagsFor(sub), ...args, `--${f.name}`, odd)),
        ];
        for (const line of lines) {
          const { exit, out, err } = await run(line, url);
          if (exit !== 0)
            expect([exit, out, err], line.join(' ').slice(0, 200)).toEqual([
              expect.toSatisfy((e) => e === (sub.misused ?? 1) || e === 3),
              [],
              [expect.stringMatching(/^netctl: (?!failed)[^\p{Cc}\p{Cs}]{5,900}$/u)],
            ]);
        }
      }
    }
    // What was taken: labels of a user's own, in any script.
    expect(api.mirror.revision - before).toBeLessThan(100);
  });

  it.each([
    [['nope']],
    [['']],
    [['-']],
    [['---']],
    [['-=']],
    [['--nope']],
    [['--netmaster']],
    [['--insecure=x', 'net', 'ls']],
    [['net', 'nope']],
    [['net', '']],
    [['net', 'ls', '-']],
    [['-', 'net', 'ls']],
    [['help', 'nope']],
    [['net', '-q', 'ls']],
    [[HUGE]],
    [['net', HUGE]],
    [['☃']],
    [['\ud800']],
    [['a\nb']],
    [['apply']],
    [['apply', '-f', '/nonexistent']],
    [['apply', '-f', '/']],
    [['apply', '-f', '/dev/null']],
    [['diff', '-f', 'a\u0000b']],
    [['get', 'nope']],
    [['get', 'net', '-o', 'x']],
  ])('%j is wrong usage', async (words) => {
    await refused(words, url, 1);
  });

  it.each([
    'x',
    'http://',
    'ftp://a',
    ',',
    ' ',
    'http://a:99999',
    '//a',
    'http:',
    `ftp://${HUGE}`,
    'http://ok,nope',
    'a\nb',
    '☃',
  ])('NETMASTER %j is wrong usage', async (netmaster) => {
    expect(await refused(['net', 'ls'], netmaster, 1)).toContain('NETMASTER: ');
    expect(await refused(['net', 'ls', '--netmaster', netmaster], url, 1)).toContain('--netmaster: ');
  });

  it('--help=true shows help and does nothing', async () => {
    const before = api.mirror.revision;
    expect(await run(['tenant', 'create', 'helped', '--help=true'], url)).toMatchObject({ exit: 0, err: [] });
    expect(api.mirror.revision).toBe(before);
  });

  it('files that are odd are refused in one line', async () => {
    const file = join(temporaryFolder(), 'cluster.yaml');
    const deep = 20_000;
    for (const text of [
      '',
      '\u0000',
      '{',
      '[',
      '[]',
      '5',
      'null',
      '"x"',
      '{}',
      '[1]',
      '[[{"kind":"tenant"}]]',
      'kind: tenant\n\ttenantName: a',
      'a: &a [*a]',
      'kind: *gone',
      '- - -',
      '['.repeat(deep) + ']'.repeat(deep),
      `{"kind":"tenant","x":${'['.repeat(deep)}${']'.repeat(deep)}}`,
      `kind: tenant\nx: ${'['.repeat(deep)}${']'.repeat(deep)}`,
      '{"kind":"tenant","tenantName":"a","__proto__":{"x":1}}',
      'kind: tenant\ntenantName: a\n__proto__: {x: 1}',
      '{"kind":"tenant","tenantName":"\\ud800"}',
      `kind: ${HUGE}`,
      `${HUGE}: 1`,
      `kind: tenant\ntenantName: ${HUGE}`,
      `a: &a [x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]`,
    ]) {
      fs.writeFileSync(file, text);
      for (const command of ['apply', 'diff'])
        expect(await refused([command, '-f', file], url, [1, 3]), text.slice(0, 80)).toBeDefined();
    }
    fs.writeFileSync(file, Buffer.from([0xff, 0xfe, 0, 1, 2]));
    await refused(['apply', '-f', file], url, [1, 3]);
    expect(api.mirror.get('tenant', 'a')).toBeUndefined();
  });

  it('any words at all end in one line', async () => {
    const words = fc.constantFrom(
      ...COMMANDS.flatMap((c) => [c.name, ...c.aliases]),
      ...subcommands.flatMap(([, s]) => [
        s.name,
        ...s.flags.flatMap((f) => [`--${f.name}`, `-${f.short ?? 'x'}`]),
      ]),
    );
    const word = fc.oneof(
      { weight: 6, arbitrary: words },
      fc.constantFrom(...ODD, '--', '', 'a', '1', 'web'),
      fc.string(),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(word, { maxLength: 7 }), async (line) => {
        // Those that read a file or standard input, or write a file, have their own tests.
        fc.pre(!line.some((w) => ['apply', 'diff', 'backup'].includes(w)));
        const { exit, out, err } = await run(line, url);
        if (exit === 0) return;
        const refusal = expect.stringMatching(/^netctl: (?!failed)[^\p{Cc}\p{Cs}]{4,900}$/u);
        if (!line.includes('rm')) expect([out, err]).toEqual([[], [refusal]]);
        // Of several names each has a line of its own.
        expect(err.length).toBeGreaterThan(0);
        for (const said of err) expect(said).toEqual(refusal);
        for (const said of out) expect(said).toMatch(/^Deleting /);
      }),
      { numRuns: 500 },
    );
  });
});

describe('netctl and a server that is no netmaster', () => {
  const ANSWERS: Readonly<Record<string, (response: http.ServerResponse) => void>> = {
    HTML: (r) => r.end('<html>\n<h1>It works</h1>\n</html>'),
    'an empty body': (r) => r.end(),
    null: (r) => r.end('null'),
    'a number': (r) => r.end('5'),
    text: (r) => r.end('"x"'),
    'a list of nothing': (r) => r.end('[null]'),
    'half an answer': (r) => {
      r.writeHead(200, { 'content-length': '1000' });
      r.write('[{"a');
      setTimeout(() => r.destroy(), 20);
    },
    nothing: () => {},
    'the head of an answer': (r) => {
      r.writeHead(200, { 'content-length': '1000' });
      r.flushHeaders();
    },
    'an end without an answer': (r) => void r.socket?.destroy(),
    garbage: (r) => void r.socket?.end('\u0000\u0001garbage\r\n\r\n'),
    '302': (r) => r.writeHead(302, { location: 'http://x/' }).end(),
    '500 with a page': (r) => r.writeHead(500).end('<html>\n<pre>Error\n    at x.js:1</pre>'),
    '502 with nothing': (r) => r.writeHead(502).end(),
    '400 of another form': (r) => r.writeHead(400).end('{"error":"Bad Request","message":5}'),
    '400 with a message that is none': (r) => r.writeHead(400).end('{"error":{"message":{"a":1},"code":5}}'),
    '400 with a long message of many lines': (r) =>
      r.writeHead(400).end(JSON.stringify({ error: { message: `a\n${HUGE}\u001b[31m` } })),
    '400 null': (r) => r.writeHead(400).end('null'),
  };
  it.each(Object.entries(ANSWERS))('answers %s', async (_what, answer) => {
    const server = http.createServer((request, response) => {
      request.resume();
      answer(response);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    const other = `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`;
    const lines = [
      ['net', 'ls'],
      ['policy', 'rule-ls', 'p'],
      ['get', 'net'],
      ['get', 'host'],
      ['export'],
      ['policy', 'trace', '--from', 'a', '--to', 'b', '--port', '80'],
      ['flows', '--denied'],
      ['app-profile', 'group-ls', 'x'],
      ['global', 'info'],
      ['global', 'set', '-v', '1-9'],
      ['version'],
    ];
    await Promise.all(
      lines.map(async (line) => {
        const { exit, out, err } = await run(line, other);
        expect(exit, line.join(' ')).toBe(3);
        expect(err, line.join(' ')).toEqual([
          expect.stringMatching(/^netctl: (?!failed)[^\p{Cc}\p{Cs}]{5,900}$/u),
        ]);
        expect(out).toEqual(line[0] === 'version' ? [expect.stringContaining('netctl')] : []);
      }),
    );
  });

  it('that is not there', async () => {
    for (const other of [
      'http://127.0.0.1:1',
      'http://nosuch.invalid:9999',
      'https://127.0.0.1:1,http://[::1]:1',
      url.replace('http', 'https'),
    ])
      expect(await refused(['net', 'ls'], other, 3)).toContain('cannot be reached at ');
  });
});

/** A process, to its end. */
async function ended(
  file: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; uid?: number } = {},
): Promise<{ exit: number | null; out: string; err: string }> {
  const child = spawn(join(ROOT, 'bin', file), args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...options,
    env: { ...process.env, ...options.env },
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let [out, err] = ['', ''];
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  await once(child, 'close');
  return { exit: child.exitCode, out, err };
}

describe('processes', () => {
  it('netctl as a process ends the same way', async () => {
    expect(await ended('netctl', ['net', 'ls'], { env: { NETMASTER: 'http://127.0.0.1:1' } })).toEqual({
      exit: 3,
      out: '',
      err: 'netctl: netmaster cannot be reached at http://127.0.0.1:1 (nothing listens there: ECONNREFUSED)\n',
    });
    expect(
      await ended('netctl', ['net', 'create', 'x\u0007', '-p', 'a\nb', '-s', 'x'], {
        env: { NETMASTER: url },
      }),
    ).toEqual({ exit: 1, out: '', err: "netctl: --pkt-tag: 'a\\nb' must be a whole number\n" });
  });

  it('netctl ends without a word when its reader has seen enough, and on Ctrl-C', async () => {
    const head = spawn(
      '/bin/sh',
      ['-c', `set -o pipefail 2>/dev/null; ${join(ROOT, 'bin/netctl')} export -o json | head -c 1`],
      { env: { ...process.env, NETMASTER: url } },
    );
    let err = '';
    head.stderr.on('data', (chunk) => {
      err += chunk;
    });
    await once(head, 'close');
    expect(err).toBe('');

    const silent = net.createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    onTestFinished(() => void silent.close());
    const child = spawn(join(ROOT, 'bin/netctl'), ['net', 'ls'], {
      env: { ...process.env, NETMASTER: `http://127.0.0.1:${(silent.address() as net.AddressInfo).port}` },
    });
    let text = '';
    child.stderr.on('data', (chunk) => {
      text += chunk;
    });
    const [socket] = await once(silent, 'connection');
    child.kill('SIGINT');
    await once(child, 'close');
    (socket as net.Socket).destroy();
    expect([text, child.signalCode]).toEqual(['', 'SIGINT']);
  });

  it.each<[args: string[], text: string]>([
    [['--nope'], '--nope'],
    [['extra'], 'extra'],
    [['--listen'], '--listen'],
    [['--listen', ''], '--listen: '],
    [['--listen', 'x'], '--listen: '],
    [['--listen', '127.0.0.1:99999'], '--listen: '],
    [['--listen', 'a\nb:1'], '--listen: '],
    [['--listen', '203.0.113.9:1'], 'make them (netmaster init), or say --insecure'],
    [['--listen', ':1'], 'make them (netmaster init), or say --insecure'],
    [['--tls-dir', '/nonexistent'], 'netmaster init --dir /nonexistent makes it'],
    [['--tls-dir', '/x', '--insecure'], '--insecure: leave it out'],
    [['--tls-cert', '/x'], '--tls-cert, --tls-key and --tls-ca go together'],
    [['--tls-cert', '/nonexistent', '--tls-key', '/x', '--tls-ca', '/x'], 'there is no such file'],
    [['--host-certificates', 'long'], '--host-certificates: '],
    [['init', 'x'], ''],
    [['init', '--name', 'a b'], '--name: '],
    [['init', '--dir', ''], '--dir is empty'],
    [['--store', ''], '--store '],
    [['--store', 'nope'], '--store '],
    [['--store', 'sqlite:'], '--store '],
    [['--name', 'http://a'], '--name: '],
    [['--name', ''], '--name: '],
    [['--address-grace', '0'], '--address-grace: '],
    [['--address-grace', '1e999'], '--address-grace: '],
    [['--log-level', 'loud'], '--log-level: '],
    [['--listen-url', 'x'], '--listen: '],
    [['--control-url', ':9999'], 'write --advertise http://HOST:PORT'],
    [['-etcd-endpoints=http://a:2379'], 'write --store etcd://HOST:PORT'],
    [['--cluster-mode', 'docker'], '--cluster-mode is a flag of Contiv 1.x'],
    [['--help=x'], '--help'],
  ])('netmaster %j is wrong usage', async (args, text) => {
    const { exit, out, err } = await ended(
      'netmaster',
      args[0] === 'init' ? args : ['--store', 'memory', ...args],
    );
    expect({ exit, out }).toEqual({ exit: 1, out: '' });
    expect(err).toMatch(/^netmaster: [^\n]{5,500} \(see netmaster --help\)\n$/);
    expect(err).toContain(text);
  });

  it('netmaster cannot start: one line, exit status 3', async () => {
    const folder = temporaryFolder();
    fs.chmodSync(folder, 0o755);
    const file = (name: string): string => join(folder, name);
    fs.writeFileSync(file('letter'), 'Dear reader,\n'.repeat(1000));
    const other = new DatabaseSync(file('other.db'));
    other.exec('CREATE TABLE bookmarks (url TEXT)');
    other.close();
    const before = fs.readFileSync(file('other.db'));
    const odd = new DatabaseSync(file('odd.db'));
    odd.exec(
      "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT); CREATE TABLE entry (a); INSERT INTO meta VALUES ('id', 'x')",
    );
    odd.close();
    const newer = new DatabaseSync(file('newer.db'));
    newer.exec('PRAGMA user_version = 2');
    newer.close();
    const lines: [args: string[], text: string, uid?: number][] = [
      [['--store', `sqlite:${folder}`], `store ${folder}: it is a folder: name a file in it`],
      [['--store', 'sqlite:/dev/null'], 'it is no regular file'],
      [['--store', `sqlite:${file('letter')}`], 'not a database'],
      [
        ['--store', `sqlite:${file('no/such/store.db')}`],
        `there is no folder ${file('no/such')}: make it (mkdir -p `,
      ],
      [['--store', `sqlite:${file('letter/store.db')}`], `there is no folder ${file('letter')}: make it`],
      [['--store', `sqlite:${file('newer.db')}`], 'a newer netmaster has written it (format 2, '],
      [['--store', `sqlite:${file('other.db')}`], "another program's database"],
      [['--store', `sqlite:${file('odd.db')}`], `store ${file('odd.db')}: `],
      [
        ['--store', 'memory', '--listen', `127.0.0.1:${api.port}`],
        `--listen 127.0.0.1:${api.port}: another process`,
      ],
      [
        ['--store', 'memory', '--insecure', '--listen', '203.0.113.9:1'],
        '--listen 203.0.113.9:1: this machine has no such',
      ],
      [
        ['--store', 'memory', '--insecure', '--listen', 'nosuch.invalid:1'],
        '--listen nosuch.invalid:1: there is no such name',
      ],
    ];
    for (const [args, text] of lines) {
      const { exit, out, err } = await ended('netmaster', [
        '--listen',
        '127.0.0.1:0',
        '--log-level',
        'error',
        ...args,
      ]);
      expect({ exit, out, err }).toEqual({
        exit: 3,
        out: '',
        err: expect.stringMatching(/^netmaster: [^\n]{5,500}\n$/),
      });
      expect(err).toContain(text);
    }
    expect(fs.readFileSync(file('other.db'))).toEqual(before);
  });

  it('netmaster with a store that is read-only does not start', async () => {
    const file = join(temporaryFolder(), 'store.db');
    const db = new DatabaseSync(file);
    db.exec('PRAGMA user_version = 1');
    db.close();
    fs.chmodSync(file, 0o444);
    fs.chmodSync(join(file, '..'), 0o555);
    // Root writes everywhere: somebody else then.
    const uid = process.getuid?.() === 0 ? { uid: 65534 } : {};
    const { exit, err } = await ended(
      'netmaster',
      ['--listen', '127.0.0.1:0', '--store', `sqlite:${file}`, '--log-level', 'error'],
      uid,
    );
    fs.chmodSync(join(file, '..'), 0o700);
    if ('uid' in uid) {
      const closed = ['--listen', '127.0.0.1:0', '--store', `sqlite:${file}`, '--log-level', 'error'];
      expect((await ended('netmaster', closed, uid)).err).toMatch(
        /^netmaster: store [^\n]*: user 65534 may not enter \//,
      );
    }
    fs.chmodSync(join(file, '..'), 0o755);
    expect({ exit, err }).toEqual({
      exit: 3,
      err: expect.stringMatching(
        /^netmaster: store [^\n]*: user 65534 may not make files in \/[^\n]*: let it \(chown\)[^\n]*\n$/,
      ),
    });
  });
});

it('netplugin: each flag that is wrong is named in one line', async () => {
  const right = ['--netmaster', 'http://a:1', '--underlay', 'eth0'];
  expect(readOptions(right)).toMatchObject({ netmasters: ['http://a:1'] });
  expect(readOptions(['--netmaster', 'http://a:1', '-vtep-ip=10.0.0.1', '-host-label', 'n1'])).toMatchObject({
    underlay: '10.0.0.1',
    host: 'n1',
  });
  for (const [args, text] of [
    [[], '--netmaster'],
    [['--netmaster', 'http://a:1'], '--underlay'],
    [['--netmaster', 'x', '--underlay', 'eth0'], '--netmaster: '],
    [['--netmaster', ',', '--underlay', 'eth0'], '--netmaster: '],
    [[...right, '--nope'], '--nope'],
    [[...right, 'extra'], 'extra'],
    [[...right, '--underlay', ''], '--underlay'],
    [[...right, '--host', 'a b'], '--host: '],
    [[...right, '--host', ''], '--host: '],
    [[...right, '--host', 'a,b'], '--host: '],
    [[...right, '--state-dir', ''], '--state-dir'],
    [[...right, '--transit', 'x'], '--transit: '],
    [[...right, '--transit', 'fd00::/64'], '--transit: '],
    [[...right, '--transit6', '10.0.0.0/16'], '--transit6: '],
    [[...right, '--log-level', 'loud'], '--log-level: '],
    [[...right, '--vlan-uplinks', 'eth1'], '--vlan-uplinks is a flag of Contiv 1.x'],
    [[...right, '--cluster-store', 'etcd://a:2379'], 'write --netmaster http://HOST:PORT'],
  ] as const)
    expect(() => readOptions(args), args.join(' ')).toThrow(new RegExp(`^.*${text}`));
  const { exit, out, err } = await ended('netplugin', [...right, '--log-level', 'a\nb']);
  expect({ exit, out, err }).toEqual({
    exit: 1,
    out: '',
    err: expect.stringMatching(/^netplugin: [^\n]* \(see netplugin --help\)\n$/),
  });
});
