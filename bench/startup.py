"""How long does `import ncdlib` take, beside `import torch`?

    python bench/startup.py [--repeats 10]

Processor time of a fresh Python, the least of some repeats, in which the imports take turns. Wall time says less: it also
depends on the disk and on what else the machine does. A part of ncdlib is imported when it is first used.
"""

import argparse
import os
import subprocess
import sys

IMPORTS = (
    "pass",
    "import torch",
    "import torch, pandas",
    "import ncdlib",
    "from ncdlib import score",
    "from ncdlib import benchmarks, statistics",
    "import ncdlib.training",
)
WANTED = 1.3  # times `import torch`: a notebook, a worker process and a command each pay for the import


def seconds(statement: str) -> float:
    """Processor time of a Python that runs a statement."""
    before = os.times()
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    repeats = parser.parse_args().repeats
    times = {statement: float("inf") for statement in IMPORTS}
    for _ in range(repeats):
        times = {statement: min(best, seconds(statement)) for statement, best in times.items()}
    plain = times["import torch"]
    print(f"{'':42s}{'seconds':>9s}{'x torch':>9s}")
    for statement, best in times.items():
        print(f"{statement:42s}{best:9.2f}{best / plain:9.2f}")
    for statement in ("import ncdlib", "from ncdlib import score"):
        print(f"{statement} / import torch: {times[statement] / plain:.2f}, wanted: at most {WANTED}")


if __name__ == "__main__":
    main()
