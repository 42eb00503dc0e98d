import { defineConfig } from 'vitest/config';

// Whole-system suites start servers of their own: give them time, and run files in two processes at most.
export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'integration/**/*.test.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    pool: 'forks',
    maxWorkers: 2,
  },
});
