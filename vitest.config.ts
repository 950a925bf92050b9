import { defineConfig } from 'vitest/config';

/** Layers: unit needs nothing, kernel needs root, lab needs root and Docker and shares one lab. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['src/**/*.test.ts', 'lab/**/*.test.ts', 'test/*.test.ts'],
          exclude: ['**/*.kernel.test.ts', '**/*.lab.test.ts'],
          testTimeout: 60_000,
          // Many of them wait for processes and timers: one more than small machines have processors.
          maxWorkers: 3,
        },
      },
      {
        test: {
          name: 'kernel',
          include: ['src/**/*.kernel.test.ts'],
          fileParallelism: false,
          testTimeout: 60_000,
          globalSetup: 'test/root.ts',
        },
      },
      {
        test: {
          name: 'lab',
          include: ['test/*.lab.test.ts'],
          fileParallelism: false,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          globalSetup: 'test/labSetup.ts',
        },
      },
    ],
  },
});
