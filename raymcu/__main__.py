"""`python -m raymcu` is `raymcu`."""

from raymcu.cli import main

if __name__ == "__main__":
    main()
