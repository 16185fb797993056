"""``python -m benchmarks``: every benchmark that this machine can run."""

from benchmarks.cpu import main

if __name__ == "__main__":
    main()
