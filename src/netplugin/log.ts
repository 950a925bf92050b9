import { type Logger, pino } from 'pino';

/**
 * The agent's log: lines of JSON on standard error. Each is written before the call returns, on the thread that calls: where another thread
 * writes it a moment later, as pino has it by default, it is lost when nftables is read just then (discarding, linux/libc.ts).
 */
export const openLog = (level: string, host: string): Logger =>
  pino({ name: 'netplugin', level, base: { host } }, pino.destination({ dest: 2, sync: true }));
