/** What the next agent makes of the tables that one left. */
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { applied, clean, inRouter, kernel, port, remotes, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { openApplier } from './applier.ts';

beforeAll(isolate);
afterEach(clean);

const GIVEN = state({ remotes: remotes(4) });
const WHERE = { "the router's": inRouter, "the host's": sh };

/** A table's handle is another one when it was made anew. */
const handles = (): string[] =>
  Object.values(WHERE).flatMap(
    (run) => run('nft -a list table inet contiv').match(/^table inet contiv .* handle \d+/) ?? [],
  );
const mark = (run: (command: string) => string): string =>
  /chain (made_\w+)/.exec(run('nft list table inet contiv'))?.[1] as string;
/** A chain that packets go through. */
const hooked = (run: (command: string) => string): string =>
  /chain (\w+) \{\s*type \w+ hook/.exec(run('nft list table inet contiv'))?.[1] as string;

function leave(): string[] {
  applied(openApplier(), GIVEN, true);
  const left = handles();
  expect(left).toHaveLength(2);
  return left;
}

describe('a table that an agent left', () => {
  it('is taken over as it is by the next one', () => {
    const left = leave();
    const before = kernel();
    const next = openApplier();
    expect(applied(next, GIVEN, true).repaired).toEqual([]);
    expect(handles()).toEqual(left);
    expect(kernel()).toBe(before);
    expect(applied(next, GIVEN, true)).toMatchObject({ writes: 0, repaired: [] });
  });

  it('has what has changed since, and not what somebody has put in or taken out', () => {
    const left = leave();
    const { device } = port(2);
    inRouter(`nft delete element inet contiv sources '{ "${device}" . 20.1.1.2 }'`);
    inRouter(`nft add element inet contiv sources '{ "${device}" . 20.1.1.99 : 1001 }'`);
    const changed = state({ remotes: remotes(7) });
    applied(openApplier(), changed, true);
    expect(handles()).toEqual(left);
    const after = kernel();
    expect(after).not.toContain('20.1.1.99');

    clean();
    applied(openApplier(), changed, true);
    expect(kernel()).toBe(after);
  });

  it('keeps what packets have put there, but counts from its start', () => {
    leave();
    const { device } = port(2);
    inRouter(`nft add element inet contiv refused '{ "${device}" . 7 counter packets 5 bytes 50 }'`);
    inRouter(`nft add element inet contiv told '{ 20.1.1.2 timeout 50s }'`);
    applied(openApplier(), GIVEN, true);
    const table = inRouter('nft list table inet contiv');
    expect(/set told \{[^}]*\}/.exec(table)?.[0]).toContain('20.1.1.2');
    expect(/set refused \{[^}]*\}/.exec(table)?.[0]).not.toContain(device);
  });

  it.each<[string, (run: (command: string) => string) => void]>([
    ['a rule that somebody put in', (run) => run(`nft insert rule inet contiv ${hooked(run)} accept`)],
    ['a chain that somebody emptied', (run) => run(`nft flush chain inet contiv ${hooked(run)}`)],
    ['no mark: the agent was killed before', (run) => run(`nft delete chain inet contiv ${mark(run)}`)],
    [
      'the mark of another version',
      (run) => run(`nft rename chain inet contiv ${mark(run)} made_${'0'.repeat(32)}`),
    ],
  ])('with %s is made anew', (_, tamper) => {
    const left = leave();
    const before = kernel();
    for (const run of Object.values(WHERE)) tamper(run);
    applied(openApplier(), GIVEN, true);
    expect(handles()).toHaveLength(2);
    for (const handle of handles()) expect(left).not.toContain(handle);
    expect(kernel()).toBe(before);
  });
});
