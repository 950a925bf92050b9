/**
 * nftables through libnftables, in process: a context takes the commands of nft(8) as text; the commands of
 * one call are one transaction in the kernel. A context belongs to the namespace that it was opened in.
 */
import koffi from 'koffi';

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
  const context = contextNew(0);
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
      const text = call(command);
      return text === '' ? [] : (JSON.parse(text) as { nftables: Record<string, unknown>[] }).nftables;
    },
    close: () => contextFree(context),
  };
}
