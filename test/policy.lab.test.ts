/** The quick start's policy, as a user types it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addressOf, background, clear, differences, docker, inside, netctl, on, run, until } from './lab.ts';

let web = '';

beforeAll(async () => {
  await netctl('net create contiv-net --subnet=20.1.1.0/24 --gateway=20.1.1.254 --pkt-tag=1001');
  await netctl('policy create prod_web');
  await netctl('group create contiv-net web -policy=prod_web');
  await docker('node1', 'run -itd --name=server --net web.contiv-net contiv/lab sh');
  web = await addressOf('node1', 'server');
  await run('node2', 'client', 'contiv-net');
  for (const port of [22, 80, 443, 8080])
    await docker('node1', `exec -d server socat tcp-listen:${port},fork,reuseaddr exec:cat`);
  await docker('node1', 'exec -d server socat udp-listen:5000,fork exec:cat');
});
afterAll(clear);

/** What comes back of a line that is sent. */
const echoes = (protocol: 'tcp' | 'udp', port: number): Promise<boolean> =>
  inside(
    'node2',
    'client',
    'sh -c',
    `echo hello | socat -t 1 -T 2 - ${protocol}:web:${port},connect-timeout=2`,
  ).then(({ out }) => out.trim() === 'hello');

describe('the policy of the quick start', () => {
  it('lets everything through before it has rules', async () => {
    for (const port of [22, 80, 443, 8080]) await until(`port ${port}`, () => echoes('tcp', port));
    await until('UDP', () => echoes('udp', 5000));
  });

  it('holds when rule-add answers: 80 and 443 pass, 22 and 8080 time out, UDP passes; what was open goes on', async () => {
    const open = background(
      'node2',
      'docker exec client sh -c',
      `while :; do echo tick; sleep 0.1; done | socat - tcp:${web}:22`,
    );
    await until('an open connection', async () => open.lines.includes('tick'));
    await netctl('policy rule-add prod_web 1 -direction=in -protocol=tcp -action=deny');
    expect(await echoes('tcp', 80)).toBe(false);
    await netctl(
      'policy rule-add prod_web 2 -direction=in -protocol=tcp -port=80 -action=allow -priority=10',
    );
    await netctl(
      'policy rule-add prod_web 3 -direction=in -protocol=tcp -port=443 -action=allow -priority=10',
    );
    expect(await echoes('tcp', 80)).toBe(true);
    expect(await echoes('tcp', 443)).toBe(true);
    expect(await echoes('tcp', 22)).toBe(false);
    expect(await echoes('tcp', 8080)).toBe(false);
    expect(await echoes('udp', 5000)).toBe(true);
    const count = open.lines.length;
    await until('the open connection goes on', async () => open.lines.length > count + 20);
    await inside('node2', 'client', 'killall socat');
    await open.end('SIGKILL');
    expect(await differences()).toBe('');
  });

  it('holds for containers that start later, and no longer when the group drops it', async () => {
    await docker('node2', 'run -itd --name=second --net web.contiv-net contiv/lab sh');
    const second = await addressOf('node2', 'second');
    await docker('node2', 'exec -d second socat tcp-listen:22,fork exec:cat');
    const reach = () =>
      inside(
        'node1',
        'server',
        'sh -c',
        `echo hello | socat -t 1 -T 2 - tcp:${second}:22,connect-timeout=2`,
      ).then(({ out }) => out.trim() === 'hello');
    expect(await reach()).toBe(false);
    await netctl('group create contiv-net web');
    await until('port 22', reach);
    await netctl('group create contiv-net web -policy=prod_web');
    expect(await reach()).toBe(false);
    expect(await differences()).toBe('');
  });

  it('cannot be deleted while a group carries it, and takes its rules with it', async () => {
    const { status, err } = await on('node1', 'netctl policy rm prod_web');
    expect(status).toBe(3);
    expect(err).toMatch(/in use by endpointGroup default:web/);
  });
});
