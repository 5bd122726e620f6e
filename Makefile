.PHONY: test test-matrix lint bench docs

test:   # the whole suite, recipe included, two files at a time; sets up .venv first
	@bin=$$(local/install.sh --extras mini,test,whisper) && PATH="$$bin:$$PATH" python -m pytest -n 2 --dist loadfile

test-matrix:  # the quick tests on each Python from 3.11 to 3.13 that is here, in .venv311, .venv312 ...
	@python3 local/test_matrix.py

lint:
	@bin=$$(local/install.sh --extras mini,test,lint) && export PATH="$$bin:$$PATH" && \
	  ruff check . && ruff format --check . && mypy && \
	  shellcheck -x run.sh local/install.sh egs/*/run.sh egs/*/local/*.sh .ci/run

docs:   # the site, in site/
	@bin=$$(local/install.sh --extras docs) && PATH="$$bin:$$PATH" NO_MKDOCS_2_WARNING=1 mkdocs build --quiet

bench:  # speeds, as ratios to a peer in the same run
	@bin=$$(local/install.sh --extras mini,test) && export PATH="$$bin:$$PATH" && \
	  for b in continuous decode mixit on_the_fly separators simulate train_step; do \
    echo "== $$b"; python -m benchmarks.$$b || exit; done
