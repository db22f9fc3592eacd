import { config } from 'zod';

/** A command checks a few values: making code for each shape takes longer than checking them without. */
config({ jitless: true });
