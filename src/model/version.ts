/** Of netctl, netmaster and netplugin together; package.json has the same. */
export const VERSION = '2.0.0';
