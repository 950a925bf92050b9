import fs from 'node:fs';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { clean, inRouter, MAP, NOTHING, port, state } from '../../../test/hostState.ts';
import { isolate } from '../../../test/isolation.ts';
import { listNamespaces } from '../../linux/netns.ts';
import type { RuleSet } from '../state.ts';
import { startDataplane } from './index.ts';

beforeAll(isolate);
afterEach(clean);

const RULES: RuleSet = {
  id: 7,
  name: 'in default: prod_web',
  narrowed: [],
  decisions: [{ group: 0, protocol: 6, rule: 1, action: 'deny', key: 'default:prod_web:1' }],
};

it('states are applied one after the other, the last one holds', async () => {
  const dataplane = startDataplane();
  const many = [state({}), state({ ports: [port(2), port(3)] }), NOTHING, state({ publications: [MAP] })];
  const reports = await Promise.all(many.map((wanted) => dataplane.apply(wanted)));
  expect(reports.map((r) => r.failed)).toEqual([[], [], [], []]);
  expect(inRouter('ip route')).toContain(`20.1.1.2 dev ${port(2).device}`);
  expect(inRouter('ip route')).not.toContain('20.1.1.3 ');
  await dataplane.close();
});

it('closing leaves the kernel as it is, calls afterwards fail', async () => {
  const dataplane = startDataplane();
  await dataplane.apply(state({}));
  await dataplane.close();
  expect(listNamespaces()).toEqual(['contiv-default']);
  expect(inRouter('ip route')).toContain('20.1.1.2');
  await expect(dataplane.apply(state({}))).rejects.toThrow('the data plane has ended');
});

it('closing leaves alone what others have opened since', async () => {
  const dataplane = startDataplane();
  await dataplane.apply(state({}));
  const files = Array.from({ length: 64 }, () => fs.openSync('/dev/null', 'r'));
  await dataplane.close();
  for (const fd of files) {
    expect(() => fs.fstatSync(fd)).not.toThrow();
    fs.closeSync(fd);
  }
});

it('closing leaves the denied packets to the next, and nothing open in routers', async () => {
  const judged = state({ ports: [port(2, { judgedIn: 7 })], ruleSets: [RULES] });
  /** Netlink port of the socket that gets what is logged. */
  const logged = (): string | undefined =>
    inRouter('cat /proc/net/netfilter/nfnetlink_log').trim().split(/\s+/)[1];
  const sockets = (): number => inRouter('cat /proc/net/netlink').split('\n').length;
  const programs = (): number =>
    fs.readdirSync('/proc/self/fd').filter((fd) => isBpf(`/proc/self/fd/${fd}`)).length;
  await startDataplane().close(); // libnftables' low descriptors stay
  const before = { files: fs.readdirSync('/proc/self/fd').length, programs: programs() };
  const dataplane = startDataplane();
  await dataplane.apply(judged);
  await dataplane.observe();
  const open = { log: logged(), sockets: sockets(), programs: programs() };
  expect(open.programs).toBe(before.programs + 5); // four maps and a program
  expect(open.log).toBeDefined();
  await dataplane.close();
  expect(logged()).toBeUndefined();
  expect(programs()).toBe(before.programs);
  expect(fs.readdirSync('/proc/self/fd').length).toBe(before.files);
  const next = startDataplane();
  await next.apply(judged);
  await next.observe();
  expect(logged()).toBeDefined();
  expect(sockets()).toBe(open.sockets);
  await next.close();
});

function isBpf(link: string): boolean {
  try {
    return fs.readlinkSync(link).startsWith('anon_inode:bpf-');
  } catch {
    return false; // the one that read the folder
  }
}
