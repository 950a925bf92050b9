import fs from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../test/isolation.ts';
import {
  bindPort,
  closeSocket,
  createNamespace,
  deleteNamespace,
  inNamespace,
  isNamespace,
  listNamespaces,
  namespaceId,
  namespacePath,
  setSysctl,
} from './netns.ts';

const OWN = '/proc/thread-self/ns/net';

beforeAll(isolate);

/** Creates the namespace for the test's length. */
function using(name: string, test: (file: string) => void): void {
  createNamespace(name);
  try {
    test(namespacePath(name));
  } finally {
    deleteNamespace(name);
  }
}

describe('named namespaces', () => {
  it('are listed, by us and by ip netns, until they are deleted', () => {
    using('t-listed', () => {
      expect(listNamespaces()).toContain('t-listed');
      expect(sh('ip netns list')).toMatch(/^t-listed\b/m);
    });
    expect(listNamespaces()).not.toContain('t-listed');
    expect(fs.existsSync(namespacePath('t-listed'))).toBe(false);
  });

  it('made by ip netns are listed too, and can be deleted', () => {
    sh('ip netns add t-foreign');
    expect(listNamespaces()).toContain('t-foreign');
    deleteNamespace('t-foreign');
    expect(sh('ip netns list')).not.toContain('t-foreign');
  });

  it('made by us can be deleted by ip netns after it has made others', () => {
    createNamespace('t-before');
    sh('ip netns add t-after');
    sh('ip netns del t-before; ip netns del t-after');
    expect(listNamespaces()).toEqual([]);
  });

  it('are not made twice under one name', () => {
    using('t-twice', (file) => {
      const id = namespaceId(file);
      expect(() => createNamespace('t-twice')).toThrow(/EEXIST/);
      expect(namespaceId(file)).toBe(id);
    });
  });

  it('have an id each, none where there is none', () => {
    using('t-one', (one) =>
      using('t-two', (two) => {
        expect(namespaceId(one)).toBeTypeOf('number');
        expect(namespaceId(one)).not.toBe(namespaceId(two));
      }),
    );
    expect(namespaceId(namespacePath('t-one'))).toBeUndefined();
  });

  it('may be deleted when they are gone already', () => {
    expect(() => deleteNamespace('t-never')).not.toThrow();
  });

  it('are not files that lost their mount, which can be deleted like one', () => {
    fs.writeFileSync(namespacePath('t-left'), '');
    expect(listNamespaces()).not.toContain('t-left');
    expect(isNamespace(namespacePath('t-left'))).toBe(false);
    deleteNamespace('t-left');
    expect(fs.existsSync(namespacePath('t-left'))).toBe(false);
  });
});

describe('inNamespace', () => {
  it('runs there, answers the value and comes back', () => {
    using('t-enter', (file) => {
      const before = namespaceId(OWN);
      expect(inNamespace(file, () => namespaceId(OWN))).toBe(namespaceId(file));
      expect(namespaceId(OWN)).toBe(before);
    });
  });

  it('comes back after an error', () => {
    using('t-error', (file) => {
      const before = namespaceId(OWN);
      expect(() =>
        inNamespace(file, () => {
          throw new Error('inside');
        }),
      ).toThrow('inside');
      expect(namespaceId(OWN)).toBe(before);
    });
  });

  it('names the file that is no namespace, and stays', () => {
    const before = namespaceId(OWN);
    expect(() => inNamespace('/run/netns/t-none', () => 0)).toThrow('open /run/netns/t-none: ENOENT');
    expect(() => inNamespace('/etc/hostname', () => 0)).toThrow(/setns.*EINVAL/);
    expect(namespaceId(OWN)).toBe(before);
  });

  it('nests', () => {
    using('t-outer', (outer) =>
      using('t-inner', (inner) => {
        inNamespace(outer, () => {
          inNamespace(inner, () => expect(namespaceId(OWN)).toBe(namespaceId(inner)));
          expect(namespaceId(OWN)).toBe(namespaceId(outer));
        });
      }),
    );
  });

  it('leaks no file descriptor', () => {
    using('t-leak', (file) => {
      const count = () => fs.readdirSync('/proc/self/fd').length;
      inNamespace(file, () => 0);
      const before = count();
      for (let i = 0; i < 100; i++) inNamespace(file, () => 0);
      expect(count()).toBe(before);
    });
  });
});

describe('setSysctl', () => {
  it('changes the current namespace only, and says whether it changed anything', () => {
    using('t-sysctl', (file) => {
      const forwarding = () => fs.readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim();
      const before = forwarding();
      inNamespace(file, () => {
        setSysctl('net/ipv4/ip_forward', '0');
        expect(setSysctl('net/ipv4/ip_forward', '1')).toBe(true);
        expect(setSysctl('net/ipv4/ip_forward', '1')).toBe(false);
        expect(forwarding()).toBe('1');
      });
      expect(forwarding()).toBe(before);
    });
  });
});

describe('bindPort', () => {
  it.each(['tcp', 'udp'] as const)('holds a %s port until it is closed', (protocol) => {
    for (const address of ['127.0.0.1', '::1']) {
      const fd = bindPort(protocol, address, 5353);
      expect(() => bindPort(protocol, address, 5353)).toThrow(/EADDRINUSE/);
      closeSocket(fd);
      closeSocket(bindPort(protocol, address, 5353));
    }
  });

  it('leaves the port free in other namespaces', () => {
    using('t-port', (file) => {
      const here = bindPort('tcp', '0.0.0.0', 5354);
      const there = inNamespace(file, () => bindPort('tcp', '0.0.0.0', 5354));
      closeSocket(here);
      closeSocket(there);
    });
  });

  it('takes IPv4 and IPv6 of one port apart', () => {
    const v4 = bindPort('tcp', '0.0.0.0', 5355);
    const v6 = bindPort('tcp', '::', 5355);
    closeSocket(v4);
    closeSocket(v6);
  });
});
