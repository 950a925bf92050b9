/**
 * Which hosts live: each has a lease that its heartbeats renew, and with the lease the host's object goes.
 */
import { Value } from '@sinclair/typebox/value';
import { HOST_TTL, type Host } from '../model/host.ts';
import type { Store } from '../store/store.ts';
import { type Mirror, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { Writer } from './writer.ts';

export interface Hosts {
  /** The host lives as it says. Throws a Refusal where its underlay or its name is another's. */
  beat(host: Host): Promise<void>;
}

export interface HostsOptions {
  readonly store: Pick<Store, 'grant' | 'renew'>;
  readonly mirror: Mirror;
  readonly writer: Writer;
}

export function openHosts({ store, mirror, writer }: HostsOptions): Hosts {
  const leases = new Map<string, string>();
  const beating = new Map<string, Promise<void>>();

  function refuseTwin({ name, underlay, run }: Host): void {
    const own = mirror.get<Host>('host', name);
    const moved = run !== undefined && own?.run === run;
    if (own !== undefined && own.underlay !== underlay && !moved)
      throw new Refusal(
        409,
        `host ${name}: is alive with underlay ${own.underlay}, and cannot have ${underlay} too: another host needs another name (netplugin --host), one whose agent was started anew is taken ${HOST_TTL} s after its last word`,
        'name',
      );
    const twin = mirror.list<Host>('host').find((h) => h.name !== name && h.underlay === underlay);
    if (twin !== undefined)
      throw new Refusal(409, `host ${name}: underlay ${underlay} is host ${twin.name}'s already`, 'underlay');
  }

  async function beat(host: Host): Promise<void> {
    const { name } = host;
    refuseTwin(host);
    const held = leases.get(name);
    const alive = held !== undefined && (await store.renew(held));
    if (alive && Value.Equal(mirror.get<Host>('host', name), host)) return;
    const lease = alive ? held : await store.grant(HOST_TTL);
    leases.set(name, lease);
    await writer.write(() => {
      refuseTwin(host); // may have come meanwhile
      return { checks: [], writes: [{ key: storeKey('host', name), value: host, lease }], answer: undefined };
    });
  }

  return {
    // One after the other for each host: of two leases one would end, and the host with it.
    beat(host) {
      const before = beating.get(host.name) ?? Promise.resolve();
      const own = before.catch(() => {}).then(() => beat(host));
      beating.set(host.name, own);
      const done = (): void => {
        if (beating.get(host.name) === own) beating.delete(host.name);
      };
      own.then(done, done);
      return own;
    },
  };
}
