/** Imports point down the way of the data, never up: docs/architecture.md. */
const only = (name, from, allowed) => ({
  name,
  severity: 'error',
  from: { path: from, pathNot: '\\.test\\.ts$' },
  to: { path: '^(src|lab|test|bench|docs)/', pathNot: allowed },
});

module.exports = {
  forbidden: [
    {
      name: 'no-cycles',
      severity: 'error',
      from: { pathNot: '\\.test\\.ts$' },
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only', 'dynamic-import'] } },
    },
    only('model-knows-model', '^src/model/', '^src/model/'),
    only('linux-knows-linux', '^src/linux/', '^src/linux/'),
    only('store-knows-store', '^src/store/', '^src/store/'),
    only('client-knows-model', '^src/client/', '^src/(client|model)/'),
    only('netctl-knows-client', '^src/netctl/', '^src/(netctl|client|model)/'),
    only(
      'netmaster-knows-store',
      '^src/netmaster/',
      '^src/(netmaster|store|model|client/(protocol|declared))',
    ),
    only(
      'compile-knows-no-kernel',
      '^src/netplugin/compile/',
      '^src/(model/|netplugin/(compile/|inside|state|view|ready|constants))',
    ),
    only(
      'dns-knows-no-kernel',
      '^src/netplugin/dns/',
      '^src/(model/|client/protocol|netplugin/(dns/|view|state|ready|constants|nameservers/router))',
    ),
    only(
      'dataplane-knows-state',
      '^src/netplugin/dataplane/',
      '^src/(linux/|model/address|netplugin/(dataplane/|state|constants|clock))',
    ),
    only('netplugin-knows-client', '^src/netplugin/', '^src/(netplugin|client|model|linux)/'),
    only(
      'runtimes-know-endpoints',
      '^src/netplugin/runtimes/',
      '^src/(model/|client/protocol|linux/netns|netplugin/(runtimes/|inside|view|state|constants|file|control|options|turns|intervals|follower))',
    ),
    only('lab-stands-outside', '^lab/', '^lab/'),
    only('docs-are-made-of-schemas', '^docs/', '^src/(netctl|netmaster|netplugin/options|model|store)'),
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    exclude: { path: 'node_modules' },
    doNotFollow: { path: 'node_modules' },
  },
};
