/**
 * The lab of tests of networks that are more than tunnels: three hosts with an uplink, machines on VLAN 100 and a router of the fabric
 * (lab/fabric.ts, lab/router.ts). A worker's second one; its files of such tests share it, each leaves it as it found it.
 */
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { readState } from '../lab/state.ts';
import { blockOf, openGuide } from './guides.ts';
import { fabricOf, LAB, openLab } from './lab.ts';

export const FABRIC_LAB = fabricOf(LAB);
export const HOSTS = ['node1', 'node2', 'node3'] as const;

/** What machines serve, all the same. */
export const SERVED = 'a machine';
const MACHINES = ['trunk', 'access', 'outside', 'beyond'] as const;

const own = openLab(FABRIC_LAB);
const { mustLab, must, differences, clear } = own;

/** Once in a file, before its own hooks. After each test everything equals what runs. */
export function openFabric(): typeof own {
  beforeAll(async () => {
    if (readState(FABRIC_LAB) !== undefined) return clear(); // what a file that failed has left
    await mustLab('up --quiet --fabric --hosts 3');
    const serve = `mkdir -p /run/www; echo '${SERVED}' > /run/www/index.html; busybox httpd -p 80 -h /run/www`;
    await Promise.all(MACHINES.map((name) => must(name, 'sh -c', serve)));
  }, 300_000);
  afterEach(async () => {
    expect(await differences()).toBe('');
  });
  return own;
}

/** Tests of a guide's blocks: it('...', guide('a block')). Nothing of it is left. */
export function typing(page: string): (block: string) => Promise<void> {
  const opened = openGuide(FABRIC_LAB);
  afterAll(async () => {
    opened.close();
    await clear();
  });
  return (block) => opened.type(blockOf(page, block));
}
