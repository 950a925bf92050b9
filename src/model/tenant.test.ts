import { describe, expect, it } from 'vitest';
import { worldOf } from '../../test/world.ts';
import { tenant } from './tenant.ts';

const check = (tenantName: string) => tenant.check?.({ tenantName }, worldOf({}), undefined);

describe('tenant', () => {
  it('has a DNS label for a name', () => {
    for (const name of ['default', 'Blue', 'a', '0', 'team-7', 'x'.repeat(63)])
      expect(check(name)).toBeUndefined();
  });

  it('is refused with a name that no DNS server could answer', () => {
    for (const name of ['', '-a', 'a-', 'a_b', 'a.b', 'a b', 'ünï', 'a/b', 'a:b', 'a\n', 'x'.repeat(64)])
      expect(check(name), JSON.stringify(name)).toEqual({
        field: 'tenantName',
        status: 400,
        message: `tenant '${name}': tenantName must be a DNS label: 1 to 63 letters, digits or '-', not at either end`,
      });
  });

  it('default cannot be deleted, others can', () => {
    const removal = (tenantName: string) => tenant.checkRemoval?.({ tenantName }, worldOf({}));
    expect(removal('default')).toMatchObject({
      status: 409,
      message: expect.stringContaining('tenant default cannot be deleted'),
    });
    expect(removal('blue')).toBeUndefined();
  });
});
