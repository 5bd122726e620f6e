"""A recipe as an ESPnet3 system: ``python run.py --training_config conf/training.yaml --stages all``.

Each stage of ESPnet3 is a part of ``mixit run`` (docs/espnet3.md): records, resumption and results are those
of the recipe. Needs the extra ``espnet3``, on Python 3.12 or newer.
"""

import sys

try:
    from espnet3.contract.stages import StageContractError
    from espnet3.systems.launch import launch
    from system import SeparationSystem
except ModuleNotFoundError as missing:
    print(
        f"run.py: error: '{missing.name}' is not installed; ESPnet3 needs Python 3.12 or newer and: "
        "local/install.sh --extras mini,espnet3",
        file=sys.stderr,
    )
    sys.exit(2)

if __name__ == "__main__":
    try:
        # conf/training.yaml beside system.py also holds the defaults of other configurations.
        launch(SeparationSystem, conf_package="system")
    except (StageContractError, FileNotFoundError) as error:
        print("run.py: error:", *str(error).split(), file=sys.stderr)
        sys.exit(2)
