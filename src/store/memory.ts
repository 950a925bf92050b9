/** A store that ends with its process: for tests and trials. */
import { noJournal, openEngine } from './engine.ts';
import type { Store } from './store.ts';

export const openMemory = (): Store => openEngine(noJournal());
