import fs from 'node:fs';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { clean, inRouter, MAP, NOTHING, port, state } from '../../../test/hostState.ts';
import { isolate } from '../../../test/isolation.ts';
import { closeSocket, listNamespaces } from '../../linux/netns.ts';
import { startDataplane } from './index.ts';

beforeAll(isolate);
afterEach(clean);

it('the worker applies states one after the other, the last one holds', async () => {
  const dataplane = await startDataplane();
  const many = [state({}), state({ ports: [port(2), port(3)] }), NOTHING, state({ publications: [MAP] })];
  const reports = await Promise.all(many.map((wanted) => dataplane.apply(wanted)));
  expect(reports.map((r) => r.failed)).toEqual([[], [], [], []]);
  expect(inRouter('ip route')).toContain(`20.1.1.2 dev ${port(2).device}`);
  expect(inRouter('ip route')).not.toContain('20.1.1.3 ');
  await dataplane.close();
});

it('closing leaves the kernel as it is, calls afterwards fail', async () => {
  const dataplane = await startDataplane();
  await dataplane.apply(state({}));
  await dataplane.close();
  expect(listNamespaces()).toEqual(['contiv-default']);
  expect(inRouter('ip route')).toContain('20.1.1.2');
  await expect(dataplane.apply(state({}))).rejects.toThrow('the data plane has ended');
});

it('closing leaves alone what others have opened since', async () => {
  const dataplane = await startDataplane();
  await dataplane.apply(state({}));
  const files = Array.from({ length: 64 }, () => fs.openSync('/dev/null', 'r'));
  await dataplane.close();
  for (const fd of files) {
    expect(() => fs.fstatSync(fd)).not.toThrow();
    fs.closeSync(fd);
  }
});

it('a call that fails is refused with its reason, and the worker goes on', async () => {
  const dataplane = await startDataplane();
  await expect(dataplane.openNameserver('contiv-nowhere')).rejects.toThrow(/contiv-nowhere: ENOENT/);
  await dataplane.apply(state({}));
  const sockets = await dataplane.openNameserver('contiv-default');
  for (const fd of Object.values(sockets)) closeSocket(fd);
  const client = { address: '20.1.1.2', port: 4711 };
  expect(await dataplane.originalDestination('contiv-default', 'udp', client)).toBeUndefined();
  expect(await dataplane.originalDestination('contiv-nowhere', 'udp', client)).toBeUndefined();
  await dataplane.close();
});
