/** What one pass over the kernel counts and finds; it becomes the ApplyReport. */
import type { Netlink, Request } from '../../linux/netlink.ts';

export interface Pass {
  /** The kernel is read and compared, not only written. */
  verify: boolean;
  /** See ApplyReport. */
  complete: boolean;
  writes: number;
  reads: number;
  readonly repaired: string[];
  readonly lost: string[];
  readonly failed: { endpoint?: string; message: string }[];
  readonly created: string[];
  /** See ApplyReport. */
  awaited: boolean;
}

export const message = (error: unknown): string => (error as Error).message;

/** Sends; a failure is reported, but for these codes, and does not keep the others from happening. */
export function send(
  netlink: Netlink,
  requests: readonly Request[],
  pass: Pass,
  where: string,
  fine: readonly string[] = [],
): void {
  pass.writes += requests.length;
  for (const error of netlink.batch(requests))
    if (error !== undefined && !fine.includes(error.code))
      pass.failed.push({ message: `${where}: ${error.message}` });
}
