/** The time of day, as the API has it: in events, conditions and leases. */

/** RFC 3339, to the second (metav1.Time). */
export const now = (): string => new Date().toISOString().replace(/\.\d+Z$/, 'Z');

/** RFC 3339, to the microsecond (metav1.MicroTime). */
export const microNow = (): string => new Date().toISOString().replace(/Z$/, '000Z');
