/** The interface by which networks of encapsulation vlan go, as it comes, goes and changes. */
import type { Logger } from 'pino';
import { INTERFACE_GROUPS, openListener, openNetlink } from '../../linux/netlink.ts';
import { listLinks } from '../../linux/route.ts';
import { inTurn } from '../../turns.ts';
import { LISTEN_INTERVAL } from '../intervals.ts';

export interface Uplink {
  readonly device: string;
  readonly mtu: number;
}

export interface FollowedUplink {
  /** As it is, or was while it is not there; undefined: none was given, or it has never been there. The same object until it changes. */
  readonly now: Uplink | undefined;
  /** Why frames do not leave by it, in one plain line; '' where they do, and where none was given. */
  readonly problem: string;
  onChange(listener: () => void): void;
  close(): void;
}

const NONE: FollowedUplink = { now: undefined, problem: '', onChange() {}, close() {} };

export function followUplink(device: string | undefined, log: Logger): FollowedUplink {
  if (device === undefined) return NONE;
  const listener = openListener(INTERFACE_GROUPS);
  const listeners: (() => void)[] = [];
  let now: Uplink | undefined;
  let problem = '';

  function look(): void {
    const netlink = openNetlink();
    const before = now;
    const known = problem;
    try {
      const link = listLinks(netlink).find((l) => l.name === device);
      if (link === undefined) problem = `--uplink: no interface '${device}' on this host`;
      else {
        problem = link.running ? '' : `--uplink: interface ${device} is down`;
        if (now?.mtu !== link.mtu) now = { device: link.name, mtu: link.mtu };
      }
    } finally {
      netlink.close();
    }
    if (problem !== '' && problem !== known) log.warn(`${problem}: VLAN networks do not act here`);
    if (problem === '' && known !== '') log.info({ uplink: now }, 'VLAN networks act here again');
    if (now !== before || problem !== known) for (const changed of listeners) changed();
  }
  look();
  const looks = inTurn(async () => look(), { every: LISTEN_INTERVAL, due: () => listener.heard() });
  return {
    get now() {
      return now;
    },
    get problem() {
      return problem;
    },
    onChange: (changed) => void listeners.push(changed),
    close() {
      void looks.close();
      listener.close();
    },
  };
}
