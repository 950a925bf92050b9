/** Upstream's own cases of networks, without kube-proxy: Services, EndpointSlices, names, pods among each other. Those of NetworkPolicy: pods.kubernetes.test.ts. */
import { describe, expect, it } from 'vitest';
import { networkSuite } from './kubernetes.ts';
import { lab } from './lab.ts';

/** NETWORK=. for all of them, which takes most of an hour. */
const FOCUS =
  process.env.NETWORK ??
  'should serve multiport endpoints|change the type from ExternalName to NodePort|should provide DNS for services|kubernetes.io/headless|intra-pod communication: udp|should proxy through a service';

/** What asks for something that this cluster has not: kube-proxy, a cloud, SCTP, the Internet, IPv6. Serial ones change it for all others. */
const SKIP = [
  ...['Netpol', 'NetworkPolicy', 'SCTP', 'sctp', '[Kk]ube-?[Pp]roxy', 'Provider:', 'Feature:'],
  ...['Disruptive', 'Serial', 'Slow'],
  // An image that is a program of its own (regression-issue-74839), and pods that are evicted for the space they use, which kubelets here do not measure.
  ...['invalid conntrack state bug', 'evicted pods'],
];

describe("upstream's suite of networks", () => {
  it('passes', { timeout: 2 * 3600_000 }, async () => {
    const { results, log } = await networkSuite(`\\[sig-network\\] .*(${FOCUS})`, SKIP.join('|'));
    const failed = [...results].filter(([, how]) => how !== 'passed');
    expect(failed, log.slice(-4000)).toEqual([]);
    expect(results.size).toBeGreaterThan(2);
  });
});

it('after all that hosts are as declared', async () => {
  const { status, out, err } = await lab('check --wait 60');
  expect([status, out, err].join('\n')).toMatch(/^0\n/);
});
