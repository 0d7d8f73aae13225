"""`python -m vpipe`: the same as the command `vpipe`."""

from vpipe.cli import main

if __name__ == "__main__":
    main()
