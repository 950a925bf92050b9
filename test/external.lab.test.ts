/**
 * External endpoints: machines that have nothing of ours, on a VLAN and outside, as members of groups. `trunk` and `access` are on VLAN 100
 * (lab/fabric.ts), `outside` is where the hosts' way out leads.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostAddress, OUTSIDE_ADDRESS } from '../lab/state.ts';
import { askerOf } from '../src/netplugin/services/checks.ts';
import { HOSTS, openFabric, typing } from './fabric.ts';
import { type Ended, until } from './lab.ts';

const { mustLab, on, must, netctl, serving: run, inside, differences, clear } = openFabric();

const at = (n: number): string => `10.100.0.${n}`;
const [NEAR, FAR, OVER] = [at(51), at(52), '20.1.1.51'];
const [TRUNK, ACCESS] = [at(201), at(202)];

/** curl: 0 an answer, 28 none in time. */
const status = async (ended: Promise<Ended>): Promise<number> => (await ended).status;
const curl = (target: string): string => `curl -s -m 2 -o /dev/null http://${target}/`;
const resolved = async (host: string, name: string, asked: string): Promise<string[]> =>
  (await inside(host, name, `dig +short ${asked}`)).out
    .split('\n')
    .filter((line) => line !== '')
    .sort();
const machine = async (name: string): Promise<{ status: string; failing?: { host: string; why: string } }> =>
  JSON.parse(await netctl(`endpoint inspect ${name}`)).Oper;

describe('the guide', () => {
  const guide = typing('docs/guide/bare-metal.md');

  it('makes a machine a member, with a name', () => guide('a member'));
  it('has rules about it', () => guide('rules'));
  it('has services that it provides', () => guide('a service'));
});

describe('external endpoints', () => {
  beforeAll(async () => {
    await netctl(`net create lan -e vlan --pkt-tag=100 --subnet=${at(10)}-${at(99)}/24 --gateway=${at(254)}`);
    await netctl('net create over --subnet=20.1.1.0/24 --gateway=20.1.1.254');
    await netctl('group create lan office');
    await netctl('group create over partners');
    await netctl('policy create strict');
    await netctl('group create lan front -policy=strict');
    await netctl('group create over back -policy=strict');
    await netctl('policy rule-add strict in -direction=in -protocol=tcp -action=deny');
    await netctl('policy rule-add strict out -direction=out -protocol=tcp -action=deny');
    for (const group of ['office', 'partners']) {
      await netctl(
        `policy rule-add strict i-${group} -direction=in -from-group=${group} -protocol=tcp -port=80 -action=allow -priority=10`,
      );
      await netctl(
        `policy rule-add strict o-${group} -direction=out -to-group=${group} -protocol=tcp -port=80 -action=allow -priority=10`,
      );
    }
    await Promise.all([
      run('node1', 'near', 'front', NEAR),
      run('node2', 'far', 'front', FAR),
      run('node2', 'over', 'back', OVER, '-p', '8080:80'),
    ]);
  });
  afterAll(clear);

  const published = `${hostAddress(2)}:8080`;

  it('are strangers to rules until they are declared, and again when they are removed', async () => {
    const all = (): Promise<number[]> =>
      Promise.all([
        status(inside('node1', 'near', curl(ACCESS))),
        status(inside('node2', 'far', curl(ACCESS))),
        status(on('access', curl(NEAR))),
        status(on('access', curl(FAR))),
        status(inside('node2', 'over', curl(OUTSIDE_ADDRESS))),
        status(on('outside', curl(published))),
        status(on('trunk', curl(NEAR))),
        status(inside('node1', 'near', curl(TRUNK))),
      ]);
    const strangers = [28, 28, 28, 28, 28, 28, 28, 28];
    expect(await all()).toEqual(strangers);
    await netctl(`endpoint add desk --group=office --ip=${ACCESS}`);
    await netctl(`endpoint add mail --group=partners --ip=${OUTSIDE_ADDRESS}`);
    expect(await all()).toEqual([0, 0, 0, 0, 0, 0, 28, 28]);
    expect(await differences()).toBe('');
    for (const [from, to, live] of [
      ['desk', 'near', 'kernel on node1: agrees'],
      ['over', 'mail', 'kernel on node2: agrees'],
      ['mail', 'over', 'kernel on node2: agrees'],
    ] as const) {
      const traced = await netctl(`policy trace --from=${from} --to=${to} --port=80 --live`);
      expect(traced).toContain(live);
      expect(traced).toContain(': allowed');
      expect(await netctl(`policy trace --from=${from} --to=${to} --port=22 --live`)).toContain(': DENIED');
    }
    await netctl('endpoint rm desk mail');
    expect(await all()).toEqual(strangers);
  });

  it('have names on every host, their own and their groups’', async () => {
    await netctl(`endpoint add desk --group=office --ip=${ACCESS}`);
    await netctl(`endpoint add mail --group=partners --ip=${OUTSIDE_ADDRESS}`);
    for (const [host, name] of [
      ['node1', 'near'],
      ['node2', 'far'],
    ] as const) {
      expect(await resolved(host, name, 'desk')).toEqual([ACCESS]);
      expect(await resolved(host, name, 'office')).toEqual([ACCESS]);
      expect(await resolved(host, name, 'mail.over')).toEqual([OUTSIDE_ADDRESS]);
      expect(await resolved(host, name, `-x ${ACCESS}`)).toEqual(['desk.lan.']);
    }
    await netctl('endpoint rm desk mail');
    await until('no name', async () => (await resolved('node1', 'near', 'desk')).length === 0);
  });

  it('have addresses that no container is given, nor any that a container has', async () => {
    await netctl(`endpoint add desk --group=office --ip=${at(60)}`);
    const { err } = await on('node1', `docker run -d --net=lan --ip=${at(60)} contiv/lab sh`);
    expect(err).toContain(`${at(60)} is in use by external endpoint default:desk`);
    await must('node1', 'sh -c', 'docker ps -aqf status=created | xargs -r docker rm -f');
    expect((await on('node1', `netctl endpoint add other --group=office --ip=${NEAR}`)).err).toContain(
      `address ${NEAR} is in use by near on node1`,
    );
    await netctl('endpoint rm desk');
  });

  describe('that provide a service', () => {
    const both = (): Promise<string[]> => resolved('node1', 'near', 'office');
    beforeAll(async () => {
      await netctl(
        `endpoint add one --group=office --ip=${TRUNK} --label=app=files --health-check=http:80/index.html`,
      );
      await netctl(`endpoint add two --group=office --ip=${ACCESS} --label=app=files --health-check=tcp:80`);
      await netctl('service create files --network=lan --selector=app=files --port=8000:80:TCP');
    });

    it('leave it, and their group’s name, while they are down', async () => {
      await expect.poll(both).toEqual([TRUNK, ACCESS]);
      for (const name of ['one', 'two']) {
        const [machineName, other] =
          name === 'one' ? (['trunk', ACCESS] as const) : (['access', TRUNK] as const);
        // A machine that answers nothing is one that was unplugged.
        await must(machineName, 'sh -c', `ip link set ${machineName === 'trunk' ? 'lan' : 'eth0'} down`);
        await until(`${name} is known to be down`, async () => (await machine(name)).status === 'unhealthy');
        await until('its name is left out', async () => (await both()).join() === other);
        // A container's asks in one command: what starts it takes longer than they do.
        const asks = `for i in 1 2 3 4 5 6 7 8 9 10; do ${curl('files:8000')} || exit 1; done`;
        // One host hears of it after another, and its rules follow beside its names.
        for (const [host, name] of [
          ['node1', 'near'],
          ['node2', 'far'],
        ] as const)
          await expect.poll(() => status(inside(host, name, 'sh -c', asks)), { message: host }).toBe(0);
        expect((await machine(name)).failing?.host).toBe(
          askerOf({ tenantName: 'default', endpointName: name }, HOSTS),
        );
        expect(await netctl('endpoint ls')).toMatch(new RegExp(`${name} .*unhealthy`));
        expect(await netctl('events --kind=endpoint')).toContain(`failed externalEndpoint default:${name}: `);
        await must(machineName, 'sh -c', `ip link set ${machineName === 'trunk' ? 'lan' : 'eth0'} up`);
        await until(`${name} is well again`, async () => (await machine(name)).status === 'running');
      }
      await until('both are named', async () => (await both()).length === 2);
    });

    it('are asked by one host, and by another when that is gone', async () => {
      const two = { tenantName: 'default', endpointName: 'two' };
      const asker = askerOf(two, HOSTS) ?? '';
      const other = askerOf(
        two,
        HOSTS.filter((host) => host !== asker),
      );
      await mustLab(`kill netplugin ${asker}`);
      await until('the host is away', async () => (await netctl('host ls')).includes('away'));
      await must('access', 'ip link set eth0 down');
      await until('it is known to be down', async () => (await machine('two')).failing?.host === other);
      await mustLab(`start netplugin ${asker}`);
      await must('access', 'ip link set eth0 up');
      await until('it is well again', async () => (await machine('two')).status === 'running');
    });

    it('by HTTP are well while they answer what is asked', async () => {
      await must('trunk', 'mv /run/www/index.html /run/www/away');
      await until(
        'it is known to fail',
        async () => (await machine('one')).failing?.why === 'HTTP status 404',
      );
      await must('trunk', 'mv /run/www/away /run/www/index.html');
      await until('it is well again', async () => (await machine('one')).status === 'running');
    });
  });
});
