/** Work that must not run twice at once, and that does for several who ask for it. */
export interface Turns<T> {
  /** A run that starts after this call; those who call while one runs share the one after it. */
  next(): Promise<T>;
  /** When nothing runs that was asked for before the call, whatever came of it. */
  idle(): Promise<void>;
}

export function inTurn<T>(run: () => Promise<T>): Turns<T> {
  let running: Promise<void> = Promise.resolve();
  let waiting: Promise<T> | undefined;
  return {
    next() {
      if (waiting === undefined) {
        waiting = running.then(() => {
          waiting = undefined;
          return run();
        });
        running = waiting.then(
          () => {},
          () => {},
        );
      }
      return waiting;
    },
    idle: () => running,
  };
}
