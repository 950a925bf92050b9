import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { NOTHING, REPORT } from '../../../test/hostState.ts';
import type { Exit } from '../state.ts';
import { followAdmission } from './admission.ts';

function following() {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const asked: boolean[] = [];
  const world = { admit: async (): Promise<readonly string[]> => [], looks: 0 };
  const admission = followAdmission({
    repaired: () => {},
    dataplane: {
      admit(wanted) {
        asked.push(wanted);
        return world.admit();
      },
    },
    firewalls: {
      dropped: [],
      look: async () => {
        world.looks++;
      },
    },
    log: pino({ level: 'silent' }),
  });
  /** The kernel has so many exits. */
  const passed = (exits: number, verified = false): boolean => {
    const state = { ...NOTHING, exits: Array.from({ length: exits }, () => ({}) as Exit) };
    return admission.changed({ type: 'kernel', state, report: REPORT, verified });
  };
  const settled = (): Promise<boolean> =>
    Promise.race([admission.settled().then(() => true), vi.advanceTimersByTimeAsync(0).then(() => false)]);
  return { admission, world, asked, passed, settled };
}

it('the first exit is waited for until it is let through; later looks hold nothing up', async () => {
  const { world, asked, passed, settled } = following();
  expect([passed(0), await settled(), asked]).toEqual([false, true, []]);
  const first = Promise.withResolvers<readonly string[]>();
  world.admit = () => first.promise;
  expect([passed(1), await settled()]).toEqual([true, false]);
  first.resolve([]);
  await vi.advanceTimersByTimeAsync(0);
  expect([await settled(), world.looks]).toEqual([true, 1]);
  world.admit = () => new Promise(() => {});
  expect([passed(2), passed(2, true), await settled(), asked]).toEqual([false, false, true, [true, true]]);
});

it('what fails is tried again until the way is open', async () => {
  const { world, passed, settled } = following();
  world.admit = () => Promise.reject(new Error('no iptables'));
  passed(1);
  await vi.advanceTimersByTimeAsync(5000);
  expect(await settled()).toBe(false);
  world.admit = async () => [];
  await vi.advanceTimersByTimeAsync(1000);
  expect(await settled()).toBe(true);
});

it.each([
  [0, [true, false]],
  [1, [true]],
])('where %i exits are left at the end, Docker’s firewall was asked %j', async (left, calls) => {
  const { admission, asked, passed } = following();
  passed(1);
  await vi.advanceTimersByTimeAsync(0);
  passed(left);
  await admission.close();
  expect(asked).toEqual(calls);
});

it('an agent that ends before its first pass leaves what another one left running', async () => {
  const { admission, asked } = following();
  await admission.close();
  expect(asked).toEqual([]);
});
