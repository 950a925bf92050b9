import { describe, expect, it } from 'vitest';
import { readOptions } from './options.ts';

const read = (...flags: string[]) => readOptions(['--netmaster', 'http://10.0.0.1:9999', ...flags]);

describe("netkube's command line", () => {
  it('needs netmaster alone', () => {
    expect(read('--identity', 'a')).toEqual({
      netmasters: ['http://10.0.0.1:9999'],
      credentialFiles: {},
      account: '',
      kubeconfig: '',
      tenant: 'default',
      network: 'pods',
      subnet: '',
      subnet6: '',
      listen: { host: '127.0.0.1', port: 9996 },
      leaseNamespace: 'contiv-system',
      identity: 'a',
      logLevel: 'info',
    });
    expect(readOptions(['--help'])).toBe('help');
  });

  it.each([
    [['--tenant', 'a b'], "--tenant: 'a b' must be 1 to 63 letters, digits or '-', not at either end"],
    [
      ['--subnet', '10.0.0.1-10.0.0.9/24'],
      "--subnet: '10.0.0.1-10.0.0.9/24' is not an IPv4 prefix like 10.32.0.0/16",
    ],
    [['--subnet6', '10.32.0.0/16'], "--subnet6: '10.32.0.0/16' is not an IPv6 prefix like fd32::/64"],
    [['--listen', '9996'], "--listen: '9996' must be HOST:PORT, e.g. 127.0.0.1:9996"],
    [['--log-level', 'loud'], "--log-level: 'loud' must be one of debug, info, warn, error, fatal, silent"],
  ])('refuses %j in one line', (flags, message) => {
    expect(() => read(...flags)).toThrow(message);
  });

  it('refuses to do without netmaster', () => {
    expect(() => readOptions([])).toThrow('--netmaster is missing: the URL where netmaster answers');
    expect(() => readOptions(['--netmaster', 'x'])).toThrow("--netmaster: 'x' is not a URL");
  });
});
