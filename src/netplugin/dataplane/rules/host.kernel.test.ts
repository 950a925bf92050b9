import { afterEach, beforeAll, expect, it } from 'vitest';
import { applied, BLUE, clean, state, VNI } from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { PROBE_TAG } from '../../constants.ts';
import { openApplier } from '../applier.ts';

beforeAll(isolate);
afterEach(clean);

const vnis = (): number[] =>
  JSON.parse(sh('nft -j list set inet contiv vnis')).nftables.flatMap(
    (item: { set?: { elem: number[] } }) => item.set?.elem ?? [],
  );

it('takes frames of a tunnel no longer that goes while another one comes', () => {
  const applier = openApplier();
  applied(applier, state({}));
  expect(vnis()).toEqual([VNI, PROBE_TAG]);
  applied(applier, state(BLUE));
  expect(vnis()).toEqual([BLUE.vni, PROBE_TAG]);
  applier.close();
});
