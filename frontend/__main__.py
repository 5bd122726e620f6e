"""``python -m frontend COMMAND``: the same as ``mixit COMMAND``."""

import sys

try:
    from frontend.cli import main
except KeyboardInterrupt:
    print("python -m frontend: interrupted; run the same command again", file=sys.stderr)
    sys.exit(130)

if __name__ == "__main__":
    main()
