"""`python -m mesh.cli`: for use if the console script is not on the path."""

from mesh.cli import main

if __name__ == "__main__":
    main()
