.PHONY: test lint bench

test:   # the whole suite, recipe included; sets up .venv first
	@bin=$$(local/install.sh --extras mini,test) && PATH="$$bin:$$PATH" python -m pytest

lint:
	@bin=$$(local/install.sh --extras mini,test,lint) && export PATH="$$bin:$$PATH" && \
	  ruff check . && ruff format --check . && \
	  shellcheck -x run.sh local/install.sh egs/*/run.sh egs/*/local/*.sh .ci/run

bench:  # speeds, as ratios to a peer in the same run
	@bin=$$(local/install.sh --extras mini,test) && export PATH="$$bin:$$PATH" && \
	  for b in benchmarks/*.py; do echo "== $$b"; python "$$b" || exit; done
