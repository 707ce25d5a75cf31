"""`python -m hotpath` is the command line."""

from hotpath.cli import main

if __name__ == "__main__":
    main()
