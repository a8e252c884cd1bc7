# Everything runs in .venv; `setup` makes it, and the host packages, on a machine that has neither.
PYTEST = .venv/bin/pytest
JOBS = 4
KERNELS = 7.3 6.12 6.1
MOCKED = scenarios/mediated scenarios/migration scenarios/clients/test_iommufd_selftests.py \
  scenarios/clients/test_mock_iommu.py
POWERED = scenarios/suspend scenarios/kexec
LONG = 7.3:debug
PART = clones
SECONDS = 2400
SEED = 1

.DEFAULT_GOAL := help
.PHONY: help setup scenarios check matrix long stress container docs lock clean

help: ## list these targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

setup: ## install what is missing: host packages, Python environment
	@./bootstrap

scenarios: setup ## the main job: prove the claims on the default kernel
	$(PYTEST) scenarios/ -n $(JOBS)

check: setup ## lint, types, the lab's own tests, scenarios and exploration on the default kernel
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache >.artifacts/imports.log || { cat .artifacts/imports.log; exit 1; }
	$(PYTEST) tests/ --ignore tests/real --ignore tests/guests --ignore tests/package --ignore tests/kvm \
	  -n $(JOBS)
	$(PYTEST) scenarios/ tests/guests -n $(JOBS) --lab-require
	.venv/bin/vfio-lab explore --seconds 60 --seed $(SEED)
	$(PYTEST) tests/package

matrix: setup ## the scenarios on all three kernels and on arm64, and try, bisect, mutate
	$(PYTEST) tests/real
	@failed=; for kernel in $(KERNELS); do \
	  $(PYTEST) scenarios/ -n $(JOBS) --lab-kernel $$kernel || failed="$$failed $$kernel"; \
	  $(PYTEST) $(MOCKED) -n $(JOBS) --lab-kernel $$kernel:mocks || failed="$$failed $$kernel:mocks"; \
	  $(PYTEST) $(POWERED) -n $(JOBS) --lab-kernel $$kernel:power || failed="$$failed $$kernel:power"; \
	  .venv/bin/vfio-lab explore --kernel $$kernel --seconds 600 --seed $(SEED) || \
	    failed="$$failed $$kernel"; \
	done; \
	$(PYTEST) scenarios/ -n $(JOBS) --lab-arch arm64 || failed="$$failed arm64"; \
	(cd tests && ../.venv/bin/python -m kvm) || failed="$$failed kvm"; \
	[ -z "$$failed" ] || { echo "failed on:$$failed" >&2; exit 1; }

long: setup ## scenarios one after another in one guest, on the debug kernel: what do they leave?
	$(PYTEST) scenarios/ -n 2 --lab-kernel $(LONG) --lab-long=$(SEED)

kvm: setup ## the lab on KVM, in a guest whose emulated CPU has it: clones, VF tokens, each area
	cd tests && ../.venv/bin/python -m kvm

stress: setup ## what holds on a busy, full or dying host: PART=clones|load|chaos|remote|fuzz
	cd tests && nice -n 10 ../.venv/bin/python -m stress $(PART) --seconds $(SECONDS) --seed $(SEED)

container: ## a container with all that the lab needs, for hosts that are not Debian
	container/build

docs: setup ## the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo build/site/index.html

lock: setup ## pin what pyproject.toml asks for, with hashes (delete the lock first to upgrade)
	.venv/bin/uv pip compile --quiet --generate-hashes --no-emit-index-url \
	  --no-emit-find-links --no-annotate --all-extras --universal --python-version 3.11 \
	  --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

clean: ## remove the environment, evidence and caches of this checkout (not the lab's own cache)
	rm -rf .venv .artifacts .mypy_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
