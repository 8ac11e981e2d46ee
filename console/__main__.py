"""`python -m console` is `wetread`."""

from console.cli import main

if __name__ == "__main__":
    main()
