/** A store that is put back to an earlier state while containers run: by netmaster restore, and by a copy of its file. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clear, differences, echoes, lab, must, mustLab, netctl, on, pings, run, until } from './lab.ts';

const STORE = '/var/lib/contiv/netmaster.db';
const BACKUP = '/var/lib/contiv/cluster.backup';

beforeAll(async () => {
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254');
  await run('node1', 'web', 'contiv-net');
  await run('node2', 'db', 'contiv-net');
  await until('ping', () => pings('node1', 'web', 'db'));
});
afterAll(async () => {
  await on('node1', `rm -f ${BACKUP}`);
  await lab('start netmaster');
  await clear();
});

const again = async (what: () => Promise<void>): Promise<void> => {
  await mustLab('kill netmaster');
  await what();
  await mustLab('start netmaster');
};

it('by a restore: what started since, also on a network that the backup does not know, goes on without losing a packet', async () => {
  expect(await netctl(`backup ${BACKUP}`)).toMatch(/entries of revision \d+/);
  await netctl('net create later --subnet=20.1.2.0/24 --gateway=20.1.2.254 --pkt-tag=77');
  await run('node2', 'db2', 'contiv-net');
  await run('node1', 'one', 'later');
  await run('node2', 'two', 'later');
  for (const [from, to] of [
    ['web', 'db2'],
    ['one', 'two'],
  ] as const)
    await until(`${from} to reach ${to}`, () => pings('node1', from, to));
  const counts = [echoes('node1', 'web', 'db'), echoes('node1', 'web', 'db2'), echoes('node1', 'one', 'two')];

  await again(() => must('node1', `netmaster restore ${BACKUP} --replace`).then(() => undefined));
  await until('both hosts to say what the store lacks', async () =>
    (await Promise.all(['node1', 'node2'].map((host) => mustLab(`logs netplugin ${host}`)))).every((log) =>
      /netmaster does not know network default:later/.test(log),
    ),
  );
  expect((await on('node1', 'netctl status')).out).toMatch(/restored .*from a backup of/);
  expect(await netctl('net ls -q')).not.toMatch(/later/);
  expect(await pings('node1', 'one', 'two')).toBe(true);
  // Declared anew, the store knows all that runs.
  await netctl('net create later --subnet=20.1.2.0/24 --gateway=20.1.2.254 --pkt-tag=77');
  await until('both hosts to follow', async () =>
    /hosts +2 ready/.test((await on('node1', 'netctl status')).out),
  );
  expect(await differences()).toBe('');
  for (const lost of counts) expect(await lost()).toBe(0);
  expect((await netctl('endpoint ls')).match(/\b(db2|one|two)\b/g)?.sort()).toEqual(['db2', 'one', 'two']);
});

it('by a copy of its file: hosts that have seen more list everything, and netmaster says what happened', async () => {
  const files = ['', '-wal', '-shm'];
  await again(async () => {
    for (const suffix of files) await on('node1', `cp ${STORE}${suffix} /var/lib/contiv/copy.db${suffix}`);
  });
  await run('node2', 'since', 'contiv-net');
  await netctl('tenant create gone');
  await until('ping', () => pings('node1', 'web', 'since'));
  const lost = echoes('node1', 'web', 'since');
  await again(async () => {
    for (const suffix of files) {
      await on('node1', `rm -f ${STORE}${suffix}`);
      await on('node1', `mv /var/lib/contiv/copy.db${suffix} ${STORE}${suffix}`);
    }
  });
  await until('netmaster to have noticed', async () =>
    /put back to an earlier state: host node\d has seen revision \d+/.test(await mustLab('logs netmaster')),
  );
  await until('status', async () => /restored .*put back/.test((await on('node1', 'netctl status')).out));
  await until('what runs to be known again', async () => /\bsince\b/.test(await netctl('endpoint ls')));
  expect(await netctl('tenant ls -q')).not.toMatch(/gone/);
  expect(await differences()).toBe('');
  expect(await lost()).toBe(0);
});
