/**
 * Encryption of what goes between hosts: which devices of WireGuard's this host has, with which keys, whom they know, and by which of them it sends.
 *
 *   own keys --epoch--> device at the epoch's place     a peer: each member that has told a key of that epoch
 *   member --> the newest epoch that both have keys of, the active one at most --> the device that what is for it leaves by;
 *              where both have newer ones alone, as netmaster's store was put back, the oldest of them
 *
 * A member that has told none of these is sent nothing: not in the clear either. One that is away, whose containers may run on, keeps the
 * keys that it has told last.
 */
import { type HostKey, keyOf } from '../../model/encryption.ts';
import { WIREGUARD } from '../constants.ts';
import type { LocalHost, View } from '../intent/view.ts';
import type { Encryption, Wireguard } from '../state.ts';

/** Outer IP and UDP headers, and WireGuard's own with its tag (the paper at wireguard.com, 5.4.6). */
const OVERHEAD = { 4: 60, 6: 80 } as const;

/** What is left to tunnels of an underlay's MTU. */
export const encryptedMtu = (underlay: string, mtu: number): number =>
  mtu - OVERHEAD[underlay.includes(':') ? 6 : 4];

/** Of the members, by their underlay address. */
export function keysOf(
  { hosts }: Pick<View, 'hosts'>,
  { lastUnderlays, lastKeys = new Map() }: Pick<LocalHost, 'lastUnderlays' | 'lastKeys'>,
): ReadonlyMap<string, readonly HostKey[]> {
  const away = [...lastUnderlays].flatMap(([host, underlay]) =>
    hosts.has(host) ? [] : ([[underlay, lastKeys.get(host) ?? []]] as const),
  );
  // Who lives has the address now, whoever had it before.
  return new Map([...away, ...[...hosts.values()].map((h) => [h.underlay, h.keys ?? []] as const)]);
}

export interface EncryptionInput {
  /** This host's own. */
  readonly keys: readonly HostKey[];
  readonly active: number;
  /** What is left to tunnels. */
  readonly mtu: number;
  readonly members: readonly string[];
  readonly keysOf: ReadonlyMap<string, readonly HostKey[]>;
}

export function compileEncryption(input: EncryptionInput): Encryption {
  const { keys, active, mtu, members } = input;
  const inOrder = keys.toSorted((a, b) => a.epoch - b.epoch);
  const devices = inOrder.map(({ epoch, key }): Wireguard => {
    const { device, port } = placeOf(epoch);
    const seen = new Set([key]);
    const peers = members.flatMap((address) => {
      const publicKey = keyOf(input.keysOf.get(address), epoch);
      // Of two that tell one key, which netmaster refuses, WireGuard would know one.
      if (publicKey === undefined || seen.has(publicKey)) return [];
      seen.add(publicKey);
      return [{ address, publicKey }];
    });
    return { device, port, mtu, publicKey: key, peers };
  });
  const usable = [
    ...inOrder.filter(({ epoch }) => epoch <= active).toReversed(),
    ...inOrder.filter(({ epoch }) => epoch > active),
  ];
  const ways = members.flatMap((address) => {
    const epoch = usable.find((own) => keyOf(input.keysOf.get(address), own.epoch) !== undefined)?.epoch;
    return epoch === undefined ? [] : [{ address, device: placeOf(epoch).device }];
  });
  return { devices, ways };
}

const placeOf = (epoch: number): (typeof WIREGUARD)[number] => WIREGUARD[epoch % 2 === 1 ? 0 : 1];
