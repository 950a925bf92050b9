/** What a container with rights over its own network does there, and what of it is put right, or said. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DroppedPackets } from '../src/protocol/messages.ts';
import { addressOf, clear, differences, docker, inside, netctl, until } from './lab.ts';

const GATEWAY = '20.1.1.254';
let peer = '';

beforeAll(async () => {
  await netctl(`net create contiv-net --subnet=20.1.1.0/24 --gateway=${GATEWAY}`);
  for (const [host, name] of [
    ['node1', 'busy'],
    ['node2', 'peer'],
  ] as const)
    await docker(host, `run -itd --cap-add=NET_ADMIN --name=${name} --net=contiv-net contiv/lab sh`);
  peer = await addressOf('node2', 'peer');
});
afterAll(clear);

const busy = (command: string) => inside('node1', 'busy', 'sh -c', command);
/** After a command, if any: before anybody can have put right what it did. */
const whole = async (command = 'true'): Promise<boolean> =>
  (await busy(`${command}; ip route | grep -q '^default' && ping -c 1 -W 1 ${peer}`)).status === 0;

describe('a container with NET_ADMIN', () => {
  it('knows its next hop for good, so that it needs no room in the neighbour table of the machine', async () => {
    await until('the neighbour', async () =>
      new RegExp(`^${GATEWAY} .*PERMANENT`, 'm').test((await busy('ip neigh')).out),
    );
  });

  it.each([
    ['takes its link down and up', 'ip link set eth0 down; ip link set eth0 up'],
    ['gives itself another MAC address', 'ip link set eth0 address 02:00:00:00:00:77'],
    ['deletes its address', `ip addr flush dev eth0 scope global`],
  ])('that %s is reachable again', async (_, command) => {
    await until('it reaches its peer', () => whole());
    // The agent's look may come in between: then it is done again.
    await until('it is cut off', async () => !(await whole(command)));
    await until('it has its way and reaches its peer', () => whole());
    expect(await differences()).toBe('');
  });

  it('is said to have sent from an address that it gave itself', async () => {
    await busy(`ip addr add 20.1.1.77/32 dev eth0; ping -c 3 -W 1 -I 20.1.1.77 ${peer}`);
    await until('it is said', async () => {
      const { Oper } = JSON.parse(await netctl('endpoint inspect busy')) as {
        Oper: { macAddress: string; dropped?: DroppedPackets[] };
      };
      const [dropped] = Oper.dropped ?? [];
      if (dropped === undefined || dropped.packets < 3) return false;
      expect(dropped).toMatchObject({ reason: 'source', address: '20.1.1.77', mac: Oper.macAddress });
      return true;
    });
    await busy('ip addr del 20.1.1.77/32 dev eth0');
  });
});
