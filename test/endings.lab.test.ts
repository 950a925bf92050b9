/** An address that was one group's becomes another's only when no host can take it for what it was. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clear, differences, docker, type Ended, mustLab, netctl, on, pings, run, until } from './lab.ts';

const ADDRESS = '10.22.0.77';

beforeAll(async () => {
  await netctl('net create given --subnet=10.22.0.0/24 --gateway=10.22.0.254');
  await netctl('policy create friends');
  await netctl('group create given friend');
  await netctl('group create given stranger');
  await netctl('policy rule-add friends 1 -direction=in -action=deny');
  await netctl('policy rule-add friends 2 -direction=in -from-group=friend -action=allow -priority=10');
  await netctl('group create given victim -policy=friends');
  await run('node2', 'victim', 'victim.given');
});
afterAll(clear);

async function agent(host: string): Promise<number> {
  const { processes } = JSON.parse(await mustLab('status --json')) as {
    processes: { name: string; host: string; pid: number }[];
  };
  return processes.find((p) => p.name === 'netplugin' && p.host === host)?.pid as number;
}

/** A friend has had the address, and node2's agent is stopped when it ends. */
async function endUnheard(friend: string): Promise<void> {
  expect(await run('node1', friend, 'friend.given', `--ip=${ADDRESS}`)).toBe(ADDRESS);
  await until('friends pass', () => pings('node1', friend, 'victim'));
  process.kill(await agent('node2'), 'SIGSTOP');
  await docker('node1', `rm -f ${friend}`);
}
const resume = async (): Promise<unknown> => process.kill(await agent('node2'), 'SIGCONT');

function stranger(): Promise<Ended> {
  const flags = ['--net=stranger.given', `--ip=${ADDRESS}`, 'contiv/lab', 'sleep', '1000'];
  return on('node1', 'docker run -d --name=stranger', ...flags);
}

it('is not given while a host is stopped, alive or not: the refusal names it, also of a netmaster that was killed', async () => {
  try {
    await endUnheard('friend1');
    await mustLab('kill netmaster node1');
    await mustLab('start netmaster node1');
    const { status, err } = await stranger();
    expect(status).not.toBe(0);
    expect(err).toMatch(
      /gave up waiting: network default:given: address 10\.22\.0\.77 was group default:friend's, and (?:\S+, )?node2/,
    );
    // Any other address is.
    expect(await run('node1', 'other', 'stranger.given')).not.toBe(ADDRESS);
  } finally {
    await resume();
  }
  await docker('node1', 'rm -f stranger other');
  expect(await differences()).toBe('');
});

it('is waited for while the host catches up, and is then what it is: the victim hears no stranger', async () => {
  let asked: Promise<Ended> | undefined;
  try {
    await endUnheard('friend2');
    asked = stranger();
    await until('it is asked for', async () => (await docker('node1', 'ps -aq -f name=stranger')) !== '');
  } finally {
    await resume();
  }
  expect(await asked).toMatchObject({ status: 0 });
  for (let i = 0; i < 5; i++) expect(await pings('node1', 'stranger', 'victim')).toBe(false);
  await docker('node1', 'rm -f stranger');
  expect(await differences()).toBe('');
});
