"""``python -m frontend COMMAND``: the same as ``mixit COMMAND``."""

from frontend.cli import main

if __name__ == "__main__":
    main()
