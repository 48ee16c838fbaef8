"""`python -m pgferry`: the same as the command `pgferry`."""

from pgferry.cli.main import main

if __name__ == "__main__":
    main()
