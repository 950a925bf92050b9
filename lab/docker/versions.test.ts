import { expect, it } from 'vitest';
import { readDocker } from './versions.ts';

it('a lab has the Docker and the firewall that it is told, or the machine’s', () => {
  expect(readDocker('', '')).toEqual({});
  expect(readDocker('28', '')).toEqual({ docker: '28' });
  expect(readDocker('29', 'nftables')).toEqual({ docker: '29', firewallBackend: 'nftables' });
});

it.each([
  ['27', '', "--docker: '27' must be 28 or 29; without it the machine's own is used"],
  ['29', 'ufw', "--firewall-backend: 'ufw' must be iptables or nftables"],
  ['28', 'nftables', '--firewall-backend: needs --docker 29, the first that has the flag'],
  ['', 'iptables', '--firewall-backend: needs --docker 29, the first that has the flag'],
])('--docker %o --firewall-backend %o is refused in one line', (version, backend, message) => {
  expect(() => readDocker(version, backend)).toThrow(message);
});
