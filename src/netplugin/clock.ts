/** What work takes. */
export interface Spent {
  readonly seconds: number;
  /** Of this thread. */
  readonly cpuSeconds: number;
}

/** From now until the answer is called; of work that does not wait. */
export function startClock(): () => Spent {
  const began = performance.now();
  const before = process.threadCpuUsage();
  return () => {
    const { user, system } = process.threadCpuUsage(before);
    return { seconds: (performance.now() - began) / 1000, cpuSeconds: (user + system) / 1e6 };
  };
}
