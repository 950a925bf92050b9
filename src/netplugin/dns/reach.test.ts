import { describe, expect, it } from 'vitest';
import { localHost, viewOf } from '../../../test/policySimulator.ts';
import { type PolicyWorld, worldOf } from '../../../test/policyWorlds.ts';
import { judge } from '../../model/verdict.ts';
import { compile } from '../compile/compile.ts';
import type { Port } from '../state.ts';
import { reachOf } from './reach.ts';

const RESOLVERS = ['192.0.2.1', '192.0.2.0', '198.51.100.7', '127.0.0.53', '2001:db8::1', '2001:db8:0:1::1'];

/** A world whose rules about HTTP are about DNS. */
function dnsWorld(seed: number): PolicyWorld {
  const world = worldOf(seed);
  return { ...world, rules: world.rules.map((rule) => (rule.port === 80 ? { ...rule, port: 53 } : rule)) };
}

const port = (more: Partial<Port>): Port => ({
  endpoint: 'e1',
  device: 'ct1',
  peer: 'cc1',
  mac: '02:02:00:00:00:01',
  mtu: 1450,
  addresses: ['20.1.1.2', 'fd00:1::2'],
  gateways: ['20.1.1.254', 'fd00:1::1'],
  network: 1,
  alsoFrom: [],
  joined: true,
  group: 0,
  judgedIn: 0,
  judgedOut: 0,
  ...more,
});
const reach = (...ports: Port[]) => reachOf({ ports, ruleSets: [], ranges: [], portRanges: [] });
const at = (address: string) => ({ address, port: 53 });

describe('a resolver may be asked for a container', () => {
  it('where the out rules of its group would let it ask itself: as they are judged rule by rule', () => {
    const seen = { allow: 0, deny: 0, decided: 0 };
    const wrong: string[] = [];
    for (let i = 0; i < 1000; i++) {
      const world = dnsWorld(1_000_000 + i * 7919);
      const [router] = compile(viewOf(world), localHost(world, 'node1')).routers;
      if (router === undefined) continue;
      const mayAsk = reachOf(router);
      const gateways = new Map(world.networks.map((n) => [n.networkName, [n.gateway, n.ipv6Gateway]]));
      for (const { ipAddress, networkName, homingHost } of world.endpoints) {
        if (homingHost !== 'node1') continue;
        for (const from of ipAddress)
          for (const to of RESOLVERS)
            for (const [name, protocol] of [
              ['udp', 17],
              ['tcp', 6],
            ] as const) {
              const { verdict, decides } = judge(world, { from, to, protocol, port: 53 }).out;
              const ways = (gateways.get(networkName) ?? []).filter((g) => g);
              const family = ways.some((g) => g?.includes(':') === to.includes(':'));
              for (const [named, way] of [
                [false, ways.length > 0],
                [true, family],
              ] as const)
                if (mayAsk(from, name, at(to), named) !== (verdict === 'allow' && way))
                  wrong.push(`world ${i}: ${from} ${name} ${to} ${named}`);
              if (ways.length > 0) seen[verdict]++;
              if (ways.length > 0 && decides !== undefined) seen.decided++;
            }
      }
    }
    expect(wrong).toEqual([]);
    for (const count of Object.values(seen)) expect(count).toBeGreaterThan(500);
  });

  it('where it has a gateway, of whichever family: the host’s resolvers are asked by the host', () => {
    const mayAsk = reach(port({ gateways: ['20.1.1.254'] }), port({ addresses: ['20.1.2.2'], gateways: [] }));
    expect(mayAsk('20.1.1.2', 'udp', at('2001:db8::1'), false)).toBe(true);
    expect(mayAsk('fd00:1::2', 'udp', at('192.0.2.1'), false)).toBe(true);
    expect(mayAsk('20.1.2.2', 'udp', at('192.0.2.1'), false)).toBe(false);
  });

  it('that it has named, where it has a gateway of that family', () => {
    const mayAsk = reach(port({ gateways: ['20.1.1.254'] }));
    expect(mayAsk('20.1.1.2', 'udp', at('192.0.2.1'), true)).toBe(true);
    expect(mayAsk('fd00:1::2', 'udp', at('2001:db8::1'), true)).toBe(false);
  });

  it('by any way that it has, whichever of its addresses asks', () => {
    const mayAsk = reach(
      port({ gateways: [], alsoFrom: ['20.1.2.2'] }),
      port({ addresses: ['20.1.2.2'], alsoFrom: ['20.1.1.2', 'fd00:1::2'] }),
    );
    for (const client of ['20.1.1.2', '20.1.2.2'])
      expect(mayAsk(client, 'udp', at('192.0.2.1'), true)).toBe(true);
  });

  it('for nobody who is not here', () => {
    expect(reach(port({}))('20.1.1.3', 'udp', at('192.0.2.1'), false)).toBe(false);
  });
});
