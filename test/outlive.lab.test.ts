/** Names without the agent, and through each end of the process that answers them. */
import { statSync, utimesSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  addressOf,
  type Background,
  background,
  clear,
  differences,
  docker,
  inside,
  lab,
  must,
  mustLab,
  netctl,
  on,
  run,
  until,
} from './lab.ts';

const OUTSIDE = '203.0.113.9';
let resolver: Background;
let there: string;
let group: string[];

beforeAll(async () => {
  await netctl('net create lasting --subnet=10.60.0.0/24 --gateway=10.60.0.254');
  await netctl('group create lasting mates');
  await run('node1', 'asks', 'lasting');
  there = await run('node2', 'there', 'lasting');
  group = [await run('node1', 'm1', 'mates.lasting'), await run('node2', 'm2', 'mates.lasting')].sort();
  resolver = background(
    'outside',
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    `${import.meta.dirname}/resolver.ts`,
  );
  await until('resolver', async () => resolver.lines.includes('ready'));
  expect(await differences()).toBe('');
});
afterAll(async () => {
  await resolver?.end('SIGTERM');
  await clear();
});

/** What a container on node1 is answered, in order; failures as dig words them. */
async function ask(...query: string[]): Promise<string[]> {
  const { out } = await inside('node1', 'asks', 'dig +short +tries=1 +time=3', ...query);
  return out
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}

async function everythingIsAnswered(): Promise<void> {
  expect(await ask('there')).toEqual([there]);
  expect(await ask('there.lasting.default')).toEqual([there]);
  expect(await ask('+tcp', 'there')).toEqual([there]);
  expect(await ask('mates')).toEqual(group);
  expect(await ask('-x', there)).toEqual(['there.lasting.']);
  expect((await inside('node1', 'asks', 'dig nobody')).out).toContain('NXDOMAIN');
  // By the host's resolver, and by one that the container names.
  expect(await ask('example.com')).toEqual([OUTSIDE]);
  expect(await ask('@198.51.100.1', 'example.com')).toEqual([OUTSIDE]);
  expect(await ask('+tcp', '@198.51.100.1', 'example.com')).toEqual([OUTSIDE]);
}

/** Asks on and on until it is ended; answers then what else than the address came. */
async function askOnAndOn(): Promise<() => Promise<{ failed: string[]; answered: number }>> {
  const loop =
    'rm -f /enough; while [ ! -e /enough ]; do dig +short +tries=1 +time=3 there; sleep 0.02; done';
  const asking = background('node1', 'docker exec asks sh -c', loop);
  await until('the first answer', async () => asking.lines.length > 0);
  return async () => {
    const before = asking.lines.length;
    await until('answers go on', async () => asking.lines.length > before + 10);
    await inside('node1', 'asks', 'touch /enough');
    await asking.end('SIGCONT'); // it ends by itself
    return {
      failed: asking.lines.filter((line) => line !== there && line !== ''),
      answered: asking.lines.length,
    };
  };
}

const answering = (): Promise<string> => must('node1', 'cat /run/contiv/names.pid');
async function processOf(name: string): Promise<number> {
  const { processes } = JSON.parse(await mustLab('status --json')) as {
    processes: { name: string; host: string; pid: number }[];
  };
  return processes.find((p) => p.name === name && p.host === 'node1')?.pid ?? 0;
}

describe('names on a host whose netplugin is killed', () => {
  it('are answered as before, own ones and others, and netplugin that is back takes over without a lost query', async () => {
    const before = await answering();
    const asked = await askOnAndOn();
    await mustLab('kill netplugin node1');
    await everythingIsAnswered();
    await mustLab('start netplugin node1');
    await everythingIsAnswered();
    expect((await asked()).failed).toEqual([]);
    expect(await answering()).toBe(before);
    // What the new one knows arrives: a container that has come, one that has gone.
    const late = await run('node2', 'late', 'lasting');
    await until('the new name', async () => (await ask('late'))[0] === late);
    await docker('node2', 'rm -f late');
    await until('its end', async () => (await ask('late')).length === 0);
    expect(await differences()).toBe('');
  });

  it('go over to the nameserver of another version without a lost query', async () => {
    const before = await processOf('names');
    const asked = await askOnAndOn();
    const file = path.join(import.meta.dirname, '../dist/names.cjs');
    const { atimeMs, mtimeMs } = statSync(file);
    utimesSync(file, atimeMs / 1000, mtimeMs / 1000 + 1);
    await mustLab('kill netplugin node1');
    await mustLab('start netplugin node1');
    await until('another one', async () => ![0, before].includes(await processOf('names')));
    await until('the old one has ended', async () => (await on('node1', `kill -0 ${before}`)).status !== 0);
    expect((await asked()).failed).toEqual([]);
    await everythingIsAnswered();
    expect((await answering()).split('\n')).toHaveLength(1);
  });
});

describe('the process that answers names', () => {
  it.each(['kill', 'stop'])('is started again after a %s, and knows what it knew', async (how) => {
    const before = await processOf('names');
    await mustLab(how, 'names', 'node1');
    await until('names', async () => (await ask('there'))[0] === there);
    await until('another one', async () => ![0, before].includes(await processOf('names')));
    await everythingIsAnswered();
    expect(await differences()).toBe('');
  });

  it('is followed by another where it hangs', async () => {
    const before = await processOf('names');
    process.kill(before, 'SIGSTOP');
    await until('names', async () => (await ask('there'))[0] === there);
    await until('the old one has ended', async () => (await on('node1', `kill -0 ${before}`)).status !== 0);
    await everythingIsAnswered();
    expect(await differences()).toBe('');
  });

  it('is back with netplugin where both were killed', async () => {
    await mustLab('kill netplugin node1');
    await mustLab('kill names node1');
    expect((await lab('check')).out.split('\n')).toContain('node1: no process answers names');
    await mustLab('start netplugin node1');
    // netplugin answers before the process that it starts does.
    await until('names', async () => (await ask('there')).join() === there);
    await everythingIsAnswered();
    expect(await differences()).toBe('');
  });

  it('answers in a router that was made anew', async () => {
    for (const name of ['asks', 'm1']) await docker('node1', `rm -f ${name}`);
    await until(
      'the router is gone',
      async () => !(await must('node1', 'ip netns')).includes('contiv-default'),
    );
    await run('node1', 'asks', 'lasting');
    await run('node1', 'm1', 'mates.lasting');
    group = [await addressOf('node1', 'm1'), await addressOf('node2', 'm2')].sort();
    await until('names', async () => (await ask('mates')).join() === group.join());
    await everythingIsAnswered();
    expect(await differences()).toBe('');
  });
});
