import { pino } from 'pino';
import { beforeAll, beforeEach, expect, it, onTestFinished, vi } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { awaitUnderlay, type Followed, findUnderlay, followUnderlay, type Underlay } from './underlay.ts';

/** With a carrier. */
function plug(device: string, mtu: number, address: string): void {
  sh(`ip link add ${device} mtu ${mtu} type veth peer name far-${device}
      ip link set far-${device} up; ip link set ${device} up; ip addr add ${address} dev ${device}`);
}

beforeAll(isolate);
beforeEach(() => {
  sh('ip link delete eth0 2>/dev/null || true; ip link delete eth1 2>/dev/null || true');
  plug('eth0', 1500, '192.0.2.1/24');
});

interface Case extends Followed {
  /** What `now` was each time before it changed. */
  readonly before: Underlay[];
  readonly lines: string[];
}

function follow(text: string): Case {
  const before: Underlay[] = [];
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line).msg) });
  const followed = followUnderlay(text, log);
  onTestFinished(() => followed.close());
  followed.onChange((was) => before.push(was));
  return Object.assign(followed, { before, lines });
}

const becomes = (followed: Followed, wanted: Partial<Underlay>, problem = ''): Promise<void> =>
  vi.waitFor(
    () => {
      expect(followed.now).toMatchObject(wanted);
      if (problem === '') expect(followed.problem).toBe('');
      else expect(followed.problem).toContain(problem);
    },
    { timeout: 30_000, interval: 20 },
  );

it('follows the address and the MTU of its interface, and says what they were', async () => {
  const followed = follow('eth0');
  expect(followed.now).toMatchObject({ address: '192.0.2.1', mtu: 1500, device: 'eth0' });
  sh('ip addr add 192.0.2.7/24 dev eth0; ip addr del 192.0.2.1/24 dev eth0');
  sh('ip addr add 192.0.2.7/24 dev eth0 2>/dev/null || true'); // was the other's secondary, and went with it
  await becomes(followed, { address: '192.0.2.7' });
  sh('ip link set eth0 mtu 1400');
  await becomes(followed, { address: '192.0.2.7', mtu: 1400 });
  expect(followed.before.map(({ address, mtu }) => [address, mtu])).toEqual([
    ['192.0.2.1', 1500],
    ['192.0.2.7', 1500],
  ]);
});

it('stays with its address where others come, and with its family where that one goes', async () => {
  sh('ip addr add 2001:db8::1/64 dev eth0 nodad');
  const followed = follow('eth0');
  sh('ip addr add 192.0.2.9/32 dev eth0; ip addr del 2001:db8::1/64 dev eth0');
  sh('ip addr flush dev eth0 scope global; ip addr add 2001:db8::2/64 dev eth0 nodad');
  await becomes(followed, { address: '192.0.2.1' }, "interface 'eth0' has no IPv4 address");
  expect(followed.before).toEqual([]);
  sh('ip addr add 192.0.2.1/24 dev eth0');
  await becomes(followed, { address: '192.0.2.1' });
  expect(followed.before).toEqual([]);
});

it('keeps what it knew while the interface is away or down, and says so once each time', async () => {
  const followed = follow('eth0');
  sh('ip link set eth0 down');
  await becomes(followed, { address: '192.0.2.1' }, 'interface eth0 is down');
  sh('ip link set eth0 up');
  await becomes(followed, { address: '192.0.2.1' });
  sh('ip link delete eth0');
  await becomes(followed, { address: '192.0.2.1', mtu: 1500 }, "no interface or address 'eth0'");
  plug('eth1', 1500, '198.51.100.1/24');
  await becomes(followed, { address: '192.0.2.1' }, '198.51.100.1 (eth1)');
  expect(followed.lines.filter((line) => line.includes('what runs goes on'))).toHaveLength(2);
  plug('eth0', 1300, '192.0.2.8/24');
  await becomes(followed, { address: '192.0.2.8', mtu: 1300 });
  expect(followed.lines.at(-2)).toBe('other hosts can reach this one again');
});

it.each(['192.0.2.5/24', '2001:db8::1/64 nodad'])(
  'follows address %s to another interface',
  async (added) => {
    const address = added.replace(/\/.*/, '');
    sh(`ip addr add ${added} dev eth0`);
    const followed = follow(address);
    expect(followed.now).toMatchObject({ address, device: 'eth0' });
    sh('ip link delete eth0');
    await becomes(followed, { address, device: 'eth0' }, `no interface or address '${address}'`);
    plug('eth1', 9000, added);
    await becomes(followed, { address, device: 'eth1', mtu: 9000 });
  },
);

it('is refused with one line where there is no such thing to begin with', () => {
  const log = pino({ level: 'silent' });
  expect(() => followUnderlay('eth7', log)).toThrow(
    "--underlay: no interface or address 'eth7' on this host; it has 192.0.2.1 (eth0)",
  );
  sh('ip addr flush dev eth0 scope global');
  expect(() => followUnderlay('eth0', log)).toThrow("--underlay: interface 'eth0' has no address; it has");
});

it('an agent that starts waits for an address of its interface, and says so once', async () => {
  sh('ip addr flush dev eth0 scope global');
  const lines: string[] = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line).msg) });
  let followed: Followed | undefined;
  const waiting = awaitUnderlay('eth0', log).then((found) => {
    followed = found;
    onTestFinished(() => found.close());
  });
  // What is heard meanwhile is no address, or another one's.
  plug('eth1', 1500, '198.51.100.1/24');
  sh('ip link set eth0 mtu 1400');
  await new Promise((done) => setTimeout(done, 1000));
  expect(followed).toBeUndefined();
  expect(lines).toEqual([
    expect.stringMatching(/^--underlay: interface 'eth0' has no address; .*: waiting for one$/),
  ]);
  sh('ip addr add 192.0.2.4/24 dev eth0');
  await waiting;
  expect(followed?.now).toMatchObject({ address: '192.0.2.4', mtu: 1400, device: 'eth0' });
  sh('ip addr add 192.0.2.5/24 dev eth0; ip addr del 192.0.2.4/24 dev eth0');
  sh('ip addr add 192.0.2.5/24 dev eth0 2>/dev/null || true');
  await becomes(followed as Followed, { address: '192.0.2.5' });
  expect(lines.filter((line) => line.includes('waiting'))).toHaveLength(1);
});

it('an agent that starts does not wait for an interface that is not there', async () => {
  const log = pino({ level: 'silent' });
  await expect(awaitUnderlay('eth7', log)).rejects.toThrow("no interface or address 'eth7' on this host");
});

it('says whom it reaches without a router, as that changes, and that by what is no Ethernet it reaches nobody so', async () => {
  const followed = follow('eth0');
  expect(followed.now.prefix).toBe('192.0.2.1/24');
  sh('ip addr add 192.0.2.9/32 dev eth0; ip addr del 192.0.2.1/24 dev eth0');
  await becomes(followed, { address: '192.0.2.9' });
  expect(followed.now).not.toHaveProperty('prefix');
  sh('ip tuntap add dev vpn0 mode tun; ip link set vpn0 up');
  onTestFinished(() => void sh('ip link delete vpn0'));
  sh('ip addr add 198.51.100.9/24 dev vpn0');
  expect(findUnderlay('vpn0')).toMatchObject({ address: '198.51.100.9' });
  expect(findUnderlay('vpn0')).not.toHaveProperty('prefix');
});
