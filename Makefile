# make demo runs the main job, make test passes the tests; both install what they need (Debian or Ubuntu, as root).
ROOT := $(dir $(abspath $(lastword $(MAKEFILE_LIST))))
export PATH := $(ROOT)node_modules/node/bin:$(ROOT)node_modules/.bin:$(PATH)

.PHONY: help setup install uninstall package plugin demo test test-unit test-kernel test-lab test-docker test-kubernetes test-kubernetes-suites test-ovs test-wireguard test-package churn soak fuzz lint bench docs clean

help:
	@echo 'make setup   installs packages only'
	@echo 'make install netctl, and netmaster, netplugin and netkube as services of this machine: docs/guide/hosts.md'
	@echo 'make package dist/packages: packages for Debian, an archive, SBOM, licences, checksums: docs/operate/lifecycle.md'
	@echo 'make plugin  dist/plugin, what docker plugin create makes the plugin for Swarm mode of: docs/guide/swarm.md'
	@echo 'make demo    two virtual hosts and the quick start; leaves them up'
	@echo 'make test    lint, test-unit, then test-kernel beside test-lab'
	@echo 'make test-docker DOCKER=28|29  builds that Docker where it is not yet, and tests on it; 29 with both of its firewalls'
	@echo 'make test-kubernetes  builds Kubernetes where it is not yet, and tests in a cluster of it'
	@echo 'make test-kubernetes-suites  all cases of upstream for networks, policies and Services: two hours and more'
	@echo 'make test-ovs  VLANs with Open vSwitch for the switch, which it installs'
	@echo 'make test-wireguard  encryption between hosts, on the kernel of Debian in an emulated machine; MEASURE=yes says what it costs'
	@echo 'make test-package  installs, upgrades, removes and purges the packages on a Debian of its own, with systemd'
	@echo 'make churn   ten minutes of faults on four hosts, with senders of what may not pass; CHURN_SEED=N does one again, CHURN_STORE=etcd'
	@echo 'make soak    10,000 containers that come and go on four hosts: nothing of them stays; SOAK_LIVES=N'
	@echo 'make fuzz    100,000 requests that a public fuzzer makes up from /openapi.json; REQUESTS=N says how many'
	@echo 'make bench   this network against its peers, and what policy and changes cost, as ratios'
	@echo 'make docs    docs/reference from the commands and schemas, manifests from the chart'
	@echo 'make clean   ends the lab, removes what was installed here'

setup:
	@lab/setup.sh $(MAKECMDGOALS)

install:
	@[ -n "$(DESTDIR)" ] || lab/setup.sh install
	@packaging/install.sh

uninstall:
	@packaging/install.sh remove

package: setup
	@packaging/package.sh

plugin: setup
	@bin/netplugin swarm folder dist/plugin

demo: setup
	@lab/demo.sh

# Kernel tests are beside the lab tests, which wait, most of it; CI: both write lines.
test: lint test-unit
	@CI=true $(MAKE) --no-print-directory -j2 test-kernel test-lab

lint: setup
	tsc --noEmit
	biome check --error-on-warnings .
	depcruise --config .dependency-cruiser.cjs src lab test bench docs

test-unit: setup
	vitest run --project unit

test-kernel: setup
	vitest run --project kernel

test-lab: setup
	vitest run --project lab

# TESTS='test/versions': one file alone. FIREWALL_BACKEND=nftables: with that one alone.
test-docker: FIREWALL_BACKEND ?= $(if $(filter 29,$(DOCKER)),iptables nftables,default)
test-docker:
	@lab/setup.sh docker $(DOCKER)
	@for backend in $(FIREWALL_BACKEND); do \
	  echo "Docker $(DOCKER), firewall backend $$backend"; \
	  LAB_DOCKER=$(DOCKER) LAB_FIREWALL_BACKEND=$${backend#default} vitest run --project docker $(TESTS) || exit 1; \
	done

test-kubernetes:
	@lab/setup.sh kubernetes
	vitest run --project kubernetes $(KUBERNETES)

test-kubernetes-suites:
	@lab/setup.sh kubernetes
	NETPOL=. NETWORK=. CNP=. vitest run --project kubernetes test/pods.kubernetes test/network.kubernetes test/clusterPolicies.kubernetes

test-ovs: setup
	vitest run --project ovs

test-wireguard: setup
	@bin/netctl --help >/dev/null
	test/machine.sh env MEASURE=$(MEASURE) vitest run --project wireguard

test-package: setup
	vitest run --project package

churn: setup
	CHURN_SECONDS=$${CHURN_SECONDS:-600} vitest run --project lab test/churn.lab.test.ts

soak: setup
	SOAK_LIVES=$${SOAK_LIVES:-10000} vitest run --project lab test/soak.lab.test.ts

fuzz: setup
	test/schemathesis.sh

bench: setup
	node --disable-warning=ExperimentalWarning bench/main.ts

docs: setup
	node --disable-warning=ExperimentalWarning docs/generate.ts

clean:
	-bin/lab down
	rm -rf node_modules dist
