import { expect, it } from 'vitest';
import { openView } from '../../intent/view.ts';
import { openWorkloads } from './workloads.ts';

const workload = (uid: string) => ({
  namespaceName: 'ns1',
  workloadName: 'web-0',
  uid,
  tenantName: 'default',
  networkName: 'net1',
});
const POD = { namespace: 'ns1', name: 'web-0', uid: 'u2' };

function open(within?: number) {
  const view = openView();
  const workloads = openWorkloads({ view }, within === undefined ? {} : { within });
  const tell = (uid: string): void => {
    view.put({ kind: 'workload', key: 'ns1:web-0', object: workload(uid) });
    workloads.changed({ type: 'view', objects: [], listed: false });
  };
  return { workloads, tell };
}

it('waits for a pod’s workload, which is not that of an earlier pod of the name', async () => {
  const { workloads, tell } = open();
  tell('u1');
  let found: unknown;
  const waiting = workloads.await(POD, new AbortController().signal).then((w) => {
    found = w;
  });
  await new Promise((done) => setImmediate(done));
  expect(found).toBeUndefined();
  tell('u2');
  await waiting;
  expect(found).toEqual(workload('u2'));
  expect(await workloads.await(POD, AbortSignal.abort())).toEqual(workload('u2'));
  expect(await workloads.await({ ...POD, uid: '' }, AbortSignal.abort())).toEqual(workload('u2'));
});

it('has the runtime try again later where it does not come, and waits for nobody who has gone', async () => {
  const refusal = {
    code: 11,
    message: 'pod ns1/web-0 is not known to netmaster yet: is netkube running?',
  };
  await expect(open(1).workloads.await(POD, new AbortController().signal)).rejects.toMatchObject(refusal);
  const gone = new AbortController();
  const waiting = open().workloads.await(POD, gone.signal);
  gone.abort();
  await expect(waiting).rejects.toMatchObject(refusal);
  await expect(open().workloads.await(POD, AbortSignal.abort())).rejects.toMatchObject(refusal);
});
