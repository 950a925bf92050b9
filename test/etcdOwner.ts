/** A process that does one large transaction on etcd and gets a signal in front of one of its steps: ENDPOINTS NAME STEP SIGNAL. */
import { openEtcd } from '../src/store/etcd/etcd.ts';

const [endpoints = '', name = '', step, signal] = process.argv.slice(2);
const store = await openEtcd(
  { endpoints: endpoints.split(','), name },
  {
    async before(now) {
      if (now !== step) return;
      process.kill(process.pid, signal as NodeJS.Signals);
      // Until it has arrived.
      await new Promise((done) => setTimeout(done, 50));
    },
  },
);
const all = Array.from({ length: 300 }, (_, i) => ({ key: `k/${i}`, value: 'large' }));
try {
  const outcome = await store.transact([{ key: 'k/0', revision: 0 }], all);
  process.stdout.write(`${JSON.stringify(outcome)}\n`);
} catch (error) {
  process.stdout.write(`${JSON.stringify({ error: (error as Error).message })}\n`);
}
await store.close();
