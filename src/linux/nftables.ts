/**
 * nftables through libnftables, in process: a context takes the commands of nft(8) as text; the commands of
 * one call are one transaction in the kernel. A context belongs to the namespace that it was opened in.
 */
import koffi from 'koffi';
import * as libc from './libc.ts';

const lib = koffi.load('libnftables.so.1');
const contextNew = lib.func('void *nft_ctx_new(uint32_t flags)');
const contextFree = lib.func('void nft_ctx_free(void *ctx)');
const bufferOutput = lib.func('int nft_ctx_buffer_output(void *ctx)');
const bufferError = lib.func('int nft_ctx_buffer_error(void *ctx)');
const output = lib.func('const char *nft_ctx_get_output_buffer(void *ctx)');
const errorOutput = lib.func('const char *nft_ctx_get_error_buffer(void *ctx)');
const setOutputFlags = lib.func('void nft_ctx_output_set_flags(void *ctx, unsigned int flags)');
const runCommands = lib.func('int nft_run_cmd_from_buffer(void *ctx, const char *buf)');

const OUTPUT_JSON = 1 << 4;
const OUTPUT_NUMERIC = (1 << 6) | (1 << 7) | (1 << 9); // protocol, priority, time; libnftables(3)

/**
 * Past its own buffer libnftables 1.0.6 writes there that it has no JSON for a statement (one that makes a map's element), for each of
 * them at each listing; it gives the statement's text in the JSON then, which is all we need. A call is synchronous, and our log is
 * written on the same thread (netplugin/log.ts): nobody's line is lost meanwhile.
 */
const STDERR = 2;

/** nft refused the commands; nothing of them took effect. */
export class NftError extends Error {}

export interface Nft {
  /** Throws NftError with nft's first line. */
  run(commands: string): void;
  /** The JSON answer of a list command: the elements of its `nftables` array. */
  list(command: string): Record<string, unknown>[];
  close(): void;
}

/** Opened in the thread's current namespace. */
export function openNft(): Nft {
  const context = withLow(() => contextNew(0));
  if (context === null)
    throw new NftError('no nftables context: is nf_tables in this kernel, and is this root?');
  bufferOutput(context);
  bufferError(context);
  setOutputFlags(context, OUTPUT_JSON | OUTPUT_NUMERIC);
  const call = (commands: string): string => {
    if (runCommands(context, commands) !== 0) {
      const message = (errorOutput(context) as string | null) ?? '';
      throw new NftError(
        message.trim().replace(/\n.*/s, '') || 'nft refused the commands and gave no reason',
      );
    }
    return (output(context) as string | null) ?? '';
  };
  return {
    run(commands) {
      call(commands);
    },
    list(command) {
      const text = libc.discarding(STDERR, () => call(command));
      return text === '' ? [] : (JSON.parse(text) as { nftables: Record<string, unknown>[] }).nftables;
    },
    close() {
      contextFree(context);
      holdLow();
    },
  };
}

/**
 * libnftables waits for its socket with select(2), and glibc ends a process that does so for a number of 1024 or more.
 * Some low numbers are held until one is needed, however many files others open.
 */
const held: number[] = [];
/** More than other threads can take in the moment when they are free. */
const HELD = 8;

function holdLow(): void {
  while (held.length < HELD) {
    const fd = libc.open('/dev/null', 0);
    if (fd >= libc.LOW_DESCRIPTORS) {
      libc.close(fd);
      return;
    }
    held.push(fd);
  }
}

/** Runs `make` when low numbers are free. */
function withLow<T>(make: () => T): T {
  holdLow();
  if (held.length < HELD)
    throw new NftError('no nftables context: the first 1024 file descriptors are taken');
  for (const fd of held.splice(0)) libc.close(fd);
  try {
    return make();
  } finally {
    holdLow();
  }
}
