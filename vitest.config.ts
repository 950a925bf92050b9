import { defineConfig } from 'vitest/config';
import LongFirst from './test/sequencer.ts';

/**
 * Layers: unit needs nothing, kernel needs root, ovs Open vSwitch besides, lab needs root and Docker, docker a Docker that is built, package debootstrap, kubernetes
 * a lab that is a cluster too, one for all its files. Lab tests wait, most of it: a few run at once, each worker's on a lab of its own.
 */
const LABS = 3;
/** Until what is polled for is so, `expect.poll` without a time of its own: generous, as the machine may be busy. */
const polled = (timeout: number, interval: number) => ({ expect: { poll: { timeout, interval } } });
const inLabs = {
  ...polled(60_000, 200),
  maxWorkers: LABS,
  env: { LAB_BY_WORKER: 'yes' },
  testTimeout: 300_000,
  hookTimeout: 300_000,
  globalSetup: 'test/labSetup.ts',
  setupFiles: 'test/labUp.ts',
};
/** Lab tests in which much of Docker is met. */
const OF_DOCKER = [
  ...['quickstart', 'policy', 'dataplane', 'services', 'names', 'lifecycle'],
  ...['firewalls', 'churn'],
  // dockerd refuses Swarm mode with that firewall.
  ...(process.env.LAB_FIREWALL_BACKEND === 'nftables' ? [] : ['swarm']),
];

export default defineConfig({
  test: {
    reporters: ['default', './test/failures.ts'],
    sequence: { sequencer: LongFirst },
    projects: [
      {
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'lab/**/*.test.ts', 'test/*.test.ts'],
          exclude: ['**/*.{kernel,lab,docker,kubernetes,package,ovs,wireguard}.test.ts'],
          ...polled(20_000, 50),
          testTimeout: 180_000,
          hookTimeout: 60_000,
          // Many of them wait for processes and timers: one more than small machines have processors.
          maxWorkers: 3,
        },
      },
      {
        test: {
          name: 'kernel',
          include: ['src/**/*.kernel.test.ts'],
          ...polled(20_000, 50),
          fileParallelism: false,
          testTimeout: 60_000,
          hookTimeout: 60_000,
          globalSetup: 'test/root.ts',
        },
      },
      {
        test: {
          name: 'lab',
          include: ['test/*.lab.test.ts'],
          ...inLabs,
        },
      },
      {
        test: {
          name: 'docker',
          include: ['test/*.docker.test.ts', ...OF_DOCKER.map((name) => `test/${name}.lab.test.ts`)],
          ...inLabs,
          globalSetup: ['test/dockerSetup.ts', 'test/labSetup.ts'],
        },
      },
      {
        test: {
          name: 'ovs',
          include: ['test/*.ovs.test.ts'],
          ...polled(20_000, 50),
          testTimeout: 120_000,
          hookTimeout: 120_000,
          globalSetup: 'test/root.ts',
        },
      },
      {
        test: {
          name: 'wireguard',
          include: ['src/**/*.wireguard.test.ts', 'test/*.wireguard.test.ts'],
          ...polled(60_000, 200),
          fileParallelism: false,
          testTimeout: 900_000,
          hookTimeout: 900_000,
          globalSetup: 'test/root.ts',
        },
      },
      {
        test: {
          name: 'package',
          include: ['test/*.package.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 600_000, // the first time makes a Debian
          globalSetup: 'test/root.ts',
        },
      },
      {
        test: {
          name: 'kubernetes',
          include: ['test/*.kubernetes.test.ts'],
          ...polled(60_000, 200),
          fileParallelism: false,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          globalSetup: 'test/kubernetesSetup.ts',
        },
      },
    ],
  },
});
