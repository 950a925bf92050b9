/** Containers of two networks of one tenant on one host, in both forwarding modes. */
import { afterEach, beforeAll, expect, it } from 'vitest';
import { applied, clean, port, router, state } from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { NAMESERVER, NAMESERVER6 } from '../../constants.ts';
import type { HostState, Port } from '../../state.ts';
import { type Applier, openApplier } from '../applier.ts';

beforeAll(isolate);
afterEach(clean);

const OTHER = 1002;
/** 2 and 3 are in net1, 4 in another. */
const PORTS: readonly Port[] = [
  port(2),
  port(3),
  port(4, { addresses: ['20.2.1.4', 'fd00:2::4'], gateways: ['20.2.1.254', 'fd00:2::1'], network: OTHER }),
];

function wanted(ports: readonly Port[], bridged: boolean): HostState {
  const given = { ports, remotes: [] };
  const whole = state(given);
  const own = router(given);
  const subnets = [
    ...own.subnets,
    { prefix: '20.2.1.0/24', network: OTHER },
    { prefix: 'fd00:2::/64', network: OTHER },
  ];
  return { ...whole, routers: [{ ...own, subnets, ...(bridged ? { bridged: true } : {}) }] };
}

function start(applier: Applier): Port[] {
  applied(applier, wanted(PORTS, false));
  for (const { peer, endpoint, addresses } of PORTS) {
    createNamespace(endpoint);
    sh(`ip link set ${peer} netns ${endpoint} name eth0`);
    inNamespace(namespacePath(endpoint), () =>
      sh(`
        echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; ip link set lo up; ip link set eth0 up
        ip addr add ${addresses[0]}/32 dev eth0; ip addr add ${addresses[1]}/128 dev eth0 nodad
        ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}
        ip -6 route add ${NAMESERVER6} dev eth0; ip -6 route add default via ${NAMESERVER6}`),
    );
  }
  return PORTS.map((p) => ({ ...p, joined: true }));
}

/** From container 2. */
const reaches = (address: string): boolean =>
  inNamespace(namespacePath('ep2'), () =>
    sh(`busybox ping -c 2 -W 2 ${address} 2>&1 || true`).includes(' bytes from '),
  );

it('in bridge mode networks of a tenant do not reach each other, all else goes on; in routing mode they do', () => {
  const applier = openApplier();
  const ports = start(applier);
  const reached = (): Record<string, boolean> =>
    Object.fromEntries(
      ['20.1.1.3', 'fd00:1::3', '20.2.1.4', 'fd00:2::4', '20.1.1.254'].map((at) => [at, reaches(at)]),
    );
  const all = { '20.1.1.3': true, 'fd00:1::3': true, '20.1.1.254': true };
  applied(applier, wanted(ports, false));
  expect(reached()).toEqual({ ...all, '20.2.1.4': true, 'fd00:2::4': true });
  applied(applier, wanted(ports, true));
  expect(reached()).toEqual({ ...all, '20.2.1.4': false, 'fd00:2::4': false });
  applied(applier, wanted(ports, false));
  expect(reached()).toEqual({ ...all, '20.2.1.4': true, 'fd00:2::4': true });
});
