/** What is read from simulated controllers to be followed. */
import { expect, it, onTestFinished, vi } from 'vitest';
import { openApics } from '../../../test/apic/apic.ts';
import { openApic } from './apic.ts';

const PATIENT = { timeout: 30_000, interval: 20 };
const QUERY = 'mo/uni/tn-common.json?query-target=subtree';

async function open(subscribed: number, life?: number) {
  const apics = await openApics(1, { subscribed, ...(life !== undefined && { life }) });
  const [controller] = apics.controllers;
  if (controller === undefined) throw new Error('there is no controller');
  const changed = vi.fn();
  const apic = openApic({
    controllers: [controller.url],
    secret: { user: 'contiv', password: 'secret' },
    refresh: 50,
    changed,
  });
  onTestFinished(async () => {
    apic.close();
    await apics.close();
  });
  const asked = (what: string) => controller.requests.filter((each) => each.endsWith(what)).length;
  return { ...apics, controller, apic, changed, asked };
}

it('is told while it is renewed, asked for once whatever is read', async () => {
  const { fabric, controller, apic, changed, asked } = await open(60);
  await apic.get(QUERY, true);
  await apic.get(QUERY, true);
  expect(controller.subscriptions()).toBe(1);
  await vi.waitFor(() => expect(asked('subscriptionRefresh.json')).toBeGreaterThan(2), PATIENT);
  expect(changed).not.toHaveBeenCalled();
  fabric.post('uni/tn-common/brc-new', { vzBrCP: { attributes: {} } });
  await vi.waitFor(() => expect(changed).toHaveBeenCalled(), PATIENT);
});

it('is told that the controller has given it up, and is subscribed to anew', async () => {
  const { apic, changed } = await open(0);
  for (const times of [1, 2]) {
    await apic.get(QUERY, true);
    await vi.waitFor(() => expect(changed).toHaveBeenCalledTimes(times), PATIENT);
  }
});

it('is renewed by the session that is there, and nobody logs in for it', async () => {
  const { apic, changed, asked } = await open(60, 3);
  await apic.get(QUERY, true);
  const asks = (): number[] => ['aaaLogin.json', 'aaaRefresh.json'].map(asked);
  const before = asks();
  await vi.waitFor(() => expect(changed).toHaveBeenCalled(), PATIENT);
  expect(asks()).toEqual(before);
});

it('is read where the controller has no subscriptions', async () => {
  const { controller, apic } = await open(-1);
  expect((await apic.get(QUERY, true)).length).toBeGreaterThan(0);
  expect(controller.subscriptions()).toBe(0);
});

it('what is read without that is not', async () => {
  const { controller, apic } = await open(60);
  await apic.get(QUERY);
  expect(controller.subscriptions()).toBe(0);
});
