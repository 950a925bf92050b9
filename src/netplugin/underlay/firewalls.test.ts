import { pino } from 'pino';
import { expect, it } from 'vitest';
import type { DroppedWay } from '../dataplane/index.ts';
import { droppedText, followFirewalls } from './firewalls.ts';

const OUT: DroppedWay = { way: 'out', family: 'IPv4', table: 'ip filter', chain: 'FORWARD', by: 'policy' };
const IN: DroppedWay = { way: 'in', family: 'IPv6', table: 'inet theirs', chain: 'all', by: 'rule' };

it('what another firewall drops is said when it begins and when it ends, and known in between', async () => {
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line).dropping) });
  let answer: () => readonly DroppedWay[] | undefined = () => [];
  const firewalls = followFirewalls({ probe: async () => answer() }, log);
  const looked = async (next: typeof answer): Promise<[string[], readonly DroppedWay[]]> => {
    answer = next;
    await firewalls.look();
    return [lines.splice(0), firewalls.dropped];
  };
  expect(await looked(() => [])).toEqual([[], []]);
  expect(await looked(() => [OUT])).toEqual([
    ['table ip filter, chain FORWARD (its policy) drops what containers send out, IPv4'],
    [OUT],
  ]);
  // Nothing has changed since.
  expect(await looked(() => undefined)).toEqual([[], [OUT]]);
  expect(await looked(() => [OUT, IN])).toEqual([[droppedText(IN)], [OUT, IN]]);
  expect(await looked(() => [IN])).toEqual([[droppedText(OUT)], [IN]]);
  const failed = await looked(() => {
    throw new Error('no such call');
  });
  expect(failed).toEqual([[undefined], [IN]]);
  expect(await looked(answer)).toEqual([[], [IN]]);
});
