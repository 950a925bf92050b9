import { describe, expect, it } from 'vitest';
import { checkStoreSpec, readEtcd } from './open.ts';

describe('--store etcd://', () => {
  it('has members, a name, and how to be let in', () => {
    expect(readEtcd('etcd://a:2379')).toEqual({ endpoints: ['a:2379'] });
    expect(
      readEtcd('etcd://etcd-1.example:2379,[fd00::2]:2379/lab.2?ca=/a&cert=/b&key=/c&user=u&passwordFile=/p'),
    ).toEqual({
      endpoints: ['etcd-1.example:2379', '[fd00::2]:2379'],
      name: 'lab.2',
      ca: '/a',
      cert: '/b',
      key: '/c',
      user: 'u',
      passwordFile: '/p',
    });
  });

  it.each([
    ['etcd://', "'' must be HOST:PORT"],
    ['etcd:a:2379', "'' must be HOST:PORT"],
    ['etcd://a', "'a' must be HOST:PORT"],
    ['etcd://a:1,,b:2', "'' must be HOST:PORT"],
    ['etcd://a:2379/a/b', "'a/b' must be letters"],
    ['etcd://a:2379?password=x', "'password' must be one of ca, cert, key, user, passwordFile"],
    ['etcd://a:2379?ca=', 'ca must not be empty'],
    ['etcd://a:2379?cert=/x', 'cert and key must be given together'],
    ['etcd://a:2379?user=x', 'user and passwordFile must be given together'],
  ])('%s is refused', (spec, text) => {
    expect(() => checkStoreSpec(spec)).toThrow(`--store '${spec}': ${text}`);
  });
});
