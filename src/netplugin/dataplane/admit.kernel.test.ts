/** Our rules in Docker's firewall, by the real iptables: Docker's own chain is made here as Docker makes it. */
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { admitForwarding } from './admit.ts';

beforeAll(isolate);
beforeEach(() => sh('iptables -N DOCKER-USER; iptables -A DOCKER-USER -j RETURN'));
afterEach(async () => {
  await admitForwarding(false);
  sh('iptables -F; iptables -X');
});

const listed = (): string[] => sh('iptables -S DOCKER-USER').trim().split('\n').slice(1);
const RETURN = '-A DOCKER-USER -j RETURN';
const OURS = ['-A DOCKER-USER -o cx+ -j ACCEPT', '-A DOCKER-USER -i cx+ -j ACCEPT'];

it('lets through what comes and goes by exits, before what others have there, and takes only that out again', async () => {
  sh('iptables -I DOCKER-USER -s 192.0.2.1 -j DROP');
  const THEIRS = '-A DOCKER-USER -s 192.0.2.1/32 -j DROP';
  expect(await admitForwarding(true)).toEqual([]);
  expect(listed()).toEqual([...OURS, THEIRS, RETURN]);
  expect(await admitForwarding(true)).toEqual([]);
  expect(listed()).toEqual([...OURS, THEIRS, RETURN]);
  expect(await admitForwarding(false)).toEqual([]);
  expect(listed()).toEqual([THEIRS, RETURN]);
});

it('says what somebody had taken out, one or all', async () => {
  await admitForwarding(true);
  sh('iptables -D DOCKER-USER -o cx+ -j ACCEPT');
  expect(await admitForwarding(true)).toEqual(['host: restored iptables -I DOCKER-USER -o cx+ -j ACCEPT']);
  sh('iptables -F DOCKER-USER');
  expect((await admitForwarding(true)).sort()).toEqual([
    'host: restored iptables -I DOCKER-USER -i cx+ -j ACCEPT',
    'host: restored iptables -I DOCKER-USER -o cx+ -j ACCEPT',
  ]);
  expect(listed()).toEqual(OURS);
});

it('leaves one of a rule that is there more than once, as a killed agent’s last command may leave it', async () => {
  for (let i = 0; i < 2; i++) sh('iptables -I DOCKER-USER -i cx+ -j ACCEPT');
  expect(await admitForwarding(true)).toEqual([]);
  expect(listed().sort()).toEqual([...OURS, RETURN].sort());
  sh('iptables -I DOCKER-USER -o cx+ -j ACCEPT');
  expect(await admitForwarding(true)).toEqual([]);
  expect(listed().sort()).toEqual([...OURS, RETURN].sort());
});

it('says nothing of a chain that Docker makes anew', async () => {
  await admitForwarding(true);
  sh('iptables -F; iptables -X');
  expect(await admitForwarding(true)).toEqual([]);
  sh('iptables -N DOCKER-USER');
  expect(await admitForwarding(true)).toEqual([]);
  expect(listed()).toEqual(OURS);
});
