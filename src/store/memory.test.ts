import { describe } from 'vitest';
import { openMemory } from './memory.ts';
import { testStore } from './suite.ts';

describe('memory store', () => {
  testStore({
    open: async () => openMemory(),
    // It keeps 10,000 transactions at least, 20,000 at most.
    async compact(store) {
      for (let i = 0; i <= 20_000; i++) await store.transact([], [{ key: 'filler', value: i }]);
      return store;
    },
  });
});
