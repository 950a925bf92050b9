/** Imports point down the way of the data, never up, and never in a circle, types' neither: docs/architecture.md. */
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
      to: { circular: true, viaOnly: { dependencyTypesNot: ['dynamic-import'] } },
    },
    only('model-knows-model', '^src/model/', '^src/model/'),
    only('turns-know-nothing', '^src/turns', '^src/turns'),
    only('linux-knows-linux', '^src/linux/', '^src/linux/'),
    only('store-knows-store', '^src/store/', '^src/store/'),
    only('protocol-knows-model', '^src/protocol/', '^src/(protocol|model)/'),
    only('client-knows-protocol', '^src/client/', '^src/(client|protocol|model)/'),
    only('netctl-knows-client', '^src/netctl/', '^src/(netctl|client|protocol|model)/'),
    only('netkube-knows-client', '^src/netkube/', '^src/(turns|(netkube|client|protocol|model|tls)/)'),
    only('tls-knows-tls', '^src/tls/', '^src/tls/'),
    only(
      'netmaster-knows-store',
      '^src/netmaster/',
      '^src/(turns|(netmaster|store|client|protocol|model|tls)/)',
    ),
    {
      name: 'clients-load-no-schemas',
      comment: 'Of the protocol they have the types, and the paths: protocol/wire.ts says why.',
      severity: 'error',
      from: { path: '^src/(client|netctl|netplugin|netkube)/', pathNot: '\\.test\\.ts$' },
      to: { path: '^src/protocol/', pathNot: '^src/protocol/wire', dependencyTypesNot: ['type-only'] },
    },
    only(
      'compile-knows-no-kernel',
      '^src/netplugin/compile/',
      '^src/(model/|netplugin/(compile/|endpoints/inside|intent/view|state|constants))',
    ),
    only(
      'dns-knows-no-kernel',
      '^src/netplugin/dns/',
      '^src/(model/|protocol/|netplugin/(dns/|intent/view|state|constants|nameservers/router))',
    ),
    only(
      'dataplane-knows-state',
      '^src/netplugin/dataplane/',
      '^src/(linux/|model/address|netplugin/(dataplane/|state|constants|clock))',
    ),
    only(
      'rules-are-values',
      '^src/netplugin/dataplane/rules/',
      '^src/(linux/(address|classid|nftables)|model/address|netplugin/(dataplane/(rules/|parts)|state|constants))',
    ),
    only(
      'intent-knows-no-runtime',
      '^src/netplugin/intent/',
      '^src/(turns|client/|model/|protocol/|netplugin/(intent/|dataplane/index|state|constants|intervals|follower))',
    ),
    only(
      'underlay-knows-no-intent',
      '^src/netplugin/underlay/',
      '^src/(turns|linux/|netplugin/(underlay/|dataplane/index|state|intervals|follower))',
    ),
    only(
      'endpoints-know-intent',
      '^src/netplugin/endpoints/',
      '^src/(turns|client/|model/|protocol/|netplugin/(endpoints/|intent/|compile/memo|converge|dataplane/index|runtimes/runtime|file|state|constants|intervals|follower))',
    ),
    only(
      'nameservers-know-dns',
      '^src/netplugin/nameservers/',
      '^src/(turns|linux/|client/|model/|protocol/|netplugin/(nameservers/|dns/|intent/view|control|state|constants|intervals|follower))',
    ),
    only(
      'netplugin-knows-client',
      '^src/netplugin/',
      '^src/(turns|(netplugin|client|protocol|model|linux|tls)/)',
    ),
    only(
      'runtimes-know-endpoints',
      '^src/netplugin/runtimes/',
      '^src/(turns|model/|protocol/|linux/netns|netplugin/(runtimes/|endpoints/inside|intent/view|state|constants|file|control|options|intervals|follower))',
    ),
    only('lab-stands-outside', '^lab/(?!tagging)', '^(lab/|src/protocol/wire)'),
    only('tags-without-8021q', '^lab/tagging', '^src/(linux/|netplugin/dataplane/vlan/program)'),
    only(
      'docs-are-made-of-schemas',
      '^docs/',
      '^(docs/|src/(netctl|netmaster|netplugin/options|netkube/(declared|options)|model|protocol|store))',
    ),
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    exclude: { path: 'node_modules' },
    doNotFollow: { path: 'node_modules' },
  },
};
